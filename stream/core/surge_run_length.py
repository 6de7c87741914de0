"""How long until the CUSUM of ``stream.core.rate`` alarms on a known, steady rate: without simulation.

Rules:
- Evidence drains at a constant rate and jumps by ln factor, so the mean number of further negatives obeys a
  delay-differential equation, which is integrated down from the threshold. Two solutions are carried; the
  condition at rest picks their mixture.
- It is the check of ``stream.core.rate.threshold``, a closed form; it decides nothing, hence may use libm.
"""

from __future__ import annotations

import math


def run_length(threshold: float, factor: float, steps: int = 2_000) -> float:
    """Mean negatives until an alarm, from rest.

    Args:
        threshold: evidence at which to alarm; more than one jump.
        factor: the rise the CUSUM is made for.
        steps: of the grid, to the threshold; the error falls with their square.

    >>> round(run_length(5.0, 3.0))       # 230.4 by simulation
    230
    """
    jump = math.log(factor)
    across = max(1, round(jump / threshold * steps))
    step = jump / across
    count = math.ceil(threshold / step) + 1
    decay = 1.0 / (factor - 1.0)
    free, forced = [1.0], [0.0]
    grown = math.exp(decay * step)
    whole, end = grown - 1.0, (grown - 1.0 - decay * step) / (decay * step)
    for i in range(1, count + 1):
        near, far = i - 1 - across, i - across
        free.append(grown * free[-1] - _ahead(free, near) * (whole - end) - _ahead(free, far) * end)
        forced.append(
            grown * forced[-1]
            - (1.0 + _ahead(forced, near)) * (whole - end)
            - (1.0 + _ahead(forced, far)) * end
        )

    def at(values: list[float], evidence: float) -> float:
        place = (threshold - evidence) / step
        below = min(int(place), count - 1)
        return values[below] + (place - below) * (values[below + 1] - values[below])

    mixture = (1.0 - at(forced, 0.0) + at(forced, jump)) / (at(free, 0.0) - at(free, jump))
    return mixture * at(free, 0.0) + at(forced, 0.0)


def _ahead(values: list[float], index: int) -> float:
    """Further negatives after a jump from the grid's ``index``; none beyond the threshold."""
    return values[index] if index >= 0 else 0.0
