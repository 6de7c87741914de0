"""Counts everything again, from Kafka and from files, beside the live counters, and switches to the result.

Rules:
- The same pipeline, lanes, judge and detector as a worker's, with a plain reader instead of Faust, into a
  generation of its own. Its own offsets say how far it is, so a run that was killed goes on there.
- It notifies nobody: dead letters and scores are not published again, and transitions of alerts are withheld,
  in the same atomic step as the states they belong to.
- The switch: once it has caught up, the live generation stands still for a moment, the last records are
  counted, what subscribers know is compared with what the new states say (``stream.core.reconcile``), only
  the difference is left to be told, and one compare-and-set makes the new generation the live one.
- Files are counted first, one after the other. An event that is in a file and in Kafka is counted twice.
- A rebuild that cannot finish leaves the live counters as they were.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from faust.types import TP

from stream.client.log import read_topic
from stream.core.decode import Limits
from stream.core.events import Alert
from stream.core.reconcile import concerned, latest, reconcile
from stream.detectors import detector_of
from stream.errors import DependencyError, ReviewpulseError, UsageError
from stream.kafka_config import aiokafka_config
from stream.lanes import Lanes, partition_name
from stream.log_reader import FileReader, LogReader, ends_of
from stream.pipeline import Pipeline, PipelineSettings
from stream.redis_errors import REDIS_ERRORS
from stream.redis_trip import exchange_async
from stream.rules import load_rules
from stream.store.contract import log_partition
from stream.store.layout import Layout, Pending
from stream.store.redis import RedisStore
from stream.store.switch import READERS_S, stored_offsets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream.core.events import Channel, Score
    from stream.record import Refused
    from stream.redis_config import AsyncClient
    from stream.redis_trip import Command
    from stream.scorer.contract import Scorer
    from stream.settings import Settings
    from stream.store.switch import Switch

log = structlog.get_logger("rebuild")

CLOSE_S = 3.0
"""When catching up took no longer than this, what came meanwhile takes less: time to switch."""
LOOK_S = 0.2
"""Between two looks at how far it is."""
IDLE_S = 5.0
"""After so long without a record, an offset that is not reached is looked for in Kafka."""
CHECK_S = 2.0
"""Between two looks at whether this rebuild is still wanted."""

_decode_alert = msgspec.json.Decoder(Alert).decode


class File(NamedTuple):
    """A file that is counted first."""

    path: str
    channel: Channel
    sha256: str
    size: int

    @property
    def tp(self) -> TP:
        """The partition it stands for. No Kafka topic has a slash in its name."""
        return TP(f"replay/{self.sha256[:16]}", 0)


def file_of(given: str) -> File:
    """A file as named on the command line: a path, or ``chats=`` and a path.

    Raises:
        UsageError: it cannot be read.
    """
    channel: Channel = "reviews"
    path = given
    for each in ("reviews", "chats"):
        if given.startswith(f"{each}="):
            channel, path = each, given.removeprefix(f"{each}=")
    try:
        with Path(path).open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
            size = opened.tell()
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    return File(path, channel, digest, size)


class Readable(NamedTuple):
    """What Kafka has of a partition."""

    partition: str
    first: int
    end: int
    counted_to: int
    """By the live counters; -1 for nothing."""

    @property
    def begins_late(self) -> bool:
        """Whether Kafka no longer has all that the live counters have."""
        return self.first > 0 and self.counted_to >= 0


class _NextLayout(Layout):
    """The pending generation's names, with its alerts kept back."""

    def outbox(self, shard: int) -> str:
        return self.withheld(shard)


class NextStore(RedisStore):
    """The store of the generation that is being made: it follows no other one."""

    def __init__(self, client: AsyncClient, switch: Switch, url: str) -> None:
        upcoming = switch.next
        super().__init__(client, _NextLayout(upcoming.namespace, upcoming.shards, upcoming.generation), url)
        self._switch = switch

    async def open(self) -> None:
        """The layout is known, and stays."""
        await self._switch.check()

    async def _look(self) -> None:
        await self._switch.check()

    async def _is_current(self, layout: Layout, raw: bytes | None, marks: Sequence[bytes]) -> bool:  # noqa: ARG002
        await self._switch.check()
        return True


class _Silence:
    """A ``Publisher`` that publishes nothing: it was all published when it was counted first."""

    async def dead_letters(self, letters: Sequence[Refused]) -> None:
        """Drops them."""

    async def scores(self, scores: Sequence[Score]) -> None:
        """Drops them."""

    def alerts_waiting(self) -> None:
        """They wait for the switch."""


@dataclass(frozen=True)
class Progress:
    """How far a rebuild is."""

    counted: int = 0
    """Records of this run."""
    behind: int = 0
    """Records until the live end, about."""
    doing: str = ""


@dataclass(frozen=True)
class Done:
    """What came of a rebuild."""

    counted: int
    standstill_s: float
    told: int
    """Transitions of alerts that are told."""
    generation: int


class Rebuild:
    """One run of ``reviewpulse rebuild``.

    Args:
        client: from ``stream.redis_config.connect_async``.
        switch: holds the lock, has looked.
        settings: configuration.
        scorer: the model.
        files: what to count first.
    """

    def __init__(
        self,
        client: AsyncClient,
        switch: Switch,
        settings: Settings,
        scorer: Scorer[Any],
        files: Sequence[File] = (),
    ) -> None:
        self._client = client
        self._switch = switch
        self._settings = settings
        self._scorer = scorer
        self._files = files
        self._historic_after_ms = round(settings.historic_after_s * 1000)
        self._progress = Progress()
        self._file: FileReader | None = None
        self._checked_at = 0.0

    async def run(
        self, *, on_step: Callable[[Progress], None] = lambda _: None, readers_s: float = READERS_S
    ) -> Done:
        """Counts, switches, and removes the old counters; or goes on with what was interrupted.

        Args:
            on_step: called with how far it is, now and then.
            readers_s: pause before the old keys are removed.

        Raises:
            UsageError: something else is pending, or it was begun with another model or other files.
            DependencyError: Kafka or Redis failed; run it again.
        """
        switch = self._switch
        self._on_step = on_step
        await switch.remove_old()
        await self._begin()
        self._store = NextStore(self._client, switch, self._settings.redis)
        channels: dict[str, Channel] = {
            self._settings.topic_reviews: "reviews",
            self._settings.topic_chats: "chats",
            **{file.tp.topic: file.channel for file in self._files},
        }
        self._lanes = Lanes(self._store, channels, segments_kept=self._settings.segments_kept)
        self._pipeline = self._make_pipeline()
        self._reader = LogReader(
            self._settings, list(self._settings.topics.values()), self._lanes, self._pipeline.put
        )
        running = {asyncio.create_task(self._pipeline.run(), name="pipeline")}
        try:
            await self._read_files(running)
            await self._reader.start()
            running.add(asyncio.create_task(self._reader.run(), name="reader"))
            await self._catch_up(running)
            done = await self._finish(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await self._reader.close()
        self._say("removing the old counters")
        await asyncio.sleep(readers_s)
        await switch.remove_old()
        return done

    async def _begin(self) -> None:
        switch, pending = self._switch, self._switch.written.pending
        files = tuple((file.channel, file.sha256) for file in self._files)
        if pending is None:
            number, shards = switch.written.next_generation(), switch.live.shards
            pending = Pending(
                kind="rebuild",
                generation=number,
                shards=shards,
                owner="",
                model=self._scorer.version,
                files=files,
            )
        elif pending.kind != "rebuild":
            raise UsageError("A reshard is not finished: run it again, or `reviewpulse reshard --abort`.")
        elif (pending.model, pending.files) != (self._scorer.version, files):
            raise UsageError(
                f"The rebuild that is not finished was begun with model {pending.model} and"
                f" {len(pending.files)} files, this one has model {self._scorer.version} and {len(files)}:"
                " give the same, in the same order, or give the other up with `reviewpulse rebuild --abort`."
            )
        await switch.begin(msgspec.structs.replace(pending, standstill=""))

    def _make_pipeline(self) -> Pipeline:
        settings = self._settings
        return Pipeline(
            store=self._store,
            lanes=self._lanes,
            scorer=self._scorer,
            detector=detector_of(settings, load_rules(settings), self._scorer.version),
            publisher=_Silence(),
            rewind=self._rewind,
            settings=PipelineSettings(
                window_events=settings.window_events,
                token_budget=settings.token_budget,
                limits=Limits(settings.max_event_bytes, round(settings.allowed_skew_s * 1000)),
                late_after_ms=settings.late_after_s * 1000,
            ),
        )

    async def _rewind(self, tps: set[TP]) -> None:
        files = {tp for tp in tps if "/" in tp.topic}
        if files and self._file is not None:
            await self._file.rewind(files)
        if tps - files:
            await self._reader.rewind(tps - files)

    async def plan(self) -> list[Readable]:
        """What would be read from Kafka; changes nothing.

        Raises:
            DependencyError: Kafka failed.
        """
        live = self._switch.live
        by_shard = [await stored_offsets(self._client, live, shard) for shard in range(live.shards)]
        counted: dict[str, int] = {}
        for stored in by_shard:
            for name, at in stored.items():
                partition = name.partition("@")[0]
                counted[partition] = max(counted.get(partition, -1), at)
        ends = await ends_of(self._settings, list(self._settings.topics.values()))
        return [
            Readable(partition_name(tp), first, end, counted.get(partition_name(tp), -1))
            for tp, (first, end) in sorted(ends.items())
        ]

    # Counting.

    async def _read_files(self, running: set[asyncio.Task[None]]) -> None:
        for file in self._files:
            self._say(f"counting {Path(file.path).name}")
            self._file = FileReader(
                file.path, file.tp, self._lanes, self._pipeline.put, self._settings.max_event_bytes
            )
            reading = asyncio.create_task(self._file.run())
            while not reading.done():
                await asyncio.wait({reading}, timeout=LOOK_S)
                await self._look_after(running)
            reading.result()
            while self._pipeline.busy:
                await asyncio.sleep(LOOK_S)
                await self._look_after(running)
        self._file = None

    async def _catch_up(self, running: set[asyncio.Task[None]]) -> None:
        """Returns when what is left takes but a moment."""
        while True:
            started = time.monotonic()
            await self._reach(await self._targets(to_the_end=True), running, "catching up")
            if time.monotonic() - started < CLOSE_S:
                return

    async def _targets(self, *, to_the_end: bool) -> dict[TP, int]:
        """The offset that each partition must have reached: that of the live counters, or the log's last."""
        live = self._switch.live
        by_shard = [await stored_offsets(self._client, live, shard) for shard in range(live.shards)]
        tps = self._reader.partitions()
        ends = await self._reader.ends(tps) if to_the_end else {}
        targets = {}
        for tp in tps:
            names = (self._lanes[tp].name, log_partition(partition_name(tp), ""))
            counted = max(stored.get(name, -1) for stored in by_shard for name in names)
            targets[tp] = max(counted, ends[tp][1] - 1 if tp in ends else -1)
        return targets

    async def _reach(self, targets: Mapping[TP, int], running: set[asyncio.Task[None]], doing: str) -> None:
        unreached = dict(targets)
        idle_since, counted = time.monotonic(), -1
        while True:
            unreached = {tp: at for tp, at in unreached.items() if not await self._is_at(tp, at)}
            behind = sum(max(at - self._lanes.applied(tp), 0) for tp, at in unreached.items())
            self._say(doing, behind)
            if not unreached:
                return
            if self._progress.counted != counted:
                counted, idle_since = self._progress.counted, time.monotonic()
            elif time.monotonic() - idle_since > IDLE_S:
                # The live counters may be ahead of a log that was cut back, or made anew.
                unreached = {tp: at for tp, at in unreached.items() if await self._reader.has_record(tp, at)}
                idle_since = time.monotonic()
            await asyncio.sleep(LOOK_S if behind > 1000 else LOOK_S / 10)
            await self._look_after(running)

    async def _is_at(self, tp: TP, offset: int) -> bool:
        applied = self._lanes.applied(tp)
        if applied >= offset:
            return True
        # Gaps of the log hold no record: they are reached by reading on.
        return applied >= self._reader.handed_over(tp) and await self._reader.reading_at(tp) > offset

    async def _look_after(self, running: Iterable[asyncio.Task[None]]) -> None:
        """Raises what a stage of ours raised, and whether somebody else has the layout now."""
        for task in running:
            if task.done():
                task.result()
        if time.monotonic() - self._checked_at > CHECK_S:
            await self._switch.check()
            self._checked_at = time.monotonic()

    def _say(self, doing: str, behind: int = 0) -> None:
        progress = self._pipeline.progress
        counted = progress.counted + progress.dead + progress.skipped + progress.duplicate
        self._progress = Progress(counted, behind, doing)
        self._on_step(self._progress)

    # The switch.

    async def _finish(self, running: set[asyncio.Task[None]]) -> Done:
        switch = self._switch
        known = await asyncio.to_thread(self._read_alerts)  # most of them, before anybody waits
        started = time.monotonic()
        await switch.stand_still()
        try:
            await self._reach(await self._targets(to_the_end=False), running, "switching")
            for task in running:
                if task.get_name() == "reader":
                    task.cancel()
            await self._pipeline.drain(60.0)
            await self._store.leave_notes(self._lanes.notes_to_take_back(self._reader.partitions()))
            await self._deliver_rest()
            known = latest([*known.values(), *(await asyncio.to_thread(self._read_alerts)).values()])
            told = await self._tell(known)
            await switch.switch()
        except BaseException:
            if switch.written.pending is not None:
                with suppress(ReviewpulseError, *REDIS_ERRORS):
                    await asyncio.shield(switch.go_on())
            raise
        standstill_s = time.monotonic() - started
        return Done(self._progress.counted, standstill_s, told, switch.live.generation)

    async def _deliver_rest(self) -> None:
        """Publishes what the live generation's outbox still has. A worker may, too: repeats are known."""
        live = self._switch.live
        replies = await self._trip(("XRANGE", live.outbox(shard), "-", "+") for shard in range(live.shards))
        alerts = [fields[b"alert"] for entries in replies for _, fields in entries]
        if not alerts:
            return
        producer = AIOKafkaProducer(**aiokafka_config(self._settings), acks="all")
        try:
            await producer.start()
            sent = [
                await producer.send(
                    self._settings.topic_alerts, packed, key=_decode_alert(packed).id.encode()
                )
                for packed in alerts
            ]
            await asyncio.gather(*sent)
        except KafkaError as error:
            raise DependencyError(f"Kafka at {self._settings.kafka} took no alerts: {error!r}") from error
        finally:
            await producer.stop()

    def _read_alerts(self) -> dict[str, Alert]:
        """What the alerts topic says: the last transition of each alert."""
        found = []
        for record in read_topic(self._settings, self._settings.topic_alerts):
            with suppress(msgspec.MsgspecError, TypeError):  # a tombstone, or what is no alert
                found.append(_decode_alert(record.value))
        return latest(found)

    async def _tell(self, known: Mapping[str, Alert]) -> int:
        """Puts into the new outbox what subscribers must hear; returns how many transitions."""
        upcoming = self._switch.next
        waiting = await self._alerts_in(upcoming.outbox)  # of an attempt that was cut short
        known = latest([*known.values(), *waiting])
        withheld = latest(await self._alerts_in(upcoming.withheld))
        firing = {id_: alert for id_, alert in withheld.items() if alert.state == "firing"}
        wanted = concerned(known, firing)
        states = await self._trip(
            ("GET", upcoming.spike(channel, product_id)) for product_id, channel in wanted
        )
        corrections = reconcile(
            known,
            firing,
            dict(zip(wanted, states, strict=True)),
            now_ms=time.time_ns() // 1_000_000,
            historic_after_ms=self._historic_after_ms,
        )
        commands: list[Command] = []
        for each in corrections:
            shard = upcoming.shard(each.product_id)
            # Any partition's owner may deliver it; the detector's own come from the product's.
            partition = f"{self._settings.topics[each.channel]}:0"
            commands += [
                (
                    "XADD",
                    upcoming.outbox(shard),
                    "*",
                    "partition",
                    partition,
                    "alert",
                    msgspec.json.encode(alert),
                )
                for alert in each.transitions
            ]
            if each.state is not None:
                commands.append(("SET", upcoming.spike(each.channel, each.product_id), each.state))
        await self._trip(commands)
        await self._trip(("UNLINK", upcoming.withheld(shard)) for shard in range(upcoming.shards))
        return sum(len(each.transitions) for each in corrections)

    async def _alerts_in(self, stream: Callable[[int], str]) -> list[Alert]:
        shards = range(self._switch.next.shards)
        replies = await self._trip(("XRANGE", stream(shard), "-", "+") for shard in shards)
        return [_decode_alert(fields[b"alert"]) for entries in replies for _, fields in entries]

    async def _trip(self, commands: Iterable[Command]) -> list[Any]:
        commands = list(commands)
        return await exchange_async(self._client, commands) if commands else []
