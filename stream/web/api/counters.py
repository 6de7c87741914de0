"""Counters and leaders."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal

import msgspec
from litestar import get
from litestar.params import Parameter

from stream.client import ProductCounts  # noqa: TC001  # Litestar reads the annotations
from stream.client.counts import LeaderBy  # noqa: TC001
from stream.web.shared import Shared  # noqa: TC001
from stream.web.tokens import needs

Window = Literal["5m", "1h", "24h", "7d", "all"]

MOST_PRODUCTS = 100
"""Their ids must fit into the head of a request, all windows of them into a modest answer."""
MOST_LEADERS = 1_000

ProductId = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class Products(msgspec.Struct, frozen=True):
    """Counts of some products."""

    products: list[ProductCounts]


@get("/api/v1/counters", guards=[needs("read")], tags=["counters"], summary="Counters of products")
async def counters(
    shared: Shared,
    product_id: Annotated[
        list[ProductId],
        Parameter(
            query="product_id",
            min_items=1,
            max_items=MOST_PRODUCTS,
            description="Of one product or several: it may be given again.",
            schema_extra={"items": {"type": "string", "minLength": 1, "maxLength": 256}},
        ),
    ],
    window: Annotated[Window | None, Parameter(description="Left out: every window.")] = None,
) -> Products:
    """Counts by label, negative share and mean sentiment; zeros for a product that was never seen."""
    if window is not None:
        return Products(await shared.reads.get_many(product_id, window))
    found = await asyncio.gather(*(shared.counters.windows(each) for each in product_id))
    return Products([counts for of_product in found for counts in of_product])


@get("/api/v1/leaders", guards=[needs("read")], tags=["counters"], summary="Products that lead in a window")
async def leaders(
    shared: Shared,
    window: Window = "1h",
    by: LeaderBy = "negative_share",
    min_events: Annotated[int, Parameter(ge=0, le=1_000_000_000)] = 1,
    limit: Annotated[int, Parameter(ge=1, le=MOST_LEADERS)] = 10,
) -> Products:
    """Best first. By negative share they are ordered by the lower end of its 95% interval."""
    return Products(list(await shared.leaders.get(window, by, min_events=min_events, limit=limit)))


HANDLERS = [counters, leaders]
