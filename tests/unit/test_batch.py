from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stream.core.batch import cut

LENGTHS = st.lists(st.integers(0, 600), max_size=200)
BUDGETS = st.integers(1, 4096)


def batches(lengths: list[int], budget: int) -> list[list[int]]:
    return [batch.tolist() for batch in cut(np.array(lengths, np.int32), budget)]


def test_nothing_waiting_makes_no_batch() -> None:
    assert batches([], 100) == []


def test_texts_of_equal_length_keep_their_order() -> None:
    assert batches([5, 5, 5, 5], 10) == [[0, 1], [2, 3]]


def test_a_text_longer_than_the_budget_stands_alone() -> None:
    assert batches([3, 50, 3], 10) == [[1], [0, 2]]


def test_texts_without_tokens_do_not_divide_by_zero() -> None:
    assert batches([0, 0, 0], 2) == [[0, 1], [2]]


@given(LENGTHS, BUDGETS)
def test_every_row_is_in_exactly_one_batch(lengths: list[int], budget: int) -> None:
    assert sorted(row for batch in batches(lengths, budget) for row in batch) == list(range(len(lengths)))


@given(LENGTHS, BUDGETS)
def test_padded_tokens_stay_within_the_budget(lengths: list[int], budget: int) -> None:
    for batch in batches(lengths, budget):
        assert len(batch) == 1 or len(batch) * max(lengths[row] for row in batch) <= budget


@given(LENGTHS, BUDGETS)
def test_the_longest_come_first(lengths: list[int], budget: int) -> None:
    in_order = [lengths[row] for batch in batches(lengths, budget) for row in batch]
    assert in_order == sorted(lengths, reverse=True)


@given(LENGTHS, BUDGETS)
def test_a_batch_is_cut_only_where_another_row_would_exceed_the_budget(
    lengths: list[int], budget: int
) -> None:
    for batch in batches(lengths, budget)[:-1]:
        assert (len(batch) + 1) * max(lengths[batch[0]], 1) > budget
