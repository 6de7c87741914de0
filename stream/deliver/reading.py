"""What ``/metrics`` shows of ``reviewpulse notify``.

Rules:
- Lengths of queues are asked of Redis with the other probes; the page is made of the last answers.
- One that stands by is ready, too: else a rolling update would wait for ever for it to deliver.
- A target is named as in the notify file; what is sent to it, and where, is not shown.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from stream.errors import DependencyError, UsageError
from stream.metrics.catalogue import BY_NAME
from stream.metrics.distribution import Distribution

if TYPE_CHECKING:
    from stream.deliver.courier import Courier
    from stream.deliver.open_alerts import FollowedAlerts
    from stream.deliver.queue import Queues
    from stream.metrics.families import Values


class NotifyReading:
    """Reads one process that delivers.

    Args:
        queues: the group's.
        targets: their names.
        followed: the alerts.

    Attributes:
        couriers: by target, once it is this process that delivers.
    """

    def __init__(self, queues: Queues, targets: list[str], followed: FollowedAlerts) -> None:
        self.couriers: dict[str, Courier] = {}
        self.delay_s = Distribution(BY_NAME["reviewpulse_notify_delay_seconds"].buckets)
        self._queues = queues
        self._targets = targets
        self._followed = followed
        self._waiting: dict[str, int] = {}
        self._dead: dict[str, int] = {}

    async def troubles(self) -> dict[str, str | None]:
        """What is wrong, by check; see ``stream.metrics.vitals``."""
        redis = None
        try:
            waiting, dead = await asyncio.to_thread(self._lengths)
        except (DependencyError, UsageError) as error:
            redis = str(error)
        else:
            self._waiting, self._dead = waiting, dead
        return {"redis": redis, "kafka": self._followed.trouble}

    def _lengths(self) -> tuple[dict[str, int], dict[str, int]]:
        waiting = {target: self._queues.waiting(target)[0] for target in self._targets}
        return waiting, {target: self._queues.number_dead(target) for target in self._targets}

    def read(self, values: Values) -> None:
        """All of it; from any thread."""
        values.set_all("reviewpulse_notify_queue", self._waiting)
        values.set_all("reviewpulse_notify_dead_letters", self._dead)
        for name, courier in self.couriers.items():
            for result, number in courier.outcomes.items():
                values.set("reviewpulse_notify_deliveries_total", number, name, result)
        values.histogram("reviewpulse_notify_delay_seconds", self.delay_s)
        for severity, number in self._followed.alerts.firing.items():
            values.set("reviewpulse_alerts_open", number, "firing", severity)
