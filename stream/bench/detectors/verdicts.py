"""Who was the quickest in each cell of the grid.

Rules:
- Two readings. *One setting*: each family enters with the setting that is best over the whole grid, as a
  shop must choose it. *Hindsight*: in each cell each family enters with the setting that is best in this
  very cell, which nobody knows before the rise.
- Slower is slower than any other, quickest is quicker than all others, both beyond noise: two standard errors
  of the paired difference, or 1%. The rest is level.
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
NOISE = 0.01
"""Share of the delay that is called no difference: what the tuning's own noise makes."""


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


class Duel(msgspec.Struct, frozen=True, kw_only=True):
    """Ours against one family alone, as shares of the cells."""

    family: str
    quicker: float
    level: float
    slower: float


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
    duels: list[Duel]
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
    """Ours against the others: slower than any, quicker than all, or neither beyond noise."""
    noise = [max(2 * each.error, NOISE * cell.ours) for each in others]
    quicker = [each for each, off in zip(others, noise, strict=True) if each.behind < -off]
    if quicker:
        outcome: Outcome = "slower"
    elif all(each.behind > off for each, off in zip(others, noise, strict=True)):
        outcome = "quickest"
    else:
        outcome = "level"
    best = min(quicker or others, key=lambda each: each.behind)
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


def entered(cell: Cell, tuning: Tuning, reading: Reading, chosen: set[tuple[str, str]]) -> list[Contest]:
    """Those who take part in a cell."""
    return [
        each
        for each in cell.contests
        if each.tuning == tuning and (reading == "hindsight" or (each.family, each.setting) in chosen)
    ]


def _duel(
    cells: Sequence[Cell], family: str, tuning: Tuning, chosen: set[tuple[str, str]], reading: Reading
) -> Duel:
    outcomes = [
        verdict(
            cell, [each for each in entered(cell, tuning, reading, chosen) if each.family == family]
        ).outcome
        for cell in cells
    ]
    quicker, level, slower = (
        outcomes.count(outcome) / len(outcomes) for outcome in ("quickest", "level", "slower")
    )
    return Duel(family=family, quicker=quicker, level=level, slower=slower)


def summary(cells: Sequence[Cell], tuning: Tuning, reading: Reading) -> Summary:
    """Counts the cells, and names those where ours is not the quickest."""
    chosen = best_settings(cells, tuning)
    told = [verdict(cell, entered(cell, tuning, reading, chosen)) for cell in cells]
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
        duels=[_duel(cells, family, tuning, chosen, reading) for family in sorted(f for f, _ in chosen)],
        slower=sorted(
            (each for each in told if each.outcome == "slower"), key=lambda each: each.theirs / each.ours
        ),
    )
