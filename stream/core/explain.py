"""Which words made a score: a text without each of them, and what the log-odds lose by it (occlusion).

Rules:
- Words are found by spaces, Chinese ones by jieba's segmentation (``rjieba``); what stands between them
  belongs to none. Offsets are of the text as given.
- A word's contribution is the log-odds of positive against negative of the whole text less those without the
  word: above zero it speaks for positive. Contributions need not add up: words say things together.
- At most ``MOST_SPANS`` texts are scored for one: a longer one's neighbouring words are left out together.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from stream.core.words import segments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

MOST_SPANS = 192
"""A minute for the longest text on one busy core; an ordinary review has fewer words."""

CHINESE = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f]+")
WORD = re.compile(r"\S+")

LEAST_SHARE = 1e-6
"""Of a probability, before the logarithm: float32 has none much nearer to zero or one."""


class Span(NamedTuple):
    """One word, or neighbouring ones, of a text."""

    start: int
    stop: int


class Contribution(NamedTuple):
    """What a span adds to the log-odds of positive against negative."""

    start: int
    stop: int
    log_odds: float


def spans(text: str, most: int = MOST_SPANS) -> list[Span]:
    """The words of ``text``, in their order, joined with neighbours where there are more than ``most``.

    >>> [("not good, 质量很差"[a:b]) for a, b in spans("not good, 质量很差")]
    ['not', 'good,', '质量', '很差']
    >>> spans("a b c d e", most=2)
    [Span(start=0, stop=5), Span(start=6, stop=9)]
    """
    words = [word for match in WORD.finditer(text) for word in _words(match.group(), match.start())]
    together = -(-len(words) // most)
    if together <= 1:
        return words
    return [
        Span(words[at].start, words[min(at + together, len(words)) - 1].stop)
        for at in range(0, len(words), together)
    ]


def occluded(text: str, left_out: Sequence[Span]) -> list[str]:
    """``text`` without each of ``left_out``, one at a time.

    >>> occluded("not good", [Span(0, 3), Span(4, 8)])
    [' good', 'not ']
    """
    return [text[: span.start] + text[span.stop :] for span in left_out]


def contributions(
    left_out: Sequence[Span], whole: NDArray[np.float32], without: NDArray[np.float32]
) -> list[Contribution]:
    """What each span adds.

    Args:
        left_out: the spans.
        whole: probabilities of the text, shape (3,).
        without: probabilities of what ``occluded`` made of it, shape (len(left_out), 3).
    """
    odds = log_odds(whole) - log_odds(without)
    return [
        Contribution(span.start, span.stop, float(each))
        for span, each in zip(left_out, np.atleast_1d(odds), strict=True)
    ]


def log_odds(probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithm of P(positive) over P(negative), of shape (..., 3) along the last axis.

    >>> log_odds(np.array([0.5, 0.0, 0.5], np.float32)).tolist()
    0.0
    """
    shares = np.maximum(probabilities.astype(np.float64), LEAST_SHARE)
    odds: NDArray[np.float64] = np.log(shares[..., 2]) - np.log(shares[..., 0])
    return odds


def _words(run: str, start: int) -> Iterator[Span]:
    """The words of what stands between two spaces: Chinese runs in segments, the rest as it is."""
    at = 0
    for match in CHINESE.finditer(run):
        if match.start() > at:
            yield from _rest(run, at, match.start(), start)
        place = match.start()
        for segment in segments(match.group()):
            yield Span(start + place, start + place + len(segment))
            place += len(segment)
        at = match.end()
    if at < len(run):
        yield from _rest(run, at, len(run), start)


def _rest(run: str, at: int, stop: int, start: int) -> Iterator[Span]:
    """Punctuation alone between Chinese words is no word."""
    if any(map(str.isalnum, run[at:stop])) or stop - at == len(run):
        yield Span(start + at, start + stop)
