from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from stream import backoff
from stream.errors import DependencyError


class Flaky:
    """Fails ``failures`` times, then answers 42."""

    def __init__(self, failures: int, error: type[Exception] = DependencyError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    async def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error("away")
        return 42


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Ceilings of the waits, none of which is waited."""
    ceilings: list[float] = []

    async def no_wait(_seconds: float) -> None:
        return

    def highest(low: float, high: float) -> float:
        assert low == 0  # full jitter
        ceilings.append(high)
        return high

    monkeypatch.setattr(backoff.asyncio, "sleep", no_wait)
    monkeypatch.setattr(backoff.random, "uniform", highest)
    return ceilings


async def test_what_works_is_called_once_and_nothing_is_said(waits: list[float]) -> None:
    call = Flaky(0)
    with capture_logs() as said:
        assert await backoff.retry(call, "apply") == 42
    assert (call.calls, waits, said) == (1, [], [])


async def test_waits_double_up_to_the_longest(waits: list[float]) -> None:
    await backoff.retry(Flaky(9), "apply")
    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


async def test_it_is_said_once_when_it_goes_and_once_when_it_is_back(waits: list[float]) -> None:
    with capture_logs() as said:
        await backoff.retry(Flaky(5), "apply")
    assert [(line["log_level"], line["doing"]) for line in said] == [("warning", "apply"), ("info", "apply")]
    assert said[0]["error"] == "away"
    assert said[1]["failures"] == 5


async def test_another_error_is_not_retried(waits: list[float]) -> None:
    call = Flaky(1, KeyError)
    with pytest.raises(KeyError):
        await backoff.retry(call, "apply")
    assert call.calls == 1


async def test_who_waits_for_what_is_known_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def look(_seconds: float) -> None:
        seen.append(backoff.waits())

    monkeypatch.setattr(backoff.asyncio, "sleep", look)
    assert await backoff.retry(Flaky(2), "connect to Redis") == 42
    assert seen == [[backoff.Wait("connect to Redis", "away")]] * 2
    assert backoff.waits() == []


async def test_what_is_tried_again_inside_the_process_is_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    async def look(_seconds: float) -> None:
        seen.append(backoff.waits())

    monkeypatch.setattr(backoff.asyncio, "sleep", look)
    await backoff.retry(Flaky(1), "score", inside=True)
    assert seen == [[]]


async def test_a_wait_that_is_given_up_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(_seconds: float) -> None:
        raise asyncio.CancelledError

    monkeypatch.setattr(backoff.asyncio, "sleep", cancelled)
    with pytest.raises(asyncio.CancelledError):
        await backoff.retry(Flaky(1), "connect to Redis")
    assert backoff.waits() == []


async def test_a_call_that_has_no_answer_yet_is_said_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "SLOW_S", 0)
    monkeypatch.setattr(backoff, "_said_slow_at", {})

    async def slow() -> None:
        await asyncio.sleep(0.01)

    with capture_logs() as said:
        await backoff.retry(slow, "apply")
        await backoff.retry(slow, "apply")
        await backoff.retry(slow, "rewind")
        await backoff.retry(slow, "score", inside=True)
    assert [(line["event"], line["doing"]) for line in said] == [
        ("a dependency is slow", "apply"),
        ("a dependency is slow", "rewind"),
    ]


async def test_a_call_that_is_answered_in_time_is_not_called_slow() -> None:
    with capture_logs() as said:
        await backoff.retry(Flaky(0), "apply")
        await asyncio.sleep(0)
    assert said == []
