"""Silences and acknowledgements."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Annotated

import msgspec
import structlog
from litestar import Request, delete, get, post
from litestar.exceptions import NotFoundException
from litestar.params import Parameter

from stream.core.events import rfc3339
from stream.core.silence import Acknowledgement, Name, Sentence, Silence, duration_ms
from stream.errors import UsageError
from stream.web.people import now_ms
from stream.web.shared import Shared  # noqa: TC001  # Litestar reads the annotations
from stream.web.tokens import needs

if TYPE_CHECKING:
    from typing import Any


log = structlog.get_logger("web")


class SilenceView(msgspec.Struct, frozen=True, kw_only=True):
    """Nobody is notified of these alerts, for a while."""

    id: str
    on: bool
    """Whether it silences now."""
    start: str
    end: str
    """The first moment that is not silenced."""
    reason: str
    author: str
    product: str | None
    category: str | None
    pattern: str | None
    rule: str | None
    everything: bool


class Silences(msgspec.Struct, frozen=True):
    """All of them, those over since yesterday included."""

    silences: list[SilenceView]


class NewSilence(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to be silent, for how long, and why. All that is named must fit."""

    length: Annotated[str, msgspec.Meta(pattern=r"^([0-9]+[wdhms])+$", max_length=32)] = msgspec.field(
        name="for"
    )
    """``30m``, ``2h``, ``1d12h``; a year at most."""
    reason: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]
    author: Sentence | None = None
    """Left out: the token's name."""
    product: Name | None = None
    category: Name | None = None
    pattern: Name | None = None
    """A glob of product ids: ``kettle-*``."""
    rule: Name | None = None
    everything: bool = False


class NewAcknowledgement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Somebody looks after an alert."""

    alert_id: Name
    """Or an incident's id."""
    author: Sentence | None = None
    """Left out: the token's name."""
    note: Sentence = ""


class AcknowledgementView(msgspec.Struct, frozen=True, kw_only=True):
    """As it was noted."""

    alert_id: str
    at: str
    author: str
    note: str


@get("/api/v1/silences", guards=[needs("read")], tags=["silences"], summary="Silences")
async def silences(shared: Shared) -> Silences:
    """By their start; those over since yesterday included."""
    at_ms = now_ms()
    return Silences([view(each, at_ms) for each in (await shared.people.said()).silences])


@post("/api/v1/silences", guards=[needs("operate")], tags=["silences"], summary="Silences alerts for a while")
async def add_silence(shared: Shared, request: Request[Any, Any, Any], data: NewSilence) -> SilenceView:
    """Alerts themselves go on; nobody is notified of them meanwhile. What fires still at the end is told."""
    named = (data.product, data.rule, data.category, data.pattern)
    if data.everything and data.product is not None:
        raise UsageError("`everything` is every product: leave it out, or `product`.")
    if named == (None, None, None, None) and not data.everything:
        raise UsageError("Say what is to be silent: product, category, pattern, rule or everything.")
    if not data.reason.strip():
        raise UsageError("`reason` is empty: whoever finds the silence will want to know why.")
    start_ms = now_ms()
    made = Silence(
        id=secrets.token_hex(4),
        start_ms=start_ms,
        end_ms=start_ms + duration_ms(data.length),
        reason=data.reason,
        author=_author(request, data.author),
        product=data.product,
        category=data.category,
        pattern=data.pattern,
        rule=data.rule,
        everything=data.everything,
    )
    await shared.people.silence(made)
    log.info("a silence was made", id=made.id, author=made.author, by=_asker(request))
    return view(made, start_ms)


@delete(
    "/api/v1/silences/{silence_id:str}",
    guards=[needs("operate")],
    tags=["silences"],
    summary="Ends a silence now",
    status_code=200,
)
async def end_silence(
    shared: Shared,
    request: Request[Any, Any, Any],
    silence_id: Annotated[str, Parameter(pattern="^[0-9a-f]{8}$", min_length=8, max_length=8)],
) -> SilenceView:
    """Answers with the silence as it was."""
    try:
        ended = await shared.people.end_silence(silence_id)
    except UsageError:
        raise NotFoundException(f"There is no silence {silence_id!r} that is not over.") from None
    log.info("a silence was ended", id=silence_id, by=_asker(request))
    return view(ended, now_ms())


@post(
    "/api/v1/acknowledgements",
    guards=[needs("operate")],
    tags=["silences"],
    summary="Says that somebody looks after an alert",
)
async def acknowledge(
    shared: Shared, request: Request[Any, Any, Any], data: NewAcknowledgement
) -> AcknowledgementView:
    """It is not told again while it fires; its end is."""
    if not data.alert_id.startswith("incident-"):
        known = shared.alerts.latest(data.alert_id)
        if known is None:
            raise NotFoundException(f"There is no alert {data.alert_id!r}.")
        if known.state == "resolved":
            raise UsageError(f"The alert resolved at {known.at}: there is nothing to acknowledge.")
    at_ms = now_ms()
    made = Acknowledgement(
        alert_id=data.alert_id, at_ms=at_ms, author=_author(request, data.author), note=data.note
    )
    await shared.people.acknowledge(made)
    log.info("an alert was acknowledged", alert=made.alert_id, author=made.author, by=_asker(request))
    return AcknowledgementView(alert_id=made.alert_id, at=rfc3339(at_ms), author=made.author, note=made.note)


def view(silence: Silence, at_ms: int) -> SilenceView:
    """A silence as it is answered.

    Args:
        silence: it.
        at_ms: now, ms since the epoch.
    """
    return SilenceView(
        id=silence.id,
        on=silence.is_on(at_ms),
        start=rfc3339(silence.start_ms),
        end=rfc3339(silence.end_ms),
        reason=silence.reason,
        author=silence.author,
        product=silence.product,
        category=silence.category,
        pattern=silence.pattern,
        rule=silence.rule,
        everything=silence.everything,
    )


def _author(request: Request[Any, Any, Any], given: str | None) -> str:
    if given is not None:
        return given
    return _asker(request) or "web"


def _asker(request: Request[Any, Any, Any]) -> str | None:
    """The name of the token; whatever author the sender states, the log has this."""
    name: str | None = request.scope["state"]["identity"].name
    return name


HANDLERS = [silences, add_silence, end_silence, acknowledge]
