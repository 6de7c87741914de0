"""Whether the server lives, and whether it can answer: for whoever runs it."""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.openapi import ResponseSpec

from stream.errors import DependencyError
from stream.web.shared import Shared  # noqa: TC001  # Litestar reads the annotations


class Health(msgspec.Struct, frozen=True, omit_defaults=True):
    """How it is."""

    ok: bool
    troubles: list[str] = []
    """A sentence for each thing that is wrong."""


@get("/livez", tags=["health"], summary="Whether the server lives")
async def livez() -> Health:
    """Answers as long as the event loop turns; needs no token."""
    return Health(ok=True)


@get(
    "/readyz",
    tags=["health"],
    summary="Whether Redis and Kafka answer",
    responses={503: ResponseSpec(Health, generate_examples=False, description="Something does not answer.")},
)
async def readyz(shared: Shared, request: Request[Any, Any, Any]) -> Response[Health]:
    """503 with what is wrong. It needs no token; addresses are told only to those who have one."""
    troubles = {}
    try:
        await shared.counters.get("readyz", "all")
    except DependencyError as error:
        troubles["Redis does not answer."] = str(error)
    if shared.alerts.trouble is not None:
        troubles["The alerts cannot be followed."] = shared.alerts.trouble
    if shared.ingest.trouble is not None:
        troubles["No events are taken."] = shared.ingest.trouble
    is_known = bool(request.scope["state"]["identity"].scopes)
    told = list(troubles.values() if is_known else troubles)
    return Response(Health(not told, told), status_code=503 if told else 200)


HANDLERS = [livez, readyz]
