"""``reviewpulse drill``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from stream.drill.run import Report


PATIENCE_S = 240.0
PATIENCE_MINUTES = 30


def drill(
    names: list[str] = typer.Argument(
        None,
        metavar="[FAULT]...",
        help="nothing, broker-down, redis-down, redis-full, poison-message, slow-model, skewed-partition,"
        " clock-skew, bad-bundle; all when none is named.",
    ),
    minute: float = typer.Option(
        1.0, min=1.0, max=60.0, help="Seconds that a minute of the alert rules lasts; 60 is as deployed."
    ),
    rules: Path | None = typer.Option(
        None, help="Folder of the rule files; deploy/prometheus/rules of this source tree by default."
    ),
    prometheus: Path | None = typer.Option(None, help="Prometheus' executable; that of the PATH by default."),
    bundle: Path | None = typer.Option(None, help="Folder of the model bundle that bad-bundle begins with."),
    patience: float | None = typer.Option(
        None,
        min=1.0,
        help="Seconds in which a rule has to fire, and in which it has to end; by default 240, and half an"
        " hour of the rules.",
    ),
    keep: Path | None = typer.Option(None, help="Folder for logs and data, which stay there."),
    as_json: bool = typer.Option(False, "--json", help="The report as one line of JSON."),
    as_markdown: bool = typer.Option(False, "--markdown", help="The table of docs/runbook.md."),
) -> None:
    """Causes faults on servers of its own; says which alert fired, which panel shows it, and what ended it.

    For each fault: a broker, Valkey, a worker and Prometheus with the deployed rule files are started on
    loopback, the fault is caused for real, and the rules must fire; then the runbook's step is done, the
    rules must stop, and every event must have been counted once. In `nothing`, an hour in which all is well,
    none may fire. Only time is shorter: a minute of the rules lasts `--minute` seconds (ranges, `for`, and
    the thresholds of lag), for poison-message twice that.

    Exit code 1 when a rule did not fire or did not end, or an event was not counted once.

    With `--json`: `{"ok", "minute_s", "faults": [{"fault", "what", "rules": [{"rule", "severity", "panel",
    "runbook", "fired_after_s"}], "also_fired", "step", "minute_s", "ended_after_s", "sent",
    "counted", "dead", "duplicates", "problems"}]}`.
    """
    import logging
    import tempfile

    from rich.console import Console

    from stream.cli.terminal import output, print_json
    from stream.drill.faults import FAULTS
    from stream.drill.prometheus import find, find_rules
    from stream.drill.run import drill as run
    from stream.errors import UsageError
    from stream.settings import load

    known = {fault.name: fault for fault in FAULTS}
    if strange := [name for name in names or () if name not in known]:
        raise UsageError(f"There is no fault {', '.join(strange)}: take of {', '.join(known)}.")
    binary, files = find(prometheus), find_rules(rules)
    logging.getLogger("kafka").setLevel(logging.CRITICAL)  # what it says of a broker that is away on purpose
    errors = Console(stderr=True, highlight=False)
    folder = keep or Path(tempfile.mkdtemp(prefix="reviewpulse-drill-"))
    report = run(
        [known[name] for name in names or known],
        binary,
        files,
        folder.absolute(),
        load(bundle=bundle),
        minute,
        patience or PATIENCE_S + PATIENCE_MINUTES * minute,
        lambda line: errors.print(line, markup=False, soft_wrap=True),
    )
    if as_json:
        print_json(report)
    elif as_markdown:
        print(markdown(report))
    else:
        output().print(table(report))
    if not report.ok:
        errors.print(f"Logs and data are in {folder}.", markup=False, soft_wrap=True)
        raise typer.Exit(1)
    if keep is None:
        import shutil

        shutil.rmtree(folder, ignore_errors=True)


def markdown(report: Report) -> str:
    """The report as a Markdown table."""
    rows = [
        "| fault | rules that fire | after | panels | what ends it | after | events |",
        "|---|---|---|---|---|---|---|",
    ]
    for met in report.faults:
        rules = [f"[{each.rule}](#{each.rule.lower()}) ({each.severity})" for each in met.rules]
        fired = ["never" if each.fired_after_s is None else f"{each.fired_after_s:g} s" for each in met.rules]
        ended = "never" if met.ended_after_s is None else f"{met.ended_after_s:g} s"
        if not met.rules:
            rules, ended = ["none may fire"], ""
        events = f"{met.sent:,} sent, {met.counted:,} counted" + (f", {met.dead:,} dead" if met.dead else "")
        cells = [
            f"`{met.fault}`: {met.what}",
            "<br>".join(rules),
            "<br>".join(fired),
            "<br>".join(each.panel for each in met.rules),
            met.step,
            ended,
            "<br>".join([events, *met.problems]),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def table(report: Report) -> Table:
    """The report for people."""
    from rich.table import Table

    found = Table(title=f"A minute of the rules lasts {report.minute_s:g} s", show_lines=True)
    for heading in ("fault", "rule", "panel", "runbook's step", "ended", "events"):
        found.add_column(heading, overflow="fold")
    for met in report.faults:
        fired = [
            f"{each.rule} ({each.severity}) "
            + ("DID NOT FIRE" if each.fired_after_s is None else f"after {each.fired_after_s:g} s")
            for each in met.rules
        ]
        if met.also_fired:
            fired.append(f"beside: {', '.join(met.also_fired)}")
        if not met.rules:
            fired.append("none may fire")
        ended = (
            "" if not met.rules else "NO" if met.ended_after_s is None else f"after {met.ended_after_s:g} s"
        )
        events = f"{met.sent:,} sent, {met.counted:,} counted, {met.dead:,} dead"
        found.add_row(
            met.fault,
            "\n".join(fired),
            "\n".join(each.panel for each in met.rules),
            met.step,
            ended,
            "\n".join([events, *met.problems]),
        )
    return found
