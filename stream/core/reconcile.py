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

from stream.core.events import Channel, rfc3339
from stream.core.spike_state import State, pack, unpack

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
        state = unpack(packed) if packed is not None else None
        transitions = [
            *_over(alerts, state, now_ms),
            *_begun(alerts, state, firing, now_ms, historic_after_ms),
        ]
        alerts |= {alert.id: alert for alert in transitions}
        changed = state is not None and _remember(state, alerts)
        if changed or transitions:
            corrections.append(
                Correction(*watched, pack(state) if state is not None and changed else None, transitions)
            )
    return corrections


def _over(alerts: Mapping[str, Alert], state: State | None, now_ms: int) -> list[Alert]:
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
        if alert.state == "firing" and not (state is not None and state.firing and alert.id == _id(state))
    ]


def _begun(
    alerts: Mapping[str, Alert],
    state: State | None,
    firing: Mapping[str, Alert],
    now_ms: int,
    historic_after_ms: int,
) -> list[Alert]:
    """Tells of the alert that fires, unless subscribers know."""
    if state is None or state.firing is None:
        return []
    known = alerts.get(_id(state))
    if known is not None and known.state == "firing":
        return []
    alert = firing[_id(state)]
    age_ms = now_ms - 1000 * _seconds(alert.at)
    return [
        replace(
            alert,
            sequence=known.sequence + 1 if known is not None else alert.sequence,
            historic=alert.historic or age_ms > historic_after_ms,
        )
    ]


def _remember(state: State, alerts: Mapping[str, Alert]) -> bool:
    """Has the state's next transition follow what subscribers know; whether that changed it."""
    known = alerts.get(_id(state)) if state.events else None
    if known is None:
        return False
    # What a firing alert has given out itself, they know; the next one follows.
    told = known.sequence - (state.firing.transitions if state.firing else 0)
    changed = told != state.told
    state.told = told
    return changed


def _id(state: State) -> str:
    return state.alert_id.hex()


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
