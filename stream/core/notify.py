"""When are people told, and what? Notifications, and the rule for one thread of them.

Rules:
- Alerts are detection: the same log gives the same ones. Notifications depend on the wall clock and on
  people, so they are apart (``stream.core.notifier`` makes them).
- A *thread* is a product's rule on a channel. It is told when it fires, again after ``renotify_s`` while it
  fires and nobody has acknowledged it, at once when it becomes more severe than was told, and once when it
  has resolved.
- A share that hovers at the threshold fires and resolves again and again. A thread that fires within
  ``min_interval_s`` of its last notification *hovers*: nothing is told before the interval is over, and then
  only if it fires still; from then on its end waits for the interval, too. So people hear of a hovering
  thread at most once in an interval. Its first end is the exception: it is told at once like any incident's,
  for that the thread hovers is known only when it fires again.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from stream.core.events import Alert, rfc3339
from stream.errors import UsageError

NAMED = 50
"""Products and alerts that an incident's notification lists."""

Severity = Literal["warning", "critical"]
RANK = {"": 0, "warning": 1, "critical": 2}

Turn = Literal["firing", "still_firing", "escalated", "resolved"]
"""What a notification tells."""

Scope = Literal["fleet", "category", "model"]

Positive = Annotated[float, msgspec.Meta(gt=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When people are told.

    Raises:
        UsageError: ``min_interval_s`` is above ``renotify_s``, or not above zero.
    """

    renotify_s: Positive = 14_400.0
    """A thread that fires on, or an incident that is on, is told again after so long. Four hours: twice in a
    working day."""
    min_interval_s: Positive = 14_400.0
    """Between two notifications of a thread that hovers."""
    stale_s: Positive = 3_600.0
    """An alert that we hear of later than this is told only if it fires still when all was heard."""
    incident_products: Annotated[int, msgspec.Meta(ge=2)] = 5
    """Products that begin to fire within ``incident_window_s`` and make an incident."""
    incident_window_s: Positive = 900.0
    incident_share: Share = 0.5
    """They must also be this share of all products that began in the last eight windows."""
    incident_over: Share = 0.8
    """An incident is over when this share of its threads has resolved."""
    model_change_s: Positive = 1_800.0
    """What begins so soon after a change of model is put down to it."""
    model_change_products: Annotated[int, msgspec.Meta(ge=1)] = 2
    """Products that make it an incident. The first alone is told by itself, for it may well be real."""

    def __post_init__(self) -> None:
        if not 0 < self.min_interval_s <= self.renotify_s:
            raise UsageError(
                f"min_interval_s is {self.min_interval_s:g}: choose more than 0, and at most renotify_s"
                f" ({self.renotify_s:g})."
            )


class Incident(msgspec.Struct, frozen=True, kw_only=True):
    """What fires together, as it is when it is told."""

    scope: Scope
    category: str | None
    """Of a category's incident."""
    models: tuple[str, str] | None
    """Of a model's incident: the old version and the new one."""
    since: str
    """RFC 3339: when its first alert began."""
    products: list[str]
    """Those that fire, or at its end those that did; at most ``NAMED``. Silenced ones are left out."""
    alerts: list[str]
    """Ids of their last alerts, likewise."""
    firing: int
    """Threads that fire now."""
    total: int
    """Threads that were ever part of it."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to tell people now. A repeat after a crash has the same ``id``."""

    schema: Literal[1] = 1
    id: str
    thread: str
    """Stays the same while it fires, when it resolves and when it fires again: what to update, instead of
    opening another page. Of an incident its id."""
    kind: Literal["alert", "incident"]
    state: Turn
    severity: Severity
    at: str
    """RFC 3339: when it was to be told."""
    fired: int
    """How often it began to fire since it was told of last; above 1 it hovers."""
    alert: Alert | None = None
    """Of kind ``alert``: the last transition, without quotes if an incident held it back."""
    incident: Incident | None = None
    """Of kind ``incident``."""


class Telling(msgspec.Struct):
    """What was told of a thread or an incident."""

    count: int = 0
    """Notifications so far: numbers them."""
    last_ms: int | None = None
    is_open: bool = False
    """That it fires was told, that it has resolved was not."""
    severity: str = ""
    """The highest that was told."""
    hovers: bool = False
    is_acknowledged: bool = False
    fired: int = 0
    """Times it began to fire since the last notification."""
    about: str = ""
    """Id of the alert or incident that was told last."""

    def is_within(self, now_ms: int, interval_s: float) -> bool:
        """Whether the last notification was less than so long ago."""
        # The distance: a clock that was far ahead once must not keep a thread quiet until that day.
        return self.last_ms is not None and abs(now_ms - self.last_ms) < milliseconds(interval_s)

    def told(
        self,
        turn: Turn,
        about: str,
        thread: str,
        severity: Severity,
        now_ms: int,
        *,
        alert: Alert | None = None,
        incident: Incident | None = None,
    ) -> Notification:
        """The notification, remembered as told."""
        notification = Notification(
            id=f"{about}-{turn}-{self.count + 1}",
            thread=thread,
            kind="alert" if incident is None else "incident",
            state=turn,
            severity=severity,
            at=rfc3339(now_ms),
            fired=self.fired,
            alert=alert,
            incident=incident,
        )
        self.count += 1
        self.last_ms = now_ms
        self.fired = 0
        self.about = about
        self.is_open = turn != "resolved"
        self.severity = max(self.severity, severity, key=RANK.__getitem__)
        self.is_acknowledged = self.is_acknowledged and self.is_open
        return notification


def due(telling: Telling, severity: str, now_ms: int, policy: Policy, *, fires: bool) -> Turn | None:
    """What is to be told now, if nothing hides it.

    Args:
        telling: what was told so far.
        severity: of what fires.
        now_ms: the time.
        policy: when people are told.
        fires: whether it fires now.

    >>> told = Telling(count=1, last_ms=0, is_open=True, severity="warning")
    >>> due(told, "warning", 14_399_999, Policy(), fires=True)
    >>> due(told, "warning", 14_400_000, Policy(), fires=True)
    'still_firing'
    >>> due(told, "critical", 5, Policy(), fires=True), due(told, "warning", 5, Policy(), fires=False)
    ('escalated', 'resolved')
    """
    is_soon = telling.is_within(now_ms, policy.min_interval_s)
    is_worse = RANK[severity] > RANK[telling.severity]
    if fires and telling.is_open:
        if is_worse:
            return "escalated"
        is_quiet = telling.is_acknowledged or telling.is_within(now_ms, policy.renotify_s)
        return None if is_quiet else "still_firing"
    if fires:
        return "firing" if (is_worse or not is_soon) and not telling.is_acknowledged else None
    return "resolved" if telling.is_open and not (telling.hovers and is_soon) else None


def milliseconds(seconds: float) -> int:
    """Seconds of a policy as ms, to the nearest.

    >>> milliseconds(0.0015)
    2
    """
    return round(seconds * 1000)
