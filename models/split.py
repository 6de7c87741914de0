"""Which split an example goes to.

Rules:
- By a hash of its unit (product, author, review, or the text itself): the unit's split does not depend on
  what else there is, so a set that grows keeps its test rows out of training.
- Or by time: the oldest train, the newest test. Rows of one moment stay together.
- Units are drawn, not rows: shares are met on average, and a few large products can move them.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from models.examples import SPLITS, Split

if TYPE_CHECKING:
    from collections.abc import Sequence


def by_hash(unit: str, *, validation: float, test: float) -> Split:
    """The split of a unit.

    >>> by_hash("B001", validation=0.1, test=0.1) == by_hash("B001", validation=0.1, test=0.1)
    True
    """
    share = int.from_bytes(hashlib.sha256(unit.encode()).digest()[:4]) / 2**32
    if share < validation:
        return "validation"
    return "test" if share < validation + test else "train"


def by_time(moments: Sequence[int], *, validation: float, test: float) -> list[Split]:
    """The split of each row: the newest ``test`` of them, before these ``validation``, the rest trains.

    >>> by_time([10, 50, 40, 20, 30], validation=0.2, test=0.2)
    ['train', 'test', 'validation', 'train', 'train']
    """
    ordered = sorted(moments)
    # The first moment of each later split; the rows of that moment are all on the later side.
    test_from, validation_from = (
        ordered[min(round(len(ordered) * (1 - share)), len(ordered) - 1)] if share and ordered else None
        for share in (test, test + validation)
    )
    splits: list[Split] = []
    for moment in moments:
        if test_from is not None and moment >= test_from:
            splits.append("test")
        elif validation and validation_from is not None and moment >= validation_from:
            splits.append("validation")
        else:
            splits.append("train")
    return splits


def order_of(split: Split) -> int:
    """Training first: when a text is in two splits, it is the later one that loses it."""
    return SPLITS.index(split)
