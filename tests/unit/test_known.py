"""Which products there are, without reading all of them again and again."""

from __future__ import annotations

from typing import Any

import pytest

from stream.store.layout import Layout
from stream.web import known
from stream.web.known import OVERLAP_MS, WHOLE_S, KnownProducts

NOW_MS = 1_700_000_000_000
LATER_MS = NOW_MS + 5_000


class Counters:
    """Products by the time of their newest event."""

    def __init__(self) -> None:
        self.layout = Layout("rp", 1)
        self.products: dict[str, int] = {}
        self.asked: list[int | None] = []

    async def active(self, since_ms: int | None) -> tuple[Layout, list[str]]:
        self.asked.append(since_ms)
        found = [name for name, ms in self.products.items() if since_ms is None or ms >= since_ms]
        return self.layout, found


@pytest.fixture
def counters() -> Counters:
    return Counters()


def knowing(counters: Any, **options: Any) -> KnownProducts:
    return KnownProducts(counters, **options)


async def test_all_are_read_once_and_then_only_what_is_new(counters: Counters) -> None:
    products = knowing(counters)
    counters.products = {"lamp": NOW_MS, "kettle": NOW_MS - 10**9}
    await products.look(NOW_MS, products=2)
    await products.look(NOW_MS + 1, products=2)
    assert counters.asked == [None]  # none is new
    counters.products["Lamp 2"] = LATER_MS
    await products.look(LATER_MS, products=3)
    assert counters.asked == [None, NOW_MS + 1 - OVERLAP_MS]
    assert await products.search("LAMP", 10) == ["lamp", "Lamp 2"]


async def test_a_product_of_an_old_time_is_missed_and_found_by_their_number(counters: Counters) -> None:
    products = knowing(counters)
    await products.look(NOW_MS, products=0)
    counters.products["from 2014"] = 1_400_000_000_000
    await products.look(LATER_MS, products=1)
    assert len(products) == 0  # not again so soon
    await products.look(NOW_MS + round(WHOLE_S * 1000), products=1)
    assert await products.search("2014", 10) == ["from 2014"]
    assert counters.asked.count(None) == 2


async def test_after_a_switch_all_are_read_again_and_what_is_gone_is_forgotten(counters: Counters) -> None:
    products = knowing(counters)
    counters.products = {"gone": NOW_MS}
    await products.look(NOW_MS, products=1)
    counters.layout, counters.products = Layout("rp", 1, 1), {"counted again": NOW_MS - 10**9}
    await products.look(LATER_MS, products=1)
    assert await products.search("", 10) == ["counted again"]


async def test_memory_is_bounded(counters: Counters) -> None:
    products = knowing(counters, most=3)
    counters.products = {f"p{n}": NOW_MS for n in range(5)}
    await products.look(NOW_MS, products=5)
    await products.look(NOW_MS + round(WHOLE_S * 1000), products=5)
    assert len(products) == 3
    assert counters.asked.count(None) == 1  # nothing is gained by reading them again


async def test_many_are_searched_off_the_event_loop(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "SEARCHED_AT_ONCE", 1)
    products = knowing(counters)
    counters.products = {"b lamp": NOW_MS, "lamp": NOW_MS, "kettle": NOW_MS}
    await products.look(NOW_MS, products=3)
    assert await products.search("lamp", 1) == ["lamp"]
