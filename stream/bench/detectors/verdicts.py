"""Who was the quickest in each cell of the grid.

Rules:
- Two readings. *One setting*: each family enters with the setting that is best over the whole grid, as a
  shop must choose it. *Hindsight*: in each cell each family enters with the setting that is best in this
  very cell, which nobody knows before the rise.
- Within noise of the quickest contestant (two standard errors of the paired difference, or 1%) is level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.bench.detectors.grid import Cell, Contest, Tuning

Reading = Literal["one setting", "hindsight"]
Outcome = Literal["quickest", "level", "slower"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How ours fares in a cell."""

    usual: float
    odds: float
    learned: int | None
    events: int
    ours: float
    outcome: Outcome
    by: str
    """The quickest of the others, and its setting."""
    theirs: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How ours fares on the grid."""

    tuning: Tuning
    reading: Reading
    field: list[str]
    """Who took part."""
    cells: int
    quickest: float
    """Share of the cells in which ours is quicker than every other."""
    level: float
    slower: list[Verdict]
    """Every cell where another is quicker, the worst first."""


def best_settings(cells: Sequence[Cell], tuning: Tuning) -> set[tuple[str, str]]:
    """Of each family the setting whose delay over the cell's quickest is the least, in geometric mean."""
    logs: dict[tuple[str, str], list[float]] = {}
    for cell in cells:
        entered = [each for each in cell.contests if each.tuning == tuning]
        quickest = min(cell.ours, *(each.mean for each in entered))
        for each in entered:
            logs.setdefault((each.family, each.setting), []).append(float(np.log(each.mean / quickest)))
    best: dict[str, tuple[float, str]] = {}
    for (family, setting), along in logs.items():
        best[family] = min(best.get(family, (np.inf, "")), (float(np.mean(along)), setting))
    return {(family, setting) for family, (_, setting) in best.items()}


def verdict(cell: Cell, others: Sequence[Contest]) -> Verdict:
    """Ours against the quickest of the others."""
    best = min(others, key=lambda each: each.behind)
    if abs(best.behind) <= max(2 * best.error, 0.01 * cell.ours):
        outcome: Outcome = "level"
    else:
        outcome = "quickest" if best.behind > 0 else "slower"
    return Verdict(
        usual=cell.usual,
        odds=cell.odds,
        learned=cell.learned,
        events=cell.events,
        ours=cell.ours,
        outcome=outcome,
        by=f"{best.family} {best.setting}",
        theirs=best.mean,
    )


def summary(cells: Sequence[Cell], tuning: Tuning, reading: Reading) -> Summary:
    """Counts the cells, and names those where ours is not the quickest."""
    chosen = best_settings(cells, tuning)
    told = []
    for cell in cells:
        others = [
            each
            for each in cell.contests
            if each.tuning == tuning and (reading == "hindsight" or (each.family, each.setting) in chosen)
        ]
        told.append(verdict(cell, others))
    outcomes = [each.outcome for each in told]
    field = sorted(f"{family} {setting}" for family, setting in chosen)
    if reading == "hindsight":
        field = sorted({f"best {family}" for family, _ in chosen})
    return Summary(
        tuning=tuning,
        reading=reading,
        field=field,
        cells=len(told),
        quickest=outcomes.count("quickest") / len(told),
        level=outcomes.count("level") / len(told),
        slower=sorted(
            (each for each in told if each.outcome == "slower"), key=lambda each: each.theirs / each.ours
        ),
    )
