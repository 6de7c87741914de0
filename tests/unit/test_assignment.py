"""Faust's assignment, and a sink that takes its time to say where to read from."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import KafkaTimeoutError
from builders import CHATS, REVIEWS, until

from stream import backoff, transport
from stream.errors import DependencyError
from stream.runs import Position
from stream.transport import Consumer

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from faust.types import TP


class SlowSink:
    """A sink that answers when it may, and fails before that when it is told to."""

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failures: list[Exception] = []
        self.opened: list[TP] = []

    async def positions(self, tps: set[TP], _log: Any) -> Mapping[TP, Position]:
        if self.failures:
            raise self.failures.pop(0)
        await self.may_answer.wait()
        return {tp: Position(7, (6,)) for tp in tps}

    def open(self, positions: Mapping[TP, Position]) -> Mapping[TP, int]:
        self.opened += sorted(positions)
        return dict.fromkeys(positions, 1)


class SeekingConsumer(Consumer):
    """Faust's consumer as far as a seek needs it."""

    def __init__(self) -> None:
        self._sink = SlowSink()
        self._seeking = asyncio.Lock()
        self._seeks = set()
        self.ours = {REVIEWS, CHATS}
        self.sought: list[TP] = []
        self.paused: set[TP] = set()
        self.futures: list[asyncio.Task[None]] = []
        self._thread = SimpleNamespace(seek_all=self._note_seek)

    async def _note_seek(self, positions: Mapping[TP, Position], _epochs: Mapping[TP, int]) -> None:
        self.sought += sorted(positions)

    def assignment(self) -> set[TP]:
        return self.ours

    def pause_partitions(self, tps: set[TP]) -> None:
        self.paused |= tps

    def resume_partitions(self, tps: set[TP]) -> None:
        self.paused -= tps

    def add_future(self, coro: Coroutine[Any, Any, None]) -> None:
        self.futures.append(asyncio.ensure_future(coro))


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0)
    monkeypatch.setattr(transport, "SEEK_PATIENCE_S", 0.01)


async def test_an_assignment_is_sought_before_faust_goes_on() -> None:
    consumer = SeekingConsumer()
    assert await consumer.seek_to_committed() == {REVIEWS: 7, CHATS: 7}
    assert consumer.sought == sorted((REVIEWS, CHATS))
    assert consumer.paused == set()


@pytest.mark.parametrize("failure", [DependencyError("Redis is away"), KafkaTimeoutError()])
async def test_a_server_that_is_away_is_waited_for(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "SEEK_PATIENCE_S", 30)
    consumer = SeekingConsumer()
    consumer._sink.failures = [failure, failure]
    assert await consumer.seek_to_committed() == {REVIEWS: 7, CHATS: 7}


async def test_a_seek_that_takes_long_goes_on_alone_and_nothing_is_read_meanwhile() -> None:
    """Faust would take a wait of 90 s for a stop, and answer no rebalance ever after."""
    consumer = SeekingConsumer()
    consumer._sink.may_answer.clear()
    assert await consumer.seek_to_committed() == {}
    assert (consumer.paused, consumer.sought) == ({REVIEWS, CHATS}, [])
    consumer._sink.may_answer.set()
    await asyncio.gather(*consumer.futures)
    assert (consumer.paused, consumer.sought) == (set(), sorted((REVIEWS, CHATS)))
    assert consumer._seeks == set()


async def test_a_partition_given_away_while_the_sink_thinks_is_not_opened() -> None:
    consumer = SeekingConsumer()
    consumer._sink.may_answer.clear()
    await consumer.seek_to_committed()
    consumer.ours = {CHATS}
    consumer._sink.may_answer.set()
    await asyncio.gather(*consumer.futures)
    assert consumer._sink.opened == consumer.sought == [CHATS]


async def test_the_next_assignment_is_sought_after_the_one_before() -> None:
    consumer = SeekingConsumer()
    consumer._sink.may_answer.clear()
    await consumer.seek_to_committed()
    consumer.ours = {CHATS}
    second = asyncio.create_task(consumer.seek_to_committed())
    await asyncio.sleep(0)
    consumer._sink.may_answer.set()
    await until(second.done)
    await asyncio.gather(*consumer.futures)
    assert consumer.sought == [CHATS, CHATS]
    assert consumer.paused & consumer.ours == set()


async def test_an_error_of_ours_in_a_long_seek_is_not_lost() -> None:
    consumer = SeekingConsumer()
    consumer._sink.may_answer.clear()
    await consumer.seek_to_committed()

    def broken(_: Any) -> Any:
        raise ValueError("ours")

    consumer._sink.open = broken
    consumer._sink.may_answer.set()
    with pytest.raises(ValueError, match="ours"):  # Faust ends the app on it
        await asyncio.gather(*consumer.futures)
