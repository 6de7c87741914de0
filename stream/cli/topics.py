"""``reviewpulse topics``."""

from __future__ import annotations

import typer


def topics(
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of lines."),
) -> None:
    """Creates the Kafka topics, or checks those that exist. Changes none that exist.

    Exit code 1 when one differs from the settings; its line says what to do.

    With `--json`: `{"ok": bool, "topics": [{"topic", "state", "detail", "remedy"}]}`, where state is
    `created`, `ok` or `differs`.
    """
    import json
    from dataclasses import asdict

    from stream.cli.report import Row, print_rows
    from stream.settings import load
    from stream.topics import ensure

    findings = ensure(load())
    ok = all(finding.state in ("created", "ok") for finding in findings)
    if as_json:
        print(json.dumps({"ok": ok, "topics": [asdict(finding) for finding in findings]}))
    else:
        print_rows([Row(each.state, each.topic, each.detail, each.remedy) for each in findings])
    if not ok:
        raise typer.Exit(1)
