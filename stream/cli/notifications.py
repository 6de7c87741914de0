"""``reviewpulse alerts --notifications``: what people are to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.text import Text

    from stream.core.notify import Incident, Notification
    from stream.settings import Settings

PRODUCTS_SHOWN = 10
TURNS = {
    "firing": "FIRES",
    "still_firing": "FIRES STILL",
    "escalated": "IS WORSE",
    "resolved": "IS OVER",
}


def tell(
    settings: Settings,
    group: str | None,
    renotify: str,
    *,
    follow: bool,
    from_beginning: bool,
    as_json: bool,
) -> None:
    """Prints what is to be told.

    Args:
        settings: where Kafka and Redis are.
        group: a name under which position and memory are kept, if they are.
        renotify: after how long what fires on is told again, as ``4h``.
        follow: waits for more.
        from_beginning: where there is no position, begins with the oldest transition kept.
        as_json: lines of JSON.
    """
    from stream.cli.alerts import stop_on_signals
    from stream.cli.terminal import print_json
    from stream.client import Notifications
    from stream.core.notify import Policy
    from stream.core.silence import duration_ms

    interval_s = duration_ms(renotify) / 1000
    policy = Policy(renotify_s=interval_s, min_interval_s=interval_s)
    show: Callable[[Notification], None] = print_json if as_json else _print_block
    # Without a place to go on from, what fires already would never be told.
    begins = from_beginning or not (follow or group)
    shown = 0
    with Notifications(settings, group=group, policy=policy, from_beginning=begins) as told:
        if follow:
            stop_on_signals(told)
        each_one: Iterable[Notification] = told if follow else told.available()
        for shown, each in enumerate(each_one, start=1):  # noqa: B007 - counted for the line below
            show(each)
    if not (shown or follow or as_json):
        print("There is nothing to tell.")


def _print_block(notification: Notification) -> None:
    from stream.cli.terminal import output

    output().print(block(notification), soft_wrap=True)


def block(notification: Notification) -> Text:
    """A notification for people: what to know now, then the alert or the incident."""
    from rich.text import Text

    from stream.cli import alerts

    style = "bold green" if notification.state == "resolved" else "bold red"
    text = Text(f"{notification.at}  {TURNS[notification.state]}", style)
    if notification.fired > 1:
        text.append(f"  hovers: it has fired {notification.fired} times since it was told last", "default")
    if notification.incident is not None:
        text.append(f"  {notification.severity}, id {notification.thread}", "default")
        return text.append("".join(f"\n  {line}" for line in _lines(notification.incident)) + "\n", "default")
    text.append("\n")
    return text.append_text(alerts.block(notification.alert)) if notification.alert is not None else text


def _lines(incident: Incident) -> list[str]:
    """What an incident is, then its products."""
    from stream.cli.terminal import printable

    cause = {
        "fleet": "many products at once",
        "category": f"many products of the category {incident.category}",
        "model": "after the model changed from {} to {}".format(*(incident.models or ("", ""))),
    }[incident.scope]
    lines = [f"{cause}: {incident.firing:,} of {incident.total:,} fire, since {incident.since}"]
    lines += incident.products[:PRODUCTS_SHOWN]
    if len(incident.products) > PRODUCTS_SHOWN:
        lines.append("and more")
    return [printable(line) for line in lines]
