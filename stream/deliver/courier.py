"""Empties one target's queue. Each target has a courier of its own, so none waits for another's.

Rules:
- The schedule (``stream.core.delivery``) says what goes when; here it goes, and Redis hears what became of
  it.
- A message leaves the queue after the target has acknowledged it, so a kill between the two sends it again,
  with the same id. Nothing else is ever sent again.
- In memory is the head of the queue, ``MOST_HELD`` messages; a lane's next one waits behind its first.
- A target that fails is said once, and once when it is back.
- An error of ours in sending costs that message (tried again, then a dead letter), not the others.
- While Redis is away nothing new is sent, and what was acknowledged is noted as soon as it is back.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import datetime
from typing import TYPE_CHECKING

import structlog

from stream.backoff import retry
from stream.core.delivery import GivenUp, Outcome, Pace, Schedule
from stream.core.notify_file import Webhook
from stream.deliver.queue import MOST_READ, Failure
from stream.deliver.sender import Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.core.delivery import Entry
    from stream.core.messages import Message
    from stream.core.notify_file import AnyTarget
    from stream.deliver.queue import Queue
    from stream.deliver.sender import Sender

log = structlog.get_logger("notify")

LOOK_S = 1.0
"""How long a dead letter that was sent again may lie before it is seen; new messages ring."""
MOST_HELD = 2 * MOST_READ
PACES = {"dingtalk": Pace(20, 60_000), "wecom": Pace(20, 60_000)}
"""What the groups' robots take. DingTalk silences one that is faster for ten minutes."""


def _clock_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def seconds_of(at: str) -> float:
    """Seconds since the epoch of an RFC 3339 time.

    >>> seconds_of("2023-11-14T22:13:20.123Z")
    1700000000.123
    """
    return datetime.fromisoformat(at).timestamp()


class Courier:
    """Delivers to one target.

    Args:
        target: it.
        queue: its queue.
        sender: what sends.
        clock_ms: a clock that never goes back.
        now_ms: the clock, ms since the epoch.
        chance: random numbers from 0 to 1.
        delay_s: is given the time from what a message tells of to the receiver's yes.
    """

    def __init__(
        self,
        target: AnyTarget,
        queue: Queue,
        sender: Sender,
        *,
        clock_ms: Callable[[], int] = _clock_ms,
        now_ms: Callable[[], int] = _now_ms,
        chance: Callable[[], float] = random.random,
        delay_s: Callable[[float], None] = lambda _: None,
    ) -> None:
        self._target = target
        self._queue = queue
        self._sender = sender
        self._clock_ms, self._now_ms, self._chance = clock_ms, now_ms, chance
        at_once = target.at_once if isinstance(target, Webhook) else 1
        self._schedule = Schedule(
            give_up_ms=target.give_up_ms, most_at_once=at_once, pace=PACES.get(target.kind)
        )
        self._messages: dict[str, Message] = {}
        """By place in the queue."""
        self._read_to: str | None = None
        self._bell = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._is_new = True
        """Whether there may be more in the queue than was read."""
        self.outcomes = {"delivered": 0, "retried": 0, "dead": 0}
        """What became of attempts so far."""
        self._delay_s = delay_s
        self._burying = 0
        """Meanwhile nothing is begun: what follows a dead letter goes when it is one."""

    def ring(self) -> None:
        """There is something new in the queue."""
        self._is_new = True
        self._bell.set()

    def stop(self) -> None:
        """Begins nothing new."""
        self._stopping = True
        self._bell.set()

    async def run(self) -> None:
        """Delivers until ``stop``, and waits for what is under way.

        Raises:
            LostLeaseError: another process delivers now.
            UsageError: Redis does not let us.
        """
        name = self._target.name
        try:
            await self._sender.start(await retry(self._queue.on, f"what {name} holds for firing"))
            looked_ms = None
            while not self._stopping:
                self._bell.clear()
                now_ms = self._clock_ms()
                if self._is_new or looked_ms is None or now_ms - looked_ms >= LOOK_S * 1000:
                    await self._read()
                    looked_ms = now_ms
                await self._send_again()
                while (entry := self._next()) is not None:
                    self._begin(entry)
                await self._wait()
            await asyncio.gather(*self._under_way)
        finally:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)
            await self._sender.close()

    async def _read(self) -> None:
        """Reads on in the queue, as far as memory goes."""
        while len(self._schedule) <= MOST_HELD - MOST_READ:
            self._is_new = False
            found = await retry(
                lambda: self._queue.read(self._read_to), f"read the queue of {self._target.name}"
            )
            if not found:
                return
            self._read_to = found[-1].entry.id
            age_ms = self._now_ms() - self._clock_ms()
            entries = []
            for each in found:
                if each.message is None:
                    buried = GivenUp(each.entry, "it cannot be read: another version of Reviewpulse wrote it")
                    await self._bury([buried])
                    continue
                self._messages[each.entry.id] = each.message
                entries.append(each.entry._replace(queued_ms=each.queued_ms - age_ms))
            self._schedule.add(entries)
            self._is_new = self._is_new or len(found) == MOST_READ

    async def _send_again(self) -> None:
        """What a target wants repeated, between two messages."""
        if self._schedule.under_way or self._schedule.free_ms > self._clock_ms():
            return
        outcome = await self._sender.again()
        if outcome is None:
            return
        self._say(outcome)
        if outcome.kind == "delivered":
            self._schedule.worked()
        else:
            self._schedule.pause(outcome, self._clock_ms(), self._chance())

    def _next(self) -> Entry | None:
        return None if self._stopping or self._burying else self._schedule.take(self._clock_ms())

    def _begin(self, entry: Entry) -> None:
        task = asyncio.create_task(self._deliver(entry))
        self._under_way.add(task)
        task.add_done_callback(lambda _: self._bell.set())

    async def _wait(self) -> None:
        """Until a message is due, something ends or comes, or it is time to look."""
        for task in [each for each in self._under_way if each.done()]:
            self._under_way.remove(task)
            task.result()
        now_ms = self._clock_ms()
        due_ms = self._schedule.wake_ms(now_ms)
        # What ends rings the bell; a burial that waits for Redis must not turn this into a busy loop.
        wait_s = LOOK_S if due_ms is None or self._burying else min(LOOK_S, (due_ms - now_ms) / 1000)
        try:
            async with asyncio.timeout(max(wait_s, 0.0)):
                await self._bell.wait()
        except TimeoutError:
            return

    async def _deliver(self, entry: Entry) -> None:
        message = self._messages[entry.id]
        try:
            sent = await self._sender.send(message)
        except Exception as error:
            log.exception("an error of ours", target=self._target.name, message=message.id)
            sent = Sent(Outcome("failed", f"an error of Reviewpulse's own: {type(error).__name__}"))
        if sent.outcome.kind == "delivered":
            self.outcomes["delivered"] += 1
            self._delay_s(max(self._now_ms() / 1000 - seconds_of(message.at), 0.0))
            await retry(lambda: self._queue.done(entry.id, sent.on), f"note what {self._target.name} got")
        elif sent.outcome.kind == "failed":
            noted = Failure(entry.attempts + 1, sent.outcome.reason, self._now_ms())
            await retry(
                lambda: self._queue.failed(entry.id, noted), f"note what {self._target.name} did not get"
            )
        self._say(sent.outcome)
        # After Redis knows: only then may the lane's next message go.
        given_up = self._schedule.settle(entry.id, sent.outcome, self._clock_ms(), random=self._chance())
        is_over = any(each.entry.id == entry.id for each in given_up)
        self.outcomes["retried"] += sent.outcome.kind == "failed" and not is_over
        if sent.outcome.kind == "delivered":
            del self._messages[entry.id]
        await self._bury(given_up)

    async def _bury(self, given_up: list[GivenUp]) -> None:
        if not given_up:
            return
        self._burying += 1
        self.outcomes["dead"] += len(given_up)
        letters = []
        for each in given_up:
            message = self._messages.pop(each.entry.id, None)
            letters.append((each, self._sender.gave_up(message) if message else ""))
            log.error(
                "gave up: `reviewpulse notify dead list` has it",
                target=self._target.name,
                message=message.id if message else None,
                reason=each.reason,
            )
        await retry(
            lambda: self._queue.bury(letters, self._now_ms()), f"note what {self._target.name} never got"
        )
        self._burying -= 1

    def _say(self, outcome: Outcome) -> None:
        """Once when it begins to fail, and once when it is back."""
        if outcome.kind == "delivered" and self._schedule.is_failing:
            log.info("the target is back", target=self._target.name)
        elif outcome.kind == "failed" and not self._schedule.is_failing:
            log.warning("the target fails: tried again", target=self._target.name, reason=outcome.reason)
