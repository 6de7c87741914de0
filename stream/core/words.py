"""The phrases of a complaint: what an alert may name as a reason.

Rules:
- A phrase is one to three words of one clause: no punctuation, emoji or mask lies inside it. English words
  are found by spaces, Chinese ones by jieba's segmentation (``rjieba``); a phrase has at least two Chinese
  characters.
- Stop words begin or end no phrase. Articles and intensifiers ("my", "very", "很") are passed over: a phrase
  shows them as they were written, between its first word and its last, and counts without them.
- Verdicts ("terrible", "waste of money", "差评") say that a product is bad, not why. They stand in phrases,
  but none is made of them alone.
- A negation begins a phrase and ends none, and all negations are one word: "does not charge", "won't charge"
  and "not charging" are the same complaint, and so are "不能充电" and "无法充电". So a phrase has a ``key``,
  by which it is counted, and a ``text``, which people read.
- English plurals, -ed, -ing and a last -e are taken off the key: less than a stemmer does, so that little is
  merged that means something else.
- What is in square brackets is a mask (``stream.core.mask``) or pretends to be one; neither is a phrase.
- Text is hostile: ``READ_CHARS`` characters are read, ``MOST_TERMS`` phrases given, and words longer than
  ``LONGEST_WORD`` or phrases longer than ``LONGEST_TERM`` are none. The time is linear.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

from stream.core.word_lists import (
    AUXILIARIES,
    NEGATED,
    NEGATIONS,
    NEGATIONS_CHINESE,
    PASSED_OVER,
    STOP_WORDS,
    VERDICTS,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

READ_CHARS = 1_000
"""Nine complaints in ten are shorter, and what a customer is angry about stands early in the others."""
MOST_TERMS = 96
"""A complaint of the ordinary length has 15 to 40."""
LONGEST_WORD = 30
LONGEST_TERM = 40
"""Bytes: what is kept of an incident is bounded."""
LONGEST_CHINESE_TERM = 10
"""Characters: three or four words."""

Kind = Literal["content", "verdict", "number", "stop", "negation"]


class Word(NamedTuple):
    """A word, where it stands, and what it may do in a phrase."""

    key: str
    start: int
    stop: int
    kind: Kind


class Term(NamedTuple):
    """A phrase: by what it is counted, and as it was written."""

    key: str
    """Its words' keys, with spaces between them."""
    text: str


NOT, NOT_CHINESE = "not", "不"


_VOWEL = re.compile("[aeiouy]")


@lru_cache(maxsize=16_384)
def stem(word: str) -> str:
    """A word without plural, -ed, -ing and a last -e.

    >>> [stem(word) for word in ("charge", "charges", "charging", "stopped", "batteries", "lids", "glass")]
    ['charg', 'charg', 'charg', 'stop', 'battery', 'lid', 'glass']
    """
    word = word.removesuffix("'s")
    if not word.isascii() or not word.isalpha() or len(word) < 4:
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        left = word.removesuffix(ending)
        if left != word and len(left) >= 3 and _VOWEL.search(left):
            doubled = left[-1] == left[-2] and left[-1] not in "lsz"
            return left[:-1] if doubled else left
    return word.removesuffix("e") if len(word) > 3 else word


_STOP_WORDS = STOP_WORDS | AUXILIARIES
_VERDICTS = VERDICTS | frozenset(map(stem, VERDICTS))

_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_IN_WORD = rf"[^\W_{_CHINESE}]"
_TOKEN = re.compile(
    # What is in brackets; a run of Chinese; a word with its apostrophes, hyphens and points; any other sign.
    rf"\[[^\[\]]{{0,60}}\]|(?P<chinese>[{_CHINESE}]+)"
    rf"|(?P<word>{_IN_WORD}+(?:['\u2019.\-/&+]{_IN_WORD}+)*)|(?P<space>[ _]+)|."
)
_IS_CHINESE = re.compile(f"[{_CHINESE}]")


def terms(line: str) -> list[Term]:
    """The phrases of a text, each once, in their order.

    Args:
        line: one line of text; masked, where phrases are to be shown.

    >>> [term.text for term in terms("It doesn't hold a charge. Very poor battery!")]
    ["doesn't hold", "doesn't hold a charge", 'hold', 'hold a charge', 'charge', 'poor battery', 'battery']
    >>> [term.text for term in terms("屏幕很模糊, 不能充电")]
    ['屏幕', '屏幕很模糊', '模糊', '不能充电', '充电']
    >>> terms("Will not charge")[0].key == terms("It isn't charging")[0].key
    True
    """
    return terms_of(line, clauses(line[:READ_CHARS]))


def terms_of(line: str, in_clauses: Iterable[list[Word]]) -> list[Term]:
    """As ``terms``, of a line whose clauses are known."""
    found: dict[str, Term] = {}
    for clause in in_clauses:
        for at, first in enumerate(clause):
            if first.kind == "stop":
                continue
            if first.kind == "content":
                _add(found, line, (first,))
            for stop in range(at + 2, min(at + 4, len(clause) + 1)):
                words = clause[at:stop]
                ends = words[-1].kind not in {"stop", "negation"}
                if ends and any(word.kind == "content" for word in words):
                    _add(found, line, words)
        if len(found) >= MOST_TERMS:
            break
    return list(found.values())[:MOST_TERMS]


def _add(found: dict[str, Term], line: str, words: Sequence[Word]) -> None:
    key = " ".join([word.key for word in words])
    text = line[words[0].start : words[-1].stop]
    least, most = (2, LONGEST_CHINESE_TERM) if _IS_CHINESE.match(text[-1]) else (1, LONGEST_TERM)
    if key not in found and least <= len(text) <= most and _bytes(key) <= LONGEST_TERM >= _bytes(text):
        found[key] = Term(key, text)


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def clauses(line: str) -> Iterator[list[Word]]:
    """The words of each stretch between two marks of punctuation; what is passed over is left out.

    >>> [[word.key for word in clause] for clause in clauses("The cables broke, not once: twice")]
    [['cabl', 'brok'], ['not', 'once'], ['twic']]
    """
    clause: list[Word] = []
    in_chinese = False
    for token in _TOKEN.finditer(line):
        kind = token.lastgroup
        if kind == "space" and not in_chinese:
            continue
        in_chinese = kind == "chinese"
        if kind == "word" and token.end() - token.start() <= LONGEST_WORD:
            _append(clause, token[0].casefold().replace("\u2019", "'"), token.start(), token.end())
        elif kind == "chinese":
            _append_chinese(clause, token[0], token.start())
        elif clause:
            yield clause
            clause = []
    if clause:
        yield clause


def _append(clause: list[Word], word: str, start: int, stop: int) -> None:
    """Adds an English word, or one of another script that has spaces."""
    if word in PASSED_OVER:
        return
    last = clause[-1] if clause else None
    if word in NEGATIONS or word.endswith("n't"):
        if last and last.stop + 1 == start and last.key in AUXILIARIES:
            start = clause.pop().start  # "does not" is one word
        clause.append(Word(NOT, start, stop, "negation"))
    elif word == "t" and last and last.stop + 1 == start and last.key in NEGATED:
        clause[-1] = Word(NOT, last.start, stop, "negation")
    else:
        key, kind = _known(word)
        clause.append(Word(key, start, stop, kind))


@lru_cache(maxsize=16_384)
def _known(word: str) -> tuple[str, Kind]:
    if word in _STOP_WORDS or (len(word) == 1 and not word.isdecimal()):
        return word, "stop"
    if not any(map(str.isalpha, word)):
        return word, "number"
    key = stem(word)
    return key, "verdict" if key in _VERDICTS else "content"


def _append_chinese(clause: list[Word], run: str, start: int) -> None:
    for segment in segments(run):
        stop = start + len(segment)
        if segment in NEGATIONS_CHINESE:
            clause.append(Word(NOT_CHINESE, start, stop, "negation"))
        elif segment == "了" and clause and clause[-1].stop == start == clause[-1].start + 1:
            clause.append(clause.pop()._replace(stop=stop))  # "坏了"
        elif segment in _STOP_WORDS:
            clause.append(Word(segment, start, stop, "stop"))
        elif segment not in PASSED_OVER:
            clause.append(Word(segment, start, stop, "verdict" if segment in _VERDICTS else "content"))
        start = stop


def segments(run: str) -> list[str]:
    """The words of Chinese characters, end to end."""
    # Imported at the first Chinese text: 0.4 s and 35 MB that an English shop does not pay.
    import rjieba  # noqa: PLC0415

    return rjieba.cut(run)


def content_words(line: str) -> Iterator[str]:
    """The keys of a text's words that may be phrases, in their order.

    >>> list(content_words("The lid leaks, and the lid is not tight."))
    ['lid', 'leak', 'lid', 'tight']
    """
    return (word.key for clause in clauses(line) for word in clause if word.kind == "content")


def tone_words(in_clauses: Iterable[list[Word]]) -> list[str]:
    """The words by which a sentence is praise or blame, each once; a negation before a word belongs to it.

    >>> tone_words(clauses("It's not great, the pump leaks."))
    ['not great', 'pump', 'leak']
    """
    found: dict[str, None] = {}
    for clause in in_clauses:
        negated = ""
        for word in clause:
            if word.kind in {"content", "verdict"}:
                found[negated + word.key] = None
            negated = word.key + " " if word.kind == "negation" else ""
    return list(found)


@lru_cache(maxsize=4_096)
def content_of(key: str) -> frozenset[str]:
    """The words of a phrase that say what it is about.

    >>> sorted(content_of("not hold of charg"))
    ['charg', 'hold']
    """
    return frozenset(
        word
        for word in key.split()
        if word not in _STOP_WORDS
        and word not in _VERDICTS
        and word not in {NOT, NOT_CHINESE}
        and any(map(str.isalpha, word))
    )
