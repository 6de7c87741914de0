"""The sentences of a complaint, English and Chinese, each short enough for an alert.

Rules:
- A sentence ends at its mark, or at a space between Chinese characters, which many customers write for one.
- What is longer than ``MOST_WIDTH`` is cut between its clauses, or else between words, or where it must be.
  Where it was cut stands "…"; all else is verbatim.
- Nothing is lost: a phrase that does not lie across a cut is in one of the sentences.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from stream.core.words import Term, clauses, terms_of, tone_words

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_WIDTH = 160
"""160 letters or 80 Chinese characters, with their marks."""
LEAST_WIDTH = 10
"""Shorter ones ("Bad.") are read, but not shown."""

_CHINESE = "\u3400-\u9fff"
_END = re.compile(
    rf"(?<=[.!?…])[\"'”’)]{{0,3}} +|(?<=[。！？；~～…])[”’）」]{{0,3}} *"  # noqa: RUF001
    rf"|(?<=[{_CHINESE}]) +(?=[{_CHINESE}])"
)
_CLAUSE_END = re.compile(r"(?<=[,;:–—]) +|(?<=[，、：]) *| +(?=- )")  # noqa: RUF001
_SPACE = re.compile(" +")


class Sentence(NamedTuple):
    """A sentence as it was written, and what there is to count in it."""

    text: str
    terms: tuple[Term, ...]
    keys: frozenset[str]
    """Of the terms."""
    tone_words: tuple[str, ...]

    @property
    def can_be_shown(self) -> bool:
        """Whether it says enough on its own."""
        return bool(self.terms) and width(self.text) >= LEAST_WIDTH


def width(text: str) -> int:
    """Half of characters and bytes: a letter is one wide, a Chinese character two, and 160 at most 256 bytes.

    >>> width("Broken."), width("坏了。")
    (7, 6)
    """
    return len(text) if text.isascii() else (len(text) + len(text.encode("utf-8", "surrogatepass"))) // 2


def sentences(line: str) -> list[Sentence]:
    """The sentences of a line, in their order.

    >>> [sentence.text for sentence in sentences("It died. Twice!  用了三天就坏了。客服不理人 差评")]
    ['It died.', 'Twice!', '用了三天就坏了。', '客服不理人', '差评']
    """
    return [read(text) for whole in _split(line, _END) for text in _short_enough(whole)]


@lru_cache(maxsize=1_024)  # the sentences that are kept are read again with every complaint
def read(text: str) -> Sentence:
    """A sentence from its text."""
    in_clauses = list(clauses(text))
    terms = tuple(terms_of(text, in_clauses))
    return Sentence(text, terms, frozenset(term.key for term in terms), tuple(tone_words(in_clauses)))


def _split(text: str, pattern: re.Pattern[str]) -> Iterator[str]:
    done = 0
    for found in pattern.finditer(text):
        if piece := text[done : found.end()].strip():
            yield piece
        done = found.end()
    if piece := text[done:].strip():
        yield piece


def _short_enough(sentence: str) -> list[str]:
    """The sentence, or the pieces of a long one."""
    pieces: list[str] = []
    rest = sentence
    while width(rest) > MOST_WIDTH:
        piece = _first_piece(rest)
        pieces.append(piece)
        rest = rest[len(piece) :]
    pieces.append(rest)
    last = len(pieces) - 1
    return [
        ("…" if at else "") + piece.strip() + ("…" if at < last else "") for at, piece in enumerate(pieces)
    ]


def _first_piece(text: str) -> str:
    room = MOST_WIDTH - 2 * width("…")
    stop = next(stop for stop in range(min(room, len(text)), 0, -1) if width(text[:stop]) <= room)
    piece = text[:stop]
    for pattern in (_CLAUSE_END, _SPACE):
        ends = [found.end() for found in pattern.finditer(piece) if found.end() >= stop // 3]
        if ends:
            return piece[: ends[-1]]
    return piece
