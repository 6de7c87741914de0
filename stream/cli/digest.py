"""``reviewpulse digest``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)

import typer

from stream.digest.words import Language  # noqa: TC001 (typer reads the annotation when it runs)


def digest(
    out: Path = typer.Option(..., "--out", metavar="DIR", help="Folder for the pages; made if missing."),
    date: str | None = typer.Option(None, metavar="DATE", help="A UTC day of the last week: 2024-01-17."),
    last: str | None = typer.Option(None, metavar="LENGTH", help="1h, 24h or 7d until now; 24h if not said."),
    category: str | None = typer.Option(None, help="Only this category's page."),
    language: Language = typer.Option("en", help="Of the words that are not your customers'."),
    events: int = typer.Option(
        1_000_000, min=1, help="How many of Kafka's newest events are looked at for categories."
    ),
) -> None:
    """What went well and badly, as one HTML file a category and an index.

    Alerts with duration and evidence, the products that got worse or better than in the days before, the most
    negative and the most praised, dead letters and totals. The files need no network and run no script, fit a
    phone, print well and may be mailed as they are. Files of the same name are replaced, others stay.

    Counters know no categories: a product's is what its newest events in Kafka state, else its alerts.
    """
    import time

    from stream.digest.pages import pages, write_pages
    from stream.digest.period import of_day, of_last
    from stream.digest.read import read
    from stream.errors import UsageError
    from stream.settings import load

    if date is not None and last is not None:
        raise UsageError("--date and --last are two ways to say when: take one.")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder.")
    now_ms = time.time_ns() // 1_000_000
    period = of_last(last or "24h", now_ms) if date is None else of_day(date, now_ms)
    made = pages(read(load(), period, events), language, now_ms, category)
    if not made:
        raise UsageError(
            f"Nothing of the category {category!r} happened then: leave --category out to see what there is."
        )
    write_pages(made, out)
    for page in made:
        print(out / page.name)
