"""Ways to count events in Redis: ours, and the plain ones.

Rules:
- Ours is the real pipeline on the real store, with the real detector; only Kafka and the model are left out.
- The plain ways do less: no offsets, no detector, no duplicates, no late events, no first and last times;
  nothing is ever removed of the sums, and a batch that is repeated is counted twice.
"""

from __future__ import annotations

import asyncio
import re
import socket
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np
from aiokafka import ConsumerRecord
from faust.types import TP

from stream.bench.pipeline import TEXT
from stream.core.buckets import CODES, HOUR_MS, RESOLUTIONS
from stream.core.spike import SpikeDetector, rule_from
from stream.lanes import Lanes
from stream.local import HOST
from stream.pipeline import Pipeline, PipelineSettings
from stream.redis_config import connect_async
from stream.runs import Run
from stream.store.layout import Layout
from stream.store.redis import RedisStore
from stream.topic_ids import TopicFacts
from stream.transport import RUN_RECORDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.bench.live_stream import Events
    from stream.core.events import Score
    from stream.record import Refused
    from stream.redis_trip import Command
    from stream.settings import Settings
    from stream.store.contract import Apply

PARTITIONS = 4
SHARD_TAG = re.compile(r"\{s\d+")
SENTIMENTS = (-780, 20, 840)
"""In thousandths, by label."""


class Traffic(NamedTuple):
    """What went over the network so far."""

    round_trips: int
    commands: int
    batches: int
    shard_trips: int
    """Round trips by shard that they carried something for, summed over the shards."""

    def since(self, before: Traffic) -> Traffic:
        """What went in between."""
        return Traffic(
            self.round_trips - before.round_trips,
            self.commands - before.commands,
            self.batches - before.batches,
            self.shard_trips - before.shard_trips,
        )


class Way(Protocol):
    """A way to count."""

    async def add(self, events: Events, window: int) -> None:
        """Counts events, ``window`` of them a batch."""
        ...

    def traffic(self) -> Traffic:
        """So far."""
        ...


# Ours.


class CountingStore(RedisStore):
    """The real store, which counts what it sends."""

    round_trips = 0
    commands = 0
    shard_trips = 0

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        """See ``CounterStore``."""
        self.round_trips += 1
        self.commands += len(steps)
        self.shard_trips += len({step.shard for step in steps})
        return await super().apply(steps)

    async def _trip(self, commands: Sequence[Command]) -> list[Any]:
        self.round_trips += 1
        self.commands += len(commands)
        self.shard_trips += len(set(SHARD_TAG.findall(repr(commands))))
        return await super()._trip(commands)


class EmptyLog:
    """What Kafka would say before the first event; see ``Log``."""

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        """They are there."""
        return {name: TopicFacts(None, PARTITIONS) for name in names}

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """Nothing was written yet."""
        return dict.fromkeys(tps, (0, 0))

    async def committed(self, tp: TP) -> int:
        """Nothing was read yet."""
        del tp
        return 0

    async def has_record(self, tp: TP, offset: int) -> bool:
        """There is none."""
        del tp, offset
        return False


class Texts(NamedTuple):
    """What the scorer below tokenises to."""

    labels: list[int]
    lengths: NDArray[np.int32]


class LabelInText:
    """A model that costs nothing: the text begins with its label."""

    version = "label-in-text"
    provider = "none"

    def encode(self, texts: Sequence[str]) -> Texts:
        """Reads the labels."""
        return Texts([int(text[0]) for text in texts], np.ones(len(texts), np.int32))

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Probabilities whose difference is the label's sentiment."""
        by_label = np.array([[0.8, 0.18, 0.02], [0.04, 0.9, 0.06], [0.03, 0.1, 0.87]], np.float32)
        probabilities: NDArray[np.float32] = by_label[np.asarray(encoded.labels)[rows]]
        return probabilities

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        """The likeliest."""
        labels: NDArray[np.int8] = probabilities.argmax(axis=1).astype(np.int8)
        return labels


class NoPublisher:
    """Alerts stay in the outbox; nothing else is published."""

    async def dead_letters(self, letters: Sequence[Refused]) -> None:
        """There are none."""
        raise AssertionError(letters)

    async def scores(self, scores: Sequence[Score]) -> None:
        """Nobody asked for them."""
        raise AssertionError(scores)

    def alerts_waiting(self) -> None:
        """They may wait."""


class Ours:
    """The pipeline as shipped, fed from memory.

    Args:
        settings: where Redis is, and the namespace.
    """

    def __init__(self, settings: Settings) -> None:
        self._store = CountingStore(
            connect_async(settings), Layout(settings.namespace, settings.shards), settings.redis
        )
        self._lanes = Lanes(self._store, {"reviews": "reviews"})
        rule = rule_from(
            settings.false_alarms_per_day,
            settings.expected_events_per_day,
            settings.alert_min_events,
            settings.alert_min_negatives,
            round(settings.historic_after_s * 1000),
        )
        self._detector = SpikeDetector(rule, LabelInText.version)
        self._offsets = [0] * PARTITIONS
        self._runs = [0] * PARTITIONS
        self._windows = 0

    async def open(self) -> None:
        """Loads the script, and takes all partitions."""
        await self._store.open()
        tps = {TP("reviews", number) for number in range(PARTITIONS)}
        self._lanes.open(await self._lanes.positions(tps, EmptyLog()))

    async def add(self, events: Events, window: int) -> None:
        """See ``Way``."""
        pipeline = Pipeline(
            store=self._store,
            lanes=self._lanes,
            scorer=LabelInText(),
            detector=self._detector,
            publisher=NoPublisher(),
            rewind=self._refused,
            settings=PipelineSettings(window_events=window),
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(pipeline.run())
            for piece in events.cut(RUN_RECORDS):
                for run in self._as_runs(piece):
                    await pipeline.put(run)
            assert await pipeline.drain(60.0), "the pipeline did not finish"
            running.cancel()
        self._windows += pipeline.progress.windows
        assert pipeline.progress.counted == len(events.products), pipeline.progress

    async def _refused(self, tps: set[TP]) -> None:
        raise AssertionError(f"a step on {tps} was refused")

    def _as_runs(self, events: Events) -> list[Run]:
        records: list[list[ConsumerRecord[bytes, bytes]]] = [[] for _ in range(PARTITIONS)]
        for product, at_ms, label in zip(*events, strict=True):
            name = f"product-{product}"
            partition = zlib.crc32(name.encode()) % PARTITIONS
            offset = self._offsets[partition]
            self._offsets[partition] += 1
            value = {
                "event_id": f"event-{partition}-{offset}",
                "product_id": name,
                "text": f"{label} {TEXT}",
                "event_time": at_ms,
                "author_id": f"author-{offset}",
            }
            records[partition].append(_record(partition, offset, at_ms, msgspec.json.encode(value)))
        runs = []
        for number, some in enumerate(records):
            if some:
                runs.append(Run(TP("reviews", number), 1, self._runs[number], some))
                self._runs[number] += 1
        return runs

    def traffic(self) -> Traffic:
        """See ``Way``."""
        store = self._store
        return Traffic(store.round_trips, store.commands, self._windows, store.shard_trips)

    async def close(self) -> None:
        """Disconnects."""
        await self._store.close()


def _record(partition: int, offset: int, at_ms: int, value: bytes) -> ConsumerRecord[bytes, bytes]:
    return ConsumerRecord(
        topic="reviews",
        partition=partition,
        offset=offset,
        timestamp=at_ms,
        timestamp_type=0,
        key=None,
        value=value,
        checksum=None,
        serialized_key_size=0,
        serialized_value_size=len(value),
        headers=(),
    )


# The plain ways.


class Piped:
    """Commands whose replies are integers, as a pipeline: written at once, then the replies are counted."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((HOST, port))
        self._traffic = Traffic(0, 0, 0, 0)

    def send(self, commands: Sequence[bytes]) -> None:
        """One round trip."""
        self._socket.sendall(b"".join(commands))
        missing = len(commands)
        before = b"\n"
        while missing:
            replies = self._socket.recv(1 << 20)
            assert replies, "the server hung up"
            assert b"\n-" not in before + replies, replies
            missing -= replies.count(b"\n")
            before = replies[-1:]
        trips, sent, batches, _ = self._traffic
        self._traffic = Traffic(trips + 1, sent + len(commands), batches + 1, trips + 1)

    def traffic(self) -> Traffic:
        """See ``Way``."""
        return self._traffic


def command(*words: str) -> bytes:
    r"""A command as Redis reads it.

    >>> command("INCR", "a")
    b'*2\r\n$4\r\nINCR\r\n$1\r\na\r\n'
    """
    return (f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)).encode()


class Increments(Piped):
    """The same sums, one by one: an event's label and its sentiment, all-time and in three buckets.

    Args:
        port: of the server.
        hash_a_bucket: a small hash for each bucket of a product, quick and large; or one for the product, in
            which Redis walks past the others' fields.
    """

    def __init__(self, port: int, *, hash_a_bucket: bool) -> None:
        super().__init__(port)
        self._names = "buckets:{}:{} {}" if hash_a_bucket else "products:{} {}:{}"

    async def add(self, events: Events, window: int) -> None:
        """See ``Way``."""
        for piece in events.cut(window):
            commands: list[bytes] = []
            for product, at_ms, label in zip(*piece, strict=True):
                buckets = [at_ms // width * CODES + code for code, width, *_ in RESOLUTIONS]
                for bucket in ("total", *buckets):
                    for counter, more in ((label, 1), ("sentiment", SENTIMENTS[label])):
                        key, field = self._names.format(product, bucket, counter).split()
                        commands.append(command("HINCRBY", key, field, str(more)))
            self.send(commands)


class SortedSets(Piped):
    """One sorted set a product and label, of the events of the last hour, as rate limiters are taught."""

    async def add(self, events: Events, window: int) -> None:
        """See ``Way``."""
        for piece in events.cut(window):
            commands: list[bytes] = []
            first = self.traffic().commands
            for number, (product, at_ms, label) in enumerate(zip(*piece, strict=True), first):
                key, member = f"window:{product}:{label}", f"event-{number}"
                commands.append(command("ZADD", key, str(at_ms), member))
                commands.append(command("ZREMRANGEBYSCORE", key, "-inf", str(at_ms - HOUR_MS)))
                commands.append(command("ZCARD", key))
            self.send(commands)
