"""What is kept of an incident's complaints, so that an alert can say what they are about.

Rules:
- ``Complaints`` lives in the detector's state, so it is bounded: ``MOST_PHRASES`` phrases and their counts,
  ``MOST_SENTENCES`` sentences, and ``DOORS`` fingerprints. However long or hostile the incident, it has at
  most ``MOST_BYTES`` bytes as MessagePack; an ordinary one has a third of that.
- Nine phrases of ten occur once. So a phrase is listed from its second complaint on; the first leaves a
  fingerprint at its door, where it stays until another phrase comes by (a doorkeeper, as in TinyLFU:
  Einziger, Friedman and Manes 2017). A full list drops the phrase with the fewest complaints, of equals
  the one that has been quiet for longest.
- So a count is never too high. It is too low by what the door or the list has forgotten.
- Of each complaint one sentence is considered: the one that shares most with the others so far, and sounds
  most like blame. A kept one that is nearly the same then stands for both. Otherwise it is kept, and the one
  goes that adds least to what the kept ones cover (coverage as in Lin and Bilmes 2011).
- All that is kept is masked, and as a whole: a part of a number would not be known for one.
- How complaints are grouped into calls changes nothing, nor does packing the state between them.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING

import msgspec

from stream.core.background import total
from stream.core.mask import TORN_CHARS, excerpt
from stream.core.sentences import Sentence, read, sentences
from stream.core.words import MOST_TERMS, READ_CHARS, Term

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.background import Background

MOST_PHRASES = 48
MOST_SENTENCES = 10
DOORS = 384
MOST_BYTES = 8_192

NEARLY_THE_SAME = 0.6
"""Of the phrases of two sentences (Jaccard)."""


class Counted(msgspec.Struct, array_like=True):
    """A phrase of at least two complaints."""

    key: str
    text: str
    """As it was written when it was listed."""
    complaints: int
    last: int
    """Number of the last complaint that had it."""


class Kept(msgspec.Struct, array_like=True):
    """A sentence that may come to stand in an alert."""

    text: str
    complaints: int
    """That said it, or nearly the same."""


class Complaints(msgspec.Struct, array_like=True):
    """The complaints of one incident."""

    number: int = 0
    phrases: list[Counted] = []
    sentences: list[Kept] = []
    doors: bytearray = msgspec.field(default_factory=lambda: bytearray(2 * DOORS))
    """The last phrase that came by each door: high 16 bits of its CRC-32. All of it chooses the door."""

    def add(self, text: str, background: Background) -> None:
        """Takes in a complaint.

        Args:
            text: as it came.
            background: what is ordinary.

        >>> from stream.core.background import NOTHING_KNOWN
        >>> complaints = Complaints()
        >>> for text in ("The lid leaks.", "It LEAKS at the lid, call 555-123-4567"):
        ...     complaints.add(text, NOTHING_KNOWN)
        >>> [(phrase.text, phrase.complaints) for phrase in complaints.phrases]
        [('LEAKS', 2), ('lid', 2)]
        """
        said = sentences(masked(text))
        self.number += 1
        counted = {phrase.key: phrase for phrase in self.phrases}
        for term in _terms_of(said):
            phrase = counted.get(term.key)
            if phrase is not None:
                phrase.complaints += 1
                phrase.last = self.number
            elif not background.is_common(term.key) and self._has_come_by(term.key):
                self._list(term, counted)
        self._consider(said, counted, background)

    def _has_come_by(self, key: str) -> bool:
        code = zlib.crc32(key.encode("utf-8", "surrogatepass"))
        door = 2 * (code % DOORS)
        fingerprint = (code >> 16).to_bytes(2, "little")
        if self.doors[door : door + 2] == fingerprint:
            return True
        self.doors[door : door + 2] = fingerprint
        return False

    def _list(self, term: Term, counted: dict[str, Counted]) -> None:
        if len(self.phrases) == MOST_PHRASES:
            least = min(self.phrases, key=lambda phrase: (phrase.complaints, phrase.last))
            self.phrases.remove(least)
            del counted[least.key]
        phrase = Counted(term.key, term.text, 2, self.number)
        self.phrases.append(phrase)
        counted[term.key] = phrase

    def _consider(self, said: list[Sentence], counted: Mapping[str, Counted], background: Background) -> None:
        weights = {key: phrase.complaints * background.rarity(key) for key, phrase in counted.items()}
        shown = [sentence for sentence in said if sentence.can_be_shown]
        if not shown:
            return
        best = max(shown, key=lambda sentence: _worth(sentence, weights, background))  # the first of equals
        for kept in self.sentences:
            if is_nearly(best, read(kept.text)):
                kept.complaints += 1
                return
        self.sentences.append(Kept(best.text, 1))
        if len(self.sentences) > MOST_SENTENCES:
            del self.sentences[_least_missed(self.sentences, weights, background)]


def masked(text: str) -> str:
    r"""What is read of a complaint: one line without personal data.

    >>> masked("Call me:\n555-123-4567")
    'Call me: [phone]'
    """
    line = excerpt(text[:READ_CHARS], READ_CHARS)
    # Half a number at the end would not be known for one.
    return line if len(text) <= READ_CHARS else line[:-TORN_CHARS]


def is_nearly(one: Sentence, other: Sentence) -> bool:
    """Whether two sentences say the same in nearly the same words.

    >>> leaks = read("The lid leaks badly!")
    >>> is_nearly(leaks, read("My lid leaks badly.")), is_nearly(leaks, read("The lid is badly made."))
    (True, False)
    """
    shared = len(one.keys & other.keys)
    return shared >= NEARLY_THE_SAME * (len(one.keys) + len(other.keys) - shared)


def _terms_of(said: list[Sentence]) -> list[Term]:
    found: dict[str, Term] = {}
    for sentence in said:
        for term in sentence.terms:
            found.setdefault(term.key, term)
    return list(found.values())[:MOST_TERMS]


def _worth(sentence: Sentence, weights: Mapping[str, float], background: Background) -> float:
    """How well a sentence stands for its complaint."""
    shared = total(weights[term.key] for term in sentence.terms if term.key in weights)
    # Square root: a long sentence says more, but not in proportion. One: the first complaint shares nothing.
    return (1.0 + shared) / math.sqrt(len(sentence.terms)) * background.blame(sentence.tone_words)


def _least_missed(kept: list[Kept], weights: Mapping[str, float], background: Background) -> int:
    """Place of the sentence without which least is lost of what the others do not say."""
    said = [read(each.text) for each in kept]
    times: dict[str, int] = {}
    for sentence in said:
        for term in sentence.terms:
            times[term.key] = times.get(term.key, 0) + 1
    losses = []
    for each, sentence in zip(kept, said, strict=True):
        # The square makes what it alone says count most, and what ten others say hardly at all.
        said_alone = [
            weights[term.key] / times[term.key] ** 2 for term in sentence.terms if term.key in weights
        ]
        losses.append(total(said_alone) * background.blame(sentence.tone_words) * each.complaints)
    return losses.index(min(losses))
