"""Follows notifications: what pagers and chat rooms import.

Rules:
- The alerts topic says what happened, the clock and people decide who hears of it when: see
  ``stream.core.notifier``. Silences and acknowledgements are read from Redis every ``LISTEN_MS``.
- With a ``group``, nothing is missed after a kill: what is to be told is written to
  ``<ns>:notified:<group>``, with all that was remembered of alerts, before it is handed out and before the
  position moves in Kafka.
- A notification is finished when the next one is asked for, or when the ``with`` block ends without an
  error. What was not finished comes again after a restart, with the same ``id``. Nothing else does.
- While a broker or a Redis that was there is away, iterating waits for it to come back.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from stream import settings as configuration
from stream.client.alerts import AlertSubscriber
from stream.client.blocks import Block
from stream.core.notifier import Notifier
from stream.core.notify import Notification  # noqa: TC001 (msgspec reads the annotation)
from stream.core.silence import Said
from stream.errors import DependencyError
from stream.redis_config import connect
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange
from stream.silences import Silences

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.core.events import Alert
    from stream.core.notify import Policy
    from stream.redis_trip import Command
    from stream.settings import Settings

logger = logging.getLogger(__name__)

LISTEN_MS = 2_000
"""How old silences, acknowledgements and the models in use may be."""
TICK_MS = 5_000
"""While alerts come without a pause, the clock is looked at so often."""
RETRY_S = 1.0
STATE, FINISHED = "state", "finished"
"""Fields of ``<ns>:notified:<group>``: a ``Memory``, and how many notifications were finished ever."""


class Memory(msgspec.Struct):
    """What outlives the process."""

    notifier: bytes
    waiting: list[Notification]
    """To be handed out, or handed out and not finished."""
    finished: int
    """How many were finished before the first of them."""


class Worker(msgspec.Struct):
    """Of a worker's status (``stream.status``), which model it scores with."""

    at: float
    """Seconds since the epoch."""
    model_version: str


class Bundle(msgspec.Struct):
    """Of a bundle that was promoted, the model's version."""

    version: str


class Promoted(msgspec.Struct):
    """Of the last promotion (``stream.promotion``), which model took which one's place."""

    bundle: Bundle | None
    previous: Bundle | None
    at: str


_decode_promotion = msgspec.json.Decoder(Promoted).decode
_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_worker = msgspec.json.Decoder(Worker).decode


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


class Notifications(Block):
    """Iterates over what people are to be told.

    >>> with Notifications(group="pager") as notifications:                     # doctest: +SKIP
    ...     for each in notifications:
    ...         page(each.thread, each.state, each.severity, each.alert or each.incident)

    Iterating waits for what comes and ends after ``stop``. ``available`` ends by itself.

    Args:
        settings: where Kafka and Redis are; None takes it from the ``REVIEWPULSE_*`` environment.
        group: a name under which position and memory are kept; run one of a group at a time. None keeps none.
        policy: when people are told.
        from_beginning: where the group has no position, starts with the oldest transition kept, so that what
            fires already is told; else with the next one.
        now_ms: the clock, ms since the epoch.

    Raises:
        DependencyError: no broker or no Redis answers, or there is no alerts topic.
        UsageError: the settings are wrong.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        group: str | None = None,
        policy: Policy | None = None,
        from_beginning: bool = False,
        now_ms: Callable[[], int] = _now_ms,
    ) -> None:
        self._settings = settings or configuration.load()
        self._now_ms = now_ms
        self._key = None if group is None else f"{self._settings.namespace}:notified:{group}"
        self._stopping = threading.Event()
        self._said = Said()
        self._listened_ms: int | None = None
        self._ticked_ms = 0
        self._in_hand = False
        self._is_saved = True
        self._client = connect(self._settings)
        try:
            self._silences = Silences(self._settings, self._client)
            self._notifier, self._waiting, self._finished = self._remembered(policy)
            self._listen(now_ms())
            self._subscriber = AlertSubscriber(self._settings, group=group, from_beginning=from_beginning)
        except BaseException:
            self._client.close()
            raise

    def available(self) -> Iterator[Notification]:
        """What is to be told now.

        Raises:
            DependencyError: the broker or Redis no longer answers.
        """
        yield from self._hand_out(_at_once)
        now_ms = self._now_ms()
        self._listen(now_ms)
        self._take(list(self._subscriber.available()), now_ms)
        self._tick(now_ms)
        self._save()
        yield from self._hand_out(_at_once)

    def __iter__(self) -> Iterator[Notification]:
        """What is to be told from now on, until ``stop``.

        Raises:
            DependencyError: the broker refuses.
        """
        while not self._stopping.is_set():
            yield from self._hand_out(self._patiently)
            alerts = self._subscriber.poll()
            now_ms = self._now_ms()
            if not self._patiently(partial(self._listen, now_ms)):
                return
            self._take(alerts, now_ms)
            is_time = abs(now_ms - self._ticked_ms) >= TICK_MS
            if not alerts or (is_time and not self._notifier.is_late(alerts[-1], now_ms)):
                self._tick(now_ms)
            if not self._patiently(self._save):
                return

    def stop(self) -> None:
        """Ends the iteration within a second; may be called from a signal or another thread."""
        self._stopping.set()
        self._subscriber.stop()

    def close(self) -> None:
        """Closes the connections."""
        self.stop()
        try:
            self._subscriber.close()
        finally:
            self._client.close()

    # What is to be told.

    def _take(self, alerts: list[Alert], now_ms: int) -> None:
        for alert in alerts:
            self._waiting += self._notifier.take(alert, now_ms, self._said)
        self._is_saved = self._is_saved and not alerts

    def _tick(self, now_ms: int) -> None:
        due = self._notifier.tick(now_ms, self._said)
        self._waiting += due
        self._is_saved = self._is_saved and not due
        self._ticked_ms = now_ms

    def _hand_out(self, attempt: Callable[[Callable[[], None]], bool]) -> Iterator[Notification]:
        while attempt(self._finish) and self._waiting and not self._stopping.is_set():
            self._in_hand = True
            yield self._waiting[0]

    def _finish(self) -> None:
        """What was handed out was dealt with."""
        if not self._in_hand:
            return
        if self._key is not None:
            self._trip(("HSET", self._key, FINISHED, self._finished + 1))
        self._finished += 1
        del self._waiting[0]
        self._in_hand = False

    # What Redis holds.

    def _listen(self, now_ms: int) -> None:
        """Reads what people said, and which models score."""
        if self._listened_ms is not None and abs(now_ms - self._listened_ms) < LISTEN_MS:
            return
        self._said = self._silences.read()
        namespace = self._settings.namespace
        workers, promoted = self._trip(("HGETALL", f"{namespace}:workers"), ("GET", f"{namespace}:bundle"))
        for value in workers.values():
            with suppress(msgspec.MsgspecError):  # another version may say it in other words
                worker = _decode_worker(value)
                is_change = self._notifier.saw_model(worker.model_version, round(worker.at * 1000))
                self._is_saved = self._is_saved and not is_change
        self._hear_of_promotion(promoted)
        self._listened_ms = now_ms

    def _hear_of_promotion(self, promoted: bytes | None) -> None:
        """Takes in which bundle was promoted last (``stream.promotion``)."""
        if promoted is None:
            return
        with suppress(msgspec.MsgspecError, ValueError):  # another version may say it in other words
            promotion = _decode_promotion(promoted)
            if promotion.bundle and promotion.previous:  # else the workers alone know which model it is
                at_ms = round(datetime.fromisoformat(promotion.at).timestamp() * 1000)
                names = (promotion.previous.version, promotion.bundle.version)
                is_news = self._notifier.announced_model(*names, at_ms)
                self._is_saved = self._is_saved and not is_news

    def _remembered(self, policy: Policy | None) -> tuple[Notifier, list[Notification], int]:
        """The notifier as it was, what waits, and how many were finished before that."""
        if self._key is None:
            return Notifier(policy), [], 0
        ((state, finished),) = self._trip(("HMGET", self._key, STATE, FINISHED))
        count = int(finished or 0)
        if state is None:
            return Notifier(policy), [], count
        try:
            memory = _decode_memory(state)
            notifier = Notifier.load(memory.notifier, policy)
        except ValueError as error:
            logger.warning(
                "cannot read %s (%s): what fires now may not be told of again, nor its end", self._key, error
            )
            return Notifier(policy), [], count
        count = max(count, memory.finished)
        return notifier, memory.waiting[count - memory.finished :], count

    def _save(self) -> None:
        if self._is_saved or self._key is None:
            return
        memory = Memory(self._notifier.dump(), self._waiting, self._finished)
        self._trip(("HSET", self._key, STATE, msgspec.msgpack.encode(memory)))
        self._is_saved = True

    def _trip(self, *commands: Command) -> list[Any]:
        try:
            return exchange(self._client, commands)
        except REDIS_ERRORS as error:
            where = f"Cannot keep notifications. {told(error, self._settings.redis)}"
            raise DependencyError(where) from error

    def _patiently(self, ask: Callable[[], None]) -> bool:
        """Asks until Redis answers; says whether it did before ``stop``."""
        is_known = False
        while True:
            try:
                ask()
            except DependencyError as error:
                if not is_known:
                    logger.warning("waiting: %s", error)
                    is_known = True
                if self._stopping.wait(RETRY_S):
                    return False
            else:
                return True


def _at_once(ask: Callable[[], None]) -> bool:
    ask()
    return True
