"""``reviewpulse rules``: the rules file."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from stream.core.rules import Builtin, Knobs, Override, Rules, ThresholdRule
    from stream.core.scope import Scope

rules = typer.Typer(help="The rules file: checks it, and says what may stand in it.", no_args_is_help=True)


@rules.command("check")
def check(
    file: Path | None = typer.Argument(
        None, help="The file; the one that REVIEWPULSE_RULES names if not given."
    ),
    strict: bool = typer.Option(False, "--strict", help="Exit code 1 when there are warnings."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of tables."),
) -> None:
    """Says what the rules file says, and what in it is wrong or without effect.

    Exit code 2 when it is wrong: every mistake is named with its line. A warning is about what can never
    fire, never stop, or has no effect.

    With `--json`: `{"file", "errors": [{"where", "line", "key", "wrong", "remedy"}], "warnings": [the same],
    "rules": {"spike", "surge", "threshold", "override"}}`, the rules as the schema has them, or null where
    there are errors.
    """
    from stream.cli.terminal import print_json
    from stream.core.rules import RulesError
    from stream.core.rules_warnings import warnings
    from stream.errors import UsageError
    from stream.rules import read_rules
    from stream.settings import load

    settings = load()
    path = file or settings.rules
    if path is None:
        raise UsageError("Name a rules file, or set REVIEWPULSE_RULES.")
    try:
        found = read_rules(path)
    except RulesError as error:
        if not as_json:
            raise
        print_json({"file": str(path), "errors": error.problems, "warnings": [], "rules": None})
        raise typer.Exit(error.exit_code) from None
    warned = warnings(found, settings.expected_events_per_day)
    if as_json:
        stated = {
            "spike": found.spike,
            "surge": found.surge,
            "threshold": found.thresholds,
            "override": found.overrides,
        }
        print_json({"file": str(path), "errors": [], "warnings": warned, "rules": stated})
    else:
        _print(found)
        _print_warnings([str(each) for each in warned])
    if warned and strict:
        raise typer.Exit(1)


@rules.command("schema")
def schema() -> None:
    """Prints the JSON Schema of the rules file, for editors that check TOML as it is written."""
    import json

    from stream.core.rules import json_schema

    print(json.dumps(json_schema(), indent=2))


def _print(found: Rules) -> None:
    from stream.cli.terminal import output

    out = output()
    out.print(_builtin_table(found))
    if found.thresholds:
        out.print(
            _table(
                ("rule", "fires at", "in", "for", "resolves", "after", "severity", "about"), found.thresholds
            )
        )
    if found.overrides:
        out.print(_table(("override of", "says", "about"), found.overrides))


def _print_warnings(warned: list[str]) -> None:
    from rich.console import Console
    from rich.text import Text

    from stream.cli.terminal import printable

    errors = Console(stderr=True, highlight=False)
    for each in warned:
        errors.print(Text(f"warning: {printable(each)}", "yellow"), soft_wrap=True)
    if not warned:
        print("No warnings.")


def _builtin_table(found: Rules) -> Table:
    builtin: tuple[tuple[Builtin, Knobs], ...] = (("spike", found.spike), ("surge", found.surge))
    return _rows(("built-in rule", "says"), ([name, _said(knobs)] for name, knobs in builtin))


def _table(columns: tuple[str, ...], stated: tuple[ThresholdRule, ...] | tuple[Override, ...]) -> Table:
    return _rows(columns, map(_row, stated))


def _rows(columns: tuple[str, ...], rows: Iterator[list[str]]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import printable

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column)
    for row in rows:
        # A Text, for a string would be read as markup.
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table


def _row(stated: ThresholdRule | Override) -> list[str]:
    from stream.core.rules import Override

    if isinstance(stated, Override):
        return [stated.rule or "spike and surge", _said(stated), _about(stated)]
    events = f"{stated.least_events:,} events" if stated.least_events > (stated.negatives or 0) else None
    fires = _lines(stated.share, stated.negatives, " and ", events)
    resolves = _lines(stated.over_share, stated.over_negatives, " or ")
    after = "at once" if stated.keep_firing_ms == 0 else stated.keep_firing_for
    held = "at once" if stated.for_ms == 0 else stated.for_
    return [
        stated.name,
        fires,
        stated.window,
        held,
        f"below {resolves}",
        after,
        stated.severity,
        _about(stated),
    ]


def _lines(share: float | None, negatives: int | None, word: str, also: str | None = None) -> str:
    """The lines of a condition, in words.

    >>> _lines(0.4, 20, " and ", "50 events"), _lines(None, 15, " or ")
    ('40% negative and 20 negatives and 50 events', '15 negatives')
    """
    parts = [
        None if share is None else f"{100 * share:g}% negative",
        None if negatives is None else f"{negatives:,} negatives",
        also,
    ]
    return word.join(part for part in parts if part is not None)


def _said(stated: Knobs | Override) -> str:
    """What a table changes, in words."""
    said = [] if stated.enabled is None else ["enabled" if stated.enabled else "not enabled"]
    for key in ("false_alarms_per_day", "expected_events_per_day", "min_events", "min_negatives"):
        number = getattr(stated, key, None)
        if number is not None:
            said.append(f"{key} {number:,.12g}")
    return ", ".join(said)


def _about(scope: Scope) -> str:
    return ", ".join(f"{key} {said}" for key, said in scope.narrowed()) or "all products"
