"""What the consumer's thread hands over of what it fetched, when the log may not be what it was."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import aiokafka.client
import aiokafka.consumer.fetcher
import pytest
from aiokafka.errors import KafkaTimeoutError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from builders import CHATS, REVIEWS, record
from structlog.testing import capture_logs

from stream import transport
from stream.runs import Position, Run
from stream.topic_ids import TopicFacts
from stream.transport import ConsumerThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aiokafka import ConsumerRecord
    from faust.types import TP

R0, C0 = TopicPartition("reviews", 0), TopicPartition("chats", 0)


class FakeCluster:
    def __init__(self) -> None:
        self.partitions = {"reviews": 4, "chats": 4}

    def partitions_for_topic(self, name: str) -> set[int] | None:
        return set(range(self.partitions[name])) if name in self.partitions else None


class FakeConsumer:
    """aiokafka's consumer as far as a fetch needs it."""

    def __init__(self) -> None:
        self.assigned = {R0, C0}
        self.sought: list[tuple[TopicPartition, int]] = []
        self.refreshed = 0
        self._fetcher = SimpleNamespace(_fetch_max_wait_ms=transport.FETCH_WAIT_MS)
        self._client = SimpleNamespace(
            cluster=FakeCluster(), _conns={0: object()}, force_metadata_update=self._refresh
        )

    def _refresh(self) -> None:
        self.refreshed += 1

    def assignment(self) -> set[TopicPartition]:
        return self.assigned

    def subscription(self) -> frozenset[str]:
        return frozenset({"reviews", "chats"})

    def seek(self, key: TopicPartition, offset: int) -> None:
        self.sought.append((key, offset))


class Thread(ConsumerThread):
    """The consumer's thread without Faust around it: fetches and answers are the test's."""

    def __init__(self) -> None:
        self.fake = FakeConsumer()
        self.consumer = SimpleNamespace(flow_active=True)
        self._cursors = {}
        self._look_at, self._looked_over, self._in_doubt = 0.0, [], set()
        self._brought_at = 0.0
        self.fetches: list[dict[TopicPartition, list[ConsumerRecord]] | Exception] = []
        self.facts: dict[str, TopicFacts] | Exception = {
            "reviews": TopicFacts("A", 4),
            "chats": TopicFacts("C", 4),
        }
        self.looks = 0
        self.during_look: Callable[[], object] = lambda: None

    def _ensure_consumer(self) -> Any:
        return self.fake

    async def _fetch_records(self, *_: Any, **__: Any) -> Any:
        fetched = self.fetches.pop(0) if self.fetches else {}
        if isinstance(fetched, Exception):
            raise fetched
        return fetched

    async def _topics(self, names: Any) -> dict[str, TopicFacts]:
        self.looks += 1
        self.during_look()
        if isinstance(self.facts, Exception):
            raise self.facts
        return self.facts

    async def seek_to(self, offset: int, *, epoch: int = 1, log: str = "A", tp: TP = REVIEWS) -> None:
        await self._seek_all({tp: Position(offset, (offset - 1,), log=log)}, {tp: epoch})

    async def fetch(self, *fetched: Any, key: TopicPartition = R0) -> dict[TP, list[Run]]:
        """One turn; ``fetched`` are offsets that come, or an error."""
        if fetched and isinstance(fetched[0], Exception):
            self.fetches.append(fetched[0])
        else:
            self.fetches.append({key: [record(offset, None) for offset in fetched]} if fetched else {})
        return await self._fetch_runs(None, 0.0)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The thread's clock; no pause takes any time."""

    async def no_pause(seconds: float) -> None:
        now.time += seconds

    now = SimpleNamespace(time=1000.0)
    monkeypatch.setattr(transport.time, "monotonic", lambda: now.time)
    monkeypatch.setattr(transport.asyncio, "sleep", no_pause)
    return now


def shapes(runs: dict[TP, list[Run]]) -> dict[TP, list[tuple[int, list[int], str]]]:
    """Number, offsets, and why it ended."""
    return {
        tp: [(run.number, [each.offset for each in run.records], run.ended) for run in each]
        for tp, each in runs.items()
    }


async def test_records_become_a_run_of_the_log_that_is_read() -> None:
    thread = Thread()
    await thread.seek_to(5)
    assert await thread.fetch(5, 6) == {
        REVIEWS: [Run(REVIEWS, 1, 0, [record(5, None), record(6, None)], "A")]
    }
    assert shapes(await thread.fetch(7)) == {REVIEWS: [(1, [7], "")]}


async def test_partitions_that_nothing_was_sought_in_hand_over_nothing() -> None:
    assert await Thread().fetch(5) == {}


async def test_partitions_given_away_hand_over_nothing() -> None:
    thread = Thread()
    await thread.seek_to(5)
    thread.fake.assigned = {C0}
    assert await thread.fetch(5) == {}


async def test_an_offset_out_of_range_ends_the_partition_and_no_other() -> None:
    thread = Thread()
    await thread.seek_to(5)
    await thread.seek_to(0, log="C", tp=CHATS)
    assert shapes(await thread.fetch(OffsetOutOfRangeError({R0: 5}))) == {
        REVIEWS: [(0, [], "offset 5 is not in the log: it was deleted, or the log ends before it")]
    }
    assert shapes(await thread.fetch(0, key=C0)) == {CHATS: [(0, [0], "")]}


async def test_records_below_the_next_offset_end_the_partition() -> None:
    thread = Thread()
    await thread.seek_to(5)
    assert shapes(await thread.fetch(0, 1, 2)) == {
        REVIEWS: [(0, [], "offset 0 came where 5 is next: it is another log")]
    }
    assert await thread.fetch(3) == {}  # nothing more until a seek
    await thread.seek_to(0, epoch=2)
    assert shapes(await thread.fetch(0)) == {REVIEWS: [(0, [0], "")]}


async def test_a_partition_without_a_position_waits_for_the_seek() -> None:
    thread = Thread()
    assert await thread.fetch(NoOffsetForPartitionError(R0)) == {}


# Which logs the topics are.


async def test_records_of_a_topic_made_anew_are_not_handed_over() -> None:
    thread = Thread()
    await thread.seek_to(5)
    thread.facts = {"reviews": TopicFacts("B", 4), "chats": TopicFacts("C", 4)}
    assert shapes(await thread.fetch(5, 6)) == {REVIEWS: [(0, [], "the topic is log B now, not A")]}


async def test_a_topic_made_anew_is_noticed_while_no_records_come(clock: SimpleNamespace) -> None:
    thread = Thread()
    await thread.seek_to(5)
    assert await thread.fetch() == {}
    thread.facts = {"reviews": TopicFacts("B", 4), "chats": TopicFacts("C", 4)}
    clock.time += transport.LOOK_S
    assert shapes(await thread.fetch()) == {REVIEWS: [(0, [], "the topic is log B now, not A")]}


async def test_an_answer_holds_for_a_while(clock: SimpleNamespace) -> None:
    thread = Thread()
    await thread.seek_to(5)
    for offset in (5, 6, 7):
        await thread.fetch(offset)
        clock.time += transport.LOOK_S / 3
    assert thread.looks == 1
    await thread.fetch(8)
    assert thread.looks == 2


async def test_an_answer_that_took_long_holds_longer(clock: SimpleNamespace) -> None:
    thread = Thread()

    def take_long() -> None:
        clock.time += 0.1

    thread.during_look = take_long
    await thread.seek_to(5)
    await thread.fetch(5)
    clock.time += 0.09 * transport.LOOK_SHARE
    await thread.fetch(6)
    assert thread.looks == 1
    clock.time += 0.02 * transport.LOOK_SHARE
    await thread.fetch(7)
    assert thread.looks == 2


async def test_an_answer_does_not_hold_over_a_new_connection() -> None:
    """Behind it may be a broker that was started anew, with other logs."""
    thread = Thread()
    await thread.seek_to(5)
    await thread.fetch(5)
    thread.facts = {"reviews": TopicFacts("B", 4), "chats": TopicFacts("C", 4)}
    thread.fake._client._conns[0] = object()
    assert shapes(await thread.fetch(6)) == {REVIEWS: [(1, [], "the topic is log B now, not A")]}


async def test_an_answer_does_not_hold_over_new_metadata() -> None:
    """aiokafka asks for them after every error of a fetch, so after one that a deleted topic causes."""
    thread = Thread()
    await thread.seek_to(5)
    await thread.fetch(5)
    thread._doubt(thread.fake._client.cluster)
    await thread.fetch(6)
    assert thread.looks == 2


async def test_nothing_is_asked_while_the_flow_is_stopped() -> None:
    thread = Thread()
    thread.consumer.flow_active = False
    await thread.seek_to(5)
    await thread.fetch()
    assert thread.looks == 0


async def test_what_cannot_be_asked_after_is_put_back_and_said_once() -> None:
    thread = Thread()
    await thread.seek_to(5)
    thread.facts = KafkaTimeoutError("no answer")
    with capture_logs() as said:
        assert await thread.fetch(5, 6) == {}
        assert await thread.fetch(5, 6) == {}
    assert [line["log_level"] for line in said] == ["warning"]
    assert thread.fake.sought == [(R0, 5)] * 3
    thread.facts = {"reviews": TopicFacts("A", 4), "chats": TopicFacts("C", 4)}
    assert shapes(await thread.fetch(5, 6)) == {REVIEWS: [(0, [5, 6], "")]}


async def test_a_topic_that_is_gone_is_said_once_and_not_read(clock: SimpleNamespace) -> None:
    thread = Thread()
    await thread.seek_to(5)
    await thread.seek_to(0, log="C", tp=CHATS)
    thread.facts = {"chats": TopicFacts("C", 4)}
    with capture_logs() as said:
        assert await thread.fetch(5) == {}
        clock.time += transport.LOOK_S
        assert await thread.fetch(5) == {}
        assert shapes(await thread.fetch(0, key=C0)) == {CHATS: [(0, [0], "")]}
    assert [(line["event"], line["topic"]) for line in said] == [
        ("the topic is gone; waiting for it to come back", "reviews")
    ]


async def test_records_fetched_before_a_seek_that_came_while_it_asked_are_dropped() -> None:
    thread = Thread()
    await thread.seek_to(5)

    def seek() -> None:
        thread._cursors[REVIEWS] = transport.Cursor(REVIEWS, 2, 9, "A")

    thread.during_look = seek
    assert await thread.fetch(5, 6) == {}
    thread.during_look = lambda: None
    assert shapes(await thread.fetch(9)) == {REVIEWS: [(0, [9], "")]}


async def test_a_broker_that_tells_no_ids_is_read_on() -> None:
    thread = Thread()
    thread.facts = {"reviews": TopicFacts(None, 4), "chats": TopicFacts(None, 4)}
    await thread.seek_to(5)
    assert shapes(await thread.fetch(5)) == {REVIEWS: [(0, [5], "")]}


async def test_ids_that_become_known_are_noticed() -> None:
    thread = Thread()
    await thread.seek_to(5, log="")
    [(_, _, why)] = shapes(await thread.fetch(5))[REVIEWS]
    assert why == "the topic is log A now, not one without an id"


async def test_another_number_of_partitions_has_the_group_share_them_out_anew() -> None:
    thread = Thread()
    await thread.fetch()
    assert thread.fake.refreshed == 0
    thread.facts = {"reviews": TopicFacts("A", 6), "chats": TopicFacts("C", 4)}
    thread._doubt()
    await thread.fetch()
    assert thread.fake.refreshed == 1


def test_asking_for_metadata_creates_no_topic() -> None:
    request = aiokafka.client.MetadataRequest(["reviews"]).prepare({3: (0, 5)})
    assert request.allow_auto_topic_creation is False


def fetched(records: int) -> Any:
    """What aiokafka's fetcher makes of a fetch that brought so many records, none of them read yet."""
    batch = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=-1,
        batch_size=1_000_000,
    )
    for n in range(records):
        batch.append(n, timestamp=n, key=b"kettle", value=b"It boils.", headers=[])
    return aiokafka.consumer.fetcher.PartitionRecords(
        R0, MemoryRecords(bytes(batch.build())), [], 0, None, None, True, 0
    )


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("read", [0, 2])
def test_a_fetch_dropped_before_its_end_is_freed_without_the_collector(read: int) -> None:
    records = fetched(3)
    for _ in range(read):
        next(records)
    dropped = weakref.ref(records)
    del records
    assert dropped() is None


def test_a_fetch_is_unpacked_in_order_to_its_end() -> None:
    records = fetched(3)
    assert [each.offset for each in records] == [0, 1, 2]
    assert records.next_fetch_offset == 3


async def test_the_broker_is_asked_seldom_while_nothing_comes_and_often_once_something_did(
    clock: SimpleNamespace,
) -> None:
    thread = Thread()
    await thread.seek_to(5)
    waits = []
    for seconds, offsets in ((0.0, (5,)), (0.9, ()), (0.1, ()), (60.0, ()), (0.1, (6,)), (0.1, ())):
        clock.time += seconds
        await thread.fetch(*offsets)
        waits.append(thread.fake._fetcher._fetch_max_wait_ms)
    assert waits == [20, 20, 250, 250, 20, 20]
