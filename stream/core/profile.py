"""Operational time: a clock that runs fast in the hours in which much is written.

Rules:
- A profile is 168 weights of the hours of a week (UTC, Monday first), one on the average. An hour of weight 2
  lasts two operational hours, so a product that follows its fleet's days and weeks has a steady rate.
- It is learned across products, hence comes from a versioned snapshot and is named in each alert.
- A flat profile is ordinary time. Sparse hours are shrunk to the product of their day and their hour, and
  those to flat.
"""

from __future__ import annotations

from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HOUR_MS = 3_600_000
HOURS = 168
_MONDAY_MS = 72 * HOUR_MS
"""The epoch was a Thursday, three days after a Monday."""
SHRINK_NEGATIVES = 20.0
"""What a day, an hour or a cell is told before it has been seen, in negatives."""
LEAST_WEIGHT = 0.05
"""No hour is so quiet that one complaint in it is news by itself."""
MOST_TIMES_MEDIAN = 10.0
"""An hour with more is an import or an incident, not a habit, and counts for so much."""


def hour_of_week(ms: int) -> int:
    """Hour of the week, 0 on Monday at midnight UTC.

    >>> hour_of_week(0), hour_of_week(4 * 24 * HOUR_MS)    # Thursday 1970-01-01, the Monday after
    (72, 0)
    """
    return (ms + _MONDAY_MS) // HOUR_MS % HOURS


class Profile:
    """Weights of the hours of a week."""

    def __init__(self, weights: Sequence[float], version: str) -> None:
        """Scales ``weights`` to a mean of one.

        Raises:
            UsageError: they are not 168 positive numbers.
        """
        if len(weights) != HOURS or min(weights) <= 0.0:
            raise UsageError(
                f"profile {version!r}: needs {HOURS} weights above zero, one for each hour of the week"
            )
        mean = sum(weights) / HOURS
        self.version = version
        self.weights = tuple(weight / mean for weight in weights)
        self._before = (0.0, *accumulate(self.weights))

    def days(self, from_ms: int, to_ms: int) -> float:
        """Operational days between two moments.

        >>> flat().days(0, 36 * HOUR_MS)
        1.5
        """
        # Whole weeks apart: the subtraction then never is of two large numbers.
        start, start_ms = divmod(from_ms + _MONDAY_MS, HOURS * HOUR_MS)
        end, end_ms = divmod(to_ms + _MONDAY_MS, HOURS * HOUR_MS)
        return ((end - start) * self._before[-1] + self._hours(end_ms) - self._hours(start_ms)) / 24.0

    def _hours(self, week_ms: int) -> float:
        hour, rest_ms = divmod(week_ms, HOUR_MS)
        return self._before[hour] + self.weights[hour] * (rest_ms / HOUR_MS)


def flat() -> Profile:
    """Ordinary time."""
    return Profile([1.0] * HOURS, "flat")


def learn_week(hourly: Mapping[int, int]) -> list[float]:
    """The weights of a week, from what was counted in each of many whole hours.

    Args:
        hourly: counts by hour since the epoch; those of silent hours too.

    Returns:
        168 weights with a mean of one, rounded; none when an hour of the week was never seen.

    >>> learn_week({hour: 5 for hour in range(167)})
    []
    >>> week = learn_week({hour: 50 if hour % 24 < 12 else 150 for hour in range(336)} | {7: 90_000})
    >>> [round(week[hour], 1) for hour in (7, 15)], len(week)
    ([0.6, 1.4], 168)
    """
    busiest = MOST_TIMES_MEDIAN * max(1.0, median(hourly.values())) if hourly else 0.0
    counted, seen = [0.0] * HOURS, [0.0] * HOURS
    for hour, number in sorted(hourly.items()):
        cell = hour_of_week(hour * HOUR_MS)
        counted[cell] += min(float(number), busiest)
        seen[cell] += 1.0
    if not all(seen):
        return []
    return [round(weight, 4) for weight in learn_profile(counted, seen).weights]


def learn_profile(
    negatives: Sequence[float],
    observed_hours: Sequence[float] | None = None,
    version: str = "learned",
    shrink_negatives: float = SHRINK_NEGATIVES,
) -> Profile:
    """The profile of what was counted in each hour of the week.

    Args:
        negatives: 168 counts.
        observed_hours: how long each of them was counted for; equally long by default.
        version: names the snapshot.
        shrink_negatives: the weight of what is believed beforehand.

    >>> daily = learn_profile([300.0 if hour % 24 == 20 else 100.0 for hour in range(HOURS)])
    >>> [round(daily.weights[hour], 2) for hour in (19, 20, 21)]
    [0.92, 2.76, 0.92]
    """
    hours = [1.0] * HOURS if observed_hours is None else observed_hours
    rate = sum(negatives) / sum(hours)
    if rate <= 0.0:
        return Profile([1.0] * HOURS, version)

    def shrunk(cells: Sequence[int], believed: float) -> float:
        counted = sum(negatives[cell] for cell in cells)
        expected = rate * sum(hours[cell] for cell in cells)
        return (counted + shrink_negatives * believed) / (expected + shrink_negatives)

    by_hour = [shrunk(range(hour, HOURS, 24), 1.0) for hour in range(24)]
    by_day = [shrunk(range(24 * day, 24 * day + 24), 1.0) for day in range(7)]
    weights = [shrunk((cell,), by_hour[cell % 24] * by_day[cell // 24]) for cell in range(HOURS)]
    return Profile([max(weight, LEAST_WEIGHT) for weight in weights], version)
