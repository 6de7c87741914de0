"""The figures of ``reviewpulse bench detector``, part by part."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

import msgspec

from stream.bench.detectors import adwin
from stream.bench.detectors.delays import Delay, delays
from stream.bench.detectors.fleets import FULL, QUICK, Fleet, fleets
from stream.bench.detectors.grid import Cell, Tuning, grid
from stream.bench.detectors.lifecycle import Lifecycle, lifecycle
from stream.bench.detectors.parts import Part
from stream.bench.detectors.verdicts import Reading, Summary, Who, summary

if TYPE_CHECKING:
    from collections.abc import Sequence


class Report(msgspec.Struct, kw_only=True):
    """What was measured; a part that was not asked for is None."""

    fleets: list[Fleet] | None = None
    delays: list[Delay] | None = None
    cells: list[Cell] | None = None
    summaries: list[Summary] | None = None
    without_adwin: bool = False
    """River is not installed."""
    lifecycle: Lifecycle | None = None


def run(parts: Sequence[Part], *, quick: bool, least_negatives: int = 8) -> Report:
    """Measures the parts.

    Args:
        parts: which.
        quick: fewer tries and shorter run lengths: wider intervals in about a tenth of the time.
        least_negatives: the rule's minimum, for run length and delay; beside the contestants it is one.
    """
    report = Report()
    if Part.RUN_LENGTH in parts:
        report.fleets = list(fleets(QUICK if quick else FULL, least_negatives))
    if Part.DELAY in parts:
        tried = delays(tries=60, run_lengths=(3.8e4,), least_negatives=least_negatives) if quick else None
        report.delays = list(tried or delays(least_negatives=least_negatives))
    if Part.PEERS in parts:
        cells = list(grid(150, 150_000, 40_000) if quick else grid())
        report.cells = cells
        report.summaries = [
            summary(cells, tuning, reading, who, as_one=as_one)
            for who in get_args(Who)
            for tuning in get_args(Tuning)
            for reading in get_args(Reading)
            for as_one in (False, True)
        ]
        report.without_adwin = not adwin.is_installed()
    if Part.LIFECYCLE in parts:
        report.lifecycle = lifecycle(40 if quick else 200)
    return report
