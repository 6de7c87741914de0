"""One reading of the counters answers all who ask for the leaders."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stream.client import ProductCounts
from stream.errors import DependencyError
from stream.settings import Settings
from stream.web.leading import FRESH_S, LEAST_LIMIT, MOST_QUESTIONS, REST, STALE_S, Leaders


class Counters:
    """Ten products; reading them takes as long as it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.now_s = 100.0
        self.takes_s = 0.0
        self.fails = False

    def leaders(self, *question: Any) -> list[ProductCounts]:
        self.asked.append(question)
        self.now_s += self.takes_s
        if self.fails:
            raise DependencyError("Redis is away.")
        return [ProductCounts.of(f"p{n}", "1h", (n, 0, 0, 0)) for n in range(10)]


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def leaders(counters: Counters) -> Leaders:
    return Leaders(Settings(), ask=counters.leaders, clock=lambda: counters.now_s)


async def test_many_who_ask_at_once_wait_for_the_same_answer(counters: Counters, leaders: Leaders) -> None:
    answers = await asyncio.gather(*(leaders.get("1h", "negative", limit=n % 5 + 1) for n in range(200)))
    assert counters.asked == [("1h", "negative", 1, LEAST_LIMIT)]
    assert [len(each) for each in answers[:5]] == [1, 2, 3, 4, 5]


async def test_an_answer_holds_a_while(counters: Counters, leaders: Leaders) -> None:
    await leaders.get("1h", "events")
    counters.now_s += FRESH_S - 0.01
    await leaders.get("1h", "events")
    assert len(counters.asked) == 1
    counters.now_s += 0.02
    await leaders.get("1h", "events")
    assert len(counters.asked) == 2


async def test_a_dear_answer_holds_longer_and_then_nobody_waits_for_the_next(
    counters: Counters, leaders: Leaders
) -> None:
    counters.takes_s = 6.0
    await leaders.get("1h", "events")
    counters.now_s += REST * 6.0 - 0.01
    await leaders.get("1h", "events")
    assert len(counters.asked) == 1
    counters.now_s += 0.02
    for _ in range(10):
        assert len(await leaders.get("1h", "events")) == 10
    assert len(leaders._reading) == 1
    await next(iter(leaders._reading.values()))
    assert len(counters.asked) == 2
    await leaders.get("1h", "events")
    assert not leaders._reading


async def test_an_old_answer_is_not_given_for_ever(counters: Counters, leaders: Leaders) -> None:
    counters.takes_s = 6.0
    await leaders.get("1h", "events")
    counters.fails = True
    counters.now_s += REST * 6.0 + 1.0
    await leaders.get("1h", "events")
    with pytest.raises(DependencyError):
        await next(iter(leaders._reading.values()))
    counters.now_s += STALE_S
    with pytest.raises(DependencyError):
        await leaders.get("1h", "events")


async def test_other_questions_have_other_answers(counters: Counters, leaders: Leaders) -> None:
    await leaders.get("1h", "events")
    await leaders.get("5m", "events")
    await leaders.get("1h", "negative")
    await leaders.get("1h", "events", min_events=7)
    await leaders.get("1h", "events", limit=LEAST_LIMIT + 1)
    assert len(set(counters.asked)) == 5


async def test_a_failure_is_told_and_not_remembered(counters: Counters, leaders: Leaders) -> None:
    counters.fails = True
    with pytest.raises(DependencyError):
        await leaders.get("1h", "events")
    counters.fails = False
    assert len(await leaders.get("1h", "events")) == 10


async def test_as_many_questions_as_anybody_thinks_of_take_bounded_memory(
    counters: Counters, leaders: Leaders
) -> None:
    for n in range(MOST_QUESTIONS + 10):
        await leaders.get("1h", "events", min_events=n)
    assert len(leaders._answers) == MOST_QUESTIONS
