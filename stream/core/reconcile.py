"""After a recount: what subscribers must hear so that they know what the detector's states say.

Rules:
- Nothing that subscribers know already is told again, nothing of the past is told at all: the outcome alone.
- An alert that subscribers take for firing and that is not is resolved; one that fires and that they do not
  know of, or take for resolved, is told.
- What was told of an alert cannot be taken back: subscribers go by the highest sequence. So what is told here
  continues the sequence they know, and the detector's state remembers it for the transitions to come.
- An alert whose last event is long ago is ``historic``: nobody should be woken.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from stream.core.detection import alert_ids, follow
from stream.core.events import Channel, rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.events import Alert

Watched = tuple[str, Channel]
"""A product on a channel: what the detector has a state of."""


class Correction(NamedTuple):
    """What is to be done about one product on one channel."""

    product_id: str
    channel: Channel
    state: bytes | None
    """The new state of the detector; None leaves the one there."""
    transitions: list[Alert]


def latest(transitions: Iterable[Alert]) -> dict[str, Alert]:
    """The highest transition of each alert, by id: what a subscriber goes by."""
    known: dict[str, Alert] = {}
    for alert in transitions:
        if alert.id not in known or known[alert.id].sequence < alert.sequence:
            known[alert.id] = alert
    return known


def concerned(known: Mapping[str, Alert], firing: Mapping[str, Alert]) -> list[Watched]:
    """Whose detector states ``reconcile`` wants to see."""
    alerts = [*known.values(), *firing.values()]
    return sorted({(alert.product_id, alert.channel) for alert in alerts})


def reconcile(
    known: Mapping[str, Alert],
    firing: Mapping[str, Alert],
    states: Mapping[Watched, bytes | None],
    *,
    now_ms: int,
    historic_after_ms: int,
) -> list[Correction]:
    """What to tell, and what to remember of it.

    Args:
        known: what subscribers know: the last transition of each alert, by id.
        firing: the transitions by which the alerts that fire by the recount began to, by id.
        states: what the recount left of each product that either is about.
        now_ms: when this is told.
        historic_after_ms: an alert whose last event is longer ago is historic.

    Returns:
        One for each product and channel where something is to be done.
    """
    known_of: dict[Watched, dict[str, Alert]] = {watched: {} for watched in concerned(known, firing)}
    for alert in known.values():
        known_of[alert.product_id, alert.channel][alert.id] = alert
    corrections = []
    for watched, alerts in known_of.items():
        packed = states.get(watched)
        fires = [id_ for id_, is_firing in alert_ids(packed).items() if is_firing]
        transitions = [
            *_over(alerts, fires, now_ms),
            *_begun(alerts, [firing[id_] for id_ in fires], now_ms, historic_after_ms),
        ]
        alerts |= {alert.id: alert for alert in transitions}
        told = {id_: alert.sequence for id_, alert in alerts.items()}
        state = follow(packed, told) if packed is not None else None
        changed = state if state != packed else None
        if changed is not None or transitions:
            corrections.append(Correction(*watched, changed, transitions))
    return corrections


def _over(alerts: Mapping[str, Alert], fires: Sequence[str], now_ms: int) -> list[Alert]:
    """Resolves what subscribers take for firing and is not."""
    return [
        replace(
            alert,
            sequence=alert.sequence + 1,
            state="resolved",
            at=rfc3339(now_ms),
            duration_s=max(0.0, now_ms / 1000 - _seconds(alert.onset)),
        )
        for alert in alerts.values()
        if alert.state == "firing" and alert.id not in fires
    ]


def _begun(
    alerts: Mapping[str, Alert], firing: Sequence[Alert], now_ms: int, historic_after_ms: int
) -> list[Alert]:
    """Tells of the alerts that fire, unless subscribers know."""
    begun = []
    for alert in firing:
        known = alerts.get(alert.id)
        if known is None or known.state != "firing":
            age_ms = now_ms - 1000 * _seconds(alert.at)
            sequence = known.sequence + 1 if known is not None else alert.sequence
            historic = alert.historic or age_ms > historic_after_ms
            begun.append(replace(alert, sequence=sequence, historic=historic))
    return begun


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
