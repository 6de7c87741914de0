"""Two or three sentences, word for word, that say what an incident's complaints are about.

Rules:
- Relevance is the cosine of a sentence and the incident's centroid: its phrases, by how many complaints have
  them and how rare they are otherwise (TF-IDF). A sentence that sounds like praise is worth less, one that
  stands for several complaints more.
- Sentences are chosen one after another by maximal marginal relevance (Carbonell and Goldstein 1998), so that
  the second says something else than the first. Of equals the earlier one.
- A third is added only if it has something to say: two good sentences beat three.
- + - * / and sqrt, and ``stream.core.background.ln``: the same choice on every machine.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from stream.core.background import total
from stream.core.sentences import read

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.background import Background
    from stream.core.complaints import Complaints, Kept

MOST_SENTENCES = 3
RELEVANCE = 0.7
"""Weight of relevance against being different."""
LEAST_RELEVANCE = 0.35
"""Of the first sentence's, for one after the second."""
MOST_VOICES = 5
"""Complaints that a sentence gains by standing for: ten posts of one text are no better than five."""


class Said(msgspec.Struct, frozen=True):
    """A sentence of a complaint, masked."""

    text: str
    complaints: int
    """That said it, or nearly the same."""


def summary(complaints: Complaints, background: Background, most: int = MOST_SENTENCES) -> list[Said]:
    """The sentences that say best what an incident is about, the best first.

    Args:
        complaints: of the incident.
        background: of all products.
        most: how many sentences at most.

    >>> from stream.core.background import NOTHING_KNOWN
    >>> from stream.core.complaints import Complaints
    >>> incident = Complaints()
    >>> for text in ("The lid leaks.", "The lid leaks!", "Parcel came late.", "Came late."):
    ...     incident.add(text, NOTHING_KNOWN)
    >>> [(said.text, said.complaints) for said in summary(incident, NOTHING_KNOWN, most=2)]
    [('The lid leaks.', 2), ('Came late.', 1)]
    """
    centroid = {each.key: each.complaints * background.rarity(each.key) for each in complaints.phrases}
    vectors = [_vector(kept.text, background) for kept in complaints.sentences]
    relevance = [
        _cosine(vector, centroid) * _weight(kept, background)
        for vector, kept in zip(vectors, complaints.sentences, strict=True)
    ]
    chosen: list[int] = []
    left = list(range(len(vectors)))
    while left and len(chosen) < most:
        best = max(left, key=lambda at: _marginal(at, relevance, vectors, chosen))  # the first of equals
        if len(chosen) >= 2 and relevance[best] < LEAST_RELEVANCE * relevance[chosen[0]]:
            break
        chosen.append(best)
        left.remove(best)
    return [Said(complaints.sentences[at].text, complaints.sentences[at].complaints) for at in chosen]


def _vector(text: str, background: Background) -> dict[str, float]:
    return {term.key: background.rarity(term.key) for term in read(text).terms}


def _weight(kept: Kept, background: Background) -> float:
    voices = min(kept.complaints, MOST_VOICES)
    return background.blame(read(kept.text).tone_words) * (1.0 + 0.2 * (voices - 1))


def _marginal(at: int, relevance: list[float], vectors: list[dict[str, float]], chosen: list[int]) -> float:
    said = max((_cosine(vectors[at], vectors[other]) for other in chosen), default=0.0)
    return RELEVANCE * relevance[at] - (1.0 - RELEVANCE) * said


def _cosine(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    shared = total(weight * other[key] for key, weight in one.items() if key in other)
    if not shared:
        return 0.0
    return shared / math.sqrt(_square(one) * _square(other))


def _square(vector: Mapping[str, float]) -> float:
    return total(weight * weight for weight in vector.values())
