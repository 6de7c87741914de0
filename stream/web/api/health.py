"""Whether the server lives, and whether it can answer: for whoever runs it."""

from __future__ import annotations

import msgspec
from litestar import Response, get
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
async def readyz(shared: Shared) -> Response[Health]:
    """503 with what is wrong; needs no token."""
    troubles = []
    try:
        await shared.counters.get("readyz", "all")
    except DependencyError as error:
        troubles.append(str(error))
    troubles += [each for each in (shared.alerts.trouble, shared.ingest.trouble) if each is not None]
    return Response(Health(not troubles, troubles), status_code=503 if troubles else 200)


HANDLERS = [livez, readyz]
