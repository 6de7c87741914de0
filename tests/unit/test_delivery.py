"""One target's schedule: order, retries, giving up; the same through crashes, against a queue that lasts."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.delivery import (
    DELIVERED,
    DOWN_AFTER,
    LONGEST_RETRY_AFTER_MS,
    LONGEST_WAIT_MS,
    Entry,
    Outcome,
    Pace,
    Schedule,
    backoff_ms,
    of_code,
    of_status,
    retry_after_ms,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY_MS = 86_400_000
FAILED = Outcome("failed", "it answered 500")
HOPELESS = Outcome("hopeless", "it answered 404")


def schedule(*names: str, give_up_ms: int = DAY_MS, **fields: object) -> Schedule:
    """Entries by name, `a1` being the first of lane a; all queued at 0."""
    made = Schedule(give_up_ms=give_up_ms, **fields)  # type: ignore[arg-type]
    made.add(Entry(name, name[0], 0) for name in names)
    return made


def taken(made: Schedule, now_ms: int = 0) -> list[str]:
    """Names of all that may go now."""
    found = []
    while (entry := made.take(now_ms)) is not None:
        found.append(entry.id)
    return found


def failed(made: Schedule, name: str, now_ms: int = 0, outcome: Outcome = FAILED) -> list[str]:
    """Settles a failure; the names of what is given up."""
    return [each.entry.id for each in made.settle(name, outcome, now_ms, random=1.0)]


def delivered(made: Schedule, name: str, now_ms: int = 0) -> None:
    assert made.settle(name, DELIVERED, now_ms, random=1.0) == []


# ---- Order


def test_of_each_lane_only_the_first_goes() -> None:
    made = schedule("a1", "a2", "b1", "b2")
    assert taken(made) == ["a1", "b1"]
    delivered(made, "b1")
    assert taken(made) == ["b2"]
    assert len(made) == 3


def test_no_more_go_at_once_than_the_target_takes() -> None:
    made = schedule("a1", "b1", "c1", most_at_once=2)
    assert taken(made) == ["a1", "b1"]
    assert made.wake_ms(0) is None
    delivered(made, "a1")
    assert taken(made) == ["c1"]


def test_what_failed_stays_before_what_follows() -> None:
    made = schedule("a1", "a2")
    taken(made)
    failed(made, "a1")
    assert taken(made, 999) == []
    entry = made.take(1_000)
    assert entry is not None
    assert (entry.id, entry.attempts) == ("a1", 1)


def test_what_is_hopeless_is_given_up_at_once_and_the_next_goes() -> None:
    made = schedule("a1", "a2")
    taken(made)
    assert failed(made, "a1", outcome=HOPELESS) == ["a1"]
    assert taken(made) == ["a2"]


# ---- Waiting


def test_a_failing_target_is_tried_with_one_message_at_a_time_another_lanes_each_time() -> None:
    made = schedule("a1", "b1", "c1", "d1", most_at_once=2)
    assert taken(made) == ["a1", "b1"]
    failed(made, "a1")
    failed(made, "b1")
    assert taken(made, 2_999) == ["c1"]  # a and b wait 1 s each, the target 2 s
    failed(made, "c1", 2_999)
    assert made.wake_ms(2_999) == 2_999 + 4_000
    assert taken(made, 7_000) == ["d1"]
    delivered(made, "d1", 7_000)
    assert taken(made, 7_000) == ["a1", "b1"]


def test_a_message_that_never_passes_does_not_keep_the_others() -> None:
    made = schedule("a1", *(f"b{n}" for n in range(1, 10)))
    now_ms, passed = 0, 0
    while passed < 9:
        now_ms = made.wake_ms(now_ms) or 0
        for name in taken(made, now_ms):
            if name == "a1":
                failed(made, "a1", now_ms)
            else:
                delivered(made, name, now_ms)
                passed += 1
    assert now_ms <= 1_000


def test_waits_double_up_to_five_minutes_and_jitter_is_full() -> None:
    assert [backoff_ms(n, 1.0) for n in (0, 1, 2, 8, 9)] == [1_000, 2_000, 4_000, 256_000, LONGEST_WAIT_MS]
    assert [backoff_ms(2, chance) for chance in (0.0, 0.25, 1.0)] == [0, 1_000, 4_000]


def test_a_wish_to_be_left_alone_is_heeded_whatever_arrives_meanwhile() -> None:
    made = schedule("a1", "b1", "c1", most_at_once=2)
    taken(made)
    failed(made, "a1", outcome=Outcome("failed", "429", 60_000))
    delivered(made, "b1", 10)
    assert taken(made, 59_999) == []
    assert taken(made, 60_000) == ["c1", "a1"]


def test_nobody_is_left_alone_for_longer_than_an_hour() -> None:
    made = schedule("a1")
    taken(made)
    failed(made, "a1", outcome=Outcome("failed", "429", 10 * LONGEST_RETRY_AFTER_MS))
    assert made.wake_ms(0) == LONGEST_RETRY_AFTER_MS


def test_a_pace_is_kept() -> None:
    made = schedule("a1", "b1", "c1", pace=Pace(2, 60_000))
    assert taken(made, 0) == ["a1", "b1"]
    assert made.wake_ms(0) == 60_000
    assert taken(made, 60_000) == ["c1"]


# ---- Giving up


def test_what_is_too_old_is_given_up_when_it_fails_and_not_before() -> None:
    made = schedule("a1", "a2", "b1", give_up_ms=1_000)
    assert taken(made, 5_000) == ["a1", "b1"]
    delivered(made, "b1", 5_000)
    assert failed(made, "a1", 5_000) == ["a1", "a2"]


def test_what_waits_behind_a_target_that_is_back_is_sent_however_old() -> None:
    made = schedule("a1", "b1", "c1", give_up_ms=1_000, most_at_once=1)
    assert taken(made, DAY_MS) == ["a1"]
    assert failed(made, "a1", DAY_MS) == ["a1"]  # one failure is no proof that the target is down
    assert taken(made, DAY_MS + 1_000) == ["b1"]
    delivered(made, "b1", DAY_MS + 1_000)
    assert taken(made, DAY_MS + 1_000) == ["c1"]


def test_of_a_target_that_is_down_all_that_is_too_old_is_given_up() -> None:
    made = schedule("a1", "b1", "c1", give_up_ms=DAY_MS, most_at_once=1)
    made.add([Entry("d1", "d", DAY_MS)])
    for _ in range(DOWN_AFTER - 1):
        (name,) = taken(made, DAY_MS - 1)
        assert made.settle(name, FAILED, DAY_MS - 1, random=0.0) == []
    (name,) = taken(made, DAY_MS)
    assert sorted(failed(made, name, DAY_MS)) == ["a1", "b1", "c1"]
    assert len(made) == 1


# ---- What an answer means


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (200, "delivered"),
        (204, "delivered"),
        (301, "hopeless"),
        (307, "hopeless"),
        (400, "hopeless"),
        (401, "hopeless"),
        (404, "hopeless"),
        (408, "failed"),
        (410, "hopeless"),
        (413, "hopeless"),
        (425, "failed"),
        (429, "failed"),
        (500, "failed"),
        (503, "failed"),
    ],
)
def test_a_status_says_whether_it_helps_to_try_again(status: int, kind: str) -> None:
    assert of_status(status, None).kind == kind


@pytest.mark.parametrize(
    ("code", "kind", "wait_ms"),
    [(0, "delivered", None), (-1, "failed", None), (45009, "failed", 60_000), (93000, "hopeless", None)],
)
def test_so_does_a_robots_code(code: int, kind: str, wait_ms: int | None) -> None:
    outcome = of_code(code, "said")
    assert (outcome.kind, outcome.retry_after_ms) == (kind, wait_ms)


@pytest.mark.parametrize(
    ("header", "wait_ms"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        ("7", 7_000),
        ("999999999999999999999", LONGEST_RETRY_AFTER_MS),
        ("-5", None),
        ("1.5", None),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60_000),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0),
        ("٣", None),
        ("Tue, 99 Nov 2023", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, wait_ms: int | None) -> None:
    assert retry_after_ms(header, 1_700_000_000_000) == wait_ms


# ---- Crashes

LANES = "abc"


class Lasting:
    """A queue that outlives the process, and a receiver; what a courier does between them, step by step."""

    def __init__(self, lanes: Sequence[str]) -> None:
        counts: dict[str, int] = defaultdict(int)
        self.queue: list[Entry] = []
        for number, lane in enumerate(lanes):
            counts[lane] += 1
            self.queue.append(Entry(str(number), lane, 0))
        self.all = list(self.queue)
        self.received: list[str] = []
        self.dead: list[str] = []

    def started(self) -> Schedule:
        made = Schedule(give_up_ms=DAY_MS, most_at_once=2)
        made.add(self.queue)
        return made

    def remove(self, name: str) -> None:
        self.queue = [each for each in self.queue if each.id != name]


STEPS = st.lists(
    st.sampled_from(["ok", "ok", "lost answer", "refused", "hopeless", "crash", "crash after receipt"]),
    max_size=60,
)


@settings(max_examples=300)
@given(st.lists(st.sampled_from(LANES), min_size=1, max_size=12), STEPS, st.randoms(use_true_random=False))
def test_through_crashes_all_arrives_in_order_and_nothing_acknowledged_comes_again(
    lanes: list[str], steps: list[str], chance: object
) -> None:
    world = Lasting(lanes)
    made, now_ms = world.started(), 0
    under_way: list[Entry] = []
    acknowledged: set[str] = set()
    for step in [*steps, *["ok"] * 200]:
        wake_ms = made.wake_ms(now_ms)
        if wake_ms is not None:
            now_ms = wake_ms
        while (entry := made.take(now_ms)) is not None:
            under_way.append(entry)
        if not under_way:
            break
        entry = under_way.pop(chance.randrange(len(under_way)))  # type: ignore[attr-defined]
        assert entry.id not in acknowledged
        random = chance.random()  # type: ignore[attr-defined]
        if step in ("ok", "lost answer", "crash after receipt"):
            world.received.append(entry.id)
        if step.startswith("crash"):
            made, under_way = world.started(), []
        elif step == "ok":
            world.remove(entry.id)  # first the queue that lasts, then what follows
            acknowledged.add(entry.id)
            made.settle(entry.id, DELIVERED, now_ms, random=random)
        elif step == "hopeless":
            world.remove(entry.id)
            world.dead.append(entry.id)
            made.settle(entry.id, HOPELESS, now_ms, random=random)
        else:
            assert made.settle(entry.id, FAILED, now_ms, random=random) == []
    assert world.queue == []
    assert {*world.received, *world.dead} == {each.id for each in world.all}
    for lane in LANES:
        order = [int(name) for name in world.received if world.all[int(name)].lane == lane]
        assert order == sorted(order), "a later message came before an earlier one, or a repeat after it"
