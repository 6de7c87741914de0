"""Turns with metrics beside turns without."""

from __future__ import annotations

import pytest

from stream.bench.metered_worker import Turn
from stream.bench.metrics import beside, share


def life(*cpu_us: float) -> list[Turn]:
    """A worker's turns, the first without metrics; time is twice the CPU."""
    return [
        Turn(metered=bool(number % 2), events=1000, cpu_s=us * 1e-3, wall_s=us * 2e-3, own_cpu_s={})
        for number, us in enumerate(cpu_us)
    ]


def test_a_turn_with_metrics_is_compared_with_both_beside_it_so_that_a_drift_falls_away() -> None:
    found = beside(life(10, 11.11, 12, 13.13, 14), metered=True)
    assert [cpu for cpu, _ in found] == pytest.approx([0.01, 0.01])
    assert [wall for _, wall in found] == pytest.approx([0.01, 0.01])


def test_the_noise_is_of_turns_without_metrics_alone() -> None:
    found = beside(life(10, 99, 11, 99, 10, 99, 10), metered=False)
    assert [cpu for cpu, _ in found] == pytest.approx([0.1, 10 / 10.5 - 1])


def test_a_share_is_a_median_with_an_interval_that_narrows_with_turns() -> None:
    few = share([0.0, 0.01, 0.02] * 3)
    many = share([0.0, 0.01, 0.02] * 300)
    assert few.median == many.median == 0.01
    assert few.low <= many.low <= 0.01 <= many.high <= few.high
    assert (few.turns, many.turns) == (9, 900)
