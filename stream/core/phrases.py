"""Which phrases set an incident's complaints apart from what customers say anyway.

Rules:
- A phrase is measured against the share of complaints that it is expected in: the product's own past
  (``stream.core.usual``), shrunk to the background of all products while that past is short.
- The measure is the z-score of the log-odds ratio with an informative Dirichlet prior (Monroe, Colaresi and
  Quinn 2008), over complaints instead of words: the prior is the expected share, as sure as
  ``PRIOR_COMPLAINTS``. So a rare phrase of three complaints does not beat one that half of them have.
- Phrases that have a word in common are one reason. Shown is the longest of them that more than half
  of these complaints have: "does not charge" before "charge".
- Sorted by z-score, then complaints, then the phrase itself. Logarithms are ``stream.core.background.ln``'s,
  which has the same bits on every machine; the rest is + - * / and sqrt.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from stream.core.background import ln
from stream.core.words import content_of

if TYPE_CHECKING:
    from stream.core.background import Background
    from stream.core.complaints import Complaints, Counted
    from stream.core.usual import Usual

MOST_PHRASES = 5
PRIOR_COMPLAINTS = 200.0
"""Fewer, and what every complaint says comes first; more, and what three say does."""
LEAST_PRIOR = 1.0
"""Of those, for a phrase however rare: a thinner one is so unsure that ordinary phrases come first."""
PAST_COMPLAINTS = 50.0
"""The background counts as much as so many of the product's past complaints."""
MOST_EVIDENCE = 50.0
"""A longer incident counts as one of so many complaints: its z-scores would rank sureness, not size."""
LEAST_COMPLAINTS = 2
LEAST_SHARE = 0.1
"""Of the incident's complaints."""
LEAST_RISE = 2.0
"""Over the expected share."""


class Phrase(msgspec.Struct, frozen=True):
    """What some of an incident's complaints have in common, and the product's past complaints have not."""

    text: str
    complaints: int
    """That have it, at least."""
    share: float
    """Of the incident's complaints, as above."""


def top_phrases(
    complaints: Complaints, usual: Usual, background: Background, most: int = MOST_PHRASES
) -> list[Phrase]:
    """The phrases that say what an incident is about, the most telling first.

    Args:
        complaints: of the incident.
        usual: the product's complaints before it; an empty one where there were none.
        background: of all products.
        most: how many phrases at most.

    >>> from stream.core.background import NOTHING_KNOWN
    >>> from stream.core.complaints import Complaints
    >>> from stream.core.usual import Usual
    >>> incident = Complaints()
    >>> for text in ("It does not charge.", "Doesn't charge!", "Nice box. Will not charge", "Ugly box."):
    ...     incident.add(text, NOTHING_KNOWN)
    >>> top_phrases(incident, Usual(), NOTHING_KNOWN)
    [Phrase(text="Doesn't charge", complaints=3, share=0.75), Phrase(text='box', complaints=2, share=0.5)]
    """
    ranked = []
    for phrase in complaints.phrases:
        expected = expected_share(phrase.key, usual, background)
        share = phrase.complaints / complaints.number
        if phrase.complaints >= LEAST_COMPLAINTS and share >= max(LEAST_SHARE, LEAST_RISE * expected):
            z = z_score(share, min(float(complaints.number), MOST_EVIDENCE), expected)
            ranked.append((-z, -phrase.complaints, phrase.key, phrase))
    ranked.sort(key=lambda each: each[:3])
    reasons = _reasons([phrase for *_, phrase in ranked])[:most]
    shown = [_clearest(reason) for reason in reasons]
    return [Phrase(each.text, each.complaints, each.complaints / complaints.number) for each in shown]


def expected_share(key: str, usual: Usual, background: Background) -> float:
    """Share of complaints in which a phrase is no surprise."""
    anyway = background.share(key)
    past = usual.share(key, background)
    shrunk = (usual.complaints * past + PAST_COMPLAINTS * anyway) / (usual.complaints + PAST_COMPLAINTS)
    return max(anyway, shrunk)


def z_score(share: float, complaints: float, expected: float) -> float:
    """How surely a phrase is more frequent than expected.

    Args:
        share: of complaints that have the phrase.
        complaints: of the incident.
        expected: share that the prior expects.

    >>> round(z_score(0.5, 20, 0.0015), 2), round(z_score(0.15, 20, 0.0015), 2)
    (2.25, 1.17)
    >>> round(z_score(0.5, 20, 0.3), 2)  # half say so, as nearly a third do anyway
    0.48
    """
    prior_with = max(LEAST_PRIOR, PRIOR_COMPLAINTS * expected)
    prior_without = PRIOR_COMPLAINTS - prior_with
    having = share * complaints + prior_with
    lacking = complaints + PRIOR_COMPLAINTS - having
    log_odds_ratio = ln(having / lacking) - ln(prior_with / prior_without)
    return log_odds_ratio / math.sqrt(1.0 / having + 1.0 / prior_with)


def _reasons(ranked: list[Counted]) -> list[list[Counted]]:
    """Phrases that have a word in common, in the order of the first of each."""
    reasons: list[tuple[frozenset[str], list[Counted]]] = []
    for phrase in ranked:
        words = content_of(phrase.key)
        for of_first, reason in reasons:
            if words & of_first or phrase.text in reason[0].text or reason[0].text in phrase.text:
                reason.append(phrase)
                break
        else:
            reasons.append((words, [phrase]))
    return [reason for _, reason in reasons]


def _clearest(reason: list[Counted]) -> Counted:
    """The longest phrase of more than half the first one's complaints; of equals the most frequent."""
    half = reason[0].complaints / 2.0
    return max(
        (phrase for phrase in reason if phrase.complaints > half),
        key=lambda phrase: (len(phrase.key.split()), phrase.complaints),
    )
