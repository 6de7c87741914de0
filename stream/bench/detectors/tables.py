"""The detector's figures as tables."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from stream.bench.detectors.grid import RUN_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from stream.bench.detectors.delays import Delay
    from stream.bench.detectors.fleets import Fleet
    from stream.bench.detectors.lifecycle import Lifecycle
    from stream.bench.detectors.report import Report
    from stream.bench.detectors.verdicts import Summary


def show(report: Report) -> None:
    """Prints what was measured."""
    out = Console()
    if not out.is_terminal:
        out.width = 110  # into a file: no table is cut
    if report.fleets is not None:
        out.print(_fleets(report.fleets))
    if report.delays is not None:
        for history, found in groupby(report.delays, lambda each: (each.run_length, each.learned)):
            out.print(_delays(*history, list(found)))
    if report.summaries is not None:
        _show_peers(out, report.summaries)
        if report.without_adwin:
            out.print("ADWIN took no part: river is not installed. `pip install river` adds it.")
    if report.lifecycle is not None:
        for table in _lifecycle(report.lifecycle):
            out.print(table)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    return table


def _span(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.2f}-{bounds[1]:.2f}"


def _fleets(found: Sequence[Fleet]) -> Table:
    rows = [
        (
            f"Beta({each.base_rates[0]:g}, {each.base_rates[1]:g})",
            f"{each.run_length:,.0f}",
            f"{each.events:,}",
            f"{each.firing_events / each.events:.1%}",
            each.false_alarms,
            each.products_alarmed,
            f"{each.of_budget:.2f}",
            _span(each.interval),
            f"{each.of_budget_all_events:.2f}",
        )
        for each in found
    ]
    columns = ("base rates", "run length", "events", "firing", "alarms", "products")
    return _table(
        "Stationary fleets of 10,000 products, Zipf volumes, learned from nothing",
        (*columns, "of budget", "95%", "of all"),
        rows,
    )


def _delays(run_length: float, learned: int | None, found: Sequence[Delay]) -> Table:
    history = "base rate known" if learned is None else f"after {learned:,} events"
    rows = [
        (
            each.usual,
            f"x{each.odds:g}",
            f"{each.risen:.3f}",
            f"{each.clairvoyant_mean:.0f}",
            f"{each.exact_mean:.0f}",
            f"{each.mean:.0f}",
            f"{each.mean_ratio:.2f}",
            _span(each.mean_ratio_interval),
            f"{each.least_ratio:.2f}",
            f"{each.least_budget_ratio:.2f}",
            "" if each.possible_ratio is None else f"{each.possible_ratio:.2f}",
            f"{each.median_ratio:.2f}",
            _span(each.median_ratio_interval),
            f"{each.missed:.0%}",
        )
        for each in found
    ]
    columns = (
        "usual",
        "odds",
        "risen",
        "best",
        "exact",
        "ours",
        "ratio",
        "95%",
        "same min",
        "lowered",
        "possible",
    )
    return _table(
        f"Delay in events, run length {run_length:,.0f}, {history}, at least"
        f" {found[0].least_negatives} negatives",
        (*columns, "medians'", "95%", "missed"),
        rows,
    )


def _show_peers(out: Console, found: Sequence[Summary]) -> None:
    rows: list[Sequence[object]] = [
        (
            each.who,
            each.tuning,
            each.reading,
            "together" if each.together else "apart",
            each.cells,
            f"{each.quickest:.1%}",
            f"{each.level:.1%}",
            f"{len(each.slower) / each.cells:.1%}",
            f"{each.slower_to_as_frugal:.1%}" if each.who == "ours" else "",
        )
        for each in found
    ]
    columns: tuple[str, ...] = (
        "who",
        "tuned by",
        "reading",
        "shares",
        "cells",
        "quickest",
        "level",
        "slower",
        "as frugal",
    )
    out.print(_table("Against the others at equal false-alarm rate, share of the cells", columns, rows))
    ours = [each for each in found if each.who == "ours"]
    for each in ours:
        if not each.together:
            out.print(f"tuned by {each.tuning}, {each.reading}: {'; '.join(each.field)}")
    duels = [
        (
            each.tuning,
            each.reading,
            "together" if each.together else "apart",
            duel.family,
            f"{duel.quicker:.1%}",
            f"{duel.level:.1%}",
            f"{duel.slower:.1%}",
        )
        for each in ours
        for duel in each.duels
    ]
    columns = ("tuned by", "reading", "shares", "against", "quicker", "level", "slower")
    out.print(_table("Ours against one family alone, share of the cells", columns, duels))
    for each in ours:
        shares = "usual shares together" if each.together else "each usual share"
        title = f"Where ours is not the quickest: {each.tuning}, {each.reading}, {shares}"
        out.print(_lost(title, each))


def _lost(title: str, found: Summary) -> Table:
    rows = [
        (
            "all" if at.usual is None else at.usual,
            f"x{at.odds:g}",
            "known" if at.learned is None else at.learned,
            at.events,
            f"{at.ours:.1f}",
            f"{at.theirs:.1f}",
            at.by,
            f"{at.false_alarms * RUN_LENGTH:.2f}",
            f"{at.their_false_alarms * RUN_LENGTH:.2f}",
        )
        for at in found.slower
    ]
    headings = ("usual", "odds", "learned", "events", "ours", "theirs", "by", "spends", "they spend")
    return _table(title, headings, rows)


def _lifecycle(found: Lifecycle) -> Iterable[Table]:
    shares = sorted({each.share for each in found.run_lengths})
    by_rule = groupby(found.run_lengths, lambda each: (each.target, each.least_negatives))
    rows: list[Sequence[object]] = [
        (f"{rule[0]:,.0f}", rule[1], *(each.of_target for each in along)) for rule, along in by_rule
    ]
    columns = ("target", "least negatives", *map(str, shares))
    yield _table("Run length / target, baseline known", columns, rows)
    columns = ("run length", "learned", "risen to", "fires p50", "p90", "resolves p50", "p90", "missed")
    rows = [
        (
            f"{each.run_length:,.0f}",
            each.learned,
            each.risen,
            *(f"{events:.0f}" for events in (*each.to_fire, *each.to_resolve)),
            f"{each.missed:.1%}",
        )
        for each in found.incidents
    ]
    yield _table("Events to fire and to resolve, 0.12 learned", columns, rows)
    rows = [(each.usual, each.learned, f"{each.missed:.0%}") for each in found.missed_jumps]
    yield _table("Jumps to 0.6 for 80 events, run length 1,000,000", ("usual share", "after", "missed"), rows)
    rows = [(each.observations, each.us) for each in found.costs]
    yield _table("CPU of a call", ("observations", "us"), rows)
