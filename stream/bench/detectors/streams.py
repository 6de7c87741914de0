"""Drawn streams, and the real ``judge`` on them.

Rules:
- Nothing here looks inside the detector: ``judge`` gets observations in order and answers with alerts. So the
  figures stay true when the detector's inside changes.
- Every event has an author, a text and a minute of its own, so that what damps the bursts of one author or of
  one text has nothing to damp.
- An event's number travels as its time of arrival, so an alert tells by its ``at`` which event raised it.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from stream.core.spike import Observation, SpikeDetector, SpikeRule, rule_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt

    from stream.core.events import Alert

START_MS = 1_700_000_000_000
EVENT_MS = 60_000
BATCH = 4_096
KNOWN = 1e6
"""Events behind a baseline that is as good as known."""
POOL = [(f"e{number}", f"author {number}", f"text {number}") for number in range(BATCH)]


def rule(run_length: float, least_negatives: int = 8) -> SpikeRule:
    """The default rule at a run length, in events between two false alarms."""
    return rule_from(
        1.0, run_length, min_events=20, min_negatives=least_negatives, historic_after_ms=86_400_000
    )


def knowing(under: SpikeRule, share: float) -> SpikeRule:
    """The rule of a detector that is told the base rate: a prior that no stream outweighs."""
    return msgspec.structs.replace(under, prior_share=share, prior_events=KNOWN, memory_events=KNOWN)


def observations(negative: npt.NDArray[np.bool_], first: int = 0) -> list[Observation]:
    """One observation a label, a minute apart.

    Args:
        negative: the labels, shape (events,).
        first: number of the first event.

    >>> import numpy as np
    >>> [(each.negative, each.arrival_ms) for each in observations(np.array([True, False]), first=1)]
    [(True, 1700000060000), (False, 1700000120000)]
    """
    told = []
    at = START_MS + first * EVENT_MS
    for number, low in enumerate(negative.tolist(), first):
        event_id, author, text = POOL[number % BATCH]
        told.append(Observation(event_id, at, at, low, 0.9 if low else 0.1, author, text))
        at += EVENT_MS
    return told


def number_of(alert: Alert) -> int:
    """Number of the event that caused a transition."""
    return round((datetime.fromisoformat(alert.at).timestamp() * 1_000 - START_MS) / EVENT_MS)


def judged(
    detector: SpikeDetector,
    state: bytes | None,
    negative: npt.NDArray[np.bool_],
    first: int = 0,
    batch: int = BATCH,
) -> Iterator[tuple[bytes, list[Alert]]]:
    """State and transitions after each batch of a product's events."""
    for start in range(0, len(negative), batch):
        told = observations(negative[start : start + batch], first + start)
        state, alerts = detector.judge("p", "reviews", state, told)
        yield state, alerts


def learned_state(detector: SpikeDetector, negative: npt.NDArray[np.bool_]) -> tuple[bytes, list[Alert]]:
    """State and transitions of a product after its first events."""
    return detector.judge("p", "reviews", None, observations(negative))


def first_firing(
    detector: SpikeDetector, state: bytes | None, negative: npt.NDArray[np.bool_], first: int, batch: int = 64
) -> int:
    """Events until the alert fires, counted from one; 0 where it does not.

    Args:
        detector: the one that judges.
        state: of a product that is not firing.
        negative: the labels, shape (events,).
        first: number of the first of them.
        batch: events a call; what comes after the alert in its batch is judged in vain.
    """
    for _, alerts in judged(detector, state, negative, first, batch):
        if alerts:
            return number_of(alerts[0]) - first + 1
    return 0
