"""Which of a partition's runs may be taken, and how far the store is."""

from __future__ import annotations

import pytest
from builders import CHATS, REVIEWS, record, run

from stream import lanes as lanes_module
from stream.core.seen import Seen
from stream.lanes import Lanes, RunMissing
from stream.runs import Position
from stream.store.memory import MemoryStore


def make(shards: int = 1) -> Lanes:
    return Lanes(MemoryStore(shards), {"reviews": "reviews", "chats": "chats"})


def opened(*applied: int, shards: int = 1) -> Lanes:
    lanes = make(shards)
    lanes.open({REVIEWS: Position(max(applied) + 1, applied)})
    return lanes


def test_runs_are_taken_in_order_of_their_numbers() -> None:
    lanes = opened(-1)
    assert [lanes.take(run(number, record(number, None))) for number in range(3)] == [True] * 3


def test_a_run_of_a_partition_never_opened_is_dropped() -> None:
    assert make().take(run(0, record(0, None))) is False


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


def test_a_closed_lane_holds_nothing_more() -> None:
    lanes = opened(-1)
    lane = lanes[REVIEWS]
    lane.remember({"p1": b"state"})
    lane.seen = Seen(kept=1)
    lanes.close([REVIEWS])
    assert (lane.closed, len(lane.states), lane.seen) == (True, 0, None)


def test_a_lane_knows_the_channel_of_its_topic() -> None:
    lanes = make()
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
