"""What one target is sent next, and when: order, retries and giving up. One ``Schedule`` a target.

Rules:
- Messages of a lane go one after another: the next one waits until the one before was acknowledged or given
  up. Lanes do not wait for each other.
- A failure makes its lane wait, and the target: waits double from failure to failure, up to a ceiling, and
  are a random share of that ("full jitter": AWS Architecture Blog, "Exponential Backoff And Jitter"). While a
  target fails it is tried with one message at a time, another lane's each time; one success and all is as
  before. So a message that never passes costs its lane its place, and the others a moment each time.
- ``Retry-After`` is heeded, for the target as a whole, up to ``LONGEST_RETRY_AFTER_MS``.
- What cannot help to repeat (``hopeless``) is given up at once. The rest is given up when it has been in the
  queue for longer than ``give_up_ms`` and fails once more; so is all that is so old when the target failed
  ``DOWN_AFTER`` times in a row. What waited behind a target that is back is sent, however old.
- Times are ms of any one clock that does not go back; random numbers are given. No I/O.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

FIRST_WAIT_MS = 1_000
LONGEST_WAIT_MS = 300_000
"""Five minutes: a target that is back is used soon, and one that is down is asked some 600 times a day."""
LONGEST_RETRY_AFTER_MS = 3_600_000
"""A server that asks for more has made a mistake, or means to be left alone: asking once an hour is both."""
DOWN_AFTER = 5
"""Failures in a row, of whatever message: by luck of one that never passes, others pass in between."""
MOST_DOUBLINGS = 20


class Entry(NamedTuple):
    """A message in a target's queue."""

    id: str
    """Of its place in the queue."""
    lane: str
    queued_ms: int
    attempts: int = 0
    """That failed before."""


class Outcome(NamedTuple):
    """How an attempt ended."""

    kind: Literal["delivered", "failed", "hopeless"]
    reason: str = ""
    """A sentence without secrets, for people."""
    retry_after_ms: int | None = None


DELIVERED = Outcome("delivered")


class GivenUp(NamedTuple):
    """A message that is no longer tried."""

    entry: Entry
    reason: str


class Pace(NamedTuple):
    """At most so many messages in so long."""

    messages: int
    within_ms: int


class Schedule:
    """The messages of one target that are in memory, in the order of its queue.

    >>> schedule = Schedule(give_up_ms=86_400_000)
    >>> schedule.add([Entry("1", "a", 0), Entry("2", "a", 0), Entry("3", "b", 0)])
    >>> first, second = schedule.take(0), schedule.take(0)
    >>> first.id, second.id, schedule.take(0)
    ('1', '3', None)
    >>> schedule.settle(first.id, Outcome("failed", "503"), 0, random=0.5)
    []
    >>> schedule.settle(second.id, DELIVERED, 0, random=0.5)
    []
    >>> schedule.wake_ms(0), schedule.take(499), schedule.take(500).attempts
    (500, None, 1)

    Args:
        give_up_ms: how long a message may be in the queue.
        most_at_once: messages under way at the same time.
        pace: what the target takes.
    """

    def __init__(self, *, give_up_ms: int, most_at_once: int = 2**31, pace: Pace | None = None) -> None:
        self._give_up_ms = give_up_ms
        self._most_at_once = most_at_once
        self._pace = pace
        self._lanes: OrderedDict[str, _Lane] = OrderedDict()
        self._under_way: dict[str, str] = {}
        """Lane by the entry's id."""
        self._size = 0
        self._failures = 0
        self._ready_ms = 0
        self._asked_ms = 0
        """Until when it asked to be left alone."""
        self._begun: deque[int] = deque(maxlen=pace.messages if pace else 0)
        self._number = 0

    def __len__(self) -> int:
        return self._size

    @property
    def under_way(self) -> int:
        """Messages that are being sent."""
        return len(self._under_way)

    @property
    def is_failing(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Adds what comes next in the queue."""
        for entry in entries:
            lane = self._lanes.get(entry.lane)
            if lane is None:
                lane = self._lanes[entry.lane] = _Lane(deque(), 0, self._number)
                self._number += 1
            lane.entries.append(entry)
            self._size += 1

    def take(self, now_ms: int) -> Entry | None:
        """What to send now, if anything; ``settle`` says later how it went."""
        if self.wake_ms(now_ms) != now_ms:
            return None
        name = self._next()
        assert name is not None
        entry = self._lanes[name].entries[0]
        self._under_way[entry.id] = name
        if self._pace is not None:
            self._begun.append(now_ms)
        return entry

    def wake_ms(self, now_ms: int) -> int | None:
        """When there is something to send: now, later, or None while nothing waits that could go."""
        most = 1 if self._failures else self._most_at_once
        name = self._next()
        if name is None or len(self._under_way) >= most:
            return None
        return max(now_ms, self._lanes[name].ready_ms, self.free_ms)

    @property
    def free_ms(self) -> int:
        """When the target takes something again."""
        free_ms = max(self._ready_ms, self._asked_ms)
        if self._pace is not None and len(self._begun) == self._pace.messages:
            return max(free_ms, self._begun[0] + self._pace.within_ms)
        return free_ms

    def settle(self, entry_id: str, outcome: Outcome, now_ms: int, *, random: float) -> list[GivenUp]:
        """Takes in how an attempt ended.

        Args:
            entry_id: of what ``take`` gave.
            outcome: how it ended.
            now_ms: the time.
            random: from 0 to 1.

        Returns:
            What is given up: the message itself, if nothing helps, and whatever has waited for too long.
        """
        name = self._under_way.pop(entry_id)
        if outcome.kind == "failed":
            return self._failed(name, outcome, now_ms, random)
        entry = self._remove_first(name)
        if outcome.kind == "hopeless":
            return [GivenUp(entry, outcome.reason)]
        self.worked()
        return []

    def worked(self) -> None:
        """The target took something."""
        self._failures = 0
        self._ready_ms = 0

    def pause(self, outcome: Outcome, now_ms: int, random: float) -> None:
        """The target did not take something: nothing is sent for a while."""
        self._ready_ms = max(self._ready_ms, now_ms + backoff_ms(self._failures, random))
        self._failures += 1
        if outcome.retry_after_ms is not None:
            # Kept apart: what was under way meanwhile and arrives does not take the wish back.
            asked_ms = min(outcome.retry_after_ms, LONGEST_RETRY_AFTER_MS)
            self._asked_ms = max(self._asked_ms, now_ms + asked_ms)

    def _failed(self, name: str, outcome: Outcome, now_ms: int, random: float) -> list[GivenUp]:
        lane = self._lanes[name]
        entry = lane.entries[0]
        lane.entries[0] = entry._replace(attempts=entry.attempts + 1)
        lane.ready_ms = now_ms + backoff_ms(entry.attempts, random)
        lane.number, self._number = self._number, self._number + 1  # behind those that have not been tried
        self.pause(outcome, now_ms, random)
        lanes = list(self._lanes) if self._failures >= DOWN_AFTER else [name]
        return [GivenUp(each, outcome.reason) for each in self._remove_old(lanes, now_ms)]

    def _remove_old(self, names: list[str], now_ms: int) -> list[Entry]:
        removed = []
        busy = set(self._under_way.values())
        for name in names:
            entries = self._lanes[name].entries
            while name not in busy and entries and entries[0].queued_ms + self._give_up_ms <= now_ms:
                removed.append(self._remove_first(name))
        return removed

    def _remove_first(self, name: str) -> Entry:
        lane = self._lanes[name]
        entry = lane.entries.popleft()
        self._size -= 1
        lane.ready_ms = 0
        if not lane.entries:
            del self._lanes[name]
        return entry

    def _next(self) -> str | None:
        """The lane whose turn it is: what is ready first, and of those what has waited longest."""
        busy = set(self._under_way.values())
        free = (name for name in self._lanes if name not in busy)
        return min(free, key=self._turn, default=None)

    def _turn(self, name: str) -> tuple[int, int]:
        lane = self._lanes[name]
        return lane.ready_ms, lane.number


class _Lane:
    """Messages that keep their order."""

    __slots__ = ("entries", "number", "ready_ms")

    def __init__(self, entries: deque[Entry], ready_ms: int, number: int) -> None:
        self.entries = entries
        self.ready_ms = ready_ms
        self.number = number
        """Turns among lanes that are ready."""


def backoff_ms(failures: int, random: float) -> int:
    """How long to wait after one more failure.

    Args:
        failures: before this one, without a success between.
        random: from 0 to 1.

    >>> backoff_ms(0, 1.0), backoff_ms(3, 0.5), backoff_ms(50, 1.0)
    (1000, 4000, 300000)
    """
    ceiling_ms = min(LONGEST_WAIT_MS, FIRST_WAIT_MS << min(failures, MOST_DOUBLINGS))
    return int(random * ceiling_ms)


def retry_after_ms(header: str | None, now_ms: int) -> int | None:
    """What a ``Retry-After`` header says (RFC 9110, 10.2.3): seconds or a date; None where it says nothing.

    Args:
        header: as received.
        now_ms: ms since the epoch.

    >>> retry_after_ms("120", 0), retry_after_ms("Thu, 01 Jan 1970 00:00:30 GMT", 10_000)
    (120000, 20000)
    >>> retry_after_ms("soon", 0)
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(int(text[:9]) * 1000, LONGEST_RETRY_AFTER_MS)
    try:
        date = parsedate_to_datetime(text)
        at_ms = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() * 1000
    except (ValueError, TypeError, OverflowError, OSError):
        return None
    return max(0, min(round(at_ms) - now_ms, LONGEST_RETRY_AFTER_MS))


def of_status(status: int, retry_after: int | None, said: str = "") -> Outcome:
    """What an HTTP status means for a message.

    Args:
        status: as received.
        retry_after: from ``retry_after_ms``.
        said: the body's beginning, for people.

    >>> of_status(204, None).kind, of_status(429, 5_000)
    ('delivered', Outcome(kind='failed', reason='it answered 429', retry_after_ms=5000))
    >>> of_status(404, None, "no such room")
    Outcome(kind='hopeless', reason='it answered 404: no such room', retry_after_ms=None)
    """
    if 200 <= status < 300:
        return DELIVERED
    reason = f"it answered {status}" + (f": {said}" if said else "")
    if 300 <= status < 400:
        return Outcome("hopeless", f"{reason}; it redirects, which is not followed: name the final address")
    if status in (408, 425, 429) or status >= 500:
        return Outcome("failed", reason, retry_after)
    return Outcome("hopeless", reason)


TOO_OFTEN = {45009, 45033, 90018, 90030, 130101}
"""DingTalk's and WeCom's codes for too many messages."""
BUSY = {-1}
TOO_OFTEN_WAIT_MS = 60_000
"""Their limits are by the minute."""


def of_code(code: int, said: str) -> Outcome:
    """What the ``errcode`` in DingTalk's or WeCom's answer means; both answer 200 to whatever they refuse.

    >>> of_code(0, "ok").kind, of_code(130101, "send too fast").kind, of_code(310000, "sign not match").kind
    ('delivered', 'failed', 'hopeless')
    """
    if code == 0:
        return DELIVERED
    reason = f"it answered errcode {code}" + (f": {said}" if said else "")
    if code in TOO_OFTEN:
        return Outcome("failed", reason, TOO_OFTEN_WAIT_MS)
    return Outcome("failed" if code in BUSY else "hopeless", reason)
