"""``reviewpulse silence``, ``silences``, ``unsilence`` and ``ack``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from stream.core.silence import Silence
    from stream.settings import Settings
    from stream.silences import Silences


def silence(
    product: str | None = typer.Argument(None, help="Product id."),
    length: str = typer.Option(..., "--for", metavar="LENGTH", help="How long: 30m, 2h, 1d12h."),
    reason: str = typer.Option(..., help="Why, for whoever wonders."),
    begin: str | None = typer.Option(
        None, "--from", metavar="TIME", help="When it begins, RFC 3339, e.g. 2024-01-17T22:00:00Z; else now."
    ),
    rule: str | None = typer.Option(None, help="Only alerts of this rule."),
    category: str | None = typer.Option(None, help="Every product of this category."),
    pattern: str | None = typer.Option(None, help="Every product whose id fits this glob, e.g. 'kettle-*'."),
    everything: bool = typer.Option(False, "--all", help="Every product."),
    author: str | None = typer.Option(None, help="Whose silence it is; else the user who runs this."),
) -> None:
    """Nobody is notified of these alerts for a while; what fires still when it ends is told then.

    Alerts themselves go on: they are detected, published and listed as ever, with the silence beside them.
    Whatever is named must fit, all of it: a product and a rule are that rule for that product alone.
    Prints the silence's id, with which `reviewpulse unsilence` ends it early.
    """
    import secrets
    import time

    from stream.cli.moments import time_ms
    from stream.core.events import rfc3339
    from stream.core.silence import Silence, duration_ms
    from stream.errors import UsageError

    named = (product, rule, category, pattern)
    if everything and product is not None:
        raise UsageError(f"--all is every product: leave it out, or {product!r}.")
    if named == (None, None, None, None) and not everything:
        raise UsageError("Say what is to be silent: a product, --category, --pattern, --rule or --all.")
    if not reason.strip():
        raise UsageError("--reason is empty: whoever finds the silence will want to know why.")
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms if begin is None else time_ms("--from", begin)
    made = Silence(
        id=secrets.token_hex(4),
        start_ms=start_ms,
        end_ms=start_ms + duration_ms(length),
        reason=reason,
        author=_author(author),
        product=product,
        category=category,
        pattern=pattern,
        rule=rule,
        everything=everything,
    )
    if made.end_ms <= now_ms:
        raise UsageError(f"That silence was over at {rfc3339(made.end_ms)}: give a later --from.")
    with _silences() as (_, there):
        there.add(made, now_ms)
    print(f"{made.id}: {_shown(made)} is silent until {rfc3339(made.end_ms)}.")


def silences(
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a silence."),
) -> None:
    """The silences there are, those over since yesterday included.

    With `--json`, a line each: `{"id", "on", "start", "end", "reason", "author", "product", "category",
    "pattern", "rule", "everything"}`; what a silence does not name is null.
    """
    import time

    from rich.text import Text

    from stream.cli.terminal import output, print_json, printable
    from stream.core.events import rfc3339

    now_ms = time.time_ns() // 1_000_000
    with _silences() as (_, there):
        found = there.read().silences
    out = output()
    for each in found:
        if as_json:
            print_json(_fields(each, now_ms))
            continue
        is_on = each.is_on(now_ms)
        state = "on" if is_on else "over" if each.end_ms <= now_ms else "to come"
        line = Text(f"{printable(each.id)}  {state}", "bold" if is_on else "dim")
        line.append(f"  {_shown(each)}, {rfc3339(each.start_ms)} to {rfc3339(each.end_ms)}", "default")
        line.append(f"\n  {printable(each.author)}: {printable(each.reason)}", "default")
        out.print(line, soft_wrap=True)
    if not found and not as_json:
        out.print("There are no silences.")


def unsilence(
    silence_id: str = typer.Argument(metavar="ID", help="As `reviewpulse silences` lists it."),
) -> None:
    """Ends a silence now; what fires still is told."""
    import time

    with _silences() as (_, there):
        ended = there.end(silence_id, time.time_ns() // 1_000_000)
    print(f"{_shown(ended)} is no longer silent.")


def ack(
    alert_id: str = typer.Argument(metavar="ALERT_ID", help="An alert's id, or an incident's."),
    note: str = typer.Option("", help="What you are doing about it."),
    author: str | None = typer.Option(None, help="Who looks after it; else the user who runs this."),
) -> None:
    """Acknowledges an alert or an incident: somebody is on it, so it is not told again while it fires.

    Its end is told, and if it becomes more severe that is, too.
    """
    import time

    from stream.cli.terminal import printable
    from stream.core.silence import Acknowledgement

    who = _author(author)
    with _silences() as (settings, there):
        if not alert_id.startswith("incident-"):
            _check_firing(settings, alert_id)
        at_ms = time.time_ns() // 1_000_000
        there.acknowledge(Acknowledgement(alert_id=alert_id, at_ms=at_ms, author=who, note=note))
    print(f"{printable(alert_id)} is acknowledged by {printable(who)}.")


@contextmanager
def _silences() -> Iterator[tuple[Settings, Silences]]:
    from stream.redis_config import connect
    from stream.settings import load
    from stream.silences import Silences

    settings = load()
    with connect(settings) as client:
        yield settings, Silences(settings, client)


def _check_firing(settings: Settings, alert_id: str) -> None:
    """Only what fires can be acknowledged.

    Raises:
        UsageError: there is no such alert, or it has resolved.
    """
    from stream.client import AlertSubscriber
    from stream.errors import UsageError

    with AlertSubscriber(settings, from_beginning=True) as subscriber:
        last = [alert for alert in subscriber.available() if alert.id == alert_id]
    if not last:
        raise UsageError(f"There is no alert {alert_id!r}: `reviewpulse alerts` lists those there are.")
    if last[-1].state == "resolved":
        raise UsageError(
            f"The alert {alert_id!r} has resolved at {last[-1].at}: there is nothing to acknowledge."
        )


def _author(given: str | None) -> str:
    import getpass

    if given is not None:
        return given
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name; KeyError until Python 3.13
        return "unknown"


def _shown(made: Silence) -> str:
    """What a silence is for.

    >>> from stream.core.silence import Silence
    >>> _shown(Silence(id="s", start_ms=0, end_ms=1, reason="r", category="kettles", rule="surge"))
    'category kettles, rule surge'
    """
    from stream.cli.terminal import printable

    parts = [
        f"{word} {printable(value)}"
        for word, value in (
            ("product", made.product),
            ("category", made.category),
            ("products like", made.pattern),
            ("rule", made.rule),
        )
        if value is not None
    ]
    return ", ".join(["everything"] * made.everything + parts)


def _fields(made: Silence, now_ms: int) -> dict[str, Any]:
    from stream.core.events import rfc3339

    return {
        "id": made.id,
        "on": made.is_on(now_ms),
        "start": rfc3339(made.start_ms),
        "end": rfc3339(made.end_ms),
        "reason": made.reason,
        "author": made.author,
        "product": made.product,
        "category": made.category,
        "pattern": made.pattern,
        "rule": made.rule,
        "everything": made.everything,
    }
