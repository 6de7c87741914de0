"""``reviewpulse bench score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from stream.errors import UsageError
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from export.bench.score import Report


def bench_score(
    data: Annotated[Path, typer.Option(help="Folder of review sets; made texts where it has none.")] = Path(
        "../shared/data"
    ),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint or bundle whose weights all run. [what ships]")
    ] = None,
    texts: Annotated[int, typer.Option(min=8, help="Texts in a turn.")] = 512,
    rounds: Annotated[int, typer.Option(min=1, help="Turns each contestant gets.")] = 5,
    threads: Annotated[int, typer.Option(min=0, help="Of each contestant; 0: the cores there are.")] = 0,
    token_budget: Annotated[int, typer.Option(min=64, help="Padded tokens in a sorted batch.")] = 384,
    max_length: Annotated[int, typer.Option(min=8, max=512, help="Tokens read of a text.")] = 512,
    peer: Annotated[
        list[str] | None, typer.Option(help="Only peers with this in their name; repeatable. All by default.")
    ] = None,
    beside: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="A bundle of the checkpoint that runs beside: `export --compute int8`, say."
        ),
    ] = None,
    provider: Annotated[
        Literal["cpu", "cuda"], typer.Option(help="`cuda`: lengths, shares and torch on one GPU, float16.")
    ] = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """The scorer beside torch, the transformers pipeline, plain ONNX Runtime, CTranslate2 and OpenVINO.

    Reviews/s, useful tokens, share of what the machine's matrix products allow, event loop lag. Peers that
    are not installed are named (`pip install 'reviewpulse[train,bench]'`).
    """
    _require_training_extra()
    import msgspec
    from rich.console import Console

    from export.bench.texts import gather
    from export.reopen import weights_of

    if provider == "cuda":
        from export.bench import cuda

        found = cuda.run(
            checkpoint=weights_of(checkpoint or SHIPPED_BUNDLE),
            texts=gather(data, texts),
            rounds=rounds,
            only=peer or (),
        )
        print(msgspec.json.encode(found).decode()) if as_json else cuda.show(found)
        return
    from export.bench.score import run

    chosen = gather(data, texts)
    with Console(stderr=True).status("preparing") as status:
        report = run(
            chosen.texts,
            chosen.source,
            checkpoint=weights_of(checkpoint or SHIPPED_BUNDLE),
            rounds=rounds,
            threads=threads,
            token_budget=token_budget,
            max_length=max_length,
            only=peer or (),
            beside=beside,
            tell=status.update,
        )
    print(msgspec.json.encode(report).decode()) if as_json else _show(report)


def _show(report: Report) -> None:
    from rich import box
    from rich.table import Table

    from stream.cli.terminal import output

    console = output()
    table = Table(
        box=box.SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
        title=f"{report.texts:,} texts ({report.source}), {report.tokens_p50:.0f} tokens in the median,"
        f" {report.tokens_mean:.0f} in the mean, {report.tokens_max} at most; {report.threads} threads,"
        f" median of {report.rounds} rounds",
    )
    table.add_column("", overflow="fold")
    for heading in (
        "reviews\n/s",
        "CPU\nms",
        "useful",
        "of\npeak",
        "ours\ntimes",
        "by\nCPU",
        "differs",
        "labels",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for each in report.contestants:
        table.add_row(
            each.name,
            f"{each.reviews_per_s:,.1f}",
            f"{each.cpu_ms_per_review:.1f}",
            f"{each.useful_share:.3f}",
            f"{each.peak_share:.2f}",
            f"{each.ours_times:.2f}",
            f"{each.ours_times_cpu:.2f}",
            f"{each.largest_difference:.1e}",
            f"{each.label_agreement:.2%}",
        )
    console.print(table)
    console.print(
        f"{report.model}. Peak: {report.peak_gflops:,.0f} GFLOP/s of float32 matrix products. Load"
        f" {report.load[0]} before and {report.load[1]} after."
    )
    lag = report.lag
    console.print(
        f"Event loop lag while scoring at full load: p50 {lag.p50_ms:.1f} ms, p99 {lag.p99_ms:.1f} ms, worst"
        f" {lag.worst_ms:.1f} ms of {lag.ticks:,} ticks"
    )
    parts = report.parts
    console.print(
        "Where ours spends one thread: "
        + ", ".join(f"{each.name} {each.share:.1%}" for each in parts.parts)
        + f". Products run at {parts.products_gflops:,.0f} GFLOP/s; were they at the peak and all else as it"
        f" is, ours would have {parts.others_alone_share:.2f} of the floor. Alone, hot, in their own shapes"
        f" they run at {parts.hot_gflops:,.0f} GFLOP/s; with products so, {parts.hot_share:.2f}."
    )
    for missing in report.missing:
        console.print(f"Missing: {missing}")


def _require_training_extra() -> None:
    from export.cli import require_training_extra

    try:
        require_training_extra()
    except UsageError as error:
        raise UsageError(str(error).replace("Export needs", "This bench needs")) from None
