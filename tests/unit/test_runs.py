"""How fetched records become numbered runs, and how a partition says that its log does not go on."""

from __future__ import annotations

from builders import REVIEWS, record

from stream.runs import SAY_AGAIN_S, Cursor, Run


def cursor(next_offset: int = 0) -> Cursor:
    return Cursor(REVIEWS, epoch=3, next_offset=next_offset, log="A")


def test_runs_are_numbered_within_their_epoch_and_know_their_log() -> None:
    reading = cursor()
    first, second = [record(0, None), record(1, None)], [record(2, None)]
    assert reading.run(first) == Run(REVIEWS, 3, 0, first, "A")
    assert reading.run(second) == Run(REVIEWS, 3, 1, second, "A")
    assert reading.next_offset == 3


def test_gaps_that_compaction_leaves_are_no_end() -> None:
    reading = cursor(5)
    records = [record(7, None), record(12, None)]
    assert reading.run(records) == Run(REVIEWS, 3, 0, records, "A")
    assert reading.next_offset == 13


def test_an_offset_below_the_next_one_ends_the_epoch() -> None:
    reading = cursor(5)
    assert reading.run([record(4, None)]) is None
    ended = reading.farewell(0.0)
    assert ended == Run(REVIEWS, 3, 0, (), "A", "offset 4 came where 5 is next: it is another log")


def test_what_ends_says_so_behind_the_runs_before_it_and_hands_over_nothing_more() -> None:
    reading = cursor()
    reading.run([record(0, None)])
    reading.end("the topic was made anew")
    assert reading.run([record(1, None)]) is None
    assert reading.farewell(0.0) == Run(REVIEWS, 3, 1, (), "A", "the topic was made anew")


def test_what_does_not_end_says_nothing() -> None:
    assert cursor().farewell(0.0) is None


def test_the_first_reason_to_end_stands() -> None:
    reading = cursor()
    reading.end("the topic was made anew")
    reading.end("offset 0 is not in the log")
    assert reading.ended == "the topic was made anew"


def test_an_end_is_said_again_when_nobody_heard() -> None:
    """Under the next number: whoever missed the one before notices that, too."""
    reading = cursor()
    reading.end("out of range")
    assert reading.farewell(100.0) is not None
    assert reading.farewell(100.0 + SAY_AGAIN_S - 0.1) is None
    assert reading.farewell(100.0 + SAY_AGAIN_S) == Run(REVIEWS, 3, 1, (), "A", "out of range")
