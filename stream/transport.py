"""Kafka to Faust, a run of records at a time; the sink owns the offsets.

Faust costs 140-250 µs a message: a task, a queue put, a decode, sensors and an ack for each. Its aiokafka
driver underneath costs 2-5 µs. So this transport hands Faust one *message* for each fetched *run* of records
of a partition, and leaves agents, rebalancing and flow control as they are. Faust finds it by the URL scheme
``recordrun`` through the entry-point group ``faust.transports``.

Rules:
- After every assignment the consumer is put where the sink (Redis) says, not where the group committed. The
  group's commit follows what was applied, for lag tools alone; a failed one is retried, never fatal.
- Each seek starts a new epoch of its partition (``stream/runs.py``). Cursors change in the consumer's thread
  only, next to the fetch and the seek they belong to.
- A fetch that is out of range is never answered by a silent jump elsewhere: the epoch ends, and the sink says
  where to go on.
- No record is handed over that may be of another log than the one being read. Which logs the topics are is
  asked after a fetch; an answer holds for ``LOOK_S``, unless a connection or the cluster's metadata are new,
  as they are after every error of a fetch. So a topic that was made anew is noticed before a record of its
  successor is counted, if the consumer met an error meanwhile or it took that long.
- Everything runs on asyncio's own event loop. On uvloop a connection that is reset between two requests makes
  aiokafka's fetch routine, or its coordinator, end with an error it knows nothing of (see 0002).
"""

from __future__ import annotations

import asyncio
import time
import weakref
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import aiokafka.client
import aiokafka.consumer.fetcher
import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.fetcher import PartitionRecords
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from aiokafka.protocol.metadata import MetadataRequest
from faust.exceptions import ConsumerNotStarted
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage

from stream.backoff import retry
from stream.errors import DependencyError
from stream.log_questions import ask_ends, probe
from stream.runs import Cursor, Run
from stream.tasks import end
from stream.topic_ids import TopicFacts, ask_topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from aiokafka import ConsumerRecord, TopicPartition

    from stream.runs import Position

log = structlog.get_logger("consumer")

RUN_RECORDS = 1000
"""Most records in a fetch, hence in a run: enough to make Faust's cost per message vanish, few enough that
flow control, which counts messages, still bites."""

FETCH_WAIT_MS = 20
"""How long the broker may hold a fetch while nothing comes.

Kafka answers at once when records come, so it is only how often an idle worker asks. The local broker answers
when half of it is over, so there it is latency, too: Faust's own 1,500 would be 400 ms of it."""
QUIET_S = 1.0
"""Without a record for so long, nothing comes at present."""
QUIET_FETCH_WAIT_MS = 250
"""How long the broker may hold a fetch then: a fleet that has nothing to do must not ask each broker 45 times
a second and worker (0020). Long enough for few questions, short enough that a seek, which waits for the fetch
under way, is no slower than a rebalance."""
SEEK_PATIENCE_S = 20.0
"""How long Faust waits for a seek. It would give up after 90 s, and half a minute is a failover of Redis."""
LOOK_S = 1.0
"""How long an answer to "which logs are the topics?" holds."""
LOOK_SHARE = 100
"""An answer holds at least so many times as long as it took: some 20 µs a partition of the topics, of the
consumer's thread."""
LOOK_AGAIN_S = 0.2
"""Pause after a question without an answer."""

# aiokafka asks after its topics such that the broker may create them: a worker would bring a topic back that
# was deleted a moment ago, with as many partitions as the broker thinks right. It has no setting for it.
aiokafka.client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)


class FetchedRecords(PartitionRecords):
    """What a fetch brought of a partition; freed as soon as nobody wants it.

    aiokafka's own (0.14) holds the generator that unpacks it, and is held by it. A rebalance or a seek drops
    it half read: up to a megabyte in three objects, and a collector that counts objects hardly ever came for
    them (docs/soak.md). So the generator has a weak reference; whoever asks it for a record has a strong one.
    """

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        unpack: Callable[[Any], Iterator[ConsumerRecord]] = PartitionRecords._unpack_records  # noqa: SLF001
        return unpack(weakref.proxy(self))


aiokafka.consumer.fetcher.PartitionRecords = FetchedRecords


class Log(Protocol):
    """What Kafka has, for a sink that decides where to read from."""

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        """Which log each topic is; without the topics that there are not."""
        ...

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """First and next offset of each partition."""
        ...

    async def committed(self, tp: TP) -> int:
        """Next offset of a partition, as the group was told it last; 0 when it never was."""
        ...

    async def has_record(self, tp: TP, offset: int) -> bool | None:
        """Whether the record at ``offset`` can be read; None when Kafka neither gives it nor denies it."""
        ...


class OffsetSink(Protocol):
    """Who owns the offsets."""

    async def positions(self, tps: set[TP], log: Log) -> Mapping[TP, Position]:
        """Where to read each partition from."""
        ...

    def open(self, positions: Mapping[TP, Position]) -> Mapping[TP, int]:
        """Reading is about to start anew at ``positions``: a new epoch for each, earlier ones are stale."""
        ...

    def committable(self) -> Mapping[TP, int]:
        """Next offset of each partition whose progress the group has not been told."""
        ...

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """The group was told of these."""
        ...


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Fetches runs and seeks, both in the consumer's own thread, so that they cannot interleave."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._cursors: dict[TP, Cursor] = {}
        self._look_at = 0.0
        """Monotonic time from when on the answer no longer holds."""
        self._looked_over: list[Any] = []
        """The connections there were when it came."""
        self._in_doubt: set[str] = set()
        """Topics that could not be asked after, or are not there."""
        self._brought_at = time.monotonic()
        """When a fetch brought records last."""

    def _create_worker_consumer(self, transport: driver.Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # noqa: SLF001 - Faust has no setting for it
        consumer._client.cluster.add_listener(self._doubt)  # noqa: SLF001 - Faust uses the client, too
        return consumer

    async def on_thread_stop(self) -> None:
        """Leaves the group and disconnects."""
        # aiokafka (0.14) awaits fetches it has just cancelled, and one that waits for its next try passes the
        # cancellation on. That ended this thread without a word to Faust, which then waited for it for ever.
        with suppress(asyncio.CancelledError):
            await super().on_thread_stop()

    def _doubt(self, *_: object) -> None:
        """What is fetched from now on may be of other logs."""
        self._look_at = 0.0

    async def getmany(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Run]]:
        """One run for each partition that has records."""
        runs: dict[TP, list[Run]] = await self.call_thread(self._fetch_runs, active_partitions, timeout)
        return runs

    async def _fetch_runs(self, active_partitions: set[TP] | None, timeout: float) -> dict[TP, list[Run]]:
        consumer = self._ensure_consumer()
        fetched = await self._fetch(consumer, active_partitions, timeout)
        self._pace(consumer, brought=bool(fetched))
        # No await between the fetch's return and here: a seek cannot come between.
        cursors = dict(self._cursors)
        if list(consumer._client._conns.values()) != self._looked_over:  # noqa: SLF001 - nothing else tells
            self._doubt()
        if self.consumer.flow_active and time.monotonic() >= self._look_at:
            await self._look(consumer)
        assignment = {TP(*key) for key in consumer.assignment()}
        runs: dict[TP, list[Run]] = {}
        for tp, cursor in cursors.items():
            # While it looked, a seek may have come: then what was fetched is of before.
            if tp in assignment and self._cursors[tp] is cursor:
                cut = self._cut(consumer, cursor, fetched.get(driver.ensure_aiokafka_TP(tp), ()))
                if cut is not None:
                    runs[tp] = [cut]
        return runs

    def _pace(self, consumer: AIOKafkaConsumer, *, brought: bool) -> None:
        """How long the next fetches may be held."""
        now = time.monotonic()
        if brought:
            self._brought_at = now
        is_quiet = now - self._brought_at >= QUIET_S
        # aiokafka reads it anew for each fetch.
        consumer._fetcher._fetch_max_wait_ms = QUIET_FETCH_WAIT_MS if is_quiet else FETCH_WAIT_MS  # noqa: SLF001

    async def _fetch(
        self, consumer: AIOKafkaConsumer, active_partitions: set[TP] | None, timeout: float
    ) -> Mapping[TopicPartition, Sequence[ConsumerRecord]]:
        try:
            fetched: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._fetch_records(
                consumer, active_partitions, timeout, RUN_RECORDS
            )
        except OffsetOutOfRangeError as error:
            (offsets,) = error.args
            for key, offset in offsets.items():
                if (cursor := self._cursors.get(TP(*key))) is not None:
                    cursor.end(
                        f"offset {offset} is not in the log: it was deleted, or the log ends before it"
                    )
            return {}
        except NoOffsetForPartitionError:
            return {}  # assigned a moment ago; the seek to what the sink holds is on its way
        return fetched

    def _cut(
        self, consumer: AIOKafkaConsumer, cursor: Cursor, records: Sequence[ConsumerRecord]
    ) -> Run | None:
        if records and cursor.tp.topic in self._in_doubt:
            consumer.seek(driver.ensure_aiokafka_TP(cursor.tp), cursor.next_offset)
            return None
        run = cursor.run(records) if records else None
        return run or cursor.farewell(time.monotonic())

    async def _look(self, consumer: AIOKafkaConsumer) -> None:
        """Asks which logs the topics are, and ends the epochs of those that are others."""
        names = consumer.subscription()
        asked_at = time.monotonic()
        connections = list(consumer._client._conns.values())  # noqa: SLF001 - see above
        try:
            found = await self._topics(names)
        except KafkaError as error:
            if not self._in_doubt.issuperset(names):
                log.warning("cannot ask which logs the topics are; nothing is read", error=str(error))
            self._in_doubt = set(names)
            await asyncio.sleep(LOOK_AGAIN_S)
            return
        self._looked_over = connections
        self._look_at = asked_at + max(LOOK_S, LOOK_SHARE * (time.monotonic() - asked_at))
        missing = names - found.keys()
        for name in sorted(missing - self._in_doubt):
            log.error("the topic is gone; waiting for it to come back", topic=name)
        self._in_doubt = missing
        for tp, cursor in self._cursors.items():
            if tp.topic in found and found[tp.topic].log not in (None, cursor.log):
                cursor.end(
                    f"the topic is log {found[tp.topic].log} now, not {cursor.log or 'one without an id'}"
                )
        cluster = consumer._client.cluster  # noqa: SLF001 - Faust takes it from there, too
        if any(
            len(cluster.partitions_for_topic(name) or ()) != (found[name].partitions if name in found else 0)
            for name in names
        ):
            # A new number of partitions is news to the group: it shares them out anew.
            consumer._client.force_metadata_update()  # noqa: SLF001

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        """Which log each topic is, and how many partitions it has, as Kafka has them now."""
        facts: dict[str, TopicFacts] = await self.call_thread(self._topics, names)
        return facts

    async def _topics(self, names: Iterable[str]) -> dict[str, TopicFacts]:
        consumer = self._ensure_consumer()
        return await ask_topics(consumer._client, names, consumer.assignment())  # noqa: SLF001

    async def ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        """First and next offset of each partition, as Kafka has them now."""
        ends: dict[TP, tuple[int, int]] = await self.call_thread(self._ends, tps)
        return ends

    async def _ends(self, tps: set[TP]) -> dict[TP, tuple[int, int]]:
        return await ask_ends(self._ensure_consumer(), tps)

    async def committed(self, tp: TP) -> int:
        """Next offset of a partition, as the group was told it last; 0 when it never was."""
        consumer = self._ensure_consumer()
        offset: int | None = await self.call_thread(consumer.committed, driver.ensure_aiokafka_TP(tp))
        return offset or 0

    async def has_record(self, tp: TP, offset: int) -> bool | None:
        """Whether the record at ``offset`` can be read. Costs a connection: for cases in doubt."""
        found: bool | None = await self.call_thread(self._has_record, tp, offset)
        return found

    async def _has_record(self, tp: TP, offset: int) -> bool | None:
        conf = self.app.conf
        return await probe(
            tp,
            offset,
            client_id=conf.broker_client_id,
            bootstrap_servers=driver.server_list(self.transport.url, self.transport.default_port),
            **driver.credentials_to_aiokafka_auth(conf.broker_credentials, conf.ssl_context),
        )

    async def seek_all(self, positions: Mapping[TP, Position], epochs: Mapping[TP, int]) -> None:
        """Puts the partitions that are still ours where ``positions`` says, and starts their epochs."""
        await self.call_thread(self._seek_all, positions, epochs)

    async def _seek_all(self, positions: Mapping[TP, Position], epochs: Mapping[TP, int]) -> None:
        consumer = self._ensure_consumer()
        assignment = consumer.assignment()
        for tp, position in positions.items():
            key = driver.ensure_aiokafka_TP(tp)
            if key in assignment:
                consumer.seek(key, position.offset)
                self._cursors[tp] = Cursor(tp, epochs[tp], position.offset, position.log)
        self._doubt()

    async def commit_applied(self, offsets: Mapping[TP, int]) -> bool:
        """Tells the group how far the sink is. False when Kafka did not take it."""
        committed: bool = await self.call_thread(self._commit_applied, offsets)
        return committed

    async def _commit_applied(self, offsets: Mapping[TP, int]) -> bool:
        consumer: AIOKafkaConsumer = self._ensure_consumer()
        assignment = consumer.assignment()
        owned = {
            key: offset
            for key, offset in ((driver.ensure_aiokafka_TP(tp), offset) for tp, offset in offsets.items())
            if key in assignment
        }
        if not owned:
            return False
        try:
            await consumer.commit(owned)
        except KafkaError as error:
            log.warning("group commit failed; counters are not affected", error=type(error).__name__)
            return False
        return True


class _NoReadOffsets(dict[TP, None]):
    """Never remembers an offset, so that Faust drops nothing behind it.

    Runs are checked by epoch and number instead: after a rewind, a run still on its way would set Faust's
    read offset too high, and the runs behind it would go.
    """

    def __getitem__(self, tp: TP) -> None:
        return None


class Consumer(driver.Consumer):
    """The driver's consumer, with runs for messages and the sink's offsets for the group's."""

    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sink: OffsetSink = self.transport.sink
        self._seeking = asyncio.Lock()
        self._seeks: set[asyncio.Task[Mapping[TP, int]]] = set()
        self._read_offset = _NoReadOffsets()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, thread_loop=asyncio.new_event_loop(), loop=self.loop, beacon=self.beacon)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        run: Run = record
        last = run.records[-1] if run.records else None
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset if last else 0,
            last.timestamp / 1000 if last else 0.0,
            last.timestamp_type if last else 0,
            None,
            None,
            run,
            None,
            tp=tp,
            generation_id=self.app.consumer_generation_id,
        )

    def assigned(self) -> set[TP]:
        """Partitions that are ours now; none before the consumer has started."""
        try:
            tps: set[TP] = self.assignment()
        except ConsumerNotStarted:
            return set()
        return tps

    def ends_seen(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Next offsets of the partitions' logs, as the latest fetches told; of those that were fetched."""
        ends = {}
        for tp in tps:
            # The consumer's thread may lose the partition meanwhile.
            with suppress(AssertionError, AttributeError, ConsumerNotStarted):
                ends[tp] = self.highwater(tp)
        return {tp: end for tp, end in ends.items() if end is not None}

    def leave_group(self) -> None:
        """Leaves the group, from any thread and whatever the app's loop does, and waits until it is done.

        For a process that is about to end: the other members need not wait for its session to time out.
        """
        coordinator = self._thread._ensure_consumer()._coordinator  # noqa: SLF001
        asyncio.run_coroutine_threadsafe(coordinator.close(), self._thread.thread_loop).result()

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Called by Faust after every assignment: seeks to what the sink holds, waiting for it if need be.

        A failover that meets a rebalance must not end the worker: Faust takes an error here for a crash. Nor
        may it wait for long: after its request timeout Faust gives up, and answers no rebalance ever after.
        """
        seek = asyncio.create_task(
            retry(lambda: self._seek_to_sink(self.assignment()), "find where to read from"), name="seek"
        )
        self._seeks.add(seek)
        seek.add_done_callback(self._seeks.discard)
        done, _ = await asyncio.wait({seek}, timeout=SEEK_PATIENCE_S)
        if done:
            return seek.result()
        self.pause_partitions(self.assignment())
        self.add_future(self._resume_after(seek))
        return {}

    async def _resume_after(self, seek: asyncio.Task[Mapping[TP, int]]) -> None:
        """Has the partitions read when a seek that took long is done."""
        await seek
        self.resume_partitions(self.assignment())

    async def on_stop(self) -> None:
        """Gives up the seeks that wait for the sink."""
        await end(self._seeks)
        await super().on_stop()

    async def rewind(self, tps: set[TP]) -> None:
        """Reads ``tps`` again from what the sink holds, where they are still ours."""
        await self._seek_to_sink(tps & self.assignment())

    async def _seek_to_sink(self, tps: set[TP]) -> dict[TP, int]:
        async with self._seeking:
            if not tps:
                return {}
            try:
                positions = await self._sink.positions(tps, self._thread)
            except KafkaError as error:
                raise DependencyError(f"Kafka: {error!r}") from error
            assigned = self.assignment()  # it may have taken a while
            positions = {tp: position for tp, position in positions.items() if tp in assigned}
            # Opened before the seek: no run of the new epoch can arrive before the sink knows of it.
            await self._thread.seek_all(positions, self._sink.open(positions))
            return {tp: position.offset for tp, position in positions.items()}

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:  # noqa: ARG002
        """Commits what the sink has applied, in place of Faust's bookkeeping of acks."""
        offsets = self._sink.committable()
        if not offsets:
            return False
        if not await self._thread.commit_applied(offsets):
            return False
        self._sink.committed(offsets)
        return True


class Transport(driver.Transport):
    """Registered for ``recordrun://host:port`` URLs. ``sink`` must be set before the app starts."""

    Consumer = Consumer
    sink: OffsetSink


class RunSchema(Schema):
    """Leaves a message's value, a ``Run``, as it is."""

    def compile(self, app: Any, **_: Any) -> Any:
        """The decode function Faust calls for each message."""

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001
            return app.create_event(None, message.value, message.headers, message)

        return decode
