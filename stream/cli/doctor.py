"""``reviewpulse doctor``."""

from __future__ import annotations

import typer


def doctor(
    worker_here: bool = typer.Option(
        False,
        help="Ask only whether the worker on this host is well: for container health checks. It is asked at"
        " REVIEWPULSE_HEALTH; without it, Redis is asked whether it has reported lately.",
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of lines."),
) -> None:
    """Says what works: settings, broker, topics, Redis, workers, bundle, provider in use, disk.

    Changes nothing.

    Exit code 1 when something fails; its line says what to do.

    With `--json`: `{"ok": bool, "checks": [{"name", "state", "detail", "remedy"}], "missing": [{"partition",
    "log", "first", "last"}]}`, where state is `ok`, `warn` or `fail`, and missing are all ranges of offsets
    that are listed as deleted before they were counted.
    """
    import json
    import logging
    import os

    from stream import doctor as room
    from stream.cli.report import Row, print_rows
    from stream.settings import load

    # Libraries' own words on a server that is away: the finding says it once.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings = load()
    findings = [room.worker_here(settings)] if worker_here else room.examine(settings, os.environ)
    ok = all(finding.state != "fail" for finding in findings)
    if as_json:
        checks = [finding._asdict() for finding in findings]
        missing = [each._asdict() for check in checks for each in check.pop("missing")]
        print(json.dumps({"ok": ok, "checks": checks, "missing": missing}))
    else:
        print_rows([Row(each.state, each.name, each.detail, each.remedy) for each in findings])
    if not ok:
        raise typer.Exit(1)
