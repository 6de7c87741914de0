"""Where each partition is read from, and which of its runs may be taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from builders import CHATS, REVIEWS, record, run
from structlog.testing import capture_logs

from stream import lanes as lanes_module
from stream.lanes import Lanes, RunMissing
from stream.store.memory import MemoryStore
from stream.transport import Position

if TYPE_CHECKING:
    from faust.types import TP


class FakeLog:
    """A Kafka with the given ends; ``records`` are those that can be read beside what the ends say."""

    def __init__(self, first: int, end: int, *, records: tuple[int, ...] = ()) -> None:
        self.first, self.end, self.records = first, end, records
        self.asked: list[int] = []

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        return dict.fromkeys(tps, (self.first, self.end))

    async def has_record(self, tp: TP, offset: int) -> bool:
        self.asked.append(offset)
        return offset in self.records


def make(*applied: int, shards: int = 1) -> tuple[Lanes, MemoryStore]:
    """Lanes over a store that has ``applied`` of the reviews partition, by shard (-1: nothing)."""
    store = MemoryStore(shards)
    for offsets, offset in zip(store.offsets, applied, strict=False):
        if offset >= 0:
            offsets["reviews:0"] = offset
    return Lanes(store, {"reviews": "reviews", "chats": "chats"}), store


async def position(lanes: Lanes, log: FakeLog) -> tuple[Position, list[str]]:
    """The position of the reviews partition, and what was said at error level."""
    with capture_logs() as said:
        positions = await lanes.positions({REVIEWS}, log)
    return positions[REVIEWS], [line["event"] for line in said if line["log_level"] == "error"]


def opened(*applied: int, shards: int = 1) -> Lanes:
    lanes, _ = make(shards=shards)
    lanes.open({REVIEWS: Position(max(applied) + 1, applied)})
    return lanes


async def test_a_partition_never_counted_is_read_from_its_first_record() -> None:
    assert await position(make()[0], FakeLog(0, 10)) == (Position(0, (-1,)), [])


async def test_a_partition_never_counted_starts_quietly_where_retention_left_off() -> None:
    assert await position(make()[0], FakeLog(5, 10)) == (Position(5, (-1,)), [])


async def test_reading_goes_on_behind_what_was_applied() -> None:
    assert await position(make(6)[0], FakeLog(0, 10)) == (Position(7, (6,)), [])


async def test_reading_waits_at_the_end_when_everything_is_applied() -> None:
    log = FakeLog(0, 10)
    assert await position(make(9)[0], log) == (Position(10, (9,)), [])
    assert log.asked == []  # no doubt, so no probe


async def test_the_shard_that_is_behind_decides() -> None:
    assert await position(make(6, 3, shards=2)[0], FakeLog(0, 10)) == (Position(4, (6, 3)), [])


async def test_a_shard_with_nothing_applied_starts_the_partition_over_for_itself() -> None:
    assert await position(make(6, -1, shards=2)[0], FakeLog(0, 10)) == (Position(0, (6, -1)), [])


async def test_records_deleted_before_they_were_counted_are_said_aloud() -> None:
    where, errors = await position(make(6)[0], FakeLog(9, 20))
    assert where == Position(9, (6,))
    assert errors == ["records were deleted by retention before they were counted"]


async def test_a_log_that_lacks_the_last_applied_record_is_another_log() -> None:
    lanes, store = make(60, 60, shards=2)
    where, errors = await position(lanes, FakeLog(0, 10))
    assert where == Position(0, (-1, -1))
    assert [text for text in errors if "another log" in text]
    assert store.offsets == [{}, {}]


async def test_an_empty_log_is_another_log_than_one_that_was_counted() -> None:
    lanes, store = make(0)
    assert (await position(lanes, FakeLog(0, 0)))[0] == Position(0, (-1,))
    assert store.offsets == [{}]


async def test_an_end_that_lags_behind_is_no_other_log_while_the_record_is_there() -> None:
    """After a change of leader (KIP-207), and on a broker that reports the start of its last batch."""
    lanes, store = make(12)
    log = FakeLog(0, 10, records=(12,))
    assert await position(lanes, log) == (Position(13, (12,)), [])
    assert store.offsets == [{"reviews:0": 12}]
    assert log.asked == [12]


async def test_forgetting_one_partition_leaves_the_others() -> None:
    lanes, store = make(60)
    store.offsets[0]["chats:0"] = 4
    with capture_logs():
        positions = await lanes.positions({REVIEWS, CHATS}, FakeLog(0, 10))
    assert positions == {REVIEWS: Position(0, (-1,)), CHATS: Position(5, (4,))}
    assert store.offsets == [{"chats:0": 4}]


def test_runs_are_taken_in_order_of_their_numbers() -> None:
    lanes = opened(-1)
    assert [lanes.take(run(number, record(number, None))) for number in range(3)] == [True] * 3


def test_a_run_of_a_partition_never_opened_is_dropped() -> None:
    assert make()[0].take(run(0, record(0, None))) is False


def test_a_missing_run_is_noticed() -> None:
    lanes = opened(-1)
    lanes.take(run(0, record(0, None)))
    with pytest.raises(RunMissing, match="run 1 of reviews:0 is missing, run 2 came"):
        lanes.take(run(2, record(2, None)))


def test_a_missing_first_run_is_noticed() -> None:
    with pytest.raises(RunMissing):
        opened(-1).take(run(1, record(1, None)))


def test_a_repeated_run_is_not_taken_twice() -> None:
    lanes = opened(-1)
    lanes.take(run(0, record(0, None)))
    with pytest.raises(RunMissing):
        lanes.take(run(0, record(0, None)))


def test_opening_starts_an_epoch_and_makes_the_one_before_stale() -> None:
    lanes = opened(-1)
    assert lanes.open({REVIEWS: Position(0, (-1,))}) == {REVIEWS: 2}
    assert lanes.take(run(0, record(0, None), epoch=1)) is False
    assert lanes.take(run(0, record(0, None), epoch=2)) is True
    assert (lanes.is_current(REVIEWS, 1), lanes.is_current(REVIEWS, 2)) == (False, True)


def test_a_closed_lane_takes_nothing_until_it_is_opened_again() -> None:
    lanes = opened(-1)
    lanes.close([REVIEWS, CHATS])
    assert lanes.take(run(0, record(0, None))) is False
    assert not lanes.is_current(REVIEWS, 1)
    assert lanes.owned() == set()
    assert lanes.open({REVIEWS: Position(0, (-1,))}) == {REVIEWS: 2}
    assert lanes.owned() == {"reviews:0"}


def test_a_lane_knows_the_channel_of_its_topic() -> None:
    lanes, _ = make()
    lanes.open({REVIEWS: Position(0, (-1,)), CHATS: Position(0, (-1,))})
    assert (lanes[REVIEWS].channel, lanes[CHATS].channel) == ("reviews", "chats")


def test_nothing_applied_is_nothing_to_commit() -> None:
    assert opened(-1).committable() == {}


def test_what_is_applied_is_committed_once() -> None:
    lanes = opened(6)
    assert lanes.committable() == {REVIEWS: 7}
    lanes.committed({REVIEWS: 7})
    assert lanes.committable() == {}
    lanes[REVIEWS].applied[0] = 8
    assert lanes.committable() == {REVIEWS: 9}


def test_a_commit_that_crosses_a_fresh_start_is_not_believed() -> None:
    lanes = opened(6)
    lanes[REVIEWS].applied[0] = 2  # the log was another one and is counted from its start
    lanes.committed({REVIEWS: 7})
    lanes[REVIEWS].applied[0] = 3
    assert lanes.committable() == {REVIEWS: 4}


def test_the_shard_that_is_behind_decides_what_is_committed() -> None:
    assert opened(6, 3, shards=2).committable() == {REVIEWS: 4}


def test_the_first_offset_can_be_committed() -> None:
    assert opened(0).committable() == {REVIEWS: 1}


def test_a_closed_lane_commits_nothing() -> None:
    lanes = opened(6)
    lanes.close([REVIEWS])
    assert lanes.committable() == {}


def test_detector_states_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "MAX_STATES", 2)
    lane = opened(-1)[REVIEWS]
    for product_id in ("a", "b", "a", "c"):
        lane.remember({product_id: product_id.encode()})
    assert len(lane.states) == 2
    assert lane.states["c"] == b"c"
