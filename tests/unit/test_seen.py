"""A repeated event is known by its fingerprint, as far back as the rule says and no further."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from builders import event
from hypothesis import given
from hypothesis import strategies as st

from stream.core.seen import (
    FingerprintSet,
    Seen,
    fingerprints,
    from_bytes,
    packed_by_segment,
)
from stream.core.segments import SEGMENT_OFFSETS, segments_in_reach, segments_out_of_reach


def offsets(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def prints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.uint64)


def test_a_fingerprint_is_the_products_and_the_events() -> None:
    same = fingerprints([event(1, event_id="e"), event(2, event_id="e")])
    assert same[0] == same[1]
    other = fingerprints([event(event_id="e", product_id="kettle"), event(event_id="e", product_id="灯")])
    assert other[0] != other[1]
    moved = fingerprints([event(event_id="ab", product_id="c"), event(event_id="b", product_id="ca")])
    assert moved[0] != moved[1]


def test_fingerprints_are_the_same_in_every_process() -> None:
    assert fingerprints([event(event_id="e", product_id="p")]).tolist() == [15513609193540802531]


def test_no_fingerprint_is_the_empty_slot() -> None:
    assert fingerprints([event(n) for n in range(1000)]).min() > 0
    assert fingerprints([]).shape == (0,)


@given(st.lists(st.lists(st.integers(1, 2**64 - 1), max_size=400), max_size=8))
def test_a_set_of_fingerprints_is_a_set(batches: list[list[int]]) -> None:
    ours, reference = FingerprintSet(), set()
    for batch in batches:
        asked = prints(*batch)
        assert ours.contains(asked).tolist() == [each in reference for each in batch]
        new = sorted(set(batch) - reference)
        ours.add(prints(*new))
        reference.update(new)
        assert ours.contains(asked).all()
        assert len(ours) == len(reference)


def test_fingerprints_that_want_the_same_slot_all_find_one() -> None:
    crowded = prints(*(n << 32 | 5 for n in range(700)))  # all at home in slot 5, around the end of the table
    ours = FingerprintSet()
    ours.add(crowded)
    assert ours.contains(crowded).all()
    assert not ours.contains(prints(*(n << 32 | 6 for n in range(700)))).any()


def test_of_several_alike_in_one_batch_the_first_is_admitted() -> None:
    seen = Seen(kept=1)
    assert seen.admit(offsets(3, 4, 9, 10), prints(1, 2, 1, 1)).tolist() == [True, True, False, False]
    assert seen.admit(offsets(11, 12), prints(2, 3)).tolist() == [False, True]


@pytest.mark.parametrize(
    ("first", "again", "duplicate"),
    [
        (0, 3 * SEGMENT_OFFSETS - 1, True),
        (SEGMENT_OFFSETS - 1, 3 * SEGMENT_OFFSETS - 1, True),
        (0, 3 * SEGMENT_OFFSETS, False),
        (SEGMENT_OFFSETS - 1, 3 * SEGMENT_OFFSETS, False),
        (SEGMENT_OFFSETS, 3 * SEGMENT_OFFSETS, True),
    ],
)
@pytest.mark.parametrize("batches", [1, 2])
def test_how_far_back_an_event_is_known(first: int, again: int, duplicate: bool, batches: int) -> None:
    """Two segments are kept beside the current one, whether both come in one batch or in two."""
    seen = Seen(kept=2)
    if batches == 1:
        admitted = seen.admit(offsets(first, again), prints(7, 7)).tolist()
        assert admitted == [True, not duplicate]
    else:
        seen.admit(offsets(first), prints(7))
        assert seen.known(offsets(again), prints(7)).tolist() == [duplicate]
        assert seen.admit(offsets(again), prints(7)).tolist() == [not duplicate]


@given(
    st.lists(st.tuples(st.integers(1, SEGMENT_OFFSETS), st.integers(1, 12)), max_size=60),
    st.lists(st.integers(0, 60), max_size=6),
    st.integers(1, 3),
)
def test_batches_and_restarts_change_nothing(log: list[tuple[int, int]], cuts: list[int], kept: int) -> None:
    """The rule, event by event, against batches between which the state goes through the store."""
    at = np.cumsum([step for step, _ in log]).tolist()
    values = [value for _, value in log]
    expected = []
    counted: list[tuple[int, int]] = []
    for offset, value in zip(at, values, strict=True):
        reach = segments_in_reach(offset, kept)
        again = any(value == other and before // SEGMENT_OFFSETS in reach for before, other in counted)
        expected.append(not again)
        if not again:
            counted.append((offset, value))

    stored: dict[int, bytes] = {}
    admitted: list[bool] = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(log)), len(log)]
    base = -1
    for first, last in pairwise(edges):
        if first == last:
            continue
        here, there = offsets(*at[first:last]), prints(*values[first:last])
        seen = Seen(
            kept, {segment: stored.get(segment, b"") for segment in segments_in_reach(base + 1, kept)}
        )
        new = seen.admit(here, there)
        admitted += new.tolist()
        for segment, packed in packed_by_segment(here[new], there[new], at[last - 1], kept):
            stored[segment] = stored.get(segment, b"") + packed
        for segment in segments_out_of_reach(base, at[last - 1], kept):
            stored.pop(segment, None)
        base = at[last - 1]
        assert len(stored) <= kept + 1
    assert admitted == expected


def test_what_is_stored_is_eight_bytes_an_event() -> None:
    ((segment, packed),) = packed_by_segment(offsets(5, 6), prints(1, 2**64 - 1), last=6, kept=1)
    assert (segment, len(packed)) == (0, 16)
    assert from_bytes(packed).tolist() == [1, 2**64 - 1]
