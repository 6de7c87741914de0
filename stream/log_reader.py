"""Reads whole topics, or files in their place, in runs, without a consumer group: what a recount is fed by.

Rules:
- Where to begin, and where to go on after a refusal, the sink says (``stream.lanes``), as for workers.
- Runs are numbered, with their epochs, as soon as they are fetched: a seek cannot come between.
- A file stands for a partition: its lines are the records, their numbers from 0 the offsets, and their
  arrival is the event's own time.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.types import TP

from stream.backoff import retry
from stream.errors import DependencyError
from stream.kafka_config import aiokafka_config
from stream.log_questions import ask_ends, probe
from stream.reading import open_file
from stream.runs import Cursor, Position, Run
from stream.topic_ids import TopicFacts, ask_topics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from stream.lanes import Lanes
    from stream.settings import Settings

log = structlog.get_logger("log_reader")

RUN_RECORDS = 1000
POLL_MS = 200
LOOK_S = 1.0
"""How long an answer to "which logs are the topics?" holds; see ``stream/transport.py``."""
PAUSE_S = 0.5
"""Before a broker that failed is asked again."""
ENDLESS = 1 << 62
"""Stands for the end of a file that is not read yet."""


class LogReader:
    """All partitions of some topics, from what the sink holds on; a ``Log`` for the sink.

    Args:
        settings: where Kafka is, and how to log in.
        topics: which to read.
        sink: says where.
        put: takes the runs.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Sequence[str],
        sink: Lanes,
        put: Callable[[Run], Awaitable[None]],
    ) -> None:
        self._settings = settings
        self._topics = list(topics)
        self._sink = sink
        self._put = put
        self._cursors: dict[TP, Cursor] = {}
        self._look_at = 0.0
        """From when on the answer no longer holds."""
        self._consumer = AIOKafkaConsumer(
            **aiokafka_config(settings),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            fetch_max_wait_ms=POLL_MS,
        )

    async def start(self) -> None:
        """Connects and takes every partition.

        Raises:
            DependencyError: Kafka is away, or lacks a topic.
        """
        try:
            await self._consumer.start()
            known = await self._consumer.topics()
            missing = sorted(set(self._topics) - set(known))
            if missing:
                raise DependencyError(f"Kafka has no topic {', '.join(missing)}: run `reviewpulse topics`.")
            self._consumer.assign(
                [
                    TopicPartition(topic, number)
                    for topic in self._topics
                    for number in sorted(self._consumer.partitions_for_topic(topic) or ())
                ]
            )
            await self.rewind(self.partitions())
        except KafkaError as error:
            raise DependencyError(f"Kafka at {self._settings.kafka}: {error!r}") from error

    def partitions(self) -> set[TP]:
        """Every partition read."""
        return {TP(*each) for each in self._consumer.assignment()}

    async def rewind(self, tps: set[TP]) -> None:
        """Reads ``tps`` again from what the sink says."""
        try:
            positions = await self._sink.positions(tps, self)
        except KafkaError as error:
            raise DependencyError(f"Kafka at {self._settings.kafka}: {error!r}") from error
        epochs = self._sink.open(positions)
        for tp, position in positions.items():
            self._consumer.seek(TopicPartition(*tp), position.offset)
            self._cursors[tp] = Cursor(tp, epochs[tp], position.offset, position.log)

    async def run(self) -> None:
        """Hands over runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            for run in await self._fetch(loop.time):
                await self._put(run)

    async def _fetch(self, clock: Callable[[], float]) -> list[Run]:
        try:
            fetched = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=RUN_RECORDS)
        except OffsetOutOfRangeError as error:
            (offsets,) = error.args
            for key, offset in offsets.items():
                self._cursors[TP(*key)].end(f"Kafka does not have offset {offset}")
            fetched = {}
        except NoOffsetForPartitionError:
            return []
        except KafkaError as error:
            log.warning("cannot read; trying again", error=repr(error))
            await asyncio.sleep(PAUSE_S)
            return []
        # No await between the fetch's return and here: a seek cannot come between.
        cursors = dict(self._cursors)
        known = clock() < self._look_at or await self._look(clock)
        made: list[Run | None] = []
        for key, records in fetched.items():
            cursor = cursors[TP(*key)]
            if not records or self._cursors[TP(*key)] is not cursor:
                continue  # a seek came while it looked
            if known:
                made.append(cursor.run(records))
            else:
                self._consumer.seek(key, cursor.next_offset)
        ended = [cursor.farewell(clock()) for cursor in self._cursors.values() if cursor.ended]
        return [run for run in (*made, *ended) if run is not None]

    async def _look(self, clock: Callable[[], float]) -> bool:
        """Asks which logs the topics are, and ends the epochs of others; False when that is not known."""
        asked_at = clock()
        try:
            facts = await self.topics(set(self._topics))
        except KafkaError as error:
            log.warning("cannot ask which logs the topics are; nothing is read", error=repr(error))
            await asyncio.sleep(PAUSE_S)
            return False
        if missing := sorted(set(self._topics) - facts.keys()):
            log.error("the topic is gone; waiting for it to come back", topic=", ".join(missing))
            await asyncio.sleep(PAUSE_S)
            return False
        self._look_at = asked_at + LOOK_S
        for tp, cursor in self._cursors.items():
            now = facts[tp.topic].log
            if now not in (None, cursor.log):
                cursor.end(f"the topic is log {now} now, not {cursor.log or 'one without an id'}")
        return True

    def handed_over(self, tp: TP) -> int:
        """Offset of the last record handed over, or before the first."""
        return self._cursors[tp].next_offset - 1

    async def reading_at(self, tp: TP) -> int:
        """Offset that is read next; beyond gaps that hold no record."""
        position: int = await self._consumer.position(TopicPartition(*tp))
        return position

    async def close(self) -> None:
        """Disconnects."""
        await self._consumer.stop()

    # Log, for the sink.

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        """Which log each topic is."""
        return await ask_topics(self._consumer._client, names, self._consumer.assignment())  # noqa: SLF001

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """First and next offset of each partition."""
        return await ask_ends(self._consumer, tps)

    async def committed(self, tp: TP) -> int:  # noqa: ARG002
        """What a group was told is about other counters than these."""
        return 0

    async def has_record(self, tp: TP, offset: int) -> bool | None:
        """Whether the record at ``offset`` can be read; None when nobody knows. Costs a connection."""
        return await probe(tp, offset, **aiokafka_config(self._settings))


async def ends_of(settings: Settings, topics: Sequence[str]) -> dict[TP, tuple[int, int]]:
    """First and next offset of every partition of some topics.

    Raises:
        DependencyError: Kafka is away.
    """
    consumer = AIOKafkaConsumer(**aiokafka_config(settings), group_id=None)
    try:
        await consumer.start()
        await consumer.topics()
        tps = [TP(each, n) for each in topics for n in consumer.partitions_for_topic(each) or ()]
        return await ask_ends(consumer, tps)
    except KafkaError as error:
        raise DependencyError(f"Kafka at {settings.kafka}: {error!r}") from error
    finally:
        await consumer.stop()


@dataclass(slots=True)
class Line:
    """A line of a file, as a record."""

    topic: str
    partition: int
    offset: int
    value: bytes
    timestamp: int = -1
    key: bytes | None = None
    headers: tuple[tuple[str, bytes], ...] = ()


class FileReader:
    """The lines of a file, from what the sink holds on; a ``Log`` for the sink.

    Args:
        path: JSON lines, gzip or plain.
        tp: the partition it stands for.
        sink: says where to begin.
        put: takes the runs.
        max_line_bytes: longer lines are cut there, which makes them dead letters.
    """

    def __init__(
        self,
        path: str,
        tp: TP,
        sink: Lanes,
        put: Callable[[Run], Awaitable[None]],
        max_line_bytes: int,
    ) -> None:
        self._path = path
        self._tp = tp
        self._sink = sink
        self._put = put
        self._max_line_bytes = max_line_bytes
        self._cursor: Cursor | None = None

    async def rewind(self, tps: set[TP]) -> None:
        """Reads again from what the sink says."""
        positions: Mapping[TP, Position] = await self._sink.positions(tps, self)
        position = positions[self._tp]
        self._cursor = Cursor(self._tp, self._sink.open(positions)[self._tp], position.offset, position.log)

    async def run(self) -> None:
        """Hands over the lines to the end of the file."""
        await retry(lambda: self.rewind({self._tp}), "ask Redis where to begin")
        cursor = None
        while cursor is not self._cursor:  # after a rewind, from there
            cursor = self._cursor
            assert cursor is not None
            with open_file(self._path) as opened:
                lines = self._lines(opened.lines, cursor.next_offset)
                while cursor is self._cursor and (records := list(islice(lines, RUN_RECORDS))):
                    run = cursor.run(records)
                    assert run is not None
                    await self._put(run)

    def _lines(self, file: Any, first: int) -> Iterator[Line]:
        number = -1
        while line := file.readline(self._max_line_bytes + 2):
            number += 1
            while not line.endswith(b"\n") and (rest := file.readline(self._max_line_bytes)):
                if rest.endswith(b"\n"):
                    break
            if number >= first and line.strip():
                value = line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line
                yield Line(self._tp.topic, self._tp.partition, number, value.rstrip(b"\r\n"))

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        """A file has no id."""
        return dict.fromkeys(names, TopicFacts(None, 1))

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """Its end shows when it is reached."""
        return dict.fromkeys(tps, (0, ENDLESS))

    async def committed(self, tp: TP) -> int:  # noqa: ARG002
        """No group knows it."""
        return 0

    async def has_record(self, tp: TP, offset: int) -> bool | None:  # noqa: ARG002
        """The file is the one it was: its checksum is in the partition's name."""
        return True
