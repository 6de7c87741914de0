"""Rows cut by what is known of them: where a model is worse than on the whole.

Rules:
- A row is in one slice of each kind, or in none where nothing is known: without stars, in no stars slice.
- A kind with a single slice says nothing beyond the whole and is left out.
- A slice is flagged as worse when a model as good there as on the whole would do so badly less than once in a
  thousand times (exact binomial): a report has some thirty slices, so a flag by chance is rare.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from models.metrics import wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from models.examples import Example

CHANCE = 0.001

MOST_VALUES = 40
"""Slices of one kind; a column with more values (one a product, say) is cut to its most frequent ones."""

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
UNIT = re.compile(rf"[{CJK}]|[^\W_{CJK}]+(?:['\u2019][^\W_{CJK}]+)*")

LENGTH_BANDS = ((1, 5), (6, 20), (21, 50), (51, 100), (101, 200), (201, None))

# What is first in an alternation wins: words that contain a negating character and do not negate come first.
NEGATION_ZH = re.compile(
    "不错|不过|不仅|不但|不管|不论|不同|差不多|特别|别人|别的|分别|区别|级别|类别|性别|别致|没错|未来"
    "|(不|没|别|未|毫无|并非|绝非)"
)
NEGATION_EN = re.compile(
    r"\b(?:no|not|never|none|nothing|nobody|nowhere|neither|nor|without|hardly|barely|scarcely|cannot|cant|"
    r"dont|doesnt|didnt|wont|isnt|wasnt|arent|couldnt|wouldnt|shouldnt)\b|n['\u2019]t\b",
    re.IGNORECASE,
)


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The rows that share one value."""

    kind: str
    """``language``, ``category``, ``source``, ``length``, ``negation`` or ``stars``."""
    value: str
    rows: int
    accuracy: float
    interval: tuple[float, float]
    """95%."""
    worse: bool
    """Clearly worse than all rows together."""


def length(text: str) -> int:
    """Words, and single characters of the scripts that are written without spaces.

    >>> length("It doesn't charge."), length("质量很好,good!")
    (3, 5)
    """
    return sum(1 for _ in UNIT.finditer(text))


def has_negation(text: str) -> bool:
    """Whether a negating word of English or Chinese is in a text; a small word list, not a parser.

    >>> has_negation("It doesn't charge."), has_negation("质量不好"), has_negation("质量不错")
    (True, True, False)
    """
    return bool(NEGATION_EN.search(text)) or any(match.group(1) for match in NEGATION_ZH.finditer(text))


def _length_band(example: Example) -> str:
    units = length(example.text)
    for low, high in LENGTH_BANDS:
        if high is None or units <= high:
            return f"{low}-{high}" if high else f"{low} and more"
    raise AssertionError(units)


KINDS: dict[str, Callable[[Example], str]] = {
    "language": lambda example: example.language,
    "category": lambda example: example.category,
    "source": lambda example: example.source,
    "length": _length_band,
    "negation": lambda example: "with" if has_negation(example.text) else "without",
    "stars": lambda example: "" if example.stars is None else f"{example.stars:g}",
}


def members(examples: Sequence[Example]) -> Iterator[tuple[str, str, NDArray[np.intp]]]:
    """Kind, value and row numbers of every slice, in the order they are read in."""
    for kind, value_of in KINDS.items():
        rows: dict[str, list[int]] = defaultdict(list)
        for number, example in enumerate(examples):
            value = value_of(example)
            if value:
                rows[value].append(number)
        if len(rows) < 2:
            continue
        frequent = sorted(rows, key=lambda value: (-len(rows[value]), value))[:MOST_VALUES]
        for value in sorted(frequent, key=_natural):
            yield kind, value, np.array(rows[value])


def _natural(value: str) -> tuple[float, str]:
    """Numbers by size, then words by the alphabet.

    >>> sorted(["51-100", "6-20", "with", "201 and more"], key=_natural)
    ['6-20', '51-100', '201 and more', 'with']
    """
    number = re.match(r"\d+(?:\.\d+)?", value)
    return (float(number.group()) if number else float("inf"), value)


def slices(examples: Sequence[Example], right: NDArray[np.bool_]) -> tuple[Slice, ...]:
    """Accuracy of every slice.

    Args:
        examples: n of them.
        right: whether the said label was the true one, shape (n,).
    """
    from scipy.stats import binom

    whole = float(right.mean())
    made = []
    for kind, value, rows in members(examples):
        hits, n = int(right[rows].sum()), len(rows)
        made.append(
            Slice(
                kind=kind,
                value=value,
                rows=n,
                accuracy=hits / n,
                interval=wilson(hits, n),
                worse=bool(binom.cdf(hits, n, whole) < CHANCE),
            )
        )
    return tuple(made)
