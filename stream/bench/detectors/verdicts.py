"""Who was the quickest in each cell of the grid.

Rules:
- Two readings. *One setting*: each family enters with the setting that is best over the whole grid, as a
  shop must choose it. *Hindsight*: in each cell each family enters with the setting that is best in this
  very cell, which nobody knows before the rise.
- *Together* reads the cells of all usual shares as one, by mean delay: false alarms are equal over the fleet,
  so delays are compared over the fleet. In a single cell, whoever raises more of its false alarms there is
  quicker there.
- The oracle is read like ours, against the same others: what could be had.
- Slower is slower than any other, quickest is quicker than all others, both beyond noise: two standard errors
  of the paired difference, or 1%. The rest is level.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stream.bench.detectors.grid import Cell, Contest, Tuning

Who = Literal["ours", "oracle"]
Reading = Literal["one setting", "hindsight"]
Outcome = Literal["quickest", "level", "slower"]
NOISE = 0.01
"""Share of the delay that is called no difference: what the tuning's own noise makes."""
AS_MANY = 1.3
"""So many times the false alarms of ours still count as as many: the tolerance of the budget itself."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How ours fares in a cell."""

    usual: float | None
    """None: of all usual shares together."""
    odds: float
    learned: int | None
    events: int
    ours: float
    outcome: Outcome
    by: str
    """The quickest of the others, and its setting."""
    theirs: float
    false_alarms: float
    """Of ours here, by event."""
    their_false_alarms: float


class Duel(msgspec.Struct, frozen=True, kw_only=True):
    """Ours against one family alone, as shares of the cells."""

    family: str
    quicker: float
    level: float
    slower: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How ours fares on the grid."""

    who: Who = "ours"
    together: bool = False
    """All usual shares are read as one."""
    tuning: Tuning
    reading: Reading
    field: list[str]
    """Who took part."""
    cells: int
    quickest: float
    """Share of the cells in which ours is quicker than every other."""
    level: float
    slower_to_as_frugal: float
    """Share of the cells where one is quicker that raises no more false alarms there than ours does."""
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


def of_oracle(cell: Cell, tuning: Tuning) -> Cell:
    """The cell as if the oracle were ours."""
    contests = [
        msgspec.structs.replace(each, behind=each.behind_oracle, error=each.error_oracle)
        for each in cell.contests
    ]
    return msgspec.structs.replace(cell, ours=cell.oracle[tuning], contests=contests)


def together(cells: Sequence[Cell]) -> list[Cell]:
    """The cells that differ in the usual share alone as one, by means."""
    alike: dict[tuple[float, int | None, int], list[Cell]] = defaultdict(list)
    for cell in cells:
        alike[cell.odds, cell.learned, cell.events].append(cell)
    return [_as_one(each) for each in alike.values()]


def _as_one(cells: Sequence[Cell]) -> Cell:
    def mean(values: Iterable[float]) -> float:
        return float(np.mean(list(values)))

    contests = [
        msgspec.structs.replace(
            along[0],
            mean=mean(each.mean for each in along),
            behind=mean(each.behind for each in along),
            error=float(np.hypot.reduce([each.error for each in along])) / len(along),
            behind_oracle=mean(each.behind_oracle for each in along),
            error_oracle=float(np.hypot.reduce([each.error_oracle for each in along])) / len(along),
            false_alarm_rate=mean(each.false_alarm_rate for each in along),
        )
        for along in zip(*(cell.contests for cell in cells), strict=True)
    ]
    return msgspec.structs.replace(
        cells[0],
        usual=None,
        risen=mean(cell.risen for cell in cells),
        false_alarm_rate=mean(cell.false_alarm_rate for cell in cells),
        ours=mean(cell.ours for cell in cells),
        oracle={tuning: mean(cell.oracle[tuning] for cell in cells) for tuning in cells[0].oracle},
        contests=contests,
    )


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
        false_alarms=cell.false_alarm_rate,
        their_false_alarms=best.false_alarm_rate,
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


def _as_frugal(cell: Cell, others: Sequence[Contest]) -> list[Contest]:
    return [each for each in others if each.false_alarm_rate <= AS_MANY * cell.false_alarm_rate]


def summary(
    cells: Sequence[Cell],
    tuning: Tuning,
    reading: Reading,
    who: Who = "ours",
    *,
    as_one: bool = False,
) -> Summary:
    """Counts the cells, and names those where ours is not the quickest.

    Args:
        cells: of the grid.
        tuning: of the contestants.
        reading: which setting they enter with.
        who: is held against them.
        as_one: the usual shares are read together.
    """
    chosen = best_settings(cells, tuning)
    cells = [of_oracle(each, tuning) for each in cells] if who == "oracle" else cells
    cells = together(cells) if as_one else cells
    frugal = [
        verdict(cell, some).outcome
        for cell in cells
        if (some := _as_frugal(cell, entered(cell, tuning, reading, chosen)))
    ]
    told = [verdict(cell, entered(cell, tuning, reading, chosen)) for cell in cells]
    outcomes = [each.outcome for each in told]
    field = sorted(f"{family} {setting}" for family, setting in chosen)
    if reading == "hindsight":
        field = sorted({f"best {family}" for family, _ in chosen})
    return Summary(
        who=who,
        together=as_one,
        tuning=tuning,
        reading=reading,
        field=field,
        cells=len(told),
        quickest=outcomes.count("quickest") / len(told),
        level=outcomes.count("level") / len(told),
        slower_to_as_frugal=frugal.count("slower") / len(told),
        duels=[_duel(cells, family, tuning, chosen, reading) for family in sorted(f for f, _ in chosen)],
        slower=sorted(
            (each for each in told if each.outcome == "slower"), key=lambda each: each.theirs / each.ours
        ),
    )
