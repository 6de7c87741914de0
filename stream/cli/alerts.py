"""``reviewpulse alerts``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.text import Text

    from stream.client import AlertSubscriber, Notifications
    from stream.core.events import Alert
    from stream.core.silence import Said
    from stream.settings import Settings

QUOTES_SHOWN = 3
QUOTE_CHARS = 160
LISTEN_S = 2.0
"""How old the silences shown may be."""
AWAY_S = 60.0
"""How long Redis is left alone after it did not answer: each try may take seconds."""


def alerts(
    follow: bool = typer.Option(False, "--follow", help="Waits for new ones until Ctrl-C."),
    from_beginning: bool = typer.Option(
        False, "--from-beginning", help="Every transition that is kept, oldest first."
    ),
    as_json: bool = typer.Option(False, "--json", help="One line of JSON a transition or notification."),
    notifications: bool = typer.Option(
        False, "--notifications", help="What people are to be told and when, not every transition."
    ),
    renotify: str = typer.Option(
        "4h", metavar="LENGTH", help="With --notifications: what fires on is told again after so long."
    ),
    group: str | None = typer.Option(
        None,
        metavar="NAME",
        help="With --notifications: goes on after a restart where it was, kept under this name.",
    ),
) -> None:
    """Alerts, each transition once, with who silenced or acknowledged them.

    Without options: every alert in its present state, by the time of its last transition, and ends. With
    `--from-beginning`: every transition still kept. With `--follow`: transitions from now on, or with both
    options from the first one on, until Ctrl-C.

    With `--notifications` instead: what is to be told. Silenced alerts are not; what fires on is told again
    after `--renotify` unless it is acknowledged, a share that hovers at the threshold at most once in that
    time; many products at once are one incident. Without `--follow` it prints what is to be told now and
    ends.

    With `--json`, a line each: a transition as the schema of the alerts topic says
    (`stream/schemas/alerts.json`); a notification as `{"schema", "id", "thread", "kind", "state", "severity",
    "at", "fired", "alert", "incident"}`.
    """
    from stream.errors import UsageError
    from stream.settings import load

    settings = load()
    if notifications:
        from stream.cli.notifications import tell

        tell(settings, group, renotify, follow=follow, from_beginning=from_beginning, as_json=as_json)
        return
    if group is not None:
        raise UsageError("--group is for --notifications: transitions are read without one.")
    _transitions(settings, follow=follow, from_beginning=from_beginning, as_json=as_json)


def _transitions(settings: Settings, *, follow: bool, from_beginning: bool, as_json: bool) -> None:
    from stream.cli.terminal import print_json
    from stream.client import AlertSubscriber

    show: Callable[[Alert], None] = print_json if as_json else _Printer(settings).show
    with AlertSubscriber(settings, from_beginning=from_beginning or not follow) as subscriber:
        if follow:
            stop_on_signals(subscriber)
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


def stop_on_signals(followed: AlertSubscriber | Notifications) -> None:
    """Ctrl-C and SIGTERM end the iteration."""
    import signal

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: followed.stop())


class _Printer:
    """Prints transitions with what people said of them, as long as Redis tells."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._said: Said | None = None
        self._until_s = 0.0

    def show(self, alert: Alert) -> None:
        """Prints one."""
        import time

        from rich.console import Console

        now_s = time.time()
        if self._said is None or now_s >= self._until_s:
            self._said, good_s = self._listen()
            self._until_s = now_s + good_s
        shown = block(alert, remarks(alert, self._said, round(now_s * 1000)))
        Console(highlight=False).print(shown, soft_wrap=True)

    def _listen(self) -> tuple[Said, float]:
        """What people said, and for how long that will do. Without Redis nothing: alerts are Kafka's."""
        from rich.console import Console

        from stream.core.silence import Said
        from stream.errors import ReviewpulseError
        from stream.redis_config import connect
        from stream.silences import Silences

        try:
            with connect(self._settings) as client:
                return Silences(self._settings, client).read(), LISTEN_S
        except ReviewpulseError as error:
            errors = Console(stderr=True, highlight=False)
            errors.print(str(error), style="yellow", markup=False, soft_wrap=True)
            return Said(), AWAY_S


def remarks(alert: Alert, said: Said, now_ms: int) -> list[str]:
    """What people said of an alert that fires."""
    from stream.core.events import rfc3339

    if alert.state != "firing":
        return []
    lines = []
    silence = said.silence_of(alert, now_ms)
    if silence is not None:
        author = silence.author or "somebody"
        lines.append(f"silenced until {rfc3339(silence.end_ms)} by {author}: {silence.reason}")
    acknowledged = said.acknowledged.get(alert.id)
    if acknowledged is not None:
        note = f": {acknowledged.note}" if acknowledged.note else ""
        author = acknowledged.author or "somebody"
        lines.append(f"acknowledged by {author} at {rfc3339(acknowledged.at_ms)}{note}")
    return lines


def block(alert: Alert, remarks: Iterable[str] = ()) -> Text:
    """An alert's transition for people: a headline, what people said of it, the numbers, the evidence."""
    from rich.text import Text

    from stream.cli.terminal import printable, shortened

    firing = alert.state == "firing"
    style = "bold red" if firing else "bold green"
    headline = f"{alert.state.upper()} {printable(alert.product_id)} ({alert.channel})"
    text = Text(headline, style)
    text.append(f"  {alert.severity}, {printable(alert.rule)}", "default")
    if alert.historic:
        text.append("  historic", "dim")
    for remark in remarks:
        text.append(f"\n  {printable(remark)}", "bold yellow")
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
