"""The way in for events: ``POST /api/v1/reviews`` and ``/api/v1/chats``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Request, Response, Router, post
from litestar.exceptions import ClientException

from stream.core.traceparent import HEADER, of_record
from stream.web.ingest import MOST_EVENTS, lines_of
from stream.web.shared import Shared  # noqa: TC001  # Litestar reads the annotations
from stream.web.tokens import needs

if TYPE_CHECKING:
    from stream.core.events import Channel
    from stream.web.ingest import Holding

ONE = "application/json"
BATCH = "application/x-ndjson"


class Accepted(msgspec.Struct, frozen=True):
    """All of them are in Kafka's log, acknowledged by every in-sync replica."""

    accepted: int


class RefusedEvent(msgspec.Struct, frozen=True):
    """One that is not taken; sending it again would not help."""

    line: int
    """Of the body, from 1."""
    reason: str


class PartlyAccepted(msgspec.Struct, frozen=True):
    """Some were refused; the others are in Kafka's log."""

    error: str
    accepted: int
    refused: list[RefusedEvent]


class TooLarge(ClientException):
    """413."""

    status_code = 413


class WrongType(ClientException):
    """415."""

    status_code = 415


@post("/reviews", guards=[needs("ingest")], tags=["events"], summary="Sends reviews", status_code=202)
async def reviews(shared: Shared, request: Request[Any, Any, Any]) -> Response[Accepted | PartlyAccepted]:
    """One event as JSON, or a batch as JSON lines. Answered when Kafka has acknowledged all of it."""
    return await _take("reviews", shared, request)


@post("/chats", guards=[needs("ingest")], tags=["events"], summary="Sends chat lines", status_code=202)
async def chats(shared: Shared, request: Request[Any, Any, Any]) -> Response[Accepted | PartlyAccepted]:
    """One event as JSON, or a batch as JSON lines. Answered when Kafka has acknowledged all of it."""
    return await _take("chats", shared, request)


HANDLERS = [Router("/api/v1", route_handlers=[reviews, chats], request_max_body_size=None)]
"""Their body is bounded by the settings, as it is read."""


async def _take(
    channel: Channel, shared: Shared, request: Request[Any, Any, Any]
) -> Response[Accepted | PartlyAccepted]:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise WrongType("Send the body as it is, without a Content-Encoding.")
    kind, _ = request.content_type
    largest = shared.settings.max_event_bytes if kind == ONE else shared.settings.web_batch_bytes
    if kind not in (ONE, BATCH):
        raise WrongType(f"Send one event as {ONE}, or a batch as {BATCH}.")
    with shared.ingest.holding() as holding:
        body = await _read(request, largest, holding)
        events = [(1, body)] if kind == ONE and body.strip() else lines_of(body)
        if not events:
            raise ClientException("The body holds no event.")
        if len(events) > MOST_EVENTS:
            raise TooLarge(f"The batch has {len(events):,} events, more than {MOST_EVENTS:,}: divide it.")
        header = request.headers.get(HEADER, "").encode("latin-1")
        taken = await shared.ingest.take(channel, events, holding, of_record([(HEADER, header)]))
    if not taken.refused:
        return Response(Accepted(taken.accepted), status_code=202)
    line, reason = taken.refused[0]
    of_all = f"{len(taken.refused):,} of {len(events):,} events were refused"
    error = f"{of_all}; the first, in line {line}: {reason}."
    refused = [RefusedEvent(*each) for each in taken.refused]
    return Response(PartlyAccepted(error, taken.accepted, refused), status_code=400)


async def _read(request: Request[Any, Any, Any], largest: int, holding: Holding) -> bytes:
    """The body, never more of it than is allowed.

    Raises:
        TooLarge: it is larger.
        Unavailable: there is no room for it now.
    """
    announced = request.headers.get("content-length", "")
    body = bytearray()
    if not (announced.isdecimal() and int(announced) > largest):
        async for chunk in request.stream():
            if len(body) + len(chunk) > largest:
                break
            holding.add(len(chunk))
            body += chunk
        else:
            return bytes(body)
    raise TooLarge(f"The body is larger than {largest:,} bytes: divide it.")
