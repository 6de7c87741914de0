"""Texts that say the same: word for word, or nearly.

Rules:
- Two texts are the same when they differ only in case, space and punctuation; emoji count where there is
  nothing else.
- Two texts are nearly the same when the sets of their character n-grams overlap enough (Jaccard).
  Candidates come from MinHash and locality-sensitive hashing (Broder 1997; Indyk & Motwani 1998), then the
  overlap itself decides, so that chance can only miss a pair, never make one.
- A Chinese character says about as much as two letters: 3 of them are an n-gram, and 5 letters.
- Deterministic: fixed seeds, and the first of several stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from datasketch import MinHashLSH
    from numpy.typing import NDArray

BANDS, ROWS = 21, 6
"""Of the hashing: a pair with an overlap of 0.8 is missed once in 600, one of 0.85 once in 20,000; unrelated
reviews, whose overlap is below 0.1, become candidates once in 50,000 pairs."""

_IDEOGRAPHS = 0x2E80
"""Code points from here on are Chinese, Japanese and Korean, with few exceptions."""


def fingerprint(text: str) -> str:
    """What two copies of a text have in common, however they were typed or tokenised.

    >>> fingerprint("It did n't work .") == fingerprint("it didn't work"), fingerprint("👍!")
    (True, '👍!')
    """
    return "".join(filter(str.isalnum, text.lower())) or text


def shingles(text: str) -> NDArray[np.uint64]:
    """The character n-grams of a fingerprint as numbers, sorted, each once; none of a text shorter than one.

    >>> len(shingles("abcdefg")), len(shingles("质量很好")), len(shingles("abc"))
    (3, 2, 0)
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    length = 3 if (codes >= _IDEOGRAPHS).sum() * 2 >= len(codes) else 5
    if len(codes) < length:
        return np.array([], np.uint64)
    grams = np.zeros(len(codes) - length + 1, np.uint64)
    for at in range(length):
        # Multiplication by an odd constant spreads the code points; overflow is wanted.
        grams = grams * np.uint64(0x9E3779B97F4A7C15) + codes[at : len(grams) + at]
    return np.unique(grams)


def overlap(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Jaccard index of two sets of n-grams."""
    common = len(np.intersect1d(one, other, assume_unique=True))
    return common / (len(one) + len(other) - common)


def first_alike(texts: Sequence[str], kinds: Sequence[Hashable], similarity: float) -> list[int]:
    """For each text, the index of the first one that it nearly repeats; its own where there is none.

    Args:
        texts: fingerprints.
        kinds: of each; only texts of one kind are compared (two labels of nearly the same words are a
            lesson, not a repetition).
        similarity: least overlap of two sets of n-grams.
    """
    from datasketch import MinHash, MinHashLSH

    indexes: dict[Hashable, MinHashLSH] = {}
    kept: dict[int, NDArray[np.uint64]] = {}
    first = list(range(len(texts)))
    sets = {at: grams for at, text in enumerate(texts) if len(grams := shingles(text))}
    hashes = ((grams >> np.uint64(32)).tolist() for grams in sets.values())
    sketches = MinHash.generator(hashes, num_perm=BANDS * ROWS, seed=1, hashfunc=_as_it_is)
    for (at, grams), sketch in zip(sets.items(), sketches, strict=True):
        kind = kinds[at]
        if kind not in indexes:
            indexes[kind] = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        index = indexes[kind]
        alike = [each for each in index.query(sketch) if overlap(grams, kept[each]) >= similarity]
        if alike:
            first[at] = min(alike)
        else:
            index.insert(at, sketch, check_duplication=False)
            kept[at] = grams
    return first


def _as_it_is(value: int) -> int:
    return value
