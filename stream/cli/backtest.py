"""``reviewpulse backtest``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003  # typer reads the annotation
from typing import TYPE_CHECKING

import typer

from stream.core.events import Channel  # noqa: TC001  # likewise
from stream.errors import UsageError
from stream.replay import Format  # noqa: TC001

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.backtest.labels import Verdicts
    from stream.backtest.read import Countable
    from stream.backtest.run import RuleSet
    from stream.core.backtest import Quality
    from stream.settings import Settings


def backtest(
    file: str = typer.Argument(help="The history, as `reviewpulse replay` reads it; `-` is standard input."),
    format_: Format = typer.Option(..., "--format", help="As of `reviewpulse replay`."),
    column: list[str] = typer.Option(
        [], metavar="FIELD=COLUMN", help="Which column an event's field is in, as of `reviewpulse replay`."
    ),
    topic: Channel = typer.Option("reviews", help="What the events are."),
    stars: bool = typer.Option(False, "--stars", help="Ratings of 1 and 2 are negative; no model is loaded."),
    labelled: bool = typer.Option(
        False, "--labelled", help="Rows have a `label` or a `p_negative` already; no model is loaded."
    ),
    scores: Path | None = typer.Option(
        None, help="Keeps the model's scores in this file, or takes them from it: a second run takes seconds."
    ),
    rules: Path | None = typer.Option(None, help="A rules file (TOML)."),
    against: str | None = typer.Option(
        None,
        metavar="FILE|NAME=NUMBER,...",
        help="Compares with another rules file, or budget: `min_negatives=4,false_alarms_per_day=10`.",
    ),
    false_alarms_per_day: float | None = typer.Option(None, min=1e-9, help="False alarms a day allowed."),
    expected_events_per_day: float | None = typer.Option(
        None, min=1e-9, help="Events a day that the budget is for."
    ),
    min_events: int | None = typer.Option(None, min=1, help="Events a product needs before it can alert."),
    min_negatives: int | None = typer.Option(
        None, min=1, help="Negatives since the onset that an alert needs."
    ),
    labels: str | None = typer.Option(
        None,
        metavar="FILE",
        help="Labelled incidents, CSV or JSON lines: `product_id`, `start`, `end`, perhaps `channel`.",
    ),
    fail_under_recall: float | None = typer.Option(
        None, min=0, max=1, help="Exit code 1 where a smaller share of the labelled incidents is found."
    ),
    fail_over_false_alarms: float | None = typer.Option(
        None, min=0, help="Exit code 1 where there are more false alarms a day of history."
    ),
    html: Path | None = typer.Option(None, help="Writes a page with a timeline of each product here."),
    bundle: Path | None = typer.Option(None, help="Folder of the model bundle."),
    as_json: bool = typer.Option(False, "--json", help="The report as one line of JSON."),
) -> None:
    """Replays history through the worker's own decoding, rule of duplicates and detector, at full speed.

    Needs no server. Every event arrives at its own time. The bundle scores the texts, unless --stars or
    --labelled says who else knows what is negative.

    With --labels: an alert that fires in a labelled incident of its product finds it, further ones in it
    count neither way, and one that fires in none is a false alarm. Delays run from the labelled start.

    Exit code 1: a --fail-... bound is violated (by --rules, not by --against). Rows that cannot be judged are
    named and leave it at 0.
    """
    from stream.backtest.labels import observed
    from stream.backtest.read import read_countable
    from stream.backtest.report import Report, builtins_of
    from stream.backtest.run import RuleSet, replayed, rule_set_of
    from stream.backtest.windows import read_windows
    from stream.cli.backtest_tables import print_report
    from stream.cli.terminal import print_flaws, print_json
    from stream.core.decode import Limits
    from stream.settings import load

    settings = load(bundle=bundle)
    if labels is None and (fail_under_recall is not None or fail_over_false_alarms is not None):
        raise UsageError("--fail-under-recall and --fail-over-false-alarms need --labels FILE.")
    _need_one_source(stars=stars, labelled=labelled, scores=scores)
    _need_folders(scores, html)
    knobs = {
        "false_alarms_per_day": false_alarms_per_day,
        "expected_events_per_day": expected_events_per_day,
        "min_events": min_events,
        "min_negatives": min_negatives,
    }
    given = {name: number for name, number in knobs.items() if number is not None}
    rule_sets = [RuleSet("the settings" if rules is None else str(rules), rules, given)]
    if against is not None:
        rule_sets.append(rule_set_of(against, rule_sets[0]))
    _need_usable(rule_sets, settings)
    limits = Limits(settings.max_event_bytes, int(settings.allowed_skew_s * 1000))
    countable = read_countable(file, format_, topic, column, limits, settings.segments_kept)
    products = {event.product_id for event in countable.events}
    windows = None if labels is None else read_windows(labels, topic, products)
    print_flaws(countable.flaws, "row")
    verdicts = _verdicts(file, countable, settings, stars=stars, labelled=labelled, scores=scores)
    print_flaws(verdicts.flaws, "row")
    by_product = observed(countable, verdicts)
    judged = replayed(by_product, topic, rule_sets, settings, verdicts.by, windows)
    report = Report(file, countable, verdicts, by_product, windows, judged)
    if html is not None:
        from stream.backtest.page import write_page

        write_page(report, html)
    if as_json:
        print_json(builtins_of(report))
    else:
        print_report(report)
    if _is_violated(judged.outcomes[0].quality, fail_under_recall, fail_over_false_alarms):
        raise typer.Exit(1)


def _need_one_source(*, stars: bool, labelled: bool, scores: Path | None) -> None:
    given = [
        name
        for name, is_given in (("--stars", stars), ("--labelled", labelled), ("--scores", scores is not None))
        if is_given
    ]
    if len(given) > 1:
        raise UsageError(f"Give one of {', '.join(given)}: each says what is negative.")


def _need_folders(*files: Path | None) -> None:
    """Before the scoring, which may take hours."""
    for file in files:
        if file is not None and not file.parent.is_dir():
            raise UsageError(f"There is no folder {file.parent} to write {file.name} in; make it first.")


def _need_usable(rule_sets: Sequence[RuleSet], settings: Settings) -> None:
    """Likewise before the scoring."""
    from stream.backtest.run import detector_of

    for rule_set in rule_sets:
        detector_of(rule_set, settings, model_version="")


def _verdicts(
    file: str,
    countable: Countable,
    settings: Settings,
    *,
    stars: bool,
    labelled: bool,
    scores: Path | None,
) -> Verdicts:
    from stream.backtest.labels import by_file, by_model, by_stars
    from stream.cli.terminal import event_progress

    if stars:
        return by_stars(countable)
    if labelled:
        return by_file(countable)
    with event_progress(f"Scoring {file}", len(countable.events)) as advance:
        return by_model(countable, settings, scores, lambda done: advance(done, done))


def _is_violated(quality: Quality | None, least_recall: float | None, most_false: float | None) -> bool:
    if quality is None:
        return False
    too_few = least_recall is not None and quality.recall < least_recall
    too_many = most_false is not None and quality.false_alarms_per_day > most_false
    return too_few or too_many
