"""``reviewpulse behave``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from models.recipe import options
from stream.errors import UsageError

if TYPE_CHECKING:
    from models.behaviour.run import Behaviour


class BehaveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What `reviewpulse behave` is told."""

    model: str = ""
    language: tuple[str, ...] = ()
    examples: Annotated[int, msgspec.Meta(ge=0)] = 3


def behave(
    model: Annotated[str | None, typer.Argument(help="Folder of a checkpoint or a bundle.")] = None,
    language: Annotated[
        list[str] | None,
        typer.Option(help="Suite to run, `en` or `zh`; may be repeated. By default those of the model."),
    ] = None,
    examples: Annotated[int | None, typer.Option(help="Failing cases shown of each test; 3.")] = None,
    recipe: Annotated[Path | None, typer.Option(help="TOML file whose table [behave] has options.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Tests what a model must be able to do: negation, typos, emoji, irrelevant details and more.

    Each kind of test has a least pass rate; the exit code is 1 when a kind is below it. JSON: `model`, `ok`,
    and `kinds`, each with `kind`, `language`, `rate`, `gate`, `ok` and its `tests` with failing cases.
    """
    chosen = options(
        BehaveOptions, recipe, "behave", model=model, language=language or None, examples=examples
    )
    if not chosen.model:
        raise UsageError("Name a model: reviewpulse behave MODEL.")
    from models.behaviour.run import behave as run
    from models.classifier import open_classifier
    from stream.cli.terminal import print_json, status_line

    with status_line() as status:
        status("Opening the model")
        classifier = open_classifier(Path(chosen.model))
        status("Running behavioural tests")
        found = run(classifier, chosen.language or languages_of(Path(chosen.model)))
    if as_json:
        print_json(found)
    else:
        _print(found, chosen.examples)
    if not found.ok:
        raise typer.Exit(1)


def languages_of(model: Path) -> list[str]:
    """Languages that a model says it is for and that have a suite; all suites where it says nothing."""
    from models.behaviour.suite import languages
    from models.checkpoint import RECORD, read_record
    from stream import bundle

    stated: tuple[str, ...] = ()
    if (model / bundle.MANIFEST).is_file():
        stated = bundle.load_manifest(model).languages
    elif (model / RECORD).is_file():
        stated = read_record(model).languages
    return [language for language in languages() if language in stated] or languages()


def _print(found: Behaviour, examples: int) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import output

    console = output()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("language", "kind"):
        table.add_column(heading)
    for heading in ("passed", "rate", "95% interval", "gate", ""):
        table.add_column(heading, justify="right")
    for kind in found.kinds:
        table.add_row(
            kind.language,
            kind.kind,
            f"{kind.passed} of {kind.cases}",
            f"{kind.rate:.3f}",
            f"{kind.interval[0]:.3f} to {kind.interval[1]:.3f}",
            f"{kind.gate:.2f}",
            Text("ok", "green") if kind.ok else Text("FAILS", "red"),
        )
    console.print(table)
    for kind in found.kinds:
        for test in kind.tests:
            if not test.failures or not examples:
                continue
            count = f"{test.cases - test.passed} of {test.cases} fail"
            console.print(Text(f"{kind.language}, {kind.kind}, {test.name}: {count}"), soft_wrap=True)
            for failure in test.failures[:examples]:
                said = " → ".join(
                    f"{text} ({score:.2f})" for text, score in zip(failure.texts, failure.scores, strict=True)
                )
                console.print(Text(f"  {said}; wanted {failure.wanted}"), soft_wrap=True)
