"""When a worker counts as stuck, and when it only waits."""

from __future__ import annotations

from typing import Any

from stream.core.watch import Check, Limits, Report, Seen, Watch

LIMITS = Limits(loop_s=30, stall_s=60, rebalance_s=100, stop_s=45)
WAITING = frozenset({"reviews:0"})


class Observed:
    """A worker that is looked at every second.

    Args:
        seen: what it says at first.
    """

    def __init__(self, limits: Limits = LIMITS, **seen: Any) -> None:
        self.now = 1000.0
        self.beats = 0
        self.seen = Seen(**{"joined": True, "applied": {"reviews:0": 41}, **seen})
        self.stopping: str | None = None
        self._watch = Watch(limits, self.now)

    # The first look sees partitions that were not there before, as after an assignment: it starts the clocks.

    def look(self, *, turns: bool = True, after_s: float = 1.0) -> Report:
        self.now += after_s
        self.beats += turns
        return self._watch.look(self.now, self.beats, self.seen, self.stopping)

    def goes_on(self, seconds: int, *, turns: bool = True, **changes: Any) -> Report:
        """What the last of so many looks says; what is seen changes first."""
        self.seen = self.seen._replace(**changes)
        for _ in range(seconds):
            report = self.look(turns=turns)
        return report

    def stuck_after(self, *, turns: bool = True, **changes: Any) -> tuple[int, str]:
        """How many seconds until it counts as stuck, and why."""
        for seconds in range(1, 1000):
            stuck = self.goes_on(1, turns=turns, **changes).stuck
            if stuck:
                return seconds, f"{stuck.check}: {stuck.says}"
        raise AssertionError("it is never stuck")


def named(checks: tuple[Check, ...], name: str) -> Check:
    return next(check for check in checks if check.name == name)


def test_a_worker_that_does_its_work_is_well() -> None:
    worker = Observed()
    for offset in range(42, 500):
        report = worker.goes_on(1, applied={"reviews:0": offset}, waiting=WAITING, busy=True)
    assert report.stuck is None
    assert [(check.name, check.ok, check.says) for check in report.live] == [
        ("loop", True, "the event loop turns"),
        ("progress", True, "records are applied"),
        ("assignment", True, "1 partition assigned"),
    ]
    assert all(check.ok for check in report.ready)


def test_an_idle_worker_is_well() -> None:
    report = Observed().goes_on(10_000)
    assert report.stuck is None
    assert named(report.live, "progress").says == "no records wait"


# The event loop.


def test_a_loop_that_stands_still_is_stuck() -> None:
    worker = Observed()
    worker.goes_on(5)
    assert worker.stuck_after(turns=False) == (
        30,
        "loop: the event loop has not turned for 30 s (limit 30 s)",
    )


def test_a_loop_that_turns_again_in_time_is_well() -> None:
    worker = Observed()
    for _ in range(5):
        assert worker.goes_on(29, turns=False).stuck is None
        assert named(worker.goes_on(1).live, "loop").says == "the event loop turns"


def test_a_loop_that_stands_still_is_not_ready_before_it_is_stuck() -> None:
    worker = Observed()
    worker.goes_on(3)
    report = worker.goes_on(10, turns=False)
    assert report.stuck is None
    assert all(check.ok for check in report.live)
    assert named(report.ready, "fresh") == Check(
        "fresh", False, worker.now - 5, "the event loop has not turned for 10 s; what follows is old"
    )


def test_a_process_that_was_stopped_as_a_whole_is_not_stuck() -> None:
    """SIGSTOP, a suspended machine: the watch slept as long as the loop."""
    worker = Observed()
    worker.goes_on(5)
    assert worker.look(turns=False, after_s=3600).stuck is None
    assert worker.goes_on(20, turns=False).stuck is None
    assert worker.goes_on(1).stuck is None


def test_a_clock_that_goes_back_counts_nothing() -> None:
    worker = Observed()
    worker.look(turns=False, after_s=-500)
    assert worker.goes_on(29, turns=False).stuck is None


# Progress.


def test_records_that_wait_while_nothing_is_applied_are_a_stall() -> None:
    worker = Observed()
    worker.goes_on(500)
    assert worker.stuck_after(waiting=WAITING, busy=True) == (
        60,
        "progress: records wait in reviews:0, and nothing has been applied for 60 s (limit 60 s)",
    )


def test_each_applied_window_starts_the_clock_again() -> None:
    worker = Observed(waiting=WAITING, busy=True)
    for offset in range(42, 50):
        assert worker.goes_on(59, applied={"reviews:0": offset}).stuck is None


def test_a_stall_is_not_counted_while_no_record_waits() -> None:
    worker = Observed(busy=True)
    for _ in range(5):
        assert worker.goes_on(50, waiting=WAITING).stuck is None
        assert worker.goes_on(1, waiting=frozenset()).stuck is None


def test_a_worker_that_waits_for_a_server_is_not_stuck() -> None:
    worker = Observed(waiting=WAITING, busy=True)
    worker.goes_on(50)
    for away in (
        {"redis": "Redis has not answered for 12 s"},
        {"kafka": "Kafka at k:9092: NodeNotReadyError()"},
        {"waits": ("apply: Redis at redis://r: Connection refused",)},
    ):
        report = worker.goes_on(5000, **{"redis": None, "kafka": None, "waits": (), **away})
        assert report.stuck is None
        (sentence,) = (why if isinstance(why, str) else why[0] for why in away.values())
        assert named(report.live, "progress").says == f"it waits: {sentence}"


def test_the_clock_starts_again_when_the_server_is_back() -> None:
    worker = Observed(waiting=WAITING, busy=True)
    worker.goes_on(59)
    worker.goes_on(3, redis="Redis has not answered for 12 s")
    assert worker.stuck_after(redis=None)[0] == 60


def test_a_scored_batch_is_a_sign_of_life() -> None:
    """A slow model's window may take longer than the limit."""
    worker = Observed(waiting=WAITING, busy=True)
    for batches in range(1, 6):
        assert worker.goes_on(50, batches=batches).stuck is None
    assert worker.stuck_after()[0] == 60 - 49


def test_scoring_after_a_rewind_is_no_sign_of_life_until_something_is_applied() -> None:
    """Or a worker that reads the same records again for ever would look alive."""
    worker = Observed(waiting=WAITING, busy=True)
    for number in range(1, 60):
        report = worker.goes_on(1, batches=number, rewinds=number)
    assert report.stuck is None
    assert worker.stuck_after(batches=60)[0] == 2
    healed = Observed(waiting=WAITING, busy=True)
    healed.goes_on(1, rewinds=1)
    healed.goes_on(1, applied={"reviews:0": 42})
    for batches in range(1, 6):
        assert healed.goes_on(50, batches=batches).stuck is None


def test_progress_in_one_partition_is_progress() -> None:
    worker = Observed(waiting=frozenset({"reviews:0", "reviews:1"}), busy=True)
    for offset in range(200):
        report = worker.goes_on(1, applied={"reviews:0": 41, "reviews:1": offset})
    assert report.stuck is None


def test_a_partition_passed_over_by_an_idle_worker_is_a_stall() -> None:
    """Others come and are applied at once; this one is not even read."""
    worker = Observed(waiting=WAITING)
    for offset in range(61):
        report = worker.goes_on(1, applied={"reviews:0": 41, "reviews:1": offset})
    assert report.stuck is not None
    assert report.stuck.says == (
        "records wait in reviews:0, and a worker that had nothing else to do has not applied them for 60 s"
    )


def test_looks_at_a_busy_worker_do_not_count_against_a_partition() -> None:
    """A backlog is read a megabyte of a partition at a time: the others may wait for minutes."""
    worker = Observed(waiting=WAITING)
    for offset in range(0, 118, 2):
        assert worker.goes_on(1, busy=True, applied={"reviews:0": 41, "reviews:1": offset}).stuck is None
        assert worker.goes_on(1, busy=False, applied={"reviews:0": 41, "reviews:1": offset + 1}).stuck is None
    worker.goes_on(1, busy=True, applied={"reviews:0": 41, "reviews:1": 500})
    assert worker.goes_on(1, busy=False, applied={"reviews:0": 41, "reviews:1": 501}).stuck is not None


def test_a_new_assignment_starts_the_clock_again() -> None:
    worker = Observed(waiting=WAITING, busy=True)
    worker.goes_on(59)
    worker.goes_on(1, rebalancing=True)
    assert worker.stuck_after(rebalancing=False)[0] == 60


def test_many_partitions_are_named_in_part() -> None:
    many = frozenset(f"reviews:{n}" for n in range(8))
    worker = Observed(waiting=many, busy=True)
    assert "reviews:0, reviews:1, reviews:2, reviews:3, reviews:4 and 3 more" in worker.stuck_after()[1]


# The assignment.


def test_a_rebalance_without_end_is_stuck() -> None:
    worker = Observed()
    worker.goes_on(5)
    assert worker.stuck_after(rebalancing=True, waiting=WAITING) == (
        100,
        "assignment: the group has given no assignment for 100 s (limit 100 s)",
    )


def test_a_rebalance_is_not_counted_while_kafka_is_away() -> None:
    worker = Observed(rebalancing=True)
    worker.goes_on(99)
    assert worker.goes_on(5000, kafka="Kafka has not answered for 12 s").stuck is None
    assert worker.stuck_after(kafka=None)[0] == 100


def test_rebalances_that_end_are_no_stuck_one() -> None:
    worker = Observed()
    for _ in range(5):
        assert worker.goes_on(99, rebalancing=True).stuck is None
        assert worker.goes_on(1, rebalancing=False).stuck is None


def test_a_worker_without_partitions_is_well_and_ready() -> None:
    report = Observed(applied={}).goes_on(10_000)
    assert report.stuck is None
    assert named(report.ready, "assigned") == Check(
        "assigned",
        True,
        1001.0,
        "no partition is assigned: other workers have them all",
    )


def test_a_worker_that_has_not_joined_yet_is_neither_stuck_nor_ready() -> None:
    waits = ("connect to Redis at redis://r: Connection refused",)
    report = Observed(joined=False, waits=waits).goes_on(10_000)
    assert report.stuck is None
    assert all(check.ok for check in report.live)
    assert [check.says for check in report.ready if not check.ok] == [
        waits[0],
        "it has not joined the group yet",
    ]


# Stopping.


def test_a_stop_that_hangs_is_stuck_and_says_what_it_stopped_for() -> None:
    worker = Observed()
    worker.goes_on(5)
    worker.stopping = "DependencyError: Faust stopped"
    report = worker.look()
    assert [check.name for check in report.live] == ["stop"]
    assert named(report.ready, "serving").says == "it stops: DependencyError: Faust stopped"
    assert worker.stuck_after(turns=False) == (
        45,
        "stop: it has been stopping for 45 s (limit 45 s): DependencyError: Faust stopped",
    )


# Limits and reports.


def test_a_limit_of_zero_is_for_ever() -> None:
    unlimited = Limits(loop_s=0, stall_s=0, rebalance_s=0, stop_s=0)
    worker = Observed(unlimited, waiting=WAITING)
    assert worker.goes_on(5000).stuck is None
    assert worker.goes_on(5000, rebalancing=True).stuck is None
    report = worker.goes_on(5000, turns=False)
    assert report.stuck is None
    assert named(report.live, "loop").says == "the event loop has not turned for 5000 s"
    worker.stopping = "it was told to"
    assert worker.goes_on(5000).stuck is None


def test_a_check_says_since_when() -> None:
    worker = Observed()
    worker.goes_on(10)
    away_since = worker.now + 1
    report = worker.goes_on(20, redis="Redis has not answered for 12 s")
    assert named(report.ready, "redis") == Check(
        "redis", False, away_since, "Redis has not answered for 12 s"
    )
    assert named(report.ready, "kafka").since == 1001.0
    back = worker.goes_on(1, redis=None)
    assert named(back.ready, "redis") == Check("redis", True, worker.now, "Redis answers")
