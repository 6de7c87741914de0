"""``reviewpulse bench ...``: every figure the documents claim, from a command that ships."""

from __future__ import annotations

import typer

bench = typer.Typer(
    help="Measure: every figure in the documents comes from one of these.", no_args_is_help=True
)

AS_JSON = typer.Option(False, "--json", help="Print the report as JSON.")


@bench.command("pipeline")
def pipeline(
    events: int = typer.Option(200_000, min=10_000, help="Records in the topic."),
    products: int = typer.Option(10_000, min=1, help="Products, Zipf-distributed."),
    rounds: int = typer.Option(3, min=1, help="Turns each contestant gets."),
    as_json: bool = AS_JSON,
) -> None:
    """Throughput and latency of the whole path with a model that costs nothing.

    Beside it, in the same run: a plain Faust agent that only counts, aiokafka's getmany, kafka-python's poll.
    """
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from stream.bench.pipeline import run

    report = run(events=events, products=products, rounds=rounds)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title=f"{events:,} reviews of {products:,} products, median of {rounds} rounds")
    for heading in ("", "events/s", "µs CPU an event", "times plain Faust"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, rate in report.rates.items():
        times = rate.events_per_s / report.rates["faust"].events_per_s
        table.add_row(name, f"{rate.events_per_s:,.0f}", f"{rate.cpu_us_per_event:.1f}", f"{times:.1f}")
    console = Console()
    console.print(table)
    console.print(f"Whole path: {report.times_faust:.1f} times plain Faust (median of the rounds' ratios)")
    console.print(
        f"Beside the worker: Redis {report.redis_cpu_us_per_event:.1f} and the broker"
        f" {report.broker_cpu_us_per_event:.1f} µs CPU an event"
    )
    console.print(
        f"Acknowledged by Kafka to visible in Redis at {report.latency_load_events_per_s:,.0f} events/s:"
        f" p50 {report.latency_p50_ms:.1f} ms, p99 {report.latency_p99_ms:.1f} ms"
    )


@bench.command("memory")
def memory(
    events: int = typer.Option(1_000_000, min=100_000, help="Events that are counted."),
    products: int = typer.Option(100_000, min=1, help="Products they are of, in turn."),
    as_json: bool = AS_JSON,
) -> None:
    """Whether the worker's and Redis' memory stay flat, and what an active product costs in Redis."""
    import msgspec
    from rich.console import Console
    from rich.table import Table

    from stream.bench.memory import run

    report = run(events=events, products=products)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title=f"{events:,} events of {products:,} products, constant scorer")
    for heading in ("events", "worker MB", "Redis MB"):
        table.add_column(heading, justify="right")
    for sample in report.samples:
        table.add_row(f"{sample.events:,}", f"{sample.worker_mb:.1f}", f"{sample.redis_mb:.1f}")
    console = Console()
    console.print(table)
    console.print(
        f"Growth over the second half: worker {report.worker_growth_mb:+.1f} MB,"
        f" Redis {report.redis_growth_mb:+.1f} MB"
    )
    console.print(f"Redis: {report.redis_bytes_per_product:.0f} bytes an active product, of which")
    for name, number in report.bytes_by_key.items():
        console.print(f"  {name}: {number:.0f}")
    console.print(f"Encodings of the counters: {report.encodings}")


@bench.command("detector")
def detector() -> None:
    """Run length, delay, misses and cost of the spike detector, exact or simulated with a fixed seed.

    Takes some minutes.
    """
    from stream.bench.detector import main

    main()
