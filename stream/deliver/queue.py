"""What is to be delivered, in Redis: ``<ns>:notify:{<group>}:...``, all in one slot of a cluster.

| key | type | holds |
|---|---|---|
| ``owner`` | string | who delivers for the group now; ends by itself after ``LEASE_MS`` |
| ``lanes`` | hash | by lane: its last message, and what its alert was like (``Memory``) |
| ``lanes:at`` | sorted set | lanes by when they were told last, so that the oldest are forgotten |
| ``queue:<target>`` | stream | messages that wait, in order |
| ``failed:<target>`` | hash | by place in the queue: failed attempts, and why the last one failed |
| ``on:<target>`` | hash | what an Alertmanager holds for firing: it is sent again and again |
| ``dead:<target>`` | stream | dead letters |

Rules:
- A message goes into the queues of all its targets, and into ``lanes``, in one step: whatever is killed, it
  is in all of them or in none, and what is put in again is known for a repeat.
- It leaves a queue in one step with what becomes of it: delivered, or a dead letter.
- Each of these steps is refused unless the one who asks is the ``owner``: of two processes of one group one
  waits, and one that was thought dead writes nothing any more.
- Bounded: ``MOST_LANES``, ``MOST_WAITING`` a queue (then the oldest becomes a dead letter), ``MOST_DEAD``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stream.core.delivery import Entry
from stream.core.messages import Message
from stream.core.routing import Kind  # noqa: TC001 (msgspec reads the annotation)
from stream.errors import ReviewpulseError
from stream.redis_errors import REDIS_ERRORS, failure
from stream.redis_trip import exchange, exchange_async

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.delivery import GivenUp
    from stream.redis_config import AsyncClient, Client
    from stream.redis_trip import Command

LEASE_MS = 10_000
MOST_LANES = 65_536
"""Some 100 bytes each. Far more than can come again after a kill."""
MOST_WAITING = 10_000
MOST_DEAD = 10_000
MOST_READ = 500
"""Messages read at once: some megabytes."""

_LOST = b"lost"
# A lease that ran out while Redis was away, or we slept, and that nobody took, is ours still.
_CHECK = f"""
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 'lost' end
if not owner then redis.call('SET', KEYS[1], ARGV[1], 'PX', {LEASE_MS}) end
"""

_TAKE = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] and owner ~= ARGV[3] then return owner end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
"""
_LEAVE = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
# KEYS owner, lanes, lanes:at, then queue and dead of each target
# ARGV token, lane, memory, now_ms, most lanes, most waiting, most dead, id, message, reason
_PUT = (
    _CHECK
    + """
redis.call('HSET', KEYS[2], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[3], ARGV[4], ARGV[2])
local over = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[5])
if over > 0 then
  local old = redis.call('ZRANGE', KEYS[3], 0, over - 1)
  redis.call('ZREM', KEYS[3], unpack(old))
  redis.call('HDEL', KEYS[2], unpack(old))
end
local dropped = 0
for k = 4, #KEYS, 2 do
  redis.call('XADD', KEYS[k], '*', 'at', ARGV[4], 'message', ARGV[9])
  if redis.call('XLEN', KEYS[k]) > tonumber(ARGV[6]) then
    local first = redis.call('XRANGE', KEYS[k], '-', '+', 'COUNT', 1)[1]
    local fields = first[2]
    fields[#fields + 1] = 'reason'
    fields[#fields + 1] = ARGV[10]
    fields[#fields + 1] = 'failed_at'
    fields[#fields + 1] = ARGV[4]
    redis.call('XADD', KEYS[k + 1], 'MAXLEN', '~', ARGV[7], '*', unpack(fields))
    redis.call('XDEL', KEYS[k], first[1])
    dropped = dropped + 1
  end
end
return dropped
"""
)
# KEYS owner, queue, failed, on; ARGV token, id, then lane and value ('' removes it) for `on`
_DONE = (
    _CHECK
    + """
redis.call('XDEL', KEYS[2], ARGV[2])
redis.call('HDEL', KEYS[3], ARGV[2])
for k = 3, #ARGV, 2 do
  if ARGV[k + 1] == '' then redis.call('HDEL', KEYS[4], ARGV[k])
  else redis.call('HSET', KEYS[4], ARGV[k], ARGV[k + 1]) end
end
return 'ok'
"""
)
# KEYS owner, queue, failed, on, dead; ARGV token, now_ms, most dead, then id, reason and lane ('' for none)
_BURY = (
    _CHECK
    + """
for k = 4, #ARGV, 3 do
  local found = redis.call('XRANGE', KEYS[2], ARGV[k], ARGV[k])[1]
  if found then
    local fields = found[2]
    fields[#fields + 1] = 'reason'
    fields[#fields + 1] = ARGV[k + 1]
    fields[#fields + 1] = 'failed_at'
    fields[#fields + 1] = ARGV[2]
    redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[3], '*', unpack(fields))
    redis.call('XDEL', KEYS[2], ARGV[k])
  end
  redis.call('HDEL', KEYS[3], ARGV[k])
  if ARGV[k + 2] ~= '' then redis.call('HDEL', KEYS[4], ARGV[k + 2]) end
end
return 'ok'
"""
)
_FAILED = _CHECK + "redis.call('HSET', KEYS[2], ARGV[2], ARGV[3]) return 'ok'"
# KEYS queue, dead; ARGV id, now_ms
_REDRIVE = """
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])[1]
if not found then return 0 end
local fields = {}
for k = 1, #found[2], 2 do
  if found[2][k] == 'message' then fields = { 'at', ARGV[2], 'message', found[2][k + 1] } end
end
redis.call('XADD', KEYS[1], '*', unpack(fields))
redis.call('XDEL', KEYS[2], ARGV[1])
return 1
"""


class Memory(msgspec.Struct, array_like=True):
    """What is known of a lane."""

    number: int
    """Of its last message; a repeat has the same or a lower one."""
    id: str
    """Of its last message."""
    kinds: list[Kind]
    """What its alert was like: severities and categories."""

    def is_news(self, message: Message) -> bool:
        """Whether a message was not taken in before."""
        return message.number > self.number if message.number else message.id != self.id


class Waiting(NamedTuple):
    """A message in a queue, as read."""

    entry: Entry
    queued_ms: int
    """Since the epoch."""
    message: Message | None
    """None if it cannot be read: a newer version put it there."""


class Failure(msgspec.Struct, frozen=True):
    """What failed so far."""

    attempts: int
    reason: str
    at_ms: int


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was given up."""

    target: str
    place: str
    """In the stream of dead letters."""
    queued_at: int
    """ms since the epoch, as below."""
    failed_at: int
    reason: str
    message: Message


class LostLeaseError(ReviewpulseError):
    """Another process delivers for this group now; to wait for it would help nobody."""

    exit_code = 3


class Keys:
    """Names of a group's keys."""

    def __init__(self, namespace: str, group: str) -> None:
        self._prefix = f"{namespace}:notify:{{{group}}}"
        self.owner = f"{self._prefix}:owner"
        self.lanes = f"{self._prefix}:lanes"
        self.lanes_at = f"{self._prefix}:lanes:at"

    def of(self, kind: str, target: str) -> str:
        """A target's key of a kind: ``queue``, ``failed``, ``on``, ``dead``."""
        return f"{self._prefix}:{kind}:{target}"


_decode_message = msgspec.json.Decoder(Message).decode
_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_failure = msgspec.json.Decoder(Failure).decode


class Queues:
    """A group's queues, for threads that wait and for commands.

    Args:
        client: stays the caller's to close.
        keys: of the group.
        url: of Redis, for what is said.
        token: who the owner is.
    """

    def __init__(self, client: Client, keys: Keys, url: str, token: str = "") -> None:
        self._client = client
        self._keys = keys
        self._url = url
        self._token = token

    def memory(self, lane: str) -> Memory | None:
        """What is known of a lane.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        (found,) = self._trip(("HGET", self._keys.lanes, lane))
        try:
            return None if found is None else _decode_memory(found)
        except msgspec.MsgspecError:
            return None

    def put(self, message: Message, lane: str, memory: Memory, targets: Sequence[str], now_ms: int) -> int:
        """Puts a message into the queues of its targets.

        Returns:
            How many old ones became dead letters for want of room.

        Raises:
            LostLeaseError: another process delivers now.
            DependencyError: Redis is away or refuses.
        """
        keys = [self._keys.owner, self._keys.lanes, self._keys.lanes_at]
        for target in targets:
            keys += [self._keys.of("queue", target), self._keys.of("dead", target)]
        (dropped,) = self._trip(
            _eval(
                _PUT,
                keys,
                self._token,
                lane,
                msgspec.msgpack.encode(memory),
                now_ms,
                MOST_LANES,
                MOST_WAITING,
                MOST_DEAD,
                message.id,
                msgspec.json.encode(message),
                f"more than {MOST_WAITING:,} messages waited",
            )
        )
        return int(dropped)

    def take(self, instead_of: str = "") -> str | None:
        """Makes us the owner for a while, or for a while longer.

        Args:
            instead_of: an owner that is known to be dead.

        Returns:
            Who is it instead, if not we.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        (other,) = self._trip(_eval(_TAKE, [self._keys.owner], self._token, LEASE_MS, instead_of))
        return None if other is None else other.decode("utf-8", "replace")

    def leave(self) -> None:
        """We are the owner no longer."""
        self._trip(_eval(_LEAVE, [self._keys.owner], self._token))

    def waiting(self, target: str) -> tuple[int, int | None, Failure | None]:
        """How many messages wait, since when the first one does (ms), and what failed of it."""
        queue = self._keys.of("queue", target)
        length, first, failed = self._trip(
            ("XLEN", queue),
            ("XRANGE", queue, "-", "+", "COUNT", 1),
            ("HGETALL", self._keys.of("failed", target)),
        )
        failures = [_failure(each) for each in failed.values()]
        latest = max(failures, key=lambda each: each.at_ms, default=None)
        return length, int(first[0][0].split(b"-")[0]) if first else None, latest

    def number_dead(self, target: str) -> int:
        """How many dead letters a target has."""
        (length,) = self._trip(("XLEN", self._keys.of("dead", target)))
        return int(length)

    def dead(self, target: str, most: int = MOST_DEAD) -> list[DeadLetter]:
        """A target's dead letters, oldest first; what cannot be read is passed over."""
        (found,) = self._trip(("XRANGE", self._keys.of("dead", target), "-", "+", "COUNT", most))
        letters = []
        for place, fields in found:
            said = _fields(fields)
            message = _message(said.get(b"message", b""))
            if message is not None:
                letters.append(
                    DeadLetter(
                        target=target,
                        place=place.decode(),
                        queued_at=int(said.get(b"at", 0)),
                        failed_at=int(said.get(b"failed_at", 0)),
                        reason=said.get(b"reason", b"").decode("utf-8", "replace"),
                        message=message,
                    )
                )
        return letters

    def redrive(self, letter: DeadLetter, now_ms: int) -> bool:
        """Puts a dead letter into its queue again, at the end; whether it was there."""
        keys = [self._keys.of("queue", letter.target), self._keys.of("dead", letter.target)]
        (done,) = self._trip(_eval(_REDRIVE, keys, letter.place, now_ms))
        return bool(done)

    def drop(self, letter: DeadLetter) -> bool:
        """Removes a dead letter for good; whether it was there."""
        (done,) = self._trip(("XDEL", self._keys.of("dead", letter.target), letter.place))
        return bool(done)

    def _trip(self, *commands: Command) -> list[Any]:
        try:
            return [_checked(each) for each in exchange(self._client, commands)]
        except REDIS_ERRORS as error:
            raise failure(error, self._url) from error


class Queue:
    """One target's queue, for the event loop.

    Args:
        client: stays the caller's to close.
        keys: of the group.
        target: its name.
        url: of Redis, for what is said.
        token: who the owner is.
    """

    def __init__(self, client: AsyncClient, keys: Keys, target: str, url: str, token: str) -> None:
        self._client = client
        self._url = url
        self._token = token
        self._owner = keys.owner
        self._queue, self._failed = keys.of("queue", target), keys.of("failed", target)
        self._on, self._dead = keys.of("on", target), keys.of("dead", target)

    async def read(self, after: str | None) -> list[Waiting]:
        """The next messages behind a place, or the first ones.

        Raises:
            DependencyError: Redis is away or refuses; so below.
        """
        start = "-" if after is None else f"({after}"
        (found,) = await self._trip(("XRANGE", self._queue, start, "+", "COUNT", MOST_READ))
        if not found:
            return []
        (failed,) = await self._trip(("HMGET", self._failed, *(place for place, _ in found)))
        waiting = []
        for (place, fields), failure_ in zip(found, failed, strict=True):
            said = _fields(fields)
            message = _message(said.get(b"message", b""))
            attempts = 0 if failure_ is None else _failure(failure_).attempts
            queued_ms = int(said.get(b"at", 0))
            lane = "" if message is None else message.lane
            waiting.append(Waiting(Entry(place.decode(), lane, queued_ms, attempts), queued_ms, message))
        return waiting

    async def on(self) -> dict[str, bytes]:
        """What an Alertmanager holds for firing, by lane."""
        (found,) = await self._trip(("HGETALL", self._on))
        return {lane.decode(): value for lane, value in found.items()}

    async def done(self, place: str, on: Mapping[str, bytes] | None = None) -> None:
        """A message was delivered; ``on`` changes what is held for firing, an empty value removes it.

        Raises:
            LostLeaseError: another process delivers now; so below.
        """
        changes = [part for pair in (on or {}).items() for part in pair]
        keys = [self._owner, self._queue, self._failed, self._on]
        await self._trip(_eval(_DONE, keys, self._token, place, *changes))

    async def failed(self, place: str, failure_: Failure) -> None:
        """An attempt failed; there will be another."""
        keys = [self._owner, self._failed]
        await self._trip(_eval(_FAILED, keys, self._token, place, msgspec.json.encode(failure_)))

    async def bury(self, given_up: Iterable[tuple[GivenUp, str]], now_ms: int) -> None:
        """Messages become dead letters; with each a lane that is no longer held for firing, or ``""``."""
        said = [part for each, lane in given_up for part in (each.entry.id, each.reason, lane)]
        keys = [self._owner, self._queue, self._failed, self._on, self._dead]
        await self._trip(_eval(_BURY, keys, self._token, now_ms, MOST_DEAD, *said))

    async def _trip(self, *commands: Command) -> list[Any]:
        try:
            return [_checked(each) for each in await exchange_async(self._client, commands)]
        except REDIS_ERRORS as error:
            raise failure(error, self._url) from error


def _eval(script: str, keys: Sequence[str], *arguments: str | bytes | int) -> Command:
    # EVAL, not EVALSHA: a script a message is nothing, and there is no NOSCRIPT to mend after a failover.
    return ("EVAL", script, len(keys), *keys, *arguments)


def _checked(reply: Any) -> Any:
    if reply == _LOST:
        raise LostLeaseError(
            "Another `reviewpulse notify` of this group delivers now: run one of a group, or name another"
            " --group."
        )
    return reply


def _fields(fields: Any) -> dict[bytes, bytes]:
    """Fields of a stream's entry, however the client gives them."""
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _failure(encoded: bytes) -> Failure:
    try:
        return _decode_failure(encoded)
    except msgspec.MsgspecError:
        return Failure(0, "what failed cannot be read", 0)


def _message(encoded: bytes) -> Message | None:
    try:
        return _decode_message(encoded)
    except msgspec.MsgspecError:
        return None
