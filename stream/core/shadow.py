"""A candidate model beside the one that serves: how much of the machine it may take, and whether it is taken.

Rules:
- The same gates for every worker: they travel with the proposal. What is measured is sums, so that several
  workers' samples are one sample when they are added up.
- A gate compares the candidate with the model that serves, on the same texts. Nobody has labelled live
  traffic, so no gate says which of the two is right: they say that a switch would not look like news.
- ``confidence`` needs a reference: a calibrated model is as sure as it is right. How much surer a model is on
  live traffic than it was right on the sets of its manifest may differ between the two by so much; that they
  are traffic of another kind cancels out.
- The shadow's time is a share of the time that passes (``Duty``): what it took too much it waits for.
- No clock is read here: ``now`` is seconds on a clock that only goes forward.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LEAST_BURST_S = 0.25
"""A live window may always wait so long for the shadow: a few texts of a slow model."""
MOST_TEXTS = 64
"""Scored in one go, however quick the model."""

Figures = dict[tuple[str, str], float]
"""A manifest's metrics: value by data set and name."""

Share = Annotated[float, msgspec.Meta(gt=0, le=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]


class Gates(msgspec.Struct, frozen=True, kw_only=True):
    """What a candidate has to hold."""

    texts: Annotated[int, msgspec.Meta(ge=1, le=100_000)] = 200
    """Live texts that both score before anything is decided."""
    share: Share = 0.2
    """Most of a worker's scoring time that the shadow may take."""
    agreement: Share = 0.9
    """Least share of texts with the same label."""
    shift: Positive = 0.05
    """Most the mean of P(negative) may move, either way."""
    confidence: Positive = 0.1
    """Most that confidence above the stated accuracy may differ between the two."""
    slowdown: Positive = 3.0
    """Most time a text may take, in times of what it takes now."""
    stated: Positive = 0.03
    """Most that a manifest's accuracy may be below, or its calibration error above, that of the other, on a
    set that both state."""


class Comparison(msgspec.Struct, kw_only=True):
    """What both made of the same texts: sums."""

    texts: int = 0
    agreed: int = 0
    """Texts with the same label."""
    negative: float = 0.0
    """Sum of P(negative) of the model that serves."""
    candidate_negative: float = 0.0
    confidence: float = 0.0
    """Sum of the likeliest label's probability, of the model that serves."""
    candidate_confidence: float = 0.0
    timed: int = 0
    """Texts that both were timed on, one after the other in the same batches."""
    seconds: float = 0.0
    candidate_seconds: float = 0.0

    def add(self, other: Comparison) -> None:
        """Takes another sample in."""
        for name in self.__struct_fields__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def agreement(self) -> float:
        """Share of texts with the same label; nan before the first."""
        return self.agreed / self.texts if self.texts else math.nan

    @property
    def shift(self) -> float:
        """How far the mean of P(negative) moves."""
        return (self.candidate_negative - self.negative) / self.texts if self.texts else math.nan

    @property
    def slowdown(self) -> float:
        """Time a text takes, in times of what it takes now; nan where none was timed."""
        return self.candidate_seconds / self.seconds if self.seconds else math.nan


def pooled(samples: Iterable[Comparison]) -> Comparison:
    """All samples as one.

    >>> pooled([Comparison(texts=10, agreed=9), Comparison(texts=30, agreed=30)]).agreement
    0.975
    """
    whole = Comparison()
    for each in samples:
        whole.add(each)
    return whole


def refusals(comparison: Comparison, gates: Gates, surer: float | None = None) -> list[str]:
    """Why a candidate is not taken, a clause each; none where it may be.

    Args:
        comparison: at least ``gates.texts`` texts.
        gates: the bounds.
        surer: the mean accuracy that the candidate's manifest states minus the serving one's, on the sets
            that both state; None where there is no such set.

    >>> refusals(Comparison(texts=200, agreed=120, negative=30, candidate_negative=60), Gates())
    ['the same label for 60.0% of 200 texts, at least 90.0% are wanted', 'the mean of P(negative) moves by +0.150, at most 0.050 is allowed']
    >>> refusals(Comparison(texts=100, agreed=100, confidence=80, candidate_confidence=99), Gates(), 0.01)
    ['surer than it is right: confidence minus stated accuracy moves by +0.180, at most 0.100 is allowed']
    """  # noqa: E501 - what it prints is one line
    why = []
    texts = comparison.texts
    if comparison.agreement < gates.agreement:
        why.append(
            f"the same label for {comparison.agreement:.1%} of {texts} texts, at least"
            f" {gates.agreement:.1%} are wanted"
        )
    if abs(comparison.shift) > gates.shift:
        why.append(
            f"the mean of P(negative) moves by {comparison.shift:+.3f}, at most {gates.shift:.3f} is allowed"
        )
    if surer is not None:
        moves = (comparison.candidate_confidence - comparison.confidence) / texts - surer
        if abs(moves) > gates.confidence:
            why.append(
                f"{'surer' if moves > 0 else 'less sure'} than it is right: confidence minus stated accuracy"
                f" moves by {moves:+.3f}, at most {gates.confidence:.3f} is allowed"
            )
    if comparison.slowdown > gates.slowdown:
        why.append(
            f"a text takes {comparison.slowdown:.1f} times as long, at most {gates.slowdown:.1f} is allowed"
        )
    return why


def stated_refusals(serving: Mapping[tuple[str, str], float], candidate: Figures, gates: Gates) -> list[str]:
    """Where a candidate's manifest itself says that it is worse, on sets that both manifests state.

    >>> stated_refusals({("b", "accuracy"): 0.91}, {("b", "accuracy"): 0.84}, Gates())
    ['its manifest states accuracy 0.840 on b, the serving one 0.910']
    >>> stated_refusals({("b", "ece"): 0.02}, {("b", "ece"): 0.01, ("c", "accuracy"): 0.1}, Gates())
    []
    """
    why = []
    for (dataset, name), value in candidate.items():
        other = serving.get((dataset, name))
        worse = {"accuracy": -1, "ece": 1}.get(name)
        if other is not None and worse is not None and worse * (value - other) > gates.stated:
            why.append(f"its manifest states {name} {value:.3f} on {dataset}, the serving one {other:.3f}")
    return why


def surer_by(serving: Mapping[tuple[str, str], float], candidate: Figures) -> float | None:
    """How much more accurate a candidate states to be, on the mean of the sets that both state.

    >>> surer_by({("b", "accuracy"): 0.91, ("x", "accuracy"): 0.5}, {("b", "accuracy"): 0.93}).__round__(3)
    0.02
    >>> surer_by({}, {("b", "accuracy"): 0.93}) is None
    True
    """
    both = [key for key in candidate if key in serving and key[1] == "accuracy"]
    return sum(candidate[key] - serving[key] for key in both) / len(both) if both else None


class Duty:
    """How many texts the shadow may score now, so that it takes no more than a share of the time.

    >>> duty = Duty(0.2, now=0.0)
    >>> duty.affordable(1.0)  # 0.2 s to spend, and nothing known of the model yet
    1
    >>> duty.spent(0.05, texts=1)
    >>> duty.affordable(1.0)  # 0.15 s left
    3
    >>> duty.spent(0.35, texts=3)
    >>> duty.affordable(1.5), duty.affordable(2.6)
    (0, 1)

    Args:
        share: of the time that passes.
        now: when it begins.
    """

    def __init__(self, share: float, now: float) -> None:
        self._share = share
        self._at = now
        self._credit_s = 0.0
        self._most_s = LEAST_BURST_S
        self._seconds = 0.0
        self._texts = 0

    def window_took(self, seconds: float) -> None:
        """A live window was scored: the shadow may take a share of so long in one go."""
        self._most_s = max(LEAST_BURST_S, self._share * seconds)

    def affordable(self, now: float) -> int:
        """How many texts may be scored now; 0 means later."""
        self._credit_s = min(self._credit_s + self._share * (now - self._at), self._most_s)
        self._at = now
        if self._credit_s <= 0:
            return 0
        if not self._texts:
            return 1
        fit = int(self._credit_s * self._texts / max(self._seconds, 1e-9))
        # A model that is slower than a whole burst gets its one text, and pays for it.
        return min(max(fit, int(self._credit_s >= self._most_s)), MOST_TEXTS)

    def spent(self, seconds: float, texts: int) -> None:
        """So long it took."""
        self._credit_s -= seconds
        self._seconds += seconds
        self._texts += texts


def evenly(rows: Sequence[int], most: int) -> list[int]:
    """At most so many of the rows, spread over all of them.

    >>> evenly(range(10), 4), evenly([3, 5], 4)
    ([0, 2, 5, 7], [3, 5])
    """
    if len(rows) <= most:
        return list(rows)
    return [rows[n * len(rows) // most] for n in range(most)]
