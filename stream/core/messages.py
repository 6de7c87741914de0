"""What ``reviewpulse notify`` delivers: one message, made of an alert's transition or of a notification.

Rules:
- The same transition or notification gives the same message with the same ``id``, whenever it is made:
  receivers tell repeats by it.
- A message's *lane* is what keeps its order: an alert's transitions are one lane, a notification's thread is
  one. Messages of different lanes may overtake each other.
- A transition that is not the first and fires is an escalation: nothing else happens to an alert that fires.
"""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from stream.core.events import Alert  # noqa: TC001 (msgspec reads the annotations)
from stream.core.notify import Incident, Notification, Severity, Turn

Hears = Literal["notifications", "transitions"]
"""What a target is told: what people must hear of now, or whatever happens to alerts."""

STATES: tuple[Turn, ...] = get_args(Turn)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to deliver. As JSON it is the body of a webhook."""

    schema: Literal[1] = 1
    id: str
    """The same for every repeat: the idempotency key."""
    hears: Hears
    state: Turn
    severity: Severity
    at: str
    """RFC 3339: when it happened, or was to be told."""
    lane: str
    """Stays the same from beginning to end of an alert, or of a notification's thread."""
    number: int
    """Rises within a lane of transitions (it is the alert's ``sequence``); 0 of notifications."""
    fired: int = 1
    """Of a notification: how often it began to fire since it was told last; above 1 it hovers."""
    alert: Alert | None = None
    incident: Incident | None = None
    """Of a notification of many products at once; then there is no ``alert``."""

    @property
    def is_historic(self) -> bool:
        """Whether it is about events that were old when they came."""
        return self.alert is not None and self.alert.historic


def of_alert(alert: Alert) -> Message:
    """The message that tells a transition."""
    begins: Turn = "firing" if alert.sequence == 1 else "escalated"
    state: Turn = "resolved" if alert.state == "resolved" else begins
    return Message(
        id=f"{alert.id}-{alert.sequence}",
        hears="transitions",
        state=state,
        severity=alert.severity,
        at=alert.at,
        lane=alert.id,
        number=alert.sequence,
        alert=alert,
    )


def of_notification(notification: Notification) -> Message:
    """The message that tells a notification."""
    return Message(
        id=notification.id,
        hears="notifications",
        state=notification.state,
        severity=notification.severity,
        at=notification.at,
        lane=notification.thread,
        number=0,
        fired=notification.fired,
        alert=notification.alert,
        incident=notification.incident,
    )
