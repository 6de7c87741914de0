"""A backtest on the terminal.

Rules:
- Product ids and file names are hostile: each is made printable before it is shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from stream.backtest.wording import lasting, later, when
from stream.cli.terminal import output, printable, shortened

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from stream.backtest.report import Report
    from stream.backtest.run import Outcome, Replayed
    from stream.core.backtest import Found, Incident, Pair, Quality, Spread

PRODUCT_CHARS = 24


def print_report(report: Report) -> None:
    """Prints what would have fired, and how good that is."""
    out = output()
    for line in _head(report):
        out.print(Text(line), soft_wrap=True)
    for outcome in report.replayed.outcomes:
        out.print()
        for part in _outcome(outcome, report.replayed):
            out.print(part, soft_wrap=isinstance(part, Text))
    if len(report.replayed.outcomes) == 2:
        out.print()
        for part in _comparison(report.replayed):
            out.print(part, soft_wrap=isinstance(part, Text))


def _head(report: Report) -> list[str]:
    countable, replayed = report.countable, report.replayed
    skipped = countable.flaws.count + report.verdicts.flaws.count
    agents_lines = f", {countable.agents_lines:,} agents' lines" if countable.agents_lines else ""
    read = (
        f"{printable(report.file)}: {countable.rows:,} rows, {replayed.events:,} events of"
        f" {replayed.products:,} products judged; {countable.duplicates:,} duplicates{agents_lines},"
        f" {skipped:,} cannot be judged"
    )
    span = (
        f"  {when(replayed.first_ms)} to {when(replayed.last_ms)}: {replayed.days:,.1f} days,"
        f" {replayed.events / replayed.days:,.1f} events a day; labelled by {printable(report.verdicts.by)}"
    )
    return [read, span]


def _outcome(outcome: Outcome, replayed: Replayed) -> list[RenderableType]:
    budget = outcome.budget
    number = len(outcome.incidents)
    title = Text(printable(outcome.rule_set.name), "bold")
    title.append(
        f": {number:,} alert{'' if number == 1 else 's'}, {number / replayed.days:.3g} a day of history. The"
        f" budget is one false alarm in {budget.run_length:,.0f} events,"
        f" {replayed.events / budget.run_length:.3g} in this history",
        "default",
    )
    parts: list[RenderableType] = [title]
    if outcome.incidents:
        parts.append(_incidents(outcome.incidents))
    if outcome.matching is not None and outcome.quality is not None:
        parts += [_windows(outcome.matching.windows), *map(Text, _quality(outcome.quality))]
    return parts


def _incidents(incidents: Sequence[Incident]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("product\nrule", min_width=16, overflow="fold")
    for heading in ("onset\nfired", "after", "negative", "share\nusual", "resolved\nlasted, peak"):
        numeric = heading in {"negative", "share\nusual"}
        table.add_column(heading, justify="right" if numeric else "left", overflow="fold")
    for each in incidents:
        table.add_row(
            Text(f"{shortened(each.product_id, PRODUCT_CHARS)}\n{each.rule}"),
            f"{when(each.onset_ms)}\n{when(each.fired_ms)}",
            f"{each.events:,} events\n{lasting(each.delay_ms)}",
            f"{each.negatives:,} of {each.events:,}",
            f"{each.share:.2f}\n{each.baseline_share:.2f}",
            _end(each),
        )
    return table


def _end(incident: Incident) -> str:
    if incident.resolved_ms is None:
        return f"still firing\npeak {incident.peak_share:.2f}"
    lasted = lasting(incident.resolved_ms - incident.onset_ms)
    return f"{when(incident.resolved_ms)}\n{lasted}, {incident.peak_share:.2f}"


def _windows(windows: Sequence[Found]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("labelled incident", "from", "to", "found after"):
        table.add_column(heading, overflow="fold")
    for found in windows:
        window = found.window
        after = Text("missed", "red")
        if found.delay_events is not None and found.delay_ms is not None:
            after = Text(f"{found.delay_events:,} events, {lasting(found.delay_ms)}")
        product = Text(shortened(window.product_id, PRODUCT_CHARS))
        table.add_row(product, when(window.start_ms), when(window.end_ms), after)
    return table


def _quality(quality: Quality) -> list[str]:
    precision = "-" if quality.precision is None else f"{quality.precision:.2f}"
    how_good = (
        f"recall {quality.recall:.2f} ({quality.found:,} of {quality.windows:,}), precision {precision},"
        f" {quality.false_alarms:,} false alarms: {quality.false_alarms_per_day:.3g} a day"
    )
    lines = [how_good]
    if quality.delay_events and quality.delay_s:
        lines.append(
            f"delay after the labelled start: median {quality.delay_events.median:,.0f} events,"
            f" {_seconds(quality.delay_s.median)}; 90% within {quality.delay_events.p90:,.0f} events,"
            f" {_seconds(quality.delay_s.p90)}"
        )
    return lines


def _comparison(replayed: Replayed) -> list[RenderableType]:
    names = [printable(outcome.rule_set.name) for outcome in replayed.outcomes]
    both = sum(None not in pair for pair in replayed.pairs)
    first_alone = sum(pair.second is None for pair in replayed.pairs)
    second_alone = sum(pair.first is None for pair in replayed.pairs)
    parts: list[RenderableType] = [
        Text(f"Side by side: {both:,} alerts of both, {first_alone:,} of {names[0]} alone,").append(
            f" {second_alone:,} of {names[1]} alone"
        )
    ]
    if replayed.pairs:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for heading in ("product", names[0], names[1], "the second comes"):
            table.add_column(Text(heading), overflow="fold")
        for pair in replayed.pairs:
            table.add_row(*_pair(pair))
        parts.append(table)
    qualities = [outcome.quality for outcome in replayed.outcomes if outcome.quality is not None]
    if qualities:
        parts.append(_qualities(names, qualities))
    return parts


def _pair(pair: Pair) -> tuple[RenderableType, ...]:
    first, second = pair
    product = next(each.product_id for each in pair if each is not None)
    fired = ["-" if each is None else when(each.fired_ms) for each in pair]
    return (
        Text(shortened(product, PRODUCT_CHARS)),
        *fired,
        "" if not (first and second) else later(second.place - first.place, second.fired_ms - first.fired_ms),
    )


def _qualities(names: Sequence[str], qualities: Sequence[Quality]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    headings = ("recall", "precision", "false alarms", "a day", "median delay", "90% within")
    for heading in ("", *headings):
        table.add_column(heading, justify="right" if heading else "left")
    for name, each in zip(names, qualities, strict=True):
        table.add_row(
            Text(name),
            f"{each.recall:.2f}",
            "-" if each.precision is None else f"{each.precision:.2f}",
            f"{each.false_alarms:,}",
            f"{each.false_alarms_per_day:.3g}",
            _delay(each.delay_events, each.delay_s, "median"),
            _delay(each.delay_events, each.delay_s, "p90"),
        )
    return table


def _delay(events: Spread | None, seconds: Spread | None, which: str) -> str:
    if events is None or seconds is None:
        return "-"
    return f"{getattr(events, which):,.0f} events, {_seconds(getattr(seconds, which))}"


def _seconds(seconds: float) -> str:
    return lasting(seconds * 1000)
