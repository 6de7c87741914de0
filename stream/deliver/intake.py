"""From the alerts topic and the notifier into the targets' queues.

Rules:
- A source goes on only when what it gave is in Redis; killed before, it gives the same again, with the same
  id, and ``lanes`` in Redis knows it for a repeat. So each is in each queue once.
- While Redis is away, it waits. A stop meanwhile leaves the position where it was.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from stream.client.alerts import AlertSubscriber
from stream.client.notifications import Notifications
from stream.core.messages import of_alert, of_notification
from stream.core.notify import Policy
from stream.core.routing import kind_of
from stream.deliver.queue import Memory
from stream.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.core.messages import Hears, Message
    from stream.core.notify_file import Notify
    from stream.core.routing import Routing
    from stream.deliver.queue import Queues
    from stream.settings import Settings

logger = logging.getLogger(__name__)

RETRY_S = 1.0
MOST_KINDS = 16
"""Two severities, and categories that events say: far more than an honest product has."""


class _StoppedError(Exception):
    """Told to stop with a message in hand that is not in Redis."""


class Sorter:
    """Puts messages into the queues of whoever is to hear them.

    Args:
        routing: who is.
        queues: where.
        ring: called with the names of targets that have something new.
    """

    def __init__(self, routing: Routing, queues: Queues, ring: Callable[[list[str]], None]) -> None:
        self._routing = routing
        self._queues = queues
        self._ring = ring

    def put(self, message: Message, now_ms: int) -> list[str]:
        """Puts a message into its queues; returns the targets, none for a repeat.

        Raises:
            DependencyError: Redis is away or refuses.
            LostLeaseError: another process delivers now.
        """
        lane = f"{message.hears[0]}:{message.lane}"
        before = self._queues.memory(lane)
        if before is not None and not before.is_news(message):
            return []
        # What fires is the beginning: what a thread was like in an earlier incident does not count.
        kinds = [] if before is None or message.state == "firing" else before.kinds
        targets = self._routing.targets(message, kinds)
        kinds = list(dict.fromkeys([*kinds, kind_of(message)]))
        memory = Memory(message.number, message.id, kinds[:MOST_KINDS])
        dropped = self._queues.put(message, lane, memory, targets, now_ms)
        if dropped:
            logger.error("a queue is full: its oldest message became a dead letter (%d)", dropped)
        self._ring(targets)
        return targets


class Intake(threading.Thread):
    """One source, in a thread of its own: its clients are synchronous.

    Args:
        hears: which source.
        settings: where Kafka and Redis are.
        notify: the file.
        group: under which the position is kept.
        sorter: takes the messages.
        from_beginning: where there is no position, begins with the oldest transition kept.
        ended: called at the end, with the error if there was one.

    Raises:
        DependencyError: Kafka or Redis is away.
    """

    def __init__(
        self,
        hears: Hears,
        settings: Settings,
        notify: Notify,
        group: str,
        sorter: Sorter,
        *,
        from_beginning: bool,
        ended: Callable[[BaseException | None], None],
    ) -> None:
        super().__init__(name=f"intake of {hears}", daemon=True)
        self._sorter = sorter
        self._ended = ended
        self._stopping = threading.Event()
        self._source: AlertSubscriber | Notifications
        if hears == "transitions":
            self._source = AlertSubscriber(
                settings, group=f"notify.{group}.transitions", from_beginning=from_beginning
            )
        else:
            interval_s = notify.renotify_ms / 1000
            self._source = Notifications(
                settings,
                group=f"notify.{group}",
                policy=Policy(renotify_s=interval_s, min_interval_s=interval_s),
                from_beginning=from_beginning,
            )

    def stop(self) -> None:
        """Ends it within a second or so."""
        self._stopping.set()
        self._source.stop()

    def run(self) -> None:
        """Takes in what comes until ``stop``."""
        error: BaseException | None = None
        try:
            with self._source:
                for message in self._messages():
                    self._put(message)
        except _StoppedError:
            pass
        except BaseException as raised:  # noqa: BLE001 - whoever waits for this thread raises it
            error = raised
        self._ended(error)

    def _messages(self) -> Iterator[Message]:
        if isinstance(self._source, AlertSubscriber):
            return map(of_alert, self._source)
        return map(of_notification, self._source)

    def _put(self, message: Message) -> None:
        is_known = False
        while True:
            try:
                self._sorter.put(message, time.time_ns() // 1_000_000)
            except DependencyError as error:
                if not is_known:
                    logger.warning("waiting: %s", error)
                    is_known = True
                if self._stopping.wait(RETRY_S):
                    raise _StoppedError from error
            else:
                return
