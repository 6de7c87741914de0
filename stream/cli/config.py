"""``reviewpulse config``: the settings as they are, and what is wrong with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from stream.config import Configuration, Setting

config = typer.Typer(
    help="The settings: what each is, where it comes from, what is wrong.", no_args_is_help=True
)


@config.command("show")
def show(
    changed: bool = typer.Option(False, "--changed", help="Only those that differ from their defaults."),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of lines."),
) -> None:
    """Prints every setting with its value and source; secrets are masked, a `*` marks what is no default.

    It asks no server. Exit code 2 when something is wrong: all of it is named, below the settings.

    With `--json`: `{"settings": [{"name", "value", "default", "source", "changed", "secret", "meaning",
    "wrong"}], "errors": [...], "warnings": [...]}`; source is `default`, `environment` or `secrets file`.
    """
    import os

    from stream.config import configuration

    found = configuration(os.environ)
    shown = [each for each in found.settings if each.changed or not changed]
    if as_json:
        from stream.cli.terminal import print_json

        print_json({**found._asdict(), "settings": [each._asdict() for each in shown]})
    else:
        _print(shown)
        _complain(found)
    if found.errors:
        raise typer.Exit(2)


@config.command("check")
def check(
    strict: bool = typer.Option(False, "--strict", help="Exit code 1 when there are warnings."),
) -> None:
    """Says everything that is wrong or odd with the settings and the files they name.

    It asks no server (`reviewpulse doctor` does). Exit code 2 when something is wrong.
    """
    import os

    from stream.config import configuration

    found = configuration(os.environ)
    _complain(found)
    if found.errors:
        raise typer.Exit(2)
    changed = sum(each.changed for each in found.settings)
    print(f"The settings are right: {len(found.settings)}, {changed} of them not the default.")
    if found.warnings and strict:
        raise typer.Exit(1)


def _print(settings: list[Setting]) -> None:
    from stream.cli.terminal import printable

    names = max((len(each.name) for each in settings), default=0)
    sources = max((len(each.source) for each in settings), default=0)
    for each in settings:
        value = "(wrong)" if each.wrong else "(unset)" if each.value is None else _text(each.value)
        mark = "*" if each.changed else " "
        print(f"{mark} {each.name:<{names}}  {each.source:<{sources}}  {printable(value)}".rstrip())


def _text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _complain(found: Configuration) -> None:
    from rich.console import Console
    from rich.text import Text

    errors = Console(stderr=True, highlight=False)
    for kind, style, said in (("wrong", "red", found.errors), ("warning", "yellow", found.warnings)):
        for each in said:
            errors.print(Text(f"{kind}: {each}", style), soft_wrap=True)
