"""``reviewpulse priors``: what is learned across products."""

from __future__ import annotations

import calendar
from pathlib import Path  # noqa: TC003 (typer reads the annotation when it runs)
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from stream.core.priors import Priors

CATEGORY_CHARS = 40

priors = typer.Typer(
    help="What a product's baseline begins with: learned across products, in versioned snapshots.",
    no_args_is_help=True,
)


@priors.command("learn")
def learn_snapshot(
    out: Path = typer.Option(help="File to write; one that is there is replaced."),
    events: int = typer.Option(
        200_000,
        min=0,
        help="Newest events of Kafka that categories are looked for in; 0: only the fleet's, and no week.",
    ),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON instead of a table."),
) -> None:
    """Learns priors by channel and category from what the live detectors know, and writes a snapshot.

    Where Kafka keeps a week and more, it also learns how busy each hour of a week is: so many complaints
    are no surge in an evening when many write.

    Workers go on meanwhile, and use it once they are started with `REVIEWPULSE_PRIORS` set to the file, all
    of them with the same one. Run it with the workers' settings: the model's version is written into it, and
    the snapshot that they use now tells what their states began with.

    With `--json`: `{"path", "version", "made_at", "model_version", "channels", "states", "categorised",
    "records", "unreadable"}`; channels as in the file.

    Exit codes: 1 when there is too little to learn from, 2 when a setting is wrong or the place cannot be
    written to, 3 when Redis or Kafka fails.
    """
    import time

    from stream.cli.terminal import print_json, status_line
    from stream.priors import check_place, learn_priors, save_snapshot
    from stream.promotion import with_promoted
    from stream.settings import load

    settings = with_promoted(load())
    check_place(out)
    with status_line() as say:
        lesson = learn_priors(settings, now_ms=time.time_ns() // 1_000_000, most_records=events, on_step=say)
    save_snapshot(out, lesson.priors)
    if as_json:
        print_json({"path": str(out), **_fields(lesson.priors), **_figures(lesson._asdict())})
        return
    _print(lesson.priors)
    print(
        f"learned from {lesson.states:,} products on a channel; categories of {lesson.categorised:,} in"
        f" {lesson.records:,} records"
    )
    if lesson.unreadable:
        print(f"{lesson.unreadable:,} states could not be read and were left out")
    print(f"written to {out}: start the workers with REVIEWPULSE_PRIORS={out}")


@priors.command("show")
def show_snapshot(
    file: Path = typer.Argument(help="A snapshot that `priors learn` wrote."),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON instead of a table."),
) -> None:
    """Checks a snapshot and prints the priors in it.

    With `--json`: `{"version", "made_at", "model_version", "channels": {CHANNEL: {"fleet", "categories":
    {NAME}, "week"}}}`, each prior as `{"share", "events", "products"}`; `week` has 168 weights from Monday
    0:00 UTC on, or is left out.
    """
    from stream.cli.terminal import print_json
    from stream.priors import load_snapshot

    found = load_snapshot(file)
    if as_json:
        print_json(_fields(found))
    else:
        _print(found)


def _fields(found: Priors) -> dict[str, object]:
    return {name: getattr(found, name) for name in found.__struct_fields__}


def _figures(lesson: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in lesson.items() if name != "priors"}


def _print(found: Priors) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from stream.cli.terminal import output, printable, shortened

    out = output()
    title = f"priors {found.version}, made {found.made_at} from labels of {found.model_version}"
    out.print(Text(printable(title), "bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("channel", "category", "share", "weight", "products"):
        is_figure = name not in ("channel", "category")
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=True)
    for channel, learned in found.channels.items():
        largest_first = sorted(learned.categories.items(), key=lambda each: (-each[1].products, each[0]))
        for category, prior in [("(fleet)", learned.fleet), *largest_first]:
            table.add_row(
                channel,
                Text(shortened(category, CATEGORY_CHARS)),  # a string would be read as markup
                f"{prior.share:.1%}",
                f"{prior.events:.1f}",
                f"{prior.products:,}",
            )
    out.print(table)
    for channel, learned in found.channels.items():
        out.print(Text(f"{channel}: {_week(learned.week)}"), soft_wrap=True)


def _week(weights: list[float]) -> str:
    """The hours of a week in a line."""
    if not weights:
        return "all hours of a week count alike (Kafka did not hold a whole week)"
    busiest, quietest = (weights.index(pick(weights)) for pick in (max, min))
    return (
        f"busiest on {_hour(busiest)}, {weights[busiest]:.2g} times the average;"
        f" quietest on {_hour(quietest)}, {weights[quietest]:.2g} times"
    )


def _hour(cell: int) -> str:
    """A cell of a week in words.

    >>> _hour(0), _hour(167)
    ('Monday 00:00 UTC', 'Sunday 23:00 UTC')
    """
    return f"{calendar.day_name[cell // 24]} {cell % 24:02}:00 UTC"
