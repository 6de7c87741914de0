"""``reviewpulse score``: texts to labels, from arguments or standard input."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path  # noqa: TC003  # typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream.errors import EventError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.scorer.contract import Scorer

WINDOW = 512
"""Lines scored together: enough for batches of like lengths, few enough to answer a slow pipe soon."""


def score(
    texts: Annotated[list[str] | None, typer.Argument(metavar="[TEXT]...", help="Texts to score.")] = None,
    jsonl: Annotated[
        bool,
        typer.Option(
            "--jsonl",
            help="Read JSON lines with a `text` (and perhaps a `title`) from standard input; print one JSON "
            "object a line, in order.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines instead of a table.")] = False,
    bundle: Annotated[Path | None, typer.Option(help="Folder of the model bundle.")] = None,
    provider: Annotated[
        Literal["auto", "cpu", "cuda"] | None, typer.Option(help="Execution provider.")
    ] = None,
    scorer: Annotated[Literal["onnx", "constant"] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Scores texts to a label, probabilities and a sentiment in [-1, 1].

    Each JSON object: `label`, `probabilities` (`negative`, `neutral`, `positive`), `sentiment`
    (P(positive) - P(negative)), `model_version`; and with `--jsonl` the input's `line` number.
    A bad input line is named on standard error, the others are scored, and the exit code is 1.
    """
    from stream.scorer.load import load_scorer
    from stream.settings import load

    if jsonl == bool(texts):
        raise UsageError("Give texts as arguments, or --jsonl to read JSON lines from standard input.")
    settings = load(bundle=bundle, provider=provider, scorer=scorer)
    blank = [number for number, text in enumerate(texts or (), start=1) if not text.strip()]
    if blank:
        raise UsageError(f"Text {blank[0]} is empty; there is nothing to score.")
    model = load_scorer(settings)
    if jsonl:
        raise typer.Exit(_score_lines(model, sys.stdin.buffer, settings.token_budget))
    rows = _results(model, texts or [], settings.token_budget)
    if as_json:
        _print_lines(rows)
    else:
        _print_table(texts or [], rows)


def _results(model: Scorer[Any], texts: list[str], token_budget: int) -> list[dict[str, Any]]:
    from stream.core.events import LABELS
    from stream.scorer.contract import score_encoded

    probabilities = score_encoded(model, model.encode(texts), token_budget=token_budget)
    labels = model.label(probabilities)
    return [
        {
            "label": LABELS[label],
            "probabilities": {name: round(float(p), 6) for name, p in zip(LABELS, row, strict=True)},
            "sentiment": round(float(row[2] - row[0]), 6),
            "model_version": model.version,
        }
        for label, row in zip(labels, probabilities, strict=True)
    ]


def _score_lines(model: Scorer[Any], stream: Iterable[bytes], token_budget: int) -> int:
    """Scores JSON lines window by window; returns the exit code."""
    from stream.scorer.lines import text_of

    refused = 0
    numbered = enumerate(stream, start=1)
    while window := list(islice(numbered, WINDOW)):
        good: list[tuple[int, str]] = []
        for number, line in window:
            if not line.strip():
                continue
            try:
                good.append((number, text_of(line)))
            except EventError as error:
                refused += 1
                print(f"line {number}: {error}", file=sys.stderr)
        rows = _results(model, [text for _, text in good], token_budget) if good else []
        _print_lines({"line": number, **row} for (number, _), row in zip(good, rows, strict=True))
        sys.stdout.flush()
    return 1 if refused else 0


def _print_lines(rows: Iterable[dict[str, Any]]) -> None:
    import msgspec

    for row in rows:
        print(msgspec.json.encode(row).decode())


def _print_table(texts: list[str], rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"negative": "red", "neutral": "yellow", "positive": "green"}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("label", "sentiment", "negative", "neutral", "positive"):
        table.add_column(
            heading, justify="left" if heading == "label" else "right", min_width=max(len(heading), 8)
        )
    table.add_column("text", overflow="ellipsis", no_wrap=True)
    for text, row in zip(texts, rows, strict=True):
        shares = [f"{p:.3f}" for p in row["probabilities"].values()]
        label = Text(row["label"], style=colours[row["label"]])
        table.add_row(label, f"{row['sentiment']:+.3f}", *shares, Text("".join(_printable(text))))
    Console(highlight=False).print(table)


def _printable(text: str) -> Iterator[str]:
    """A customer's text must not move the cursor or recolour the terminal."""
    return (char if char.isprintable() else " " for char in text)
