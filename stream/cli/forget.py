"""``reviewpulse forget``."""

from __future__ import annotations

import typer


def forget(
    author: str | None = typer.Option(None, help="The customer's id, as in the events' `author_id`."),
    product: str | None = typer.Option(None, help="The product's id."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Only counts; changes nothing."),
    yes: bool = typer.Option(False, "--yes", help="Does not ask."),
    redis_only: bool = typer.Option(
        False,
        "--redis-only",
        help="Leaves Kafka alone. Then quotes are found by the customer's hash alone, and alerts there stay.",
    ),
    as_json: bool = typer.Option(False, "--json", help="One JSON object instead of lines."),
) -> None:
    """Erases what Redis and the alerts topic hold of a customer or a product; workers may run.

    It may be run again at any time. What it cannot reach (Kafka's topics until their retention ends, what was
    delivered already) it says: docs/privacy.md.

    With `--json`: `{"dry_run": bool, "removed": {what: number}, "left": [sentence]}`.

    Exit codes: 2 when it cannot be done now, 3 when Redis or Kafka fails.
    """
    import logging
    import sys

    from stream.errors import UsageError

    if (author is None) == (product is None):
        raise UsageError("Say who or what is to be forgotten: --author ID or --product ID, one of them.")
    if not dry_run and not yes:
        if not sys.stdin.isatty():
            raise UsageError("This cannot be undone: look with --dry-run, then say --yes.")
        typer.confirm("This cannot be undone. Go on?", abort=True)
    from stream.cli.report import Row, print_rows
    from stream.cli.terminal import print_json
    from stream.erasure.run import Forgetting
    from stream.redis_config import connect
    from stream.settings import load

    logging.getLogger("kafka").setLevel(logging.CRITICAL)
    settings = load()
    with connect(settings) as client:
        run = Forgetting(settings, client, dry=dry_run, with_kafka=not redis_only)
        report = run.author(author) if author is not None else run.product(product or "")
    if as_json:
        print_json({"dry_run": dry_run, "removed": report.removed, "left": list(report.left)})
        return
    verb = "would remove" if dry_run else "removed"
    rows = [Row(verb, what, f"{number:,}") for what, number in report.removed.items()]
    print_rows(
        [
            *(rows or [Row(verb, "nothing", "there is nothing of it")]),
            *(Row("stays", "", each) for each in report.left),
        ]
    )
