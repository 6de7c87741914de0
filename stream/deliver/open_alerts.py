"""How many alerts fire now, followed from the alerts topic: one number for each severity, for ``/metrics``.

Rules:
- Only ids, sequences and severities are kept; an alert that has resolved is remembered by its sequence alone,
  for ``KEPT`` alerts, lest an older transition opens it again.
- Historic alerts count for nothing: nobody is told of them either.
- It knows nothing while the broker is away or the topic is still being read; the last numbers stay.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from stream.client import AlertSubscriber
from stream.errors import ReviewpulseError

if TYPE_CHECKING:
    from stream.core.events import Alert
    from stream.settings import Settings

logger = logging.getLogger(__name__)

KEPT = 20_000
RETRY_S = 2.0
SEVERITIES = ("warning", "critical")


class _Known(NamedTuple):
    sequence: int
    severity: str | None
    """Of one that fires; None: it does not count."""


class OpenAlerts:
    """The alerts that fire."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self.firing = dict.fromkeys(SEVERITIES, 0)

    def add(self, alert: Alert) -> None:
        """Takes a transition in; a known one, or an older one, changes nothing."""
        before = self._known.get(alert.id)
        if before is not None and alert.sequence <= before.sequence:
            return
        counts = alert.state == "firing" and not alert.historic
        if before is not None and before.severity is not None:
            self.firing[before.severity] -= 1
        self._known[alert.id] = _Known(alert.sequence, alert.severity if counts else None)
        self._known.move_to_end(alert.id)
        if counts:
            self.firing[alert.severity] += 1
        while len(self._known) > KEPT:
            _, oldest = self._known.popitem(last=False)
            if oldest.severity is not None:
                self.firing[oldest.severity] -= 1


class FollowedAlerts(threading.Thread):
    """Follows the topic in a thread of its own, until told to stop.

    Attributes:
        trouble: what keeps it from hearing news, as a sentence; None when all is well.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(name="open alerts", daemon=True)
        self.alerts = OpenAlerts()
        self.trouble: str | None = "The alerts are still being read."
        self._settings = settings
        self._stopped = threading.Event()
        self._subscriber: AlertSubscriber | None = None

    def stop(self) -> None:
        """Ends it within a second or so."""
        self._stopped.set()
        if self._subscriber is not None:
            self._subscriber.stop()

    def run(self) -> None:
        """Follows."""
        while not self._stopped.is_set():
            try:
                with AlertSubscriber(self._settings, from_beginning=True) as subscriber:
                    self._subscriber = subscriber
                    for alert in subscriber.available():
                        self.alerts.add(alert)
                    self.trouble = None
                    if not self._stopped.is_set():
                        for alert in subscriber:
                            self.alerts.add(alert)
            except ReviewpulseError as error:
                if self.trouble is None:
                    logger.warning("the alerts cannot be followed: %s", error)
                self.trouble = str(error)
                self._stopped.wait(RETRY_S)
