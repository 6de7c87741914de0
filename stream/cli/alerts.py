"""``reviewpulse alerts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

    from stream.core.events import Alert

QUOTES_SHOWN = 3
QUOTE_CHARS = 160


def alerts(
    follow: bool = typer.Option(False, "--follow", help="Waits for new transitions until Ctrl-C."),
    from_beginning: bool = typer.Option(
        False, "--from-beginning", help="Every transition that is kept, oldest first."
    ),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a transition."),
) -> None:
    """Alerts, each transition once.

    Without options: every alert in its present state, by the time of its last transition, and ends. With
    `--from-beginning`: every transition still kept. With `--follow`: transitions from now on, or with both
    options from the first one on, until Ctrl-C.

    With `--json`, a line each, as the schema of the alerts topic says (`stream/schemas/alerts.json`).
    """
    import signal

    from stream.cli.terminal import print_json
    from stream.client import AlertSubscriber

    show: Callable[[Alert], None] = print_json if as_json else _print_block
    with AlertSubscriber(from_beginning=from_beginning or not follow) as subscriber:
        if follow:
            for each in (signal.SIGINT, signal.SIGTERM):
                signal.signal(each, lambda *_: subscriber.stop())
            for alert in subscriber:
                show(alert)
            return
        transitions = subscriber.available()
        if not from_beginning:
            latest = {alert.id: alert for alert in transitions}
            transitions = iter(sorted(latest.values(), key=lambda alert: (alert.at, alert.id)))
        shown = 0
        for shown, alert in enumerate(transitions, start=1):  # noqa: B007 - counted for the line below
            show(alert)
    if not shown and not as_json:
        print("There are no alerts.")


def _print_block(alert: Alert) -> None:
    from rich.console import Console

    Console(highlight=False).print(block(alert), soft_wrap=True)


def block(alert: Alert) -> Text:
    """An alert's transition for people: a headline, the numbers, the evidence."""
    from rich.text import Text

    from stream.cli.terminal import printable, shortened

    firing = alert.state == "firing"
    style = "bold red" if firing else "bold green"
    headline = f"{alert.state.upper()} {printable(alert.product_id)} ({alert.channel})"
    text = Text(headline, style)
    text.append(f"  {alert.severity}, {printable(alert.rule)}", "default")
    if alert.historic:
        text.append("  historic", "dim")
    share = _share(alert.current_share, alert.current_interval)
    usual = _share(alert.baseline_share, alert.baseline_interval)
    for fact in (
        f"at {alert.at}, since {alert.onset} ({_duration(alert.duration_s)})",
        f"{alert.negatives:,} of {alert.events:,} negative: {share}, usually {usual}",
        f"peak {alert.peak_share:.0%}, {alert.distinct_authors:,} known authors, model {alert.model_version}",
        f"id {alert.id}, transition {alert.sequence}",
    ):
        text.append(f"\n  {printable(fact)}", "default")
    for quote in alert.quotes[:QUOTES_SHOWN]:
        text.append(f"\n  {quote.p_negative:.2f} ", "dim")
        text.append(f"“{shortened(quote.text, QUOTE_CHARS)}”", "italic")
    return text.append("\n")


def _share(share: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{share:.0%} ({low:.0%} to {high:.0%})"


def _duration(seconds: float) -> str:
    """Two units at most.

    >>> _duration(42), _duration(3_700), _duration(200_000)
    ('42 s', '1 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3_600} h {whole % 3_600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3_600} h"
