from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from stream.core.batch import LEAST_SHARE, Rounding, budget_of_a_lane, cut

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


def cost(lengths: list[int], budget: int, batch_cost: int) -> int:
    """Padded tokens and batches of the cut, in tokens."""
    cuts = cut(np.array(lengths, np.int32), budget, batch_cost=batch_cost)
    return sum(batch_cost + len(rows) * max(*(lengths[row] for row in rows), 1) for rows in cuts)


def least_cost(lengths: list[int], budget: int, batch_cost: int) -> int:
    """The same of the best of all cuts, found by trying each."""
    left = sorted((max(each, 1) for each in lengths), reverse=True)
    if not left:
        return 0
    return min(
        batch_cost + rows * left[0] + least_cost(left[rows:], budget, batch_cost)
        for rows in range(1, len(left) + 1)
        if rows == 1 or rows * left[0] <= budget
    )


@given(st.lists(st.integers(0, 20), max_size=8), st.integers(1, 80), st.integers(1, 30))
def test_with_a_cost_of_batches_no_other_cut_is_cheaper(
    lengths: list[int], budget: int, batch_cost: int
) -> None:
    assert cost(lengths, budget, batch_cost) == least_cost(lengths, budget, batch_cost)


PADDED = Rounding(
    np.array([0, *(-(-each // 6) * 6 for each in range(1, 31))], np.int32),
    np.array([0, 1, 2, 4, 4, 6, 6, 9, 9, 9], np.int32),
)


def padded(rows: int, longest: int) -> int:
    """Tokens of a batch as it is padded."""
    return int(PADDED.rows[rows]) * int(PADDED.lengths[max(longest, 1)])


def least_padded_cost(lengths: list[int], budget: int, batch_cost: int) -> int:
    """Padded tokens and costs of the best of all cuts, found by trying each."""
    left = sorted(lengths, reverse=True)
    if not left:
        return 0
    return min(
        batch_cost + padded(rows, left[0]) + least_padded_cost(left[rows:], budget, batch_cost)
        for rows in range(1, len(left) + 1)
        if rows == 1 or padded(rows, left[0]) <= budget
    )


@given(st.lists(st.integers(0, 30), max_size=8), st.integers(1, 200), st.integers(0, 30))
@example([1] * 7, 200, 0)
def test_a_cut_that_knows_the_shapes_is_the_cheapest_as_they_are_padded(
    lengths: list[int], budget: int, batch_cost: int
) -> None:
    cuts = cut(np.array(lengths, np.int32), budget, batch_cost=batch_cost, rounding=PADDED)
    sizes = [(len(rows), max(lengths[row] for row in rows)) for rows in cuts]
    assert sum(rows for rows, _ in sizes) == len(lengths)
    assert all(rows == 1 or padded(rows, longest) <= budget for rows, longest in sizes)
    found = sum(batch_cost + padded(rows, longest) for rows, longest in sizes)
    assert found == least_padded_cost(lengths, budget, batch_cost)


@given(LENGTHS, BUDGETS, st.integers(1, 100))
def test_with_a_cost_of_batches_rows_and_budget_are_kept_too(
    lengths: list[int], budget: int, batch_cost: int
) -> None:
    cuts = cut(np.array(lengths, np.int32), budget, batch_cost=batch_cost)
    assert sorted(row for rows in cuts for row in rows.tolist()) == list(range(len(lengths)))
    assert all(len(rows) == 1 or len(rows) * max(lengths[row] for row in rows) <= budget for rows in cuts)
    in_order = [lengths[row] for rows in cuts for row in rows]
    assert in_order == sorted(lengths, reverse=True)


@given(st.integers(0, 10_000), st.integers(1, 4096), st.integers(2, 64))
def test_a_lane_gets_no_more_than_the_budget_and_idle_lanes_get_a_share(
    tokens: int, budget: int, lanes: int
) -> None:
    share = budget_of_a_lane(tokens, budget, lanes)
    assert share <= budget
    assert share == budget or share >= LEAST_SHARE
    assert share * lanes >= tokens or share == budget


@given(st.integers(1, 400), st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_a_large_cut_for_few_shapes_keeps_rows_and_budget(longest: int, texts: int, seed: int) -> None:
    lengths = np.random.default_rng(seed).integers(0, longest + 1, texts).astype(np.int32)
    shapes = Rounding(
        np.array([0, *(-(-each // 16) * 16 for each in range(1, 401))], np.int32),
        np.array([*range(9), *(-(-each // 8) * 8 for each in range(9, 2049))], np.int32),
    )
    cuts = cut(lengths, 4096, batch_cost=300, rounding=shapes)
    assert sorted(row for rows in cuts for row in rows.tolist()) == list(range(texts))
    for rows in cuts:
        padded = int(shapes.rows[len(rows)]) * int(shapes.lengths[max(int(lengths[rows].max()), 1)])
        assert len(rows) == 1 or padded <= 4096
