"""Many who read at once share round trips, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from builders import until

from stream.client import ProductCounts
from stream.errors import DependencyError
from stream.web.reads import Reads


class Counters:
    """Counters that grow with every trip, each of which takes until it is let through."""

    def __init__(self) -> None:
        self.trips: list[tuple[list[str], str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fails: Exception | None = None

    async def get_many(self, product_ids: list[str], window: str) -> list[ProductCounts]:
        self.trips.append((product_ids, window))
        number = len(self.trips)
        await self.gate.wait()
        if self.fails is not None:
            raise self.fails
        return [ProductCounts.of(each, window, (number, 0, 0, 0)) for each in product_ids]


@pytest.fixture
async def counters() -> Counters:
    return Counters()


def reads_of(counters: Any) -> Reads:
    return Reads(counters)


async def test_those_who_ask_at_once_share_a_trip_and_each_gets_its_own(counters: Counters) -> None:
    reads = reads_of(counters)
    answers = await asyncio.gather(*(reads.get_many([f"p{n % 50}", "lamp"], "1h") for n in range(200)))
    assert len(counters.trips) == 1
    assert len(counters.trips[0][0]) == 51
    assert [[each.product_id for each in answer] for answer in answers] == [
        [f"p{n % 50}", "lamp"] for n in range(200)
    ]


async def test_who_asks_during_a_trip_gets_a_newer_answer(counters: Counters) -> None:
    reads = reads_of(counters)
    counters.gate.clear()
    first = asyncio.create_task(reads.get_many(["lamp"], "1h"))
    await until(lambda: counters.trips)
    second = asyncio.create_task(reads.get_many(["lamp"], "1h"))
    await asyncio.sleep(0)
    counters.gate.set()
    assert [(await each)[0].negative for each in (first, second)] == [1, 2]


async def test_windows_are_read_apart(counters: Counters) -> None:
    reads = reads_of(counters)
    hour, day = await asyncio.gather(reads.get_many(["lamp"], "1h"), reads.get_many(["lamp"], "24h"))
    assert (hour[0].window, day[0].window) == ("1h", "24h")


async def test_one_who_goes_away_takes_nothing_from_the_others(counters: Counters) -> None:
    reads = reads_of(counters)
    counters.gate.clear()
    leaving, staying = (asyncio.create_task(reads.get_many(["lamp"], "1h")) for _ in range(2))
    await until(lambda: counters.trips)
    leaving.cancel()
    await asyncio.sleep(0)
    counters.gate.set()
    assert (await staying)[0].negative == 1


async def test_a_failure_is_told_to_all_and_the_next_trip_is_a_new_one(counters: Counters) -> None:
    reads = reads_of(counters)
    counters.fails = DependencyError("Redis is away.")
    told = await asyncio.gather(*(reads.get_many([each], "1h") for each in "ab"), return_exceptions=True)
    assert [type(each) for each in told] == [DependencyError, DependencyError]
    counters.fails = None
    assert (await reads.get_many(["a"], "1h"))[0].negative == 2
