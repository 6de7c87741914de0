"""Alerts as they are now, and their transitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from litestar import get
from litestar.params import Parameter

from stream.core.events import Alert, rfc3339
from stream.web.people import now_ms
from stream.web.shared import Shared  # noqa: TC001  # Litestar reads the annotations
from stream.web.tokens import needs

if TYPE_CHECKING:
    from stream.core.silence import Said


class Acknowledged(msgspec.Struct, frozen=True):
    """Somebody looks after it."""

    at: str
    author: str
    note: str


class AlertView(Alert, frozen=True, kw_only=True):
    """An alert as it is now, with what people said of it."""

    silenced_until: str | None = None
    """RFC 3339; nobody is notified of it before."""
    acknowledged: Acknowledged | None = None


class Alerts(msgspec.Struct, frozen=True):
    """A page of alerts."""

    alerts: list[AlertView]
    next: str | None
    """Send it as ``before`` for those that follow; null: there are no more."""


class Transitions(msgspec.Struct, frozen=True):
    """An alert's story."""

    alerts: list[Alert]


Name = Annotated[str | None, Parameter(min_length=1, max_length=256)]


@get("/api/v1/alerts", guards=[needs("read")], tags=["alerts"], summary="Alerts as they are now")
async def alerts(
    shared: Shared,
    alert_state: Annotated[Literal["firing", "resolved"] | None, Parameter(query="state")] = None,
    severity: Literal["warning", "critical"] | None = None,
    product_id: Name = None,
    category: Name = None,
    rule: Name = None,
    limit: Annotated[int, Parameter(ge=1, le=500)] = 50,
    before: Annotated[str | None, Parameter(max_length=200, description="`next` of the page before.")] = None,
) -> Alerts:
    """By their last transition, the newest first."""
    wanted = {
        "state": alert_state,
        "severity": severity,
        "product_id": product_id,
        "category": category,
        "rule": rule,
    }
    asked = [(name, value) for name, value in wanted.items() if value is not None]
    said = await shared.people.said()
    at_ms = now_ms()
    found: list[AlertView] = []
    start = None
    if before is not None:
        at, _, alert_id = before.partition("~")
        start = (at, alert_id)
    for alert in shared.alerts.newest_first(start):
        if all(getattr(alert, name) == value for name, value in asked):
            if len(found) == limit:
                return Alerts(found, f"{found[-1].at}~{found[-1].id}")
            found.append(view(alert, said, at_ms))
    return Alerts(found, None)


@get("/api/v1/alerts/transitions", guards=[needs("read")], tags=["alerts"], summary="One alert's transitions")
async def transitions(
    shared: Shared, alert_id: Annotated[str, Parameter(query="id", min_length=1, max_length=256)]
) -> Transitions:
    """All that are kept, oldest first; none for an alert that is not known."""
    return Transitions(shared.alerts.transitions(alert_id))


def view(alert: Alert, said: Said, at_ms: int) -> AlertView:
    """An alert with what people said of it.

    Args:
        alert: it.
        said: all that people said.
        at_ms: now, ms since the epoch.
    """
    silence = said.silence_of(alert, at_ms)
    word = said.acknowledged.get(alert.id)
    fields: dict[str, Any] = {name: getattr(alert, name) for name in alert.__struct_fields__}
    return AlertView(
        **fields,
        silenced_until=None if silence is None else rfc3339(silence.end_ms),
        acknowledged=None if word is None else Acknowledged(rfc3339(word.at_ms), word.author, word.note),
    )


HANDLERS = [alerts, transitions]
