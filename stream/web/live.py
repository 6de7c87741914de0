"""Overview, series, search, baselines, and the stream of server-sent events.

Rules:
- What all viewers see is looked at once for all of them, in ``stream.web.now``; a request reads memory.
- A series of the fleet is read once for all who ask within ``SERIES_S``; a product's own is a round trip.
- The stream begins with how things are, so that nothing has to be asked for beside it. It ends when the
  server does, or when its viewer does not keep up.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from litestar import Request, get
from litestar.datastructures import ResponseHeader
from litestar.exceptions import ServiceUnavailableException
from litestar.params import Parameter
from litestar.response import Stream

from stream.client import Baseline, Series  # noqa: TC001  # msgspec and Litestar read the annotations
from stream.web.now import LiveView, Overview
from stream.web.shared import Part, Shared
from stream.web.tokens import needs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from stream.web.viewers import Viewer

SERIES_S = 2.0
MOST_FOUND = 100

ProductId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
SeriesWindow = Literal["1h", "24h", "7d"]


class Found(msgspec.Struct, frozen=True):
    """Ids of products."""

    products: list[str]


class Baselines(msgspec.Struct, frozen=True):
    """What is usual for a product."""

    baselines: list[Baseline]


class FleetSeries:
    """The fleet's series, read once for many."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._known: dict[str, tuple[float, Series]] = {}
        self._one_at_a_time = asyncio.Lock()

    async def get(self, window: str) -> Series:
        """The series of a window.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        async with self._one_at_a_time:
            until_s, series = self._known.get(window, (0.0, None))
            if series is None or time.monotonic() >= until_s:
                series = await self._shared.counters.series(None, window)
                self._known[window] = (time.monotonic() + SERIES_S, series)
            return series


def part(shared: Shared) -> Part:
    """The live part of the application."""
    live = LiveView(shared)
    shared.viewers = live.viewers
    fleet = FleetSeries(shared)

    @get("/api/v1/overview", guards=[needs("read")], tags=["live"], summary="How things are")
    async def overview() -> Overview:
        """As of the last second.

        What is away is said in `redis_ok` and `kafka_ok`; the last figures stay meanwhile.
        """
        return live.overview

    @get("/api/v1/series", guards=[needs("read")], tags=["live"], summary="Counts over time")
    async def series(
        window: SeriesWindow = "1h",
        product_id: Annotated[
            ProductId | None, Parameter(description="Left out: of the whole fleet.")
        ] = None,
    ) -> Series:
        """Minutes of an hour, hours of a day, quarter-days of a week; oldest first, empty ones too."""
        if product_id is None:
            return await fleet.get(window)
        return await shared.counters.series(product_id, window)

    @get("/api/v1/products", guards=[needs("read")], tags=["live"], summary="Products by a part of their id")
    async def products(
        search: Annotated[str, Parameter(max_length=256)] = "",
        limit: Annotated[int, Parameter(ge=1, le=MOST_FOUND)] = 20,
    ) -> Found:
        """Known ids that contain the text, whatever the case: those that begin with it first."""
        return Found(await live.known.search(search, limit))

    @get("/api/v1/baseline", guards=[needs("read")], tags=["live"], summary="What is usual for a product")
    async def baseline(product_id: ProductId) -> Baselines:
        """The share of negatives by channel, as the detectors learned it; none for a product never seen."""
        return Baselines(await shared.counters.baselines(product_id))

    @get(
        "/api/v1/live",
        guards=[needs("read")],
        tags=["live"],
        summary="Server-sent events",
        media_type="text/event-stream",
        response_headers=[
            ResponseHeader(name="Cache-Control", value="no-store"),
            ResponseHeader(name="X-Accel-Buffering", value="no"),
        ],
    )
    async def stream(
        request: Request[Any, Any, Any],
        product_id: Annotated[
            ProductId | None, Parameter(description="Its figures come, too, as `product`.")
        ] = None,
    ) -> Stream:
        """Events `overview`, `leaders`, `alert`, `silences`, and `product` if one is named.

        All but `alert` stand for themselves: the next one says everything anew. Send the id of the last
        `alert` as `Last-Event-ID` and those missed come first; one may come twice, with the same
        `sequence`.
        """
        if live.viewers.is_full:
            raise ServiceUnavailableException(
                "Too many streams are open: come again soon.", headers={"Retry-After": "5"}
            )
        last_id = request.headers.get("last-event-id", "")
        return Stream(_sent(live, await live.begin_stream(product_id, last_id)))

    return Part([overview, series, products, baseline, stream], [live.running])


async def _sent(live: LiveView, viewer: Viewer) -> AsyncIterator[bytes]:
    try:
        async for chunk in viewer.chunks():
            yield chunk
    finally:
        live.viewers.remove(viewer)
