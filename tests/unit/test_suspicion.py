"""A record that kills workers is found by their deaths, and only by deaths that point to it."""

from __future__ import annotations

from msgspec.structs import replace

from stream.core.suspicion import NARROWING, SPAN, WIDTH, Note, read, widened

APPLIED = 99


def suspected(**changes: object) -> Note:
    """A note after two deaths at ``APPLIED``."""
    return replace(Note(worker="b", base=APPLIED, until=APPLIED + SPAN, width=WIDTH), **changes)


def test_a_worker_that_left_in_peace_leaves_no_trace() -> None:
    assert read(Note(worker=None, base=APPLIED, deaths=1), "c", APPLIED) == Note(worker="c", base=APPLIED)


def test_a_worker_that_opens_its_own_partition_again_has_not_died() -> None:
    note = read(None, "a", APPLIED)
    assert read(note, "a", APPLIED) == note


def test_a_worker_that_died_after_progress_accuses_nobody() -> None:
    note = read(None, "a", APPLIED)
    assert read(note, "b", APPLIED + 1) == Note(worker="b", base=APPLIED + 1)


def test_two_deaths_at_one_offset_make_what_follows_suspect() -> None:
    once = read(read(None, "a", APPLIED), "b", APPLIED)
    assert (once.deaths, once.width) == (1, 0)
    twice = read(once, "c", APPLIED)
    assert (twice.width, twice.until, twice.worker) == (WIDTH, APPLIED + SPAN, "c")


def test_a_death_among_several_narrows_them_down() -> None:
    note = read(suspected(at=(100, 355)), "c", APPLIED)
    assert (note.width, note.narrow_until, note.condemned) == (WIDTH // NARROWING, 355, ())
    note = read(replace(note, at=(116, 131)), "d", 115)
    assert (note.width, note.narrow_until) == (1, 131)


def test_the_second_death_on_one_record_condemns_it() -> None:
    note = read(suspected(width=1, at=(120, 120)), "c", 119)
    assert (note.width, note.deaths, note.condemned) == (1, 1, ())
    note = read(replace(note, at=(120, 120)), "d", 119)
    assert note.condemned == (120,)


def test_a_death_behind_what_was_worked_on_accuses_nobody() -> None:
    note = suspected(at=(100, 355))
    assert read(note, "c", 355) == replace(note, worker="c", base=355, at=None)


def test_a_worker_that_was_handed_the_partition_finds_its_suspects() -> None:
    note = suspected(worker=None, at=None, width=1, narrow_until=131, condemned=(120,))
    assert read(note, "c", 118) == replace(note, worker="c", base=118)


def test_what_is_narrowed_is_wide_again_behind_the_narrow_part() -> None:
    note = suspected(width=1, narrow_until=131, deaths=1)
    assert widened(note, 130) == note
    assert widened(note, 131) == replace(note, width=WIDTH, deaths=0)


def test_suspicion_ends_behind_the_last_suspect() -> None:
    note = suspected(width=1, narrow_until=131)
    assert widened(note, APPLIED + SPAN) == Note(worker="b", base=APPLIED + SPAN)
    assert read(note, "c", APPLIED + SPAN) == Note(worker="c", base=APPLIED + SPAN)


def test_the_condemned_are_forgotten_when_they_are_behind() -> None:
    assert read(suspected(condemned=(120, 200)), "c", 150).condemned == (200,)
