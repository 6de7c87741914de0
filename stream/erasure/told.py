"""Erases what notifiers remember, what waits in their queues, and what people said."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stream.client.notifications import FINISHED, STATE, Memory
from stream.core.forgetting import is_quoted, message_without_customer, message_without_product, without_words
from stream.core.messages import Message
from stream.core.notifier import Notifier
from stream.core.silence import Silence
from stream.erasure.counters import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream.core.forgetting import Customer
    from stream.core.notify import Notification
    from stream.erasure.redis import Redis
    from stream.erasure.report import Tally

# KEYS a group's memory; ARGV what its two fields must hold still, and what the first is to hold
_REPLACE_MEMORY = """
local held = redis.call('HMGET', KEYS[1], 'state', 'finished')
if (held[1] or '') ~= ARGV[1] or (held[2] or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
return 1
"""
_QUEUES = ("notify:{*}:queue:*", "notify:{*}:dead:*")

_decode_message = msgspec.json.Decoder(Message).decode
_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_silence = msgspec.json.Decoder(Silence).decode


class _Changed(NamedTuple):
    """What a notifier forgets beside its own memory."""

    keep: Callable[[Notification], Notification | None]
    """What is kept of a notification that waits."""
    threads: Iterable[str]
    """Those that are gone."""


class Told:
    """One run's part in what was, or is to be, told, and in what people said to it.

    Args:
        redis: where it is.
        tally: what is removed is added to it.
    """

    def __init__(self, redis: Redis, tally: Tally) -> None:
        self._redis = redis
        self._tally = tally

    def erase_product(self, product_id: str, alerts: set[str]) -> None:
        """Forgets a product.

        Args:
            product_id: which.
            alerts: ids of its alerts; those found here are added.
        """
        threads = self._change_memories(lambda notifier: _without_product(notifier, product_id, alerts))
        self._empty_queues(product_id, alerts, threads)
        namespace = self._redis.namespace
        (silences,) = self._redis.trip(("HGETALL", f"{namespace}:silences"))
        about_it = [id_ for id_, raw in silences.items() if _silenced(raw) == product_id]
        self._redis.drop_fields("silences", f"{namespace}:silences", about_it)
        self._redis.drop_fields("acknowledgements", f"{namespace}:acks", alerts)

    def erase_author(self, customer: Customer) -> None:
        """Takes a customer's words out of memories, queues and dead letters."""
        self._change_memories(lambda notifier: _without_author(notifier, customer))
        for key in self._redis.keys(*_QUEUES):
            self._redis.rewrite(
                "messages that wait", key, b"message", lambda raw: _quiet_message(raw, customer)
            )

    def _change_memories(self, change: Callable[[Notifier], _Changed]) -> set[str]:
        """Changes what each group of notifications remembers; returns the threads that are gone."""
        threads = set[str]()
        for key in self._redis.keys("notified:*"):
            for _ in range(ATTEMPTS):
                ((state, finished),) = self._redis.trip(("HMGET", key, STATE, FINISHED))
                if state is None:
                    break
                try:
                    after, gone = _changed_memory(state, int(finished or 0), change)
                except ValueError:
                    self._tally.left.append(f"{key} is of another version and was not read.")
                    break
                threads.update(gone)
                if after is None:
                    break
                if self._redis.dry or self._redis.trip(
                    ("EVAL", _REPLACE_MEMORY, 1, key, state, finished or b"", after)
                ) == [1]:
                    self._tally.removed["what notifications remember"] += 1
                    break
            else:
                self._tally.left.append(f"{key} changed too fast to be replaced: run this again.")
        return threads

    def _empty_queues(self, product_id: str, alerts: set[str], threads: set[str]) -> None:
        def without_it(raw: bytes) -> bytes | None:
            return _encoded(_message(raw), lambda each: message_without_product(each, product_id, alerts))

        redis = self._redis
        for key in redis.keys(*_QUEUES):
            messages = {
                place: _message(fields.get(b"message", b"")) for place, fields in redis.entries(key).items()
            }
            of_it = {
                place: each
                for place, each in messages.items()
                if each is not None and each.alert is not None and each.alert.product_id == product_id
            }
            alerts.update(each.alert.id for each in of_it.values() if each.alert is not None)
            threads.update(each.lane for each in of_it.values())
            self._tally.removed["messages that wait"] += len(of_it)
            if of_it and not redis.dry:
                failed = key.replace(":queue:", ":failed:", 1)
                redis.trip(("XDEL", key, *of_it), ("HDEL", failed, *of_it))
            redis.rewrite("messages that wait", key, b"message", without_it)
        lanes = [f"t:{each}" for each in alerts] + [f"n:{each}" for each in threads]
        for key in redis.keys("notify:{*}:lanes"):
            redis.drop_fields("what was told", key, lanes)
            if lanes and not redis.dry:
                redis.trip(("ZREM", f"{key}:at", *lanes))
        for key in redis.keys("notify:{*}:on:*"):
            redis.drop_fields("what an Alertmanager holds", key, [*alerts, *threads])


def _changed_memory(
    state: bytes, finished: int, change: Callable[[Notifier], _Changed]
) -> tuple[bytes | None, Iterable[str]]:
    """What a group's memory is to be, None where that is what it is; and the threads that are gone.

    Raises:
        ValueError: it is of another version.
    """
    memory = _decode_memory(state)
    notifier = Notifier.load(memory.notifier)
    before = notifier.dump()
    keep, gone = change(notifier)
    skipped = max(finished - memory.finished, 0)
    rest = [keep(each) for each in memory.waiting[skipped:]]
    after = Memory(
        notifier.dump(),
        [each for each in rest if each is not None],
        memory.finished + min(skipped, len(memory.waiting)),
    )
    if after.notifier == before and after.waiting == memory.waiting[skipped:]:
        return None, gone
    return msgspec.msgpack.encode(after), gone


def _without_product(notifier: Notifier, product_id: str, alerts: set[str]) -> _Changed:
    threads = notifier.forget_product(product_id)

    def keep(waiting: Notification) -> Notification | None:
        if waiting.alert is None or waiting.alert.product_id != product_id:
            return waiting
        alerts.add(waiting.alert.id)
        return None

    return _Changed(keep, threads)


def _without_author(notifier: Notifier, customer: Customer) -> _Changed:
    notifier.forget_words(customer)

    def keep(waiting: Notification) -> Notification | None:
        if waiting.alert is None or not is_quoted(waiting.alert, customer):
            return waiting
        return msgspec.structs.replace(waiting, alert=without_words(waiting.alert))

    return _Changed(keep, ())


def _silenced(raw: bytes) -> str | None:
    try:
        return _decode_silence(raw).product
    except ValueError:
        return None


def _message(raw: bytes) -> Message | None:
    try:
        return _decode_message(raw)
    except ValueError:
        return None


def _quiet_message(raw: bytes, customer: Customer) -> bytes | None:
    return _encoded(_message(raw), lambda each: message_without_customer(each, customer))


def _encoded(message: Message | None, change: Callable[[Message], Message | None]) -> bytes | None:
    changed = None if message is None else change(message)
    return None if changed is None else msgspec.json.encode(changed)
