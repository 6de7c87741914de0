"""How a window of waiting texts becomes micro-batches.

Rules:
- Batches are cut by padded tokens (rows times the longest row), not by count: that is what a model's time
  is proportional to.
- Sorting by length first makes nearly every padded token a useful one: measured on real reviews, 0.94
  instead of 0.21 for arrival order in batches of 32.
- Every row is in exactly one batch; the longest come first, so that memory is sized once and the last to
  finish is a short one.
- Where a batch has a cost of its own, the cut is the cheapest there is: a row joins longer ones as long as
  the padding costs less than another batch.
- Where batches are padded to shapes that repeat, the cut knows them: it counts the padding that they bring,
  and ends batches where they bring none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_PLACES = 1024
"""Places at which a batch may begin where shapes are few: more cost time and save no padding."""

LEAST_SHARE = 128
"""Tokens below which a batch is not split for the sake of idle lanes: it would read all weights for
little."""


class Rounding(NamedTuple):
    """The shapes that batches are padded to, beyond their longest row."""

    lengths: NDArray[np.int32]
    """What each length from 0 on is padded to."""
    rows: NDArray[np.int32]
    """What each number of rows from 0 on is; no batch has more."""


def cut(
    lengths: NDArray[np.int32], token_budget: int, *, batch_cost: int = 0, rounding: Rounding | None = None
) -> list[NDArray[np.intp]]:
    """Row numbers of each micro-batch.

    Args:
        lengths: tokens of each text, shape (n,).
        token_budget: most padded tokens in a batch; a single text longer than it stands alone.
        batch_cost: what a batch costs whatever is in it, in tokens. At 0, and without ``rounding``, batches
            are as full as they can be.
        rounding: the shapes that batches are padded to; None: they are as they are cut.

    Returns:
        Arrays of row numbers: longest texts first.

    >>> [batch.tolist() for batch in cut(np.array([3, 9, 4, 2], np.int32), token_budget=10)]
    [[1], [2, 0], [3]]
    >>> [batch.tolist() for batch in cut(np.array([3, 9, 4, 9], np.int32), token_budget=40, batch_cost=2)]
    [[1, 3], [2, 0]]

    Where rows are padded to pairs and lengths to fours:

    >>> pairs = Rounding(np.array([0, 4, 4, 4, 4]), np.array([0, 2, 2, 4, 4]))
    >>> [batch.tolist() for batch in cut(np.array([3, 1, 4, 4], np.int32), 15, rounding=pairs)]
    [[2, 3], [0, 1]]
    """
    order = np.argsort(-lengths, kind="stable")
    longest = np.maximum(lengths[order], 1)
    padded_rows: NDArray[np.int32] = np.arange(len(order) + 1, dtype=np.int32)
    if rounding is not None:
        longest, padded_rows = rounding.lengths[longest], rounding.rows
    most = np.maximum(token_budget // longest, 1)
    if rounding is not None:
        # A batch that is as large as may be has the rows it is padded to.
        numbers = np.arange(len(padded_rows))
        whole = np.maximum.accumulate(np.where(padded_rows == numbers, numbers, 0))
        most = np.maximum(whole[np.minimum(most, len(whole) - 1)], 1)
    if rounding is None and (not batch_cost or _are_alike(longest)):
        rows = most
    else:
        # The time is that of the places where a batch may begin, and a GPU waits for it.
        grain = 1 if rounding is None or not len(order) else -(-len(order) // MOST_PLACES)
        grain = max(min(grain, int(most.min(initial=grain))), 1)
        rows = np.zeros(len(order), np.intp)
        rows[::grain] = grain * _cheapest(
            longest[::grain], np.maximum(most[::grain] // grain, 1), batch_cost, padded_rows[::grain]
        )
    batches = []
    start = 0
    while start < len(order):
        batches.append(order[start : start + int(rows[start])])
        start += int(rows[start])
    return batches


def budget_of_a_lane(tokens: int, token_budget: int, lanes: int, least: int = LEAST_SHARE) -> int:
    """The token budget at which ``tokens`` keep all of ``lanes`` busy, as far as that pays.

    Args:
        tokens: that there are.
        token_budget: most padded tokens in a batch.
        lanes: batches scored at once.
        least: tokens below which a batch is not split.

    >>> budget_of_a_lane(10_000, 512, 2), budget_of_a_lane(600, 512, 2), budget_of_a_lane(40, 512, 2)
    (512, 300, 128)
    """
    if lanes == 1:
        return token_budget
    return min(token_budget, max(-(-tokens // lanes), least))


def _are_alike(longest: NDArray[np.int32]) -> bool:
    return not len(longest) or longest[0] == longest[-1]


def _cheapest(
    longest: NDArray[np.int32], most: NDArray[np.int32], batch_cost: int, padded_rows: NDArray[np.int32]
) -> NDArray[np.intp]:
    """Rows of the batch that begins at each place, so that padded tokens and batches cost least in all.

    Args:
        longest: lengths, falling.
        most: rows that a batch may have that begins there.
        batch_cost: in tokens.
        padded_rows: what each number of rows is padded to.
    """
    n = len(longest)
    rows = np.empty(n, np.intp)
    # The cost of everything from each place to the end, found from the end.
    cost = np.zeros(n + 1)
    for start in range(n - 1, -1, -1):
        last = min(int(most[start]), n - start)
        costs = cost[start + 1 : start + last + 1] + longest[start] * padded_rows[1 : last + 1]
        best = int(costs.argmin())
        cost[start] = costs[best] + batch_cost
        rows[start] = best + 1
    return rows
