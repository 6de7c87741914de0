"""``reviewpulse score``: texts to labels, from arguments or standard input."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path  # noqa: TC003  # typer reads the annotation
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from stream.cli.terminal import print_json, shortened
from stream.errors import EventError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray
    from rich.text import Text

    from stream.core.explain import Contribution
    from stream.scorer.contract import Scorer

WINDOW = 512
"""Lines scored together: enough for batches of like lengths, few enough to answer a slow pipe soon."""

COLOURS = {"negative": "red", "neutral": "yellow", "positive": "green"}

STRONGEST = 8
"""Words that are listed with their figures."""


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
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Show what each word adds to the score: the text is scored without it. Red speaks for"
            " negative, green for positive.",
        ),
    ] = False,
    bundle: Annotated[Path | None, typer.Option(help="Folder of the model bundle.")] = None,
    provider: Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"] | None, typer.Option(help="Execution provider.")
    ] = None,
    scorer: Annotated[Literal["onnx", "constant"] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Scores texts to a label, probabilities and a sentiment in [-1, 1].

    Each JSON object: `label`, `probabilities` (`negative`, `neutral`, `positive`), `sentiment`
    (P(positive) - P(negative)), `model_version`; with `--jsonl` the input's `line` number; and with
    `--explain` `words`: `text`, `start`, `stop` (characters) and `log_odds`, what the word adds to
    ln P(positive)/P(negative).
    A bad input line is named on standard error, the others are scored, and the exit code is 1.
    """
    from stream.scorer.load import load_scorer
    from stream.settings import load

    if jsonl == bool(texts):
        raise UsageError("Give texts as arguments, or --jsonl to read JSON lines from standard input.")
    if jsonl and explain:
        raise UsageError("--explain takes texts as arguments; leave --jsonl out.")
    settings = load(bundle=bundle, provider=provider, scorer=scorer)
    blank = [number for number, text in enumerate(texts or (), start=1) if not text.strip()]
    if blank:
        raise UsageError(f"Text {blank[0]} is empty; there is nothing to score.")
    model = load_scorer(settings)
    if jsonl:
        raise typer.Exit(_score_lines(model, sys.stdin.buffer, settings.token_budget))
    if explain:
        _explain(model, texts or [], settings.token_budget, as_json=as_json)
        return
    rows = _results(model, texts or [], settings.token_budget)
    if as_json:
        _print_lines(rows)
    else:
        _print_table(texts or [], rows)


def _results(model: Scorer[Any], texts: list[str], token_budget: int) -> list[dict[str, Any]]:
    from stream.scorer.contract import score_encoded

    probabilities = score_encoded(model, model.encode(texts), token_budget=token_budget)
    return _rows(model, probabilities)


def _rows(model: Scorer[Any], probabilities: NDArray[np.float32]) -> list[dict[str, Any]]:
    from stream.core.events import LABELS

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


def _explain(model: Scorer[Any], texts: list[str], token_budget: int, *, as_json: bool) -> None:
    """Prints each text's words by what they add to its score."""
    from rich.text import Text

    from stream.cli.terminal import output
    from stream.scorer.explain import explained

    console = output()
    for text in texts:
        found = explained(model, text, token_budget=token_budget)
        [row] = _rows(model, found.probabilities[None])
        if as_json:
            words = [
                {"text": text[start:stop], "start": start, "stop": stop, "log_odds": round(log_odds, 4)}
                for start, stop, log_odds in found.contributions
            ]
            print_json({**row, "words": words})
            continue
        console.print(Text.assemble((row["label"], COLOURS[row["label"]]), f"  {row['sentiment']:+.3f}"))
        console.print(_coloured(text, found.contributions))
        strongest = sorted(found.contributions, key=lambda each: -abs(each.log_odds))[:STRONGEST]
        for start, stop, log_odds in strongest:
            style = COLOURS["positive" if log_odds > 0 else "negative"]
            console.print(Text.assemble((f"{log_odds:+7.2f}  ", style), shortened(text[start:stop], 40)))


def _coloured(text: str, contributions: Sequence[Contribution]) -> Text:
    """The text, its words the bolder the more they add; nothing that a terminal obeys."""
    from rich.text import Text

    most = max((abs(each.log_odds) for each in contributions), default=0.0)
    shown, at = Text(), 0
    for start, stop, log_odds in contributions:
        shown.append("".join(_printable(text[at:start])))
        share = abs(log_odds) / most if most else 0.0
        colour = COLOURS["positive" if log_odds > 0 else "negative"]
        style = f"bold {colour}" if share >= 0.5 else colour if share >= 0.15 else ""
        shown.append("".join(_printable(text[start:stop])), style)
        at = stop
    shown.append("".join(_printable(text[at:])))
    return shown


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
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import output

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("label", "sentiment", "negative", "neutral", "positive"):
        table.add_column(
            heading, justify="left" if heading == "label" else "right", min_width=max(len(heading), 8)
        )
    table.add_column("text", overflow="ellipsis", no_wrap=True)
    for text, row in zip(texts, rows, strict=True):
        shares = [f"{p:.3f}" for p in row["probabilities"].values()]
        label = Text(row["label"], style=COLOURS[row["label"]])
        table.add_row(label, f"{row['sentiment']:+.3f}", *shares, Text("".join(_printable(text))))
    output().print(table)


def _printable(text: str) -> Iterator[str]:
    """A customer's text must not move the cursor or recolour the terminal."""
    return (char if char.isprintable() else " " for char in text)
