from __future__ import annotations

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
