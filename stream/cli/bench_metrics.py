"""``reviewpulse bench metrics``."""

from __future__ import annotations

import typer


def metrics(
    events: int = typer.Option(200_000, min=10_000, help="Records in the topic."),
    products: int = typer.Option(10_000, min=1, help="Products, Zipf-distributed."),
    rounds: int = typer.Option(5, min=1, help="Turns each contestant gets; 3 at least say something."),
    every_s: float = typer.Option(1.0, min=0.05, help="How often metrics are asked for, seconds."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """What metrics cost a worker: throughput and CPU with them, asked for every second, and without.

    The path with a model that costs nothing, so that their share is the largest there is. A second worker
    without metrics says what the machine adds by itself.
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from stream.bench.metrics import rows, run

    report = run(events=events, products=products, rounds=rounds, every_s=every_s)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title=f"{events:,} reviews of {products:,} products, median of {rounds} rounds")
    for heading in ("", "events/s", "µs CPU an event", "CPU beside the first", "events/s beside the first"):
        table.add_column(heading, justify="left" if not heading else "right")
    for row in rows(report):
        table.add_row(*row)
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    console.print(
        f"{report.scrapes} scrapes, {report.scrape_ms:.1f} ms each (median) of {report.page_bytes:,} bytes",
        soft_wrap=True,
    )
