"""Where each partition is read on from, when its log may not be what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from builders import CHATS, REVIEWS
from structlog.testing import capture_logs

from stream.core.segments import SEGMENT_OFFSETS
from stream.errors import DependencyError
from stream.resume import OURS, Resume
from stream.runs import Position
from stream.store.contract import Move
from stream.store.memory import MemoryStore
from stream.store.missing import Missing, union
from stream.topic_ids import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from faust.types import TP

ANOTHER = "it is another log than the one counted so far: counting it from its start; counters stay"
RAISE = 7
DELETED = "records were deleted by retention before they were counted"


@pytest.fixture(autouse=True)
def raise_(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn."""
    monkeypatch.setattr("stream.resume.drawn_raise", lambda: RAISE)


class FakeLog:
    """A Kafka with the given ends; ``records`` are those that can be read beside what the ends say."""

    def __init__(
        self,
        first: int,
        end: int,
        *,
        log: str | None = "A",
        records: tuple[int, ...] = (),
        denies: bool | None = False,
        committed: int = 0,
        partitions: int = 4,
    ) -> None:
        self.first, self.end, self.log, self.records = first, end, log, records
        self.denies, self.partitions, self._committed = denies, partitions, committed
        self.asked: list[int] = []

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        return {name: TopicFacts(self.log, self.partitions) for name in names}

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        return dict.fromkeys(tps, (self.first, self.end))

    async def committed(self, tp: TP) -> int:
        return self._committed

    async def has_record(self, tp: TP, offset: int) -> bool | None:
        self.asked.append(offset)
        return True if offset in self.records else self.denies


def store_with(*applied: int, name: str = "reviews:0@A", log: str = "A") -> MemoryStore:
    """A store that has ``applied`` of the reviews partition, by shard (-1: nothing), of the log noted."""
    store = MemoryStore(len(applied) or 1)
    for offsets, offset in zip(store.offsets, applied, strict=False):
        if offset >= 0:
            offsets[name] = offset
    if log:
        store.log_names["reviews:0"] = log
    return store


def unnamed(*applied: int) -> MemoryStore:
    """A store as of before ids were known."""
    return store_with(*applied, name="reviews:0", log="")


def listed(store: MemoryStore) -> Iterator[tuple[str, str]]:
    """The shards' lists of missing ranges, as Redis holds them."""
    for of_shard in store.missing:
        for name, ranges in of_shard.items():
            yield name, " ".join(f"{first}-{last}" for first, last in ranges)


class Said(NamedTuple):
    position: Position
    lines: list[str]
    """What was said at error level."""
    whole: list[Any]


async def resume(store: MemoryStore, log: FakeLog, resume: Resume | None = None) -> Said:
    resume = resume or Resume(store, None)
    with capture_logs() as said:
        positions = await resume.positions({REVIEWS}, log)
    return Said(
        positions[REVIEWS],
        [line["event"] for line in said if line["log_level"] == "error"],
        [line for line in said if line["log_level"] in ("error", "warning")],
    )


# A log that is what it was.


async def test_a_partition_never_counted_is_read_from_its_first_record() -> None:
    store = MemoryStore()
    assert await resume(store, FakeLog(0, 10)) == (Position(0, (-1,), log="A"), [], [])
    assert store.log_names == {"reviews:0": "A", "reviews": "4"}


async def test_a_partition_never_counted_starts_quietly_where_retention_left_off() -> None:
    store = MemoryStore()
    assert await resume(store, FakeLog(5, 10)) == (Position(5, (4,), log="A", erased=(RAISE,)), [], [])
    assert store.missing == [{}]


async def test_reading_goes_on_behind_what_was_applied() -> None:
    assert await resume(store_with(6), FakeLog(0, 10)) == (Position(7, (6,), log="A"), [], [])


async def test_reading_waits_at_the_end_when_everything_is_applied() -> None:
    log = FakeLog(0, 10)
    assert await resume(store_with(9), log) == (Position(10, (9,), log="A"), [], [])
    assert log.asked == []  # no doubt, so no probe


async def test_the_shard_that_is_behind_decides() -> None:
    assert (await resume(store_with(6, 3), FakeLog(0, 10))).position == Position(4, (6, 3), log="A")


async def test_a_shard_with_nothing_applied_starts_the_partition_over_for_itself() -> None:
    assert (await resume(store_with(6, -1), FakeLog(0, 10))).position == Position(0, (6, -1), log="A")


async def test_an_end_that_lags_behind_is_no_other_log_while_the_record_is_there() -> None:
    """After a change of leader (KIP-207), and on a broker that reports the start of its last batch."""
    store, log = store_with(12), FakeLog(0, 10, records=(12,))
    assert await resume(store, log) == (Position(13, (12,), log="A"), [], [])
    assert store.offsets == [{"reviews:0@A": 12}]
    assert log.asked == [12]


async def test_an_end_that_lags_behind_is_waited_for_while_kafka_says_nothing() -> None:
    store = store_with(12)
    assert await resume(store, FakeLog(0, 10, denies=None)) == (Position(13, (12,), log="A"), [], [])
    assert store.offsets == [{"reviews:0@A": 12}]


# Another log.


@pytest.mark.parametrize("end", [0, 10, 61, 1000])
async def test_a_topic_made_anew_is_counted_from_its_start_however_long_it_is(end: int) -> None:
    store = store_with(60, 58)
    said = await resume(store, FakeLog(0, end, log="B"))
    assert said.position == Position(0, (-1, -1), log="B")
    assert said.whole == [
        {
            "event": ANOTHER,
            "log_level": "error",
            "partition": "reviews:0",
            "old_log": "A",
            "new_log": "B",
            "counted_to": 60,
        }
    ]
    # The old log's offsets stay: a paused worker that still has some of it in hand must meet them.
    assert store.offsets == [{"reviews:0@A": 60}, {"reviews:0@A": 58}]
    assert store.log_names["reviews:0"] == "B"


async def test_another_log_is_said_once() -> None:
    store = store_with(60)
    assert (await resume(store, FakeLog(0, 10, log="B"))).lines == [ANOTHER]
    assert (await resume(store, FakeLog(0, 10, log="B"))).lines == []


async def test_what_was_remembered_of_the_old_log_is_dropped() -> None:
    store = store_with(60)
    store.fingerprints[0] = {("reviews:0@A", 0): b"12345678", ("chats:0@A", 0): b"12345678"}
    await resume(store, FakeLog(0, 10, log="B"))
    assert store.fingerprints == [{("chats:0@A", 0): b"12345678"}]


async def test_one_partition_that_starts_over_leaves_the_others() -> None:
    store = store_with(60)
    store.log_names["chats:0"] = "B"
    store.offsets[0]["chats:0@B"] = 4
    with capture_logs():
        positions = await Resume(store, None).positions({REVIEWS, CHATS}, FakeLog(0, 10, log="B"))
    assert positions == {REVIEWS: Position(0, (-1,), log="B"), CHATS: Position(5, (4,), log="B")}


async def test_records_that_a_topic_made_anew_lost_already_are_missing() -> None:
    store = store_with(60)
    said = await resume(store, FakeLog(5, 10, log="B"))
    assert said.position == Position(5, (4,), log="B", erased=(RAISE,))
    assert said.lines == [ANOTHER, DELETED]
    assert store.missing == [{"reviews:0@B": [(0, 4)]}]


async def test_a_partition_that_moved_on_leaves_no_other_with_an_old_mark() -> None:
    """Else the other's first step would be refused."""
    store = store_with(6)
    store.log_names["chats:0"] = "A"
    store.offsets[0]["chats:0@A"] = 15
    positions = await Resume(store, None).positions({CHATS, REVIEWS}, FakeLog(9, 20))
    assert positions == {
        REVIEWS: Position(9, (8,), log="A", erased=(RAISE,)),
        CHATS: Position(16, (15,), log="A", erased=(RAISE,)),
    }


async def test_a_topic_that_is_away_is_waited_for() -> None:
    class Gone(FakeLog):
        async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
            return {}

    with pytest.raises(DependencyError, match="Kafka has no topic reviews"):
        await resume(store_with(6), Gone(0, 10))


# A broker that tells no ids.


async def test_without_ids_offsets_have_the_partitions_name_alone() -> None:
    store = unnamed(6)
    assert await resume(store, FakeLog(0, 10, log=None)) == (Position(7, (6,)), [], [])
    assert store.log_names == {"reviews": "4"}


@pytest.mark.parametrize("denies", [False, None])
async def test_without_ids_a_log_that_lacks_the_last_applied_record_is_another_one(
    denies: bool | None,
) -> None:
    store = unnamed(60, 60)
    said = await resume(store, FakeLog(0, 10, log=None, denies=denies))
    ours = store.log_names["reviews:0"]
    assert ours.startswith(OURS)
    assert said.position == Position(0, (-1, -1), log=ours)
    assert said.lines == [ANOTHER]
    assert await resume(store, FakeLog(0, 10, log=None)) == (Position(0, (-1, -1), log=ours), [], [])


async def test_without_ids_an_empty_log_is_another_one_than_one_that_was_counted() -> None:
    said = await resume(unnamed(0), FakeLog(0, 0, log=None))
    assert (said.position.offset, said.lines) == (0, [ANOTHER])


async def test_a_broker_that_no_longer_tells_ids_is_taken_at_its_records() -> None:
    store = store_with(6)
    assert await resume(store, FakeLog(0, 10, log=None)) == (Position(7, (6,), log="A"), [], [])
    assert store.log_names["reviews:0"] == "A"


@pytest.mark.parametrize("before", ["", "~5e0cafe5"])
@pytest.mark.parametrize("end", [7, 10])
async def test_offsets_from_before_ids_were_known_get_the_logs_id(before: str, end: int) -> None:
    store = store_with(6, 3, name=f"reviews:0@{before}" if before else "reviews:0", log=before)
    store.fingerprints[1][f"reviews:0@{before}" if before else "reviews:0", 0] = b"12345678"
    said = await resume(store, FakeLog(0, end, records=(6,)))
    assert said == (Position(4, (6, 3), log="A"), [], [])
    assert store.offsets == [{"reviews:0@A": 6}, {"reviews:0@A": 3}]
    assert store.log_names["reviews:0"] == "A"
    assert store.fingerprints == [{}, {("reviews:0@A", 0): b"12345678"}]


async def test_offsets_from_before_ids_were_known_are_of_another_log_when_their_record_is_not_there() -> None:
    store = unnamed(60)
    said = await resume(store, FakeLog(0, 10))
    assert (said.position, said.lines) == (Position(0, (-1,), log="A"), [ANOTHER])


async def test_a_crash_between_two_shards_leaves_the_rest_of_the_naming_to_the_next() -> None:
    store = unnamed(-1, 3)
    store.offsets[0]["reviews:0@A"] = 6
    assert (await resume(store, FakeLog(0, 10))).position == Position(4, (6, 3), log="A")
    assert store.offsets == [{"reviews:0@A": 6}, {"reviews:0@A": 3}]


# A log that was cut back.


async def test_a_log_that_was_cut_back_is_counted_from_its_end_and_nothing_twice() -> None:
    store = store_with(60, 9)
    said = await resume(store, FakeLog(0, 50))
    assert said.position == Position(10, (49, 9), log="A", erased=(RAISE, 0))
    assert store.offsets == [{"reviews:0@A": 49}, {"reviews:0@A": 9}]
    [line] = said.whole
    assert line["event"].startswith("the log was cut back")
    assert (line["partition"], line["counted_to"], line["log_end"]) == ("reviews:0", 60, 50)
    assert (await resume(store, FakeLog(0, 50))).lines == []


async def test_a_log_that_was_emptied_is_counted_from_its_start() -> None:
    store = store_with(60)
    assert (await resume(store, FakeLog(0, 0))).position == Position(0, (-1,), log="A", erased=(RAISE,))


# Records that are missing.


async def test_records_deleted_before_they_were_counted_are_said_and_listed() -> None:
    store = store_with(6)
    resuming = Resume(store, None)
    said = await resume(store, FakeLog(9, 20), resuming)
    assert said.position == Position(9, (8,), log="A", erased=(RAISE,))
    assert said.whole == [
        {
            "event": DELETED,
            "log_level": "error",
            "partition": "reviews:0",
            "missing_from": 7,
            "missing_to": 8,
            "missing": 2,
        }
    ]
    assert store.missing == [{"reviews:0@A": [(7, 8)]}]
    assert resuming.missing == 2
    assert resuming.missing_ranges == (Missing("reviews:0", "A", 7, 8),)


async def test_a_missing_range_is_reported_once_also_over_restarts() -> None:
    store = store_with(6)
    await resume(store, FakeLog(9, 20))
    assert (await resume(store, FakeLog(9, 20))).lines == []
    assert (await resume(store, FakeLog(15, 20))).lines == [DELETED]
    assert store.missing == [{"reviews:0@A": [(7, 8), (9, 14)]}]


@pytest.mark.parametrize("applied", [(6, 3, 30), (30, 3, 6), (3, 3, 3)])
async def test_each_shard_lists_what_it_lacks_and_together_they_name_each_offset_once(
    applied: tuple[int, ...],
) -> None:
    store = store_with(*applied)
    resuming = Resume(store, None)
    said = await resume(store, FakeLog(9, 40), resuming)
    raised = tuple(RAISE if each < 8 else 0 for each in applied)
    assert said.position == Position(9, tuple(max(each, 8) for each in applied), log="A", erased=raised)
    assert store.missing == [{"reviews:0@A": [(each + 1, 8)]} if each < 8 else {} for each in applied]
    assert union(listed(store)) == [Missing("reviews:0", "A", 4, 8)]
    assert resuming.missing == 5


async def test_a_shard_that_went_over_a_range_alone_and_one_that_follows_name_each_offset_once() -> None:
    """The worker dies between the steps of two shards."""
    store = store_with(6, 3)
    await store.move([Move(0, "reviews:0@A", 6, 8, missing=True)])
    assert (await resume(store, FakeLog(9, 40))).lines == [DELETED]
    assert union(listed(store)) == [Missing("reviews:0", "A", 4, 8)]


@pytest.mark.parametrize("committed", [0, 7])
async def test_what_an_emptied_redis_cannot_get_back_is_missing(committed: int) -> None:
    """The worker that read the partition knows; a new one goes by what the group was told."""
    store = store_with(6)
    resuming = Resume(store, None)
    if not committed:
        await resume(store, FakeLog(0, 10), resuming)
    emptied = MemoryStore()
    resuming._store = emptied
    said = await resume(emptied, FakeLog(5, 10, committed=committed), resuming)
    assert (said.position.offset, said.lines) == (5, [DELETED])
    assert emptied.missing == [{"reviews:0@A": [(0, 4)]}]


async def test_fingerprints_that_no_event_is_compared_with_any_more_are_dropped() -> None:
    store = store_with(6)
    store.fingerprints[0] = {("reviews:0@A", 0): b"12345678"}
    first = 4 * SEGMENT_OFFSETS
    with capture_logs():
        await Resume(store, 2).positions({REVIEWS}, FakeLog(first, first + 9))
    assert store.fingerprints == [{}]


# The number of partitions.


async def test_another_number_of_partitions_is_said_once() -> None:
    store = store_with(6)
    assert (await resume(store, FakeLog(0, 10))).whole == []
    [line] = (await resume(store, FakeLog(0, 10, partitions=6))).whole
    assert line["event"].startswith("the topic has another number of partitions")
    assert (line["topic"], line["partitions_before"], line["partitions"]) == ("reviews", 4, 6)
    assert (await resume(store, FakeLog(0, 10, partitions=6))).whole == []


# Somebody else at the same time.


class Interrupted(MemoryStore):
    """A store in which something else happens just before the first change."""

    def __init__(self, shards: int = 1) -> None:
        super().__init__(shards)
        self.meanwhile: Callable[[], Awaitable[object]] | None = None

    async def swap_log(self, name: str, before: str, after: str) -> bool:
        await self._interrupt()
        return await super().swap_log(name, before, after)

    async def move(self, moves: Sequence[Move]) -> list[bool]:
        await self._interrupt()
        return await super().move(moves)

    async def _interrupt(self) -> None:
        if self.meanwhile is not None:
            happening, self.meanwhile = self.meanwhile, None
            await happening()


def interrupted(*applied: int, log: str = "A") -> Interrupted:
    store = Interrupted(len(applied))
    for offsets, offset in zip(store.offsets, applied, strict=True):
        offsets["reviews:0@A" if log else "reviews:0"] = offset
    store.log_names = {"reviews": "4", **({"reviews:0": log} if log else {})}
    return store


async def test_a_paused_worker_forgets_nothing_that_the_new_owner_counted() -> None:
    """It was stopped between deciding that the log is another one and acting on it."""
    store = interrupted(60)

    async def new_owner_counts() -> None:
        assert (await resume(store, FakeLog(0, 10, log="B"))).lines == [ANOTHER]
        store.offsets[0]["reviews:0@B"] = 7

    store.meanwhile = new_owner_counts
    said = await resume(store, FakeLog(0, 10, log="B"))
    assert said == (Position(8, (7,), log="B"), [], [])


async def test_a_paused_worker_without_ids_forgets_nothing_that_the_new_owner_counted() -> None:
    store = interrupted(60, log="")

    async def new_owner_counts() -> None:
        new = (await resume(store, FakeLog(0, 10, log=None))).position.log
        store.offsets[0][f"reviews:0@{new}"] = 7

    store.meanwhile = new_owner_counts
    said = await resume(store, FakeLog(0, 10, log=None))
    assert said == (Position(8, (7,), log=store.log_names["reviews:0"]), [], [])


async def test_a_paused_worker_takes_nothing_back_that_was_counted_after_the_log_was_cut() -> None:
    store = interrupted(60)

    async def new_owner_counts() -> None:
        await resume(store, FakeLog(0, 50))
        store.offsets[0]["reviews:0@A"] = 53

    store.meanwhile = new_owner_counts
    log = FakeLog(0, 50, records=(53,))
    assert await resume(store, log) == (Position(54, (53,), log="A", erased=(RAISE,)), [], [])


async def test_a_missing_range_is_reported_by_one_of_two_workers() -> None:
    store = interrupted(6)

    async def other_reports() -> None:
        assert (await resume(store, FakeLog(9, 20))).lines == [DELETED]

    store.meanwhile = other_reports
    assert await resume(store, FakeLog(9, 20)) == (Position(9, (8,), log="A", erased=(RAISE,)), [], [])
    assert store.missing == [{"reviews:0@A": [(7, 8)]}]
