"""``reviewpulse bench metrics``."""

from __future__ import annotations

import typer


def metrics(
    events: int = typer.Option(400_000, min=10_000, help="Records in the topic."),
    products: int = typer.Option(10_000, min=1, help="Products, Zipf-distributed."),
    workers: int = typer.Option(5, min=1, help="Workers that read them, one after another."),
    turn_events: int = typer.Option(20_000, min=500, help="Events of a turn."),
    as_json: bool = typer.Option(False, "--json", help="Print the report as JSON."),
) -> None:
    """What metrics cost a worker: CPU and time an event with them, asked for twice a second, and without.

    By turns within one worker, for two workers that differ by nothing differ by more. The path with a model
    that costs nothing, so that their share is the largest there is. What turns without metrics differ by
    among themselves is what the machine adds.
    """
    import msgspec
    from rich.table import Table

    from stream.bench.metrics import rows, run
    from stream.cli.terminal import output

    try:
        report = run(events=events, products=products, workers=workers, turn_events=turn_events)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(
        title=f"{workers} workers, {events:,} reviews of {products:,} products, turns of {turn_events:,}"
    )
    for heading in ("turns", "", "CPU an event, more", "time an event, more"):
        table.add_column(heading, justify="left" if heading == "turns" else "right")
    for row in rows(report):
        table.add_row(*row)
    console = output()
    console.print(table)
    console.print(
        "Medians of the turns with 95% intervals. Without metrics"
        f" {report.cpu_us_per_event:.1f} µs CPU an event, {report.events_per_s:,.0f} events/s.",
        soft_wrap=True,
    )
    own = report.own_cpu
    console.print(
        f"Metrics' own code took {own.median:.2%} of a turn's CPU ({own.low:.2%} to {own.high:.2%}),"
        " µs an event: " + ", ".join(f"{name} {us:.3f}" for name, us in report.own_us_per_event.items()),
        soft_wrap=True,
    )
    console.print(
        f"An answer of {report.page_bytes:,} bytes takes {report.scrape_cpu_ms:.2f} ms of CPU, and"
        f" {report.scrape_ms:.1f} ms until it is there (median of {report.scrapes} under full load)",
        soft_wrap=True,
    )
