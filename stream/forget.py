"""Erases what Redis, and the alerts topic, hold of a product or of a customer, while workers run.

Rules:
- Each shard's part is one atomic step. It counts an erasure beside the offsets, and the fence refuses the
  step of a worker that remembers what was erased (``stream/store/contract.py``): it reads what Redis holds.
- A customer is known to Redis by hashes alone, and to an alert by the event it quotes. So the input topics
  are read for the customer's events first, as far as Kafka keeps them.
- What was counted stays counted: the ledger, the offsets, the fleet's sums and the fingerprints name nobody,
  and the counts of a product do not say whose events they are of.
- Nothing is locked out but ``rebuild`` and ``reshard``, which would carry a copy past us.
- Idempotent: run again, it finds nothing. What it cannot reach it says (``LEFT``).
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from importlib.resources import files
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from stream.client.log import read_topic
from stream.client.notifications import FINISHED, STATE, Memory
from stream.client.producer import EventProducer
from stream.core.damping import author_hash
from stream.core.detection import alert_ids, without_author
from stream.core.events import CHANNELS, Alert
from stream.core.forgetting import (
    Customer,
    is_quoted,
    message_without_customer,
    message_without_product,
    without_words,
)
from stream.core.messages import Message
from stream.core.notifier import Notifier
from stream.core.silence import Silence
from stream.errors import UsageError
from stream.redis_errors import REDIS_ERRORS, failure
from stream.redis_trip import exchange
from stream.store.layout import Layout, UnknownLayout, read_written
from stream.store.switch import LOCK_S, new_owner

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from stream.core.notify import Notification
    from stream.redis_config import Client
    from stream.redis_trip import Command
    from stream.settings import Settings

ERASE_SCRIPT = files("stream.store").joinpath("erase.lua").read_text("utf-8")
# KEYS offsets, then detector states; ARGV of each what it must hold still, and what it is to hold
_REPLACE_STATES = """
redis.call('EXISTS', unpack(KEYS))
local done = 0
for n = 2, #KEYS do
  if redis.call('GET', KEYS[n]) == ARGV[2 * n - 3] then
    redis.call('SET', KEYS[n], ARGV[2 * n - 2])
    done = done + 1
  end
end
if done > 0 then redis.call('HINCRBY', KEYS[1], 'erased', 1) end
return done
"""
# KEYS a stream; ARGV the field, then id and new value of each entry to be changed. Ids and order stay.
_REWRITE = """
local entries, edits, done = redis.call('XRANGE', KEYS[1], '-', '+'), {}, 0
for n = 2, #ARGV, 2 do edits[ARGV[n]] = ARGV[n + 1] end
for _, entry in ipairs(entries) do
  if edits[entry[1]] then done = done + 1 end
end
if done == 0 then return 0 end
redis.call('DEL', KEYS[1])
for _, entry in ipairs(entries) do
  for k = 1, #entry[2], 2 do
    if entry[2][k] == ARGV[1] and edits[entry[1]] then entry[2][k + 1] = edits[entry[1]] end
  end
  redis.call('XADD', KEYS[1], entry[1], unpack(entry[2]))
end
return done
"""
# KEYS a group's memory; ARGV what its two fields must hold still, and what they are to hold
_REPLACE_MEMORY = """
local held = redis.call('HMGET', KEYS[1], 'state', 'finished')
if (held[1] or '') ~= ARGV[1] or (held[2] or '') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[3])
return 1
"""
_DROP_IF_SAME = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"
PRODUCTS_A_TRIP = 500
ATTEMPTS = 20
"""A state that changes faster than it can be replaced is a product with hundreds of events a second."""

LEFT = (
    (
        "Kafka keeps the events themselves, their dead letters and, where they are published, scores until"
        " each topic's retention ends. `reviewpulse rebuild` counts them again: run this again after one."
    ),
    (
        "A `reviewpulse notify`, and any other subscriber, that runs now has in memory what it was told:"
        " restart it, then run this again."
    ),
    (
        "What was delivered already (mail, chats, webhooks, digests, dumps), backups, and Redis' append-only"
        " file before its next rewrite are not reached."
    ),
)


class Report(NamedTuple):
    """What was removed, or would be."""

    removed: dict[str, int]
    """How many, by what."""
    left: tuple[str, ...]
    """What cannot be removed here, in sentences."""


class _Changed(NamedTuple):
    """What a notifier forgets beside its own memory."""

    keep: Callable[[Notification], Notification | None]
    """What is kept of a notification that waits."""
    threads: Iterable[str]
    """Those that are gone."""


class _Author(msgspec.Struct):
    author_id: str | None = None
    event_id: str = ""


_decode_author = msgspec.json.Decoder(_Author).decode
_decode_alert = msgspec.json.Decoder(Alert).decode
_decode_message = msgspec.json.Decoder(Message).decode
_decode_memory = msgspec.msgpack.Decoder(Memory).decode
_decode_silence = msgspec.json.Decoder(Silence).decode


class Forgetting:
    """One run of it.

    Args:
        settings: where Redis and Kafka are.
        client: from ``stream.redis_config.connect``; stays the caller's to close.
        dry: changes nothing, and only counts.
        with_kafka: whether the topics are read, and alerts there are written over.
    """

    def __init__(self, settings: Settings, client: Client, *, dry: bool, with_kafka: bool = True) -> None:
        self._settings = settings
        self._client = client
        self._dry = dry
        self._with_kafka = with_kafka
        self._removed: Counter[str] = Counter()
        self._left: list[str] = []
        self._owner = new_owner()
        self._lock = f"{settings.namespace}:moving"

    def product(self, product_id: str) -> Report:
        """Forgets a product.

        Raises:
            UsageError: counters are being moved, or Redis refuses us.
            DependencyError: Redis or Kafka is away.
        """
        with self._alone() as layouts:
            alerts = set[str]()
            for layout in layouts:
                alerts |= self._erase_product(layout, product_id)
            published = self._alerts_of_kafka(lambda alert: alert.product_id == product_id)
            alerts.update(published)
            threads = self._forget_in_memories(
                lambda notifier: self._product_in_memory(notifier, product_id, alerts)
            )
            self._empty_queues(product_id, alerts, threads)
            self._forget_words_of_people(product_id, alerts)
            self._publish("alerts in Kafka", dict.fromkeys(published))
        return self._report()

    def author(self, author_id: str) -> Report:
        """Forgets a customer.

        Raises:
            UsageError: counters are being moved, or Redis refuses us.
            DependencyError: Redis or Kafka is away.
        """
        events = self._events_of(author_id) if self._with_kafka else frozenset[str]()
        customer = Customer(author_hash(author_id), events)
        with self._alone() as layouts:
            alerts = set[str]()
            for layout in layouts:
                alerts |= self._erase_author(layout, customer)
            customer = customer._replace(alerts=frozenset(alerts))
            for layout in layouts:
                for shard in range(layout.shards):
                    for stream in (layout.outbox(shard), layout.withheld(shard)):
                        self._rewrite(
                            "alerts on their way", stream, b"alert", lambda raw: _quiet_alert(raw, customer)
                        )
            self._forget_in_memories(lambda notifier: self._author_in_memory(notifier, customer))
            for key in self._keys("notify:{*}:queue:*", "notify:{*}:dead:*"):
                self._rewrite(
                    "messages that wait", key, b"message", lambda raw: _quiet_message(raw, customer)
                )
            published = self._alerts_of_kafka(lambda alert: is_quoted(alert, customer))
            over = {id_: alert for id_, alert in published.items() if alert.state == "resolved"}
            if firing := len(published) - len(over):
                self._left.append(_still_firing(firing))
            self._publish(
                "alerts in Kafka",
                {id_: msgspec.json.encode(without_words(each)) for id_, each in over.items()},
            )
        if events:
            self._left.insert(0, f"Of the customer's events, Kafka still has {len(events):,}.")
        return self._report()

    def _report(self) -> Report:
        return Report(
            {what: number for what, number in self._removed.items() if number}, (*self._left, *LEFT)
        )

    # Counters and detector states.

    @contextmanager
    def _alone(self) -> Iterator[list[Layout]]:
        """Keeps generations from being made or removed; every generation there is, the live one first."""
        if not self._dry:
            (taken,) = self._trip(("SET", self._lock, self._owner, "NX", "PX", round(LOCK_S * 1000)))
            if not taken:
                raise UsageError(
                    f"The counters of '{self._settings.namespace}' are being moved or erased already: wait"
                    " for the end of `rebuild`, `reshard` or `forget`, then run this again."
                )
        try:
            yield self._layouts()
        finally:
            if not self._dry:
                self._trip(("EVAL", _DROP_IF_SAME, 1, self._lock, self._owner))

    def _layouts(self) -> list[Layout]:
        namespace = self._settings.namespace
        live = Layout(namespace, self._settings.shards)
        (raw,) = self._trip(("GET", live.layout_key))
        if raw is None:
            return [live]
        try:
            written = read_written(raw)
        except UnknownLayout as error:
            raise UsageError(f"Redis holds {error}: use the version of reviewpulse that wrote it.") from None
        pending = [written.pending.layout(namespace)] if written.pending else []
        return [written.layout(namespace), *pending, *(each.layout(namespace) for each in written.old)]

    def _erase_product(self, layout: Layout, product_id: str) -> set[str]:
        """Forgets what a generation holds of a product; returns the ids of its alerts."""
        shard = layout.shard(product_id)
        states = [layout.spike(channel, product_id) for channel in CHANNELS]
        keys = [layout.offsets(shard), layout.active(shard), layout.outbox(shard), layout.withheld(shard)]
        keys += [layout.product(product_id), *states]
        before = self._trip(*(("GET", key) for key in states))
        ((held, was_active, on_their_way, *ids),) = self._trip(
            ("EVAL", ERASE_SCRIPT, len(keys), *keys, product_id, "1" if self._dry else "")
        )
        self._removed["counters and detector states"] += held
        self._removed["places in lists"] += was_active
        self._removed["alerts on their way"] += on_their_way
        return {each.decode() for each in ids} | {id_ for state in before for id_ in _known_alerts(state)}

    def _erase_author(self, layout: Layout, customer: Customer) -> set[str]:
        """Takes a customer out of a generation's states; returns the ids of the alerts they know."""
        alerts = set[str]()
        for shard in range(layout.shards):
            for _ in range(ATTEMPTS):
                found = list(self._states_with(layout, shard, customer))
                alerts.update(id_ for _, before, _ in found for id_ in _known_alerts(before))
                if not found or self._dry:
                    self._removed["detector states"] += len(found)
                    break
                keys = [layout.offsets(shard), *(key for key, _, _ in found)]
                values = [part for _, before, after in found for part in (before, after)]
                (done,) = self._trip(("EVAL", _REPLACE_STATES, len(keys), *keys, *values))
                self._removed["detector states"] += done
            else:
                self._left.append("Some detector states changed too fast to be replaced: run this again.")
        return alerts

    def _states_with(
        self, layout: Layout, shard: int, customer: Customer
    ) -> Iterator[tuple[str, bytes, bytes]]:
        """Key, value and what it is to be, of each state that holds something of the customer."""
        (active,) = self._trip(("ZRANGE", layout.active(shard), 0, -1))
        for first in range(0, len(active), PRODUCTS_A_TRIP):
            products = active[first : first + PRODUCTS_A_TRIP]
            self._stay_alone()
            keys = [layout.spike(channel, each.decode()) for each in products for channel in CHANNELS]
            (states,) = self._trip(("MGET", *keys))
            for key, state in zip(keys, states, strict=True):
                if state is None:
                    continue
                try:
                    after = without_author(state, customer.author, customer.events)
                except ValueError:  # a newer worker's
                    self._left.append(f"{key} is of another version and was not read.")
                    continue
                if after is not None and after != state:
                    yield key, state, after

    def _stay_alone(self) -> None:
        if not self._dry:
            self._trip(("SET", self._lock, self._owner, "XX", "PX", round(LOCK_S * 1000)))

    # What people said, and are to be told.

    def _forget_words_of_people(self, product_id: str, alerts: Iterable[str]) -> None:
        namespace = self._settings.namespace
        (silences,) = self._trip(("HGETALL", f"{namespace}:silences"))
        about_it = [id_ for id_, raw in silences.items() if _silenced(raw) == product_id]
        self._drop_fields("silences", f"{namespace}:silences", about_it)
        self._drop_fields("acknowledgements", f"{namespace}:acks", alerts)

    def _drop_fields(self, what: str, key: str, fields: Iterable[str | bytes]) -> None:
        wanted = list(fields)
        if not wanted:
            return
        if self._dry:
            (held,) = self._trip(("HMGET", key, *wanted))
            self._removed[what] += sum(each is not None for each in held)
        else:
            (gone,) = self._trip(("HDEL", key, *wanted))
            self._removed[what] += gone

    def _forget_in_memories(self, change: Callable[[Notifier], _Changed]) -> set[str]:
        """Changes what each group of notifications remembers; returns the threads that are gone."""
        threads = set[str]()
        for key in self._keys("notified:*"):
            for _ in range(ATTEMPTS):
                ((state, finished),) = self._trip(("HMGET", key, STATE, FINISHED))
                if state is None:
                    break
                try:
                    memory = _decode_memory(state)
                    notifier = Notifier.load(memory.notifier)
                except ValueError:
                    self._left.append(f"{key} is of another version and was not read.")
                    break
                before = notifier.dump()
                keep, gone = change(notifier)
                threads.update(gone)
                skipped = max(int(finished or 0) - memory.finished, 0)
                rest = [keep(each) for each in memory.waiting[skipped:]]
                after = Memory(
                    notifier.dump(),
                    [each for each in rest if each is not None],
                    memory.finished + min(skipped, len(memory.waiting)),
                )
                if after.notifier == before and after.waiting == memory.waiting[skipped:]:
                    break
                self._removed["what notifications remember"] += 1
                packed = msgspec.msgpack.encode(after)
                if self._dry or self._trip(
                    ("EVAL", _REPLACE_MEMORY, 1, key, state, finished or b"", packed)
                ) == [1]:
                    break
                self._removed["what notifications remember"] -= 1
        return threads

    def _product_in_memory(self, notifier: Notifier, product_id: str, alerts: set[str]) -> _Changed:
        threads = notifier.forget_product(product_id)

        def keep(waiting: Notification) -> Notification | None:
            of_it = waiting.alert is not None and waiting.alert.product_id == product_id
            if waiting.alert is not None and of_it:
                alerts.add(waiting.alert.id)
            return None if of_it else waiting

        return _Changed(keep, threads)

    def _author_in_memory(self, notifier: Notifier, customer: Customer) -> _Changed:
        notifier.forget_words(customer)

        def keep(waiting: Notification) -> Notification | None:
            if waiting.alert is None or not is_quoted(waiting.alert, customer):
                return waiting
            return msgspec.structs.replace(waiting, alert=without_words(waiting.alert))

        return _Changed(keep, ())

    def _empty_queues(self, product_id: str, alerts: set[str], threads: set[str]) -> None:
        def without_it(raw: bytes) -> bytes | None:
            return _encoded(_message(raw), lambda each: message_without_product(each, product_id, alerts))

        for key in self._keys("notify:{*}:queue:*", "notify:{*}:dead:*"):
            (entries,) = self._trip(("XRANGE", key, "-", "+"))
            messages = {place: _message(_fields(fields).get(b"message", b"")) for place, fields in entries}
            of_it = {
                place: each
                for place, each in messages.items()
                if each is not None and each.alert is not None and each.alert.product_id == product_id
            }
            alerts.update(each.alert.id for each in of_it.values() if each.alert is not None)
            threads.update(each.lane for each in of_it.values())
            self._removed["messages that wait"] += len(of_it)
            if of_it and not self._dry:
                failed = key.replace(":queue:", ":failed:", 1)
                self._trip(("XDEL", key, *of_it), ("HDEL", failed, *of_it))
            self._rewrite("messages that wait", key, b"message", without_it)
        lanes = [f"t:{each}" for each in alerts] + [f"n:{each}" for each in threads]
        for key in self._keys("notify:{*}:lanes"):
            self._drop_fields("what was told", key, lanes)
            if lanes and not self._dry:
                self._trip(("ZREM", f"{key}:at", *lanes))
        for key in self._keys("notify:{*}:on:*"):
            self._drop_fields("what an Alertmanager holds", key, [*alerts, *threads])

    def _rewrite(self, what: str, key: str, field: bytes, change: Callable[[bytes], bytes | None]) -> None:
        """Changes a field of a stream's entries, where ``change`` gives another value."""
        (entries,) = self._trip(("XRANGE", key, "-", "+"))
        edits = {}
        for place, fields in entries:
            raw = _fields(fields).get(field)
            changed = None if raw is None else change(raw)
            if changed is not None and changed != raw:
                edits[place] = changed
        self._removed[what] += len(edits)
        if edits and not self._dry:
            flat = [part for pair in edits.items() for part in pair]
            self._trip(("EVAL", _REWRITE, 1, key, field, *flat))

    # Kafka.

    def _events_of(self, author_id: str) -> frozenset[str]:
        found = set()
        for topic in self._settings.topics.values():
            for record in read_topic(self._settings, topic):
                try:
                    event = _decode_author(record.value or b"")
                except ValueError:  # a dead letter, or will be one
                    continue
                if event.author_id == author_id:
                    found.add(event.event_id)
        return frozenset(found)

    def _alerts_of_kafka(self, wanted: Callable[[Alert], bool]) -> dict[str, Alert]:
        """The last transition of each alert on the topic, of those that are wanted."""
        latest: dict[str, Alert | None] = {}
        for record in read_topic(self._settings, self._settings.topic_alerts) if self._with_kafka else ():
            key = (record.key or b"").decode("utf-8", "replace")
            if record.value is None:
                latest[key] = None
                continue
            try:
                alert = _decode_alert(record.value)
            except ValueError:
                continue
            known = latest.get(alert.id)
            # The one that compaction keeps is the last one written, and that is the one to be judged.
            latest[alert.id] = alert if known is None or alert.sequence >= known.sequence else known
        return {id_: alert for id_, alert in latest.items() if alert is not None and wanted(alert)}

    def _publish(self, what: str, values: dict[str, bytes | None]) -> None:
        """Writes over alerts on the topic; None is a tombstone."""
        self._removed[what] += len(values)
        if self._dry or not values:
            return
        with EventProducer(self._settings) as producer:
            for id_, value in values.items():
                producer.send_record(self._settings.topic_alerts, id_.encode(), value)

    # Redis.

    def _keys(self, *patterns: str) -> list[str]:
        try:
            found = {
                key.decode()
                for pattern in patterns
                for key in self._client.scan_iter(f"{self._settings.namespace}:{pattern}", count=1000)
            }
        except REDIS_ERRORS as error:
            raise failure(error, self._settings.redis, at_start=True) from error
        return sorted(found)

    def _trip(self, *commands: Command) -> list[Any]:
        try:
            return exchange(self._client, commands)
        except REDIS_ERRORS as error:
            raise failure(error, self._settings.redis, at_start=True) from error


def _known_alerts(state: bytes | None) -> Iterable[str]:
    try:
        return alert_ids(state)
    except ValueError:
        return ()


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


def _quiet_alert(raw: bytes, customer: Customer) -> bytes | None:
    try:
        alert = _decode_alert(raw)
    except ValueError:
        return None
    return msgspec.json.encode(without_words(alert)) if is_quoted(alert, customer) else None


def _quiet_message(raw: bytes, customer: Customer) -> bytes | None:
    return _encoded(_message(raw), lambda each: message_without_customer(each, customer))


def _encoded(message: Message | None, change: Callable[[Message], Message | None]) -> bytes | None:
    changed = None if message is None else change(message)
    return None if changed is None else msgspec.json.encode(changed)


def _fields(fields: Any) -> dict[bytes, bytes]:
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _still_firing(number: int) -> str:
    # Its next transition may be written at any moment. What we write might come after it, and for whoever
    # reads from the beginning it would fire for ever.
    alerts = "1 alert in Kafka that quotes" if number == 1 else f"{number:,} alerts in Kafka that quote"
    fires = "still fires" if number == 1 else "still fire"
    return (
        f"{alerts} the customer {fires}: the next transition, which quotes nobody forgotten, takes its place."
        " Run this again afterwards."
    )
