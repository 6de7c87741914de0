"""``reviewpulse dump``: counters and alerts as files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stream.dump_formats import Format  # noqa: TC001 (typer reads the annotation when it runs)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

dump = typer.Typer(help="Counters and alerts as CSV, Parquet or JSON lines.", no_args_is_help=True)

FORMAT = typer.Option(None, "--format", help="Else what FILE ends with, else csv.")
OUT = typer.Option(Path("-"), "--out", metavar="FILE", help="Where to; `-` is standard output.")


@dump.command("counters")
def dump_counters(
    format_: Format | None = FORMAT,
    out: Path = OUT,
    window: str = typer.Option("24h", help="One or more of 5m,1h,24h,7d,all: a row for each."),
    since: str | None = typer.Option(
        None, metavar="TIME", help="Only products with an event since then: 24h, or 2024-01-17T22:00:00Z."
    ),
    product: list[str] = typer.Option([], help="Only this product, even without events; may be repeated."),
    category: str | None = typer.Option(None, help="Only products of this category, see --categories."),
    categories: bool = typer.Option(
        False, "--categories", help="Looks up in Kafka's newest events which category each product is of."
    ),
    events: int = typer.Option(1_000_000, min=1, help="How many of Kafka's newest to look at for that."),
) -> None:
    """Every product's counts by label, share and mean sentiment, one row a product and window.

    Columns: `as_of, product_id, category, window, negative, neutral, positive, events, negative_share,
    mean_sentiment, late, first_event_time, last_event_time`. Share and sentiment are null where the window
    holds no event; `late` and the two times are all-time. `category` is null without `--categories`: counters
    know none, and a product that says none among the events looked at has none.

    In a CSV, a text that a spreadsheet would take for a formula has an apostrophe before it, and so has one
    that begins with an apostrophe: take one leading apostrophe off to have the text back.
    """
    import time

    from stream.cli.moments import since_ms
    from stream.dump import COUNTERS, counter_rows
    from stream.settings import load

    now_ms = time.time_ns() // 1_000_000
    rows = counter_rows(
        load(),
        [each.strip() for each in window.split(",")],
        now_ms=now_ms,
        product_ids=product,
        since_ms=None if since is None else since_ms("--since", since, now_ms),
        category=category,
        records=events if categories or category is not None else 0,
    )
    _write(rows, COUNTERS, out, format_)


@dump.command("alerts")
def dump_alerts(
    format_: Format | None = FORMAT,
    out: Path = OUT,
    transitions: bool = typer.Option(
        False, "--transitions", help="Every transition that Kafka keeps, not each alert as it is now."
    ),
    since: str | None = typer.Option(
        None, metavar="TIME", help="Only with a transition since then: 24h, or 2024-01-17T22:00:00Z."
    ),
    product: list[str] = typer.Option([], help="Only of this product; may be repeated."),
    category: str | None = typer.Option(None, help="Only of this category."),
) -> None:
    """Alerts with their figures and evidence, one row an alert as it is now.

    JSON lines are as the schema of the alerts topic says (`stream/schemas/alerts.json`). CSV and Parquet have
    its fields as columns, but for `schema` and `rate`, with the intervals as `current_low`, `current_high`,
    `baseline_low`, `baseline_high`; phrases, summary and quotes are JSON in CSV and lists in Parquet. For
    apostrophes in a CSV see `reviewpulse dump counters --help`.
    """
    import time

    from stream.cli.moments import since_ms
    from stream.dump import ALERTS, alert_rows
    from stream.settings import load

    now_ms = time.time_ns() // 1_000_000
    rows = alert_rows(
        load(),
        transitions=transitions,
        product_ids=product,
        category=category,
        since_ms=None if since is None else since_ms("--since", since, now_ms),
    )
    _write(rows, ALERTS, out, format_)


def _write(rows: Iterable[Any], columns: Sequence[Any], out: Path, format_: Format | None) -> None:
    import sys

    from stream.dump_formats import FORMATS, write
    from stream.errors import UsageError

    to_stdout = out == Path("-")
    if not to_stdout:
        if out.is_dir():
            raise UsageError(f"{out} is a folder; name a file.")
        if not out.parent.is_dir():
            raise UsageError(f"There is no folder {out.parent}; make it first, or name another place.")
    by_name = {f".{each}": each for each in FORMATS}
    chosen = format_ or by_name.get(out.suffix.lower(), "csv")
    if to_stdout and chosen == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal: name a file with --out, or send it into a pipe.")
    written = write(rows, columns, None if to_stdout else out, chosen)
    if not to_stdout:
        print(f"{written:,} rows in {out}")
