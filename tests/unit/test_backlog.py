"""Where records wait, asked of a Kafka in memory; against a broker it is tested with real workers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError
from aiokafka.structs import TopicPartition
from builders import CHATS, REVIEWS

from stream import backlog
from stream.backlog import Backlog
from stream.errors import DependencyError
from stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

R0, C0 = TopicPartition(*REVIEWS), TopicPartition(*CHATS)


class FakeConsumer:
    """aiokafka's consumer as far as it is used."""

    def __init__(self) -> None:
        self.ends = {R0: 0, C0: 0}
        self.records: dict[TopicPartition, list[int]] = {R0: [], C0: []}
        self.error: Exception | None = None
        self.assigned: set[TopicPartition] = set()
        self.reading: set[TopicPartition] = set()
        self.positions: dict[TopicPartition, int] = {}
        self.calls: list[str] = []

    async def start(self) -> None:
        self.calls.append("start")
        self._fail()

    async def stop(self) -> None:
        self.calls.append("stop")

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error

    async def topics(self) -> set[str]:
        self.calls.append("topics")
        self._fail()
        return set()

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = set(partitions)
        self.reading = set(partitions)

    def pause(self, *partitions: TopicPartition) -> None:
        self.reading -= set(partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        self.reading |= set(partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.positions[partition] = offset

    async def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        self.calls.append("ends")
        self._fail()
        return {each: self.ends[each] for each in partitions}

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int) -> dict[TopicPartition, list[Any]]:
        del timeout_ms
        assert self.reading == set(partitions)  # and nothing else
        self.calls.append(f"read {sorted(each.topic for each in partitions)}")
        return {
            each: [
                SimpleNamespace(timestamp=offset * 1000)
                for offset in self.records[each]
                if offset >= self.positions[each]
            ]
            for each in partitions
        }


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    fake = FakeConsumer()
    monkeypatch.setattr(backlog, "AIOKafkaConsumer", lambda **_: fake)
    return fake


def filled(kafka: FakeConsumer, records: int, partition: TopicPartition = R0) -> None:
    kafka.records[partition] = list(range(records))
    kafka.ends[partition] = records


async def test_nothing_waits_behind_what_was_applied(kafka: FakeConsumer) -> None:
    filled(kafka, 10)
    looked = Backlog(Settings())
    for _ in range(3):
        assert await looked.look({REVIEWS: 9, CHATS: -1}, {}) == {}
    assert kafka.calls == ["start", "ends", "ends", "ends"]


async def test_a_record_beyond_what_was_applied_waits_when_nothing_is_applied(kafka: FakeConsumer) -> None:
    filled(kafka, 10)
    looked = Backlog(Settings())
    assert await looked.look({REVIEWS: 7, CHATS: -1}, {}) == {}  # it may be about to be applied
    assert await looked.look({REVIEWS: 7, CHATS: -1}, {}) == {REVIEWS: 7}
    assert await looked.look({REVIEWS: 8, CHATS: -1}, {}) == {}
    assert await looked.look({REVIEWS: 8, CHATS: -1}, {}) == {REVIEWS: 8}
    assert looked.read == {REVIEWS: (8, 9000)}  # what was applied, and the next record's timestamp
    assert looked.ends == {REVIEWS: 10, CHATS: 0}


async def test_it_is_read_once_and_then_known(kafka: FakeConsumer) -> None:
    filled(kafka, 10)
    looked = Backlog(Settings())
    for _ in range(5):
        await looked.look({REVIEWS: 7}, {})
    assert [call for call in kafka.calls if call.startswith("read")] == ["read ['reviews']"]
    assert kafka.reading == set()


async def test_a_busy_worker_costs_no_reading(kafka: FakeConsumer) -> None:
    filled(kafka, 1000)
    looked = Backlog(Settings())
    for applied in range(20):
        assert await looked.look({REVIEWS: applied}, {}) == {}
    assert set(kafka.calls) == {"start", "ends"}


async def test_an_end_without_a_record_is_no_backlog(kafka: FakeConsumer) -> None:
    """A transaction's marker is the last thing in the log, or the last records were compacted away."""
    filled(kafka, 10)
    kafka.ends[R0] = 11
    looked = Backlog(Settings())
    for _ in range(5):
        assert await looked.look({REVIEWS: 9}, {}) == {}


async def test_an_end_that_is_known_otherwise_is_believed(kafka: FakeConsumer) -> None:
    """The local broker does not tell of its last batch."""
    filled(kafka, 10)
    kafka.ends[R0] = 5
    looked = Backlog(Settings())
    for _ in range(2):
        found = await looked.look({REVIEWS: 4}, {REVIEWS: 10})
    assert found == {REVIEWS: 4}


async def test_each_partition_is_judged_for_itself(kafka: FakeConsumer) -> None:
    filled(kafka, 10)
    filled(kafka, 10, C0)
    looked = Backlog(Settings())
    await looked.look({REVIEWS: 3, CHATS: 3}, {})
    assert await looked.look({REVIEWS: 3, CHATS: 4}, {}) == {REVIEWS: 3}
    assert await looked.look({CHATS: 4}, {}) == {CHATS: 4}  # reviews were given away


async def test_without_partitions_kafka_is_asked_all_the_same(kafka: FakeConsumer) -> None:
    assert await Backlog(Settings()).look({}, {}) == {}
    assert kafka.calls == ["start", "topics"]


@pytest.mark.parametrize("error", [KafkaTimeoutError(), KafkaConnectionError("refused")])
async def test_a_broker_that_does_not_answer_is_a_dependency_and_asked_anew(
    kafka: FakeConsumer, error: Exception
) -> None:
    looked = Backlog(Settings(kafka="k:9092"))
    await looked.look({REVIEWS: 3}, {})
    kafka.error = error
    for _ in range(2):
        with pytest.raises(DependencyError, match="Kafka at k:9092"):
            await looked.look({REVIEWS: 3}, {})
    kafka.error = None
    assert await looked.look({REVIEWS: 3}, {}) == {}
    assert kafka.calls == ["start", "ends", "ends", "stop", "start", "stop", "start", "ends"]


async def test_closing_disconnects_once(kafka: FakeConsumer) -> None:
    looked = Backlog(Settings())
    await looked.look({}, {})
    await looked.close()
    await looked.close()
    assert kafka.calls == ["start", "topics", "stop"]
