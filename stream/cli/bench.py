"""``reviewpulse bench ...``: every figure the documents claim, from a command that ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from stream.bench.detectors.parts import Part
from stream.cli.bench_metrics import metrics

if TYPE_CHECKING:
    from stream.bench.fleet import Report as Fleets
    from stream.bench.footprint import Report as Footprint
    from stream.bench.redis import Report
    from stream.bench.soak import Report as SoakReport
    from stream.bench.soak import Sample
    from stream.bench.web import Report as WebReport

bench = typer.Typer(
    help="Measure: every figure in the documents comes from one of these.", no_args_is_help=True
)

GPU_TOKEN_BUDGET = 16_384

AS_JSON = typer.Option(False, "--json", help="Print the report as JSON.")

bench.command("metrics")(metrics)


@bench.command("pipeline")
def pipeline(
    events: int = typer.Option(200_000, min=100, help="Records in the topic."),
    products: int = typer.Option(10_000, min=1, help="Products, Zipf-distributed."),
    rounds: int = typer.Option(3, min=1, help="Turns each contestant gets."),
    scorer: Literal["constant", "onnx"] = typer.Option(
        "constant", help="`onnx`: with the model, by --workers, beside as many that score by a constant."
    ),
    bundle: Path | None = typer.Option(None, help="With `onnx`: the bundle; the one in use by default."),
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] | None = typer.Option(
        None, help="With `onnx`: where the model runs."
    ),
    workers: str = typer.Option("1", help="With `onnx`: how many workers, each number in turn: 1,2,4."),
    ceiling_events: int = typer.Option(
        200_000, min=0, help="With `onnx`: reviews for those that score by a constant; 0: without them."
    ),
    texts: str | None = typer.Option(
        None, help="With `onnx`: JSON lines with a `text`, also .gz; made ones by default."
    ),
    token_budget: int | None = typer.Option(
        None, min=64, help="With `onnx`: padded tokens of a micro-batch; as set, or 16,384 on a GPU."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """Throughput of the whole path, and its latency with a model that costs nothing.

    Beside it, in the same run: a plain Faust agent that only counts, aiokafka's getmany, kafka-python's poll.
    With `--scorer onnx`: reviews/s from Kafka to Redis with the model, by the number of workers.
    """
    import msgspec
    from rich.table import Table

    from stream.bench.pipeline import run
    from stream.cli.terminal import output
    from stream.errors import UsageError

    if scorer == "onnx":
        _fleet(events, ceiling_events, products, bundle, provider, workers, texts, token_budget, as_json)
        return
    if bundle or provider or texts or token_budget or workers != "1":
        raise UsageError("--bundle, --provider, --workers, --texts and --token-budget go with --scorer onnx.")
    if events < 10_000:
        raise UsageError("Without a model, fewer than 10,000 --events are over before they can be timed.")

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
    console = output()
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


def _fleet(
    events: int,
    ceiling_events: int,
    products: int,
    bundle: Path | None,
    provider: str | None,
    workers: str,
    texts: str | None,
    token_budget: int | None,
    as_json: bool,
) -> None:
    import msgspec
    from rich.console import Console

    from stream.bench import fleet
    from stream.bench.scorer import read_reviews
    from stream.errors import UsageError
    from stream.settings import load

    try:
        numbers = [int(each) for each in workers.split(",")]
    except ValueError:
        raise UsageError(f"--workers {workers}: wanted numbers with commas, like 1,2,4.") from None
    if token_budget is None and provider in {"cuda", "tensorrt"}:
        token_budget = GPU_TOKEN_BUDGET
    settings = load(bundle=bundle, provider=provider, token_budget=token_budget)
    with Console(stderr=True).status("starting") as status:
        report = fleet.run(
            settings,
            workers=numbers,
            reviews=events,
            ceiling_reviews=ceiling_events,
            products=products,
            texts=read_reviews(texts, fleet.TEXTS) if texts else (),
            source=texts or "",
            tell=status.update,
        )
    print(msgspec.json.encode(report).decode()) if as_json else _show_fleets(report)


def _show_fleets(report: Fleets) -> None:
    from rich.table import Table

    from stream.cli.terminal import output

    table = Table(
        title=f"{report.reviews:,} reviews of {report.products:,} products, texts: {report.texts};"
        f" {report.model_version}, {report.partitions} partitions, {report.cores} cores,"
        f" {report.token_budget:,} tokens a micro-batch"
    )
    for heading in ("workers", "scorer", "provider", "reviews/s", "timed", "µs CPU a review", "GPU", "MiB"):
        table.add_column(heading, justify="left" if heading in {"scorer", "provider"} else "right")
    for each in report.fleets:
        table.add_row(
            str(each.workers),
            each.scorer,
            ", ".join(name.removesuffix("ExecutionProvider") for name in each.providers),
            f"{each.reviews_per_s:,.0f}",
            f"{each.timed_reviews:,}",
            f"{each.cpu_us_per_review:,.0f}",
            "" if each.gpu_busy_percent is None else f"{each.gpu_busy_percent:.0f}%",
            "" if each.gpu_memory_mib is None else f"{each.gpu_memory_mib:,}",
        )
    output().print(table)


@bench.command("scorer")
def scorer(
    file: str = typer.Argument(help="JSON lines with a `text`, also .gz: a split of a prepared set, say."),
    bundle: list[Path] = typer.Option(None, help="A bundle's folder; repeatable. The one in use by default."),
    reviews: int = typer.Option(1024, min=1, help="Reviews of the file that are scored, from its beginning."),
    rounds: int = typer.Option(5, min=1, help="Turns each bundle gets."),
    as_json: bool = AS_JSON,
) -> None:
    """Reviews a second of one bundle or several on this machine, turn by turn, and ratios to the first.

    Tokenising and inference of whole windows, as a worker's score stage does them. Provider, threads and
    token budget are the settings' (`REVIEWPULSE_PROVIDER` and so on).
    """
    import msgspec
    from rich.table import Table

    from stream.bench.scorer import read_reviews, run
    from stream.cli.terminal import output
    from stream.settings import load

    settings = load()
    texts = read_reviews(file, reviews)
    report = run(settings, bundle or [settings.bundle], texts, rounds=rounds)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(
        title=f"{report.reviews:,} reviews, mean {report.tokens_mean:.0f} tokens, median of {rounds} rounds"
    )
    for heading in ("", "provider", "reviews/s", "tokens/s", "CPU ms", "ratio"):
        table.add_column(heading, justify="right" if heading not in ("", "provider") else "left")
    for each in report.bundles:
        table.add_row(
            each.version,
            each.provider.removesuffix("ExecutionProvider"),
            f"{each.reviews_per_s:,.1f}",
            f"{each.tokens_per_s:,.0f}",
            f"{each.cpu_ms_per_review:.2f}",
            f"{each.times_first:.2f}",
        )
    output().print(table)


@bench.command("swap")
def swap(
    file: str = typer.Argument(help="JSON lines with a `text`, also .gz."),
    candidate: Path = typer.Option(help="The bundle that is tried; the one in use serves."),
    reviews: int = typer.Option(1024, min=64, help="Reviews of the file that are scored, over and over."),
    share: float = typer.Option(0.2, min=0.01, max=1.0, help="Most of the time that the shadow may take."),
    seconds: float = typer.Option(10.0, min=1.0, help="Seconds of each turn."),
    rounds: int = typer.Option(3, min=1, help="Turns with the shadow, and as many without, in turn."),
    as_json: bool = AS_JSON,
) -> None:
    """What a bundle on trial costs a worker whose model fills its time: rate, waiting, memory.

    With `--json`: `{"rate", "rate_beside_shadow", "ratio", "compared_per_s", "load_s", "longest_wait_ms",
    "mb_before", "mb_with_candidate", "mb_after"}`; rates are reviews a second, medians over the rounds.
    """
    import asyncio

    from stream.bench.scorer import read_reviews
    from stream.bench.swap import run
    from stream.cli.terminal import print_json
    from stream.settings import load

    settings = load()
    texts = read_reviews(file, reviews)
    report = asyncio.run(run(settings, candidate, texts, share=share, seconds=seconds, rounds=rounds))
    if as_json:
        print_json(report)
        return
    print(
        f"{report.rate:,.1f} reviews/s, {report.rate_beside_shadow:,.1f} beside a shadow of {share:.0%} at"
        f" most: {report.ratio:.2f} times; {report.compared_per_s:,.1f} texts compared a second.\n"
        f"A window waited {report.longest_wait_ms:,.0f} ms at most for the shadow. Loading took"
        f" {report.load_s:.2f} s beside it; {report.mb_before:.0f} MB before, {report.mb_with_candidate:.0f}"
        f" with both models, {report.mb_after:.0f} after."
    )


@bench.command("memory")
def memory(
    events: int = typer.Option(1_000_000, min=100_000, help="Events that are counted."),
    products: int = typer.Option(100_000, min=1, help="Products they are of, in turn."),
    as_json: bool = AS_JSON,
) -> None:
    """Whether the worker's and Redis' memory stay flat, and what an active product costs in Redis."""
    import msgspec
    from rich.table import Table

    from stream.bench.memory import run
    from stream.cli.terminal import output

    report = run(events=events, products=products)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title=f"{events:,} events of {products:,} products, constant scorer")
    for heading in ("events", "worker MB", "Redis MB"):
        table.add_column(heading, justify="right")
    for sample in report.samples:
        table.add_row(f"{sample.events:,}", f"{sample.worker_mb:.1f}", f"{sample.redis_mb:.1f}")
    console = output()
    console.print(table)
    console.print(
        f"Growth over the second half: worker {report.worker_growth_mb:+.1f} MB,"
        f" Redis {report.redis_growth_mb:+.1f} MB"
    )
    console.print(f"Redis: {report.redis_bytes_per_product:.0f} bytes an active product, of which")
    for name, number in report.bytes_by_key.items():
        console.print(f"  {name}: {number:.0f}")
    console.print(f"Encodings of the counters: {report.encodings}")


@bench.command("redis")
def redis(
    events: int = typer.Option(32_768, min=1_000, help="Events that each way counts in a turn."),
    products: int = typer.Option(10_000, min=1, help="Products, Zipf-distributed."),
    rounds: int = typer.Option(3, min=1, help="Turns each way gets."),
    days: int = typer.Option(7, min=0, max=14, help="Days of history before; 0 for products never seen."),
    rate: float = typer.Option(50.0, min=0.1, help="Events a second of the stream, in event time."),
    exponent: float = typer.Option(1.0, min=0.0, help="Zipf's: the n-th product's share is n^-exponent."),
    shards: int = typer.Option(1, min=1, max=64, help="Shards of our way, on the one server."),
    as_json: bool = AS_JSON,
) -> None:
    """CPU, commands, round trips and bytes in Redis of an event and of a product. Takes some minutes.

    Beside it, in the same run: one HINCRBY per event and counter, a sliding window of sorted sets.
    """
    import msgspec

    from stream import logs
    from stream.bench.redis import run
    from stream.settings import load

    logs.configure(load(log_level="warning"))
    report = run(
        events=events,
        products=products,
        rounds=rounds,
        days=days,
        events_per_s=rate,
        exponent=exponent,
        shards=shards,
    )
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    _print_costs(report)
    _print_memory(report)


def _print_costs(report: Report) -> None:
    from rich.table import Table

    from stream.cli.terminal import output

    table = Table(
        title=f"{report.events:,} events a turn of {report.products:,} products (Zipf, {report.exponent:g}),"
        f" {report.events_per_s:g} events/s after {report.days} days of history,"
        f" median of {report.rounds} rounds"
    )
    for heading in ("", "Redis µs", "cheaper", "sent", "run", "bytes", "AOF", "trips"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, cost in report.costs.items():
        table.add_row(
            name,
            f"{cost.redis_us_per_event:.1f}",
            f"{cost.times_cheaper:.1f}",
            f"{cost.commands_sent_per_event:.3f}",
            f"{cost.commands_run_per_event:.2f}",
            f"{cost.bytes_sent_per_event:.0f}",
            "" if cost.aof_bytes_per_event is None else f"{cost.aof_bytes_per_event:.0f}",
            f"{cost.round_trips_per_batch_and_shard:.2f}",
        )
    console = output()
    console.print(table)
    console.print(
        "Of an event: CPU of Redis, and how many times less that is than the first plain way's; commands"
        " sent, and run, scripts' included; bytes sent, and of the append-only file. Round trips of a batch"
        f" and shard, of which ours has {report.shards}."
    )


def _print_memory(report: Report) -> None:
    from rich.table import Table

    from stream.cli.terminal import output

    table = Table(title="Bytes an active product")
    for heading in ("", "in all", "of a day of history"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, memory in report.memory.items():
        table.add_row(name, f"{memory.bytes_per_product:,.0f}", f"{memory.bytes_per_product_and_day:,.0f}")
    small, usual = report.time_series_bytes_per_product
    table.add_row("RedisTimeSeries on paper, chunks of 128 bytes", f"{small:,}", "")
    table.add_row("RedisTimeSeries on paper, chunks of 4,096 (default)", f"{usual:,}", "")
    console = output()
    console.print(table)
    parts = ", ".join(f"{name} {number:.0f}" for name, number in report.bytes_by_key.items())
    console.print(f"reviewpulse, by key: {parts}")
    console.print(
        f"reviewpulse, beside it: {report.fingerprint_bytes_per_partition / 1e6:.1f} MB of fingerprints a"
        " partition"
    )


@bench.command("soak")
def soak(
    events: int = typer.Option(5_000_000, min=1_000, help="Events sent."),
    products: int = typer.Option(50_000, min=1, help="Products they are of, Zipf-distributed."),
    workers: int = typer.Option(4, min=1, help="Workers alive."),
    kill_every: float = typer.Option(20.0, min=0.0, help="Seconds between two kills of a worker; 0: none."),
    spare: int = typer.Option(0, min=0, help="Workers that are never killed."),
    as_json: bool = AS_JSON,
) -> None:
    """Millions of events while workers are killed with SIGKILL: exact totals, flat memory, CPU by stage.

    Takes six minutes and 2 GB on two idle cores. Exits with 1 when a total is not what was sent.
    """
    import msgspec
    from rich.console import Console

    from stream.bench.soak import run

    progress = Console(stderr=True)

    def tell(sample: Sample) -> None:
        if int(sample.at_s) % 10 == 0:
            progress.print(
                f"{sample.at_s:6.0f} s {sample.events:>10,} events  workers {sample.workers}, largest"
                f" {sample.largest_worker_mb:.0f} MB  Redis {sample.redis_mb:.0f} MB"
                f"  broker {sample.broker_mb:.0f} MB"
            )

    report = run(
        events=events, products=products, workers=workers, kill_every_s=kill_every, spare=spare, tell=tell
    )
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _print_soak(report)
    if not report.is_exact:
        raise typer.Exit(1)


def _print_soak(report: SoakReport) -> None:
    from rich.table import Table

    from stream.cli.terminal import output

    console = output()
    console.print(
        f"{report.events:,} events of {report.products:,} products in {report.duration_s:,.0f} s"
        f" ({report.events / report.duration_s:,.0f} a second), {report.workers} workers,"
        f" {report.kills} kills, one every {report.kill_every_s:g} s, {report.rewinds} rewinds"
    )
    console.print(
        f"Exact: {report.products_compared:,} products' totals and last seven days are what was sent"
        if report.is_exact
        else f"NOT EXACT: ledger {report.ledger}, and {report.differences}"
    )
    memory = Table(title="Memory")
    spared = ("spared worker MB",) if report.spared else ()
    for heading in ("s", "events", "workers", "largest worker MB", "Redis MB", "broker MB", *spared):
        memory.add_column(heading, justify="right")
    for sample in report.samples[:: max(len(report.samples) // 20, 1)]:
        memory.add_row(
            f"{sample.at_s:.0f}",
            f"{sample.events:,}",
            str(sample.workers),
            f"{sample.largest_worker_mb:.0f}",
            f"{sample.redis_mb:.1f}",
            f"{sample.broker_mb:.0f}",
            *(f"{sample.spared_worker_mb:.0f}" for _ in spared),
        )
    console.print(memory)
    console.print(
        "Growth over the second half, MB a million events: largest worker"
        f" {report.growth.largest_worker_mb:+.2f}, Redis {report.growth.redis_mb:+.2f}"
        + (f", spared worker {report.growth.spared_worker_mb:+.2f}" if report.spared else "")
    )
    cpu = Table(title="CPU, µs an event")
    cpu.add_column("")
    cpu.add_column("µs", justify="right")
    for stage, us in report.cpu_us_per_event.items():
        cpu.add_row(stage, f"{us:.2f}")
    console.print(cpu)


@bench.command("detector")
def detector(
    part: list[Part] = typer.Option(list(Part), help="What to measure; repeatable. All by default."),
    quick: bool = typer.Option(False, "--quick", help="Fewer tries: wider intervals, in about a minute."),
    least_negatives: int = typer.Option(
        8, min=1, help="The rule's minimum of negatives, as in the settings."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """The spike detector: false alarms against the budget, delay against the exact CUSUM and against peers.

    The peers: a fixed window, Shewhart, EWMA, Page-Hinkley and, where river is installed, its ADWIN, all at
    the same false-alarm rate. Fixed seeds: the same figures each time. The whole takes about ten minutes of
    one core.
    """
    import msgspec

    from stream.bench.detectors.report import run
    from stream.bench.detectors.tables import show

    report = run(part, quick=quick, least_negatives=least_negatives)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        show(report)


@bench.command("ingest-http")
def ingest_http(
    events: int = typer.Option(100_000, min=2_000, help="Events each contestant sends in a round."),
    batch: int = typer.Option(500, min=1, max=10_000, help="Events of one request."),
    connections: int = typer.Option(4, min=1, max=64, help="Senders at the same time."),
    rounds: int = typer.Option(3, min=1, help="Turns each contestant gets."),
    as_json: bool = AS_JSON,
) -> None:
    """Events over HTTP, each batch acknowledged by the broker, beside EventProducer and a bare producer.

    At the end the log must hold what was acknowledged.
    """
    import msgspec
    from rich.table import Table

    from stream.bench.ingest_http import run
    from stream.cli.terminal import output

    report = run(events=events, batch=batch, connections=connections, rounds=rounds)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(title=f"{events:,} reviews, {batch:,} a batch, median of {rounds} rounds")
    for heading in ("", "events/s", "µs CPU an event"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, rate in report.rates.items():
        table.add_row(name, f"{rate.events_per_s:,.0f}", f"{rate.cpu_us_per_event:.1f}")
    console = output()
    console.print(table)
    console.print(
        f"{report.times_client:.2f} times EventProducer, {report.times_raw:.2f} times a bare aiokafka"
        f" producer (medians of the rounds' ratios); a batch took p50 {report.batch_p50_ms:.0f} ms,"
        f" p99 {report.batch_p99_ms:.0f} ms over {connections} connections"
    )
    console.print(f"The log holds all {report.in_log:,} events that were acknowledged")


@bench.command("incidents")
def incidents(
    data: Path = typer.Option(
        Path("../shared/data"),
        help="Folder of the review histories: Amazon's All Beauty and Musical Instruments, and pesticides.",
    ),
    run_length: list[float] = typer.Option(
        [1e3, 1e4, 1e5, 1e6], min=200, help="Budgets, as events between two false alarms; repeatable."
    ),
    size: list[int] = typer.Option([8, 20, 60], min=1, help="Extra negatives of an incident; repeatable."),
    days: float = typer.Option(30.0, min=0.01, help="Over how many days they come."),
    draws: int = typer.Option(10, min=1, help="Incidents of each size for each product, one at a time."),
    seed: int = typer.Option(7, min=0, help="Of all that is drawn."),
    rules: Path | None = typer.Option(None, help="Judges by this rules file."),
    as_json: bool = AS_JSON,
) -> None:
    """Recall, delay and false alarms of real complaints injected into real review histories.

    The incidents are synthetic: real negative reviews of other products of the same category, put into a
    product's history from a drawn moment on. Ratings of 1 and 2 stars are negative; there is no model.
    """
    import msgspec

    from stream.bench.incidents import run
    from stream.cli.bench_incidents import print_report
    from stream.cli.terminal import status_line
    from stream.settings import load

    with status_line() as say:
        report = run(
            data,
            load(),
            run_lengths=run_length,
            sizes=size,
            incident_days=days,
            draws=draws,
            seed=seed,
            rules=rules,
            on_step=say,
        )
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    print_report(report)


@bench.command("evidence")
def evidence(
    data: Path = typer.Option(
        Path("../shared/data"), help="Folder of the review histories, as for `bench incidents`."
    ),
    texts: int = typer.Option(1_000, min=50, help="Reviews scored of each verdict, at most."),
    run_length: float = typer.Option(10_000.0, min=200, max=1e5, help="Events between two false alarms."),
    seed: int = typer.Option(7, min=0, help="Of all that is drawn."),
    as_json: bool = AS_JSON,
) -> None:
    """Would the model's probability be quicker evidence of a rise than its label?

    Real reviews with their stars, scored by the bundle; a CUSUM with the baseline known on labels, on
    probabilities and on the scores' own densities, all at the same run length. Some minutes.
    """
    import msgspec
    from rich.box import SIMPLE
    from rich.table import Table

    from stream.bench.evidence import WAYS, run
    from stream.cli.terminal import output, status_line
    from stream.settings import load

    with status_line() as say:
        report = run(data, load(), texts=texts, run_length=run_length, seed=seed, on_step=say)
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    table = Table(
        box=SIMPLE,
        title="Mean events to the alarm by label, and the others' ratio to it; one false alarm in"
        f" {run_length:,.0f} events; {report.model_version}, {report.accuracy:.1%} right on"
        f" {sum(report.texts.values()):,} texts",
    )
    for name in ("usual share", "raised to", "by label", *WAYS[1:]):
        table.add_column(name, justify="right")
    for cell in report.cells:
        ratios = (f"{cell.ratio[way]:.2f}" for way in WAYS[1:])
        table.add_row(f"{cell.share:.2f}", f"{cell.raised:.2f}", f"{cell.delay['label']:.1f}", *ratios)
    output().print(table)


@bench.command("rate")
def rate(
    nab: Path | None = typer.Option(
        None, exists=True, file_okay=False, help="Folder of NAB's realTweets files and windows.json."
    ),
) -> None:
    """False alarms and delay of the detector of surges of negative volume; NAB's score of it.

    Simulated with a fixed seed. Takes some minutes.
    """
    from stream.bench.rate import main

    main(nab)


@bench.command("web")
def web(
    events_per_s: float = typer.Option(10_000.0, min=1.0, help="Events offered a second in steady turns."),
    viewers: int = typer.Option(200, min=1, help="Streams of the live page."),
    reads_per_s: float = typer.Option(1_000.0, min=1.0, help="Reads of a product's counters a second."),
    products: int = typer.Option(10_000, min=1, help="Products, Zipf-distributed."),
    rounds: int = typer.Option(3, min=1, help="Turns of each kind."),
    seconds: float = typer.Option(15.0, min=1.0, help="Length of a steady turn."),
    backlog: int = typer.Option(200_000, min=0, help="Events of a backlog turn; 0 leaves these out."),
    as_json: bool = AS_JSON,
) -> None:
    """Whether viewers and reads of `reviewpulse web` slow a worker down; CPU by process, latency of reads.

    Everything shares this machine's cores, the load and the audience too: read the ratios beside the CPU that
    each process took. The worker has a model that costs nothing.
    """
    import msgspec

    from stream.bench.web import run
    from stream.cli.terminal import status_line

    with status_line() as say:
        report = run(
            events_per_s=events_per_s,
            viewers=viewers,
            reads_per_s=reads_per_s,
            products=products,
            rounds=rounds,
            seconds=seconds,
            backlog=backlog,
            tell=say,
        )
    if as_json:
        print(msgspec.json.encode(report).decode())
        return
    _print_web(report)


def _print_web(report: WebReport) -> None:
    from rich.table import Table

    from stream.cli.terminal import output

    console = output()
    table = Table(
        title=f"{report.offered_events_per_s:,.0f} events/s offered, {report.viewers} viewers,"
        f" {report.reads_per_s:,.0f} reads/s, {report.cores} cores for all; median of {report.rounds} rounds"
    )
    kinds = [("steady", report.steady), ("backlog", report.drained)]
    columns = [(f"{kind}, {name}", turn) for kind, turns in kinds for name, turn in turns.items()]
    table.add_column("")
    for heading, _ in columns:
        table.add_column(heading, justify="right")
    table.add_row("events/s counted", *(f"{turn.events_per_s:,.0f}" for _, turn in columns))
    sent = (f"{turn.sent_per_s:,.0f}" if turn.sent_per_s else "" for _, turn in columns)
    table.add_row("events/s the producer sent", *sent)
    for name in ("latency_p50_ms", "latency_p99_ms"):
        cells = (getattr(turn, name) for _, turn in columns)
        table.add_row(name.replace("_", " "), *("" if each is None else f"{each:.0f}" for each in cells))
    table.add_row("worker, µs CPU an event", *(f"{turn.worker_us_per_event:.1f}" for _, turn in columns))
    table.add_row("Redis, µs CPU an event", *(f"{turn.redis_us_per_event:.1f}" for _, turn in columns))
    for process in ("worker", "redis", "broker", "server", "producer", "audience"):
        cores = (turn.cores.get(process) for _, turn in columns)
        table.add_row(f"cores: {process}", *("" if each is None else f"{each:.2f}" for each in cores))
    console.print(table)
    drained = f", a backlog {report.drained_ratio:.2f}" if report.drained else ""
    console.print(
        f"Watched over alone, turn by turn: events/s {report.steady_ratio:.3f}{drained};"
        f" worker's CPU an event {report.worker_cpu_ratio:.2f}"
        + ("" if report.latency_p99_ratio is None else f"; latency p99 {report.latency_p99_ratio:.2f}")
    )
    seen = report.audience
    console.print(
        f"Reads: {seen.reads_per_s:,.0f} answered a second, p50 {seen.read_p50_ms or 0:.1f} ms,"
        f" p99 {seen.read_p99_ms or 0:.1f} ms, {seen.failed_reads} failed,"
        f" {seen.unanswered_reads} unanswered (latency from when each was due)"
    )
    console.print(
        f"Streams: {seen.streams_kept} of {seen.streams} lived to the end, {seen.messages_per_s:,.0f}"
        f" messages/s, longest wait for figures {seen.overview_gap_worst_s or 0:.1f} s"
    )
    console.print(
        f"Alert acknowledged by Kafka to viewer: p50 {seen.alert_p50_ms or 0:.0f} ms,"
        f" p99 {seen.alert_p99_ms or 0:.0f} ms, worst {seen.alert_worst_ms or 0:.0f} ms"
        f" ({seen.alerts_seen:,} arrivals)"
    )
    console.print(f"The server's resident memory: {report.server_mb:.0f} MB")


@bench.command("footprint")
def footprint(
    rounds: int = typer.Option(3, min=1, help="Starts of a worker; the figures are medians."),
    idle_s: float = typer.Option(20.0, "--idle", min=1.0, help="Seconds that each idle process is watched."),
    part: list[str] = typer.Option(
        None, help="Only this: `start`, `idle`, `imports` or `size`; repeatable. All by default."
    ),
    as_json: bool = AS_JSON,
) -> None:
    """What starting and idling cost: time to the first scored event, CPU, wake-ups, memory, imports, disk.

    Worker, page and `notify` as shipped, the shipped bundle on CPUs, servers of their own. Takes two minutes.
    """
    import msgspec

    from stream.bench.footprint import PARTS, run
    from stream.errors import UsageError

    if unknown := sorted(set(part or []) - set(PARTS)):
        raise UsageError(f"--part {unknown[0]} is none: write {', '.join(PARTS)}.")
    report = run(rounds=rounds, idle_s=idle_s, only=part)
    if as_json:
        print(msgspec.json.encode(report).decode())
    else:
        _print_footprint(report)


def _print_footprint(report: Footprint) -> None:
    from rich.table import Table

    from stream.cli.terminal import output

    def table(title: str, *headings: str) -> Table:
        made = Table(title=title)
        for heading in ("", *headings):
            made.add_column(heading, justify="left" if heading in ("", "of which") else "right")
        return made

    start = table("Start of a worker, medians", "wall s", "CPU s")
    whole = {"lives": report.live, "ready": report.ready, "first event counted": report.first_event}
    for name, took in (report.phases | whole).items():
        start.add_row(name, f"{took.wall_s:.2f}", f"{took.cpu_s:.2f}")
    rest = table("Idle", "CPU %", "wake-ups/s", "resident MB", "proportional MB", "threads")
    for name, idle in report.idle.items():
        cells = (f"{idle.cpu_percent:.2f}", f"{idle.wake_ups_per_s:.1f}", f"{idle.resident_mb:.0f}")
        rest.add_row(name, *cells, f"{idle.proportional_mb:.0f}", str(idle.threads))
    imports = table("Imports", "modules", "ms", "of which")
    for name, each in report.imports.items():
        dearest = ", ".join(f"{package} {ms:.0f}" for package, ms in each.by_package.items())
        imports.add_row(name, f"{each.modules:,}", f"{each.self_ms:,.0f}", dearest)
    disk = table(
        f"Installed: {report.installed_mb:,.0f} MB, of which the bundle is {report.bundle_mb:.0f}", "MB"
    )
    for name, size in list(report.sizes.items())[:15]:
        disk.add_row(name, f"{size.mb:.1f}")
    console = output()
    for measured, shown in (
        (report.phases, start),
        (report.idle, rest),
        (report.imports, imports),
        (report.sizes, disk),
    ):
        if measured:
            console.print(shown)
