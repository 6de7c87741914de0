"""What ``reviewpulse bench incidents`` prints: a table for each budget."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from stream.backtest.wording import lasting
from stream.cli.terminal import output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream.bench.incidents import Report, Row
    from stream.core.backtest import Spread


def print_report(report: Report) -> None:
    """Prints the data sets, then recall, delay and false alarms by budget, data set and size."""
    out = output()
    for each in report.data_sets:
        out.print(
            f"{each.name}: {each.events:,} events of {each.products:,} products in {each.days:,.0f} days,"
            f" {each.negative_share:.1%} negative; {each.eligible:,} products with history enough",
            soft_wrap=True,
        )
    out.print(
        f"Synthetic incidents: real negatives of other products within {report.incident_days:g} days;"
        f" {report.draws} of each size a product, seed {report.seed}",
        soft_wrap=True,
    )
    for run_length, rows in groupby(report.rows, key=lambda row: row.run_length):
        out.print(_table(run_length, rows))


def _table(run_length: float, rows: Iterable[Row]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=f"One false alarm in {run_length:,.0f} events")
    headings = (
        "size",
        "share",
        "incidents",
        "recall (95%)",
        "firing\nalready",
        "delay, events\nmedian, 90%",
        "delay, time\nmedian, 90%",
        "false alarms\na day",
        "untouched,\nbudget",
    )
    table.add_column("data set")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in sorted(rows, key=lambda row: row.size):
        low, high = row.recall_interval
        table.add_row(
            row.data_set,
            str(row.size),
            f"{row.share:.2f}",
            f"{row.incidents:,}",
            f"{row.recall:.2f} ({low:.2f}-{high:.2f})",
            f"{row.firing_already:,}",
            _events(row.delay_events),
            _time(row.delay_s),
            f"{row.false_alarms_per_day:.2g}",
            f"{row.untouched_alarms_per_day:.2g}, {row.budget_per_day:.2g}",
        )
    return table


def _events(delay: Spread | None) -> str:
    return "-" if delay is None else f"{delay.median:,.0f}, {delay.p90:,.0f}"


def _time(delay: Spread | None) -> str:
    return "-" if delay is None else f"{lasting(1000 * delay.median)}, {lasting(1000 * delay.p90)}"
