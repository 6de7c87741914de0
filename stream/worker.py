"""One worker: a Faust app whose single agent feeds the pipeline. Any number of workers share the partitions.

Rules:
- Nothing is read before Redis, Kafka and the topics are there; the wait is said once and ends by itself.
- SIGTERM and SIGINT drain: what is inside is recorded, the group is told, the worker leaves it, exit 0.
- It scores with the bundle that was promoted (``stream.swap``), else with the one it is configured with.
- An error of ours or of Faust's ends the process with a non-zero code, for its supervisor to start it again.
  That is always safe: the next owner begins at what Redis holds.
- So does the watchdog, when nothing moves any more. A server that is away is no reason.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import socket
import tempfile
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import faust
import structlog
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from stream import bundle
from stream.backoff import retry
from stream.core.decode import Limits
from stream.core.watch import Limits as WatchLimits
from stream.core.watch import Seen
from stream.detectors import detector_of, oddities
from stream.errors import BundleError, DependencyError, UsageError
from stream.faust_config import faust_broker, faust_credentials
from stream.health import HealthServer, address_of, pages
from stream.kafka_config import aiokafka_config
from stream.kafka_refusal import refusal
from stream.lanes import Lanes
from stream.lookout import BEAT_S, Lookout
from stream.metrics.meter import NO_METER
from stream.metrics.store import TimedStore, Trips
from stream.metrics.worker import Parts, WorkerMeter, WorkerReading
from stream.pipeline import Pipeline, PipelineSettings
from stream.promotion import Named, Promotions, check_named, named
from stream.publish import KafkaPublisher
from stream.redis_config import connect_async
from stream.redis_url import shown_url
from stream.rules import load_rules
from stream.scorer.counted import Batches, CountedScorer
from stream.scorer.load import load_scorer
from stream.status import StatusBoard, SwapStatus, WorkerStatus
from stream.store.layout import Layout
from stream.store.redis import RedisStore
from stream.swap import Opened, PromotedFirst, Swap
from stream.tasks import end, within
from stream.tracing import Causes, tracing_of
from stream.transport import RunSchema, Transport
from stream.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from faust.types import TP

    from stream.core.detection import Detection
    from stream.core.events import Channel
    from stream.core.watch import Stuck
    from stream.scorer.contract import Scorer
    from stream.settings import Settings
    from stream.store.contract import CounterStore

log = structlog.get_logger("worker")

DRAIN_S = 20.0
"""Longest a stop waits for what is inside: several windows, below the 30 s that supervisors grant."""
NOTES_S = 2.0
"""Longest a rebalance, or a stop, waits for what this worker wrote about itself to be taken back."""
COMMIT_S = 1.0
LEAVE_S = 4.0
"""Longest a stop waits for Kafka: with the drain still below those 30 s. What it is not told it finds out."""
PROMOTED_S = 2.0
"""Longest a start waits for Redis to say what was promoted: a worker that loads the wrong bundle first loads
another before it reads anything."""
REPORT_S = 1.0
"""How often the status board is told."""
RATE_REPORTS = 10
"""Reports the rate is taken over: a slow model's windows come seconds apart."""
LOG_REPORTS = 30
"""One log line for so many reports."""
GC_YOUNG_OBJECTS = 50_000
LARGE_BLOCK_BYTES = 256 * 1024
M_MMAP_THRESHOLD = -3
"""From ``malloc.h``."""
BUFFERED_RUNS = 8
"""Runs that may wait between Faust's fetch and the pipeline."""


def _read_worker(watchdog: Watchdog) -> WorkerReading:
    return WorkerReading(lambda: watchdog.report, WorkerMeter(), Trips())


async def serve(settings: Settings, reading_of: Callable[[Watchdog], WorkerReading] = _read_worker) -> None:
    """Runs a worker until SIGTERM or SIGINT.

    It is for a process of its own: the watchdog ends the process, and watches until it has ended.

    Args:
        settings: its configuration.
        reading_of: makes what keeps and shows its metrics, where they are served.

    Raises:
        UsageError: a setting does not fit what is stored, or the bundle is not right.
        DependencyError: the device that was demanded is absent, or Kafka failed for good.
    """
    watchdog = Watchdog(_watch_limits(settings))
    reading = reading_of(watchdog) if settings.health else None
    served: AbstractContextManager[object] = nullcontext()
    if settings.health and reading is not None:
        from stream.metrics.page import metrics_pages, registry  # noqa: PLC0415  # only where they are served

        shown = pages(lambda: watchdog.report) | metrics_pages(registry("worker", reading.read))
        served = HealthServer(address_of(settings.health), shown)
    with served:
        watchdog.start()
        kafka_let_go = await _serve(settings, watchdog, reading)
    if not kafka_let_go:
        # Ours is done. Faust's tasks and its thread wait for an answer yet, for up to 40 s and deaf to being
        # cancelled, and the interpreter would wait for them.
        os._exit(0)


async def _serve(settings: Settings, watchdog: Watchdog, reading: WorkerReading | None = None) -> bool:
    """False when Kafka did not answer to the farewell."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        watchdog.stopping("it was told to")
        stop.set()

    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, told_to_stop)
    loading = asyncio.create_task(_beat(watchdog))
    promoted = None if settings.scorer == "constant" else await _promoted(settings)
    scorer = await asyncio.to_thread(_load_first, settings, promoted)
    loading.cancel()
    _calm_garbage_collector()
    _return_large_blocks()
    worker = Worker(settings, scorer, watchdog, promoted, reading)
    del scorer  # another may take its place, and it must not stay for this frame's sake
    starting = asyncio.create_task(worker.start())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        await end({starting})
        return await worker.close()
    try:
        await starting
        await worker.run_until(stopping)
    except Exception as error:
        watchdog.stopping(f"{type(error).__name__}: {error}")  # should closing hang, the reason is said
        await worker.close()
        raise
    return await worker.close()


async def _promoted(settings: Settings) -> Named | None:
    """The bundle that was promoted, if one was and Redis says so within moments."""
    promotions = Promotions(connect_async(settings), settings.namespace)
    asking = asyncio.create_task(promotions.read())
    await asyncio.wait({asking}, timeout=PROMOTED_S)
    try:
        with suppress(DependencyError):
            promotion = asking.result().promotion if asking.done() else None
            return promotion.bundle if promotion else None
        return None
    finally:
        await end({asking})
        await promotions.close()


def _load_first(settings: Settings, promoted: Named | None) -> Scorer[Any]:
    """The scorer to begin with.

    Raises:
        BundleError: what was promoted, or is configured, cannot be used.
        DependencyError: nor can the device that was demanded.
    """
    if promoted is None:
        return load_scorer(settings)
    try:
        check_named(promoted)
        return load_scorer(_with_bundle(settings, promoted))
    except BundleError as error:
        raise BundleError(
            f"{error} It was promoted for all workers of '{settings.namespace}', and one fleet scores with"
            " one bundle: put it there, or `reviewpulse bundle promote` or `rollback` another."
        ) from None


def _with_bundle(settings: Settings, which: Named) -> Settings:
    return settings.model_copy(update={"bundle": Path(which.path)})


def _configured(settings: Settings) -> Named:
    """The bundle of the settings; where it is gone, a name that no bundle has."""
    try:
        return named(settings.bundle, bundle.load_manifest(settings.bundle))
    except BundleError:
        return Named(path=str(settings.bundle), version="?", manifest="0" * 64)


def _watch_limits(settings: Settings) -> WatchLimits:
    rebalance_s = settings.watchdog_rebalance_s
    return WatchLimits(
        loop_s=settings.watchdog_loop_s,
        stall_s=settings.watchdog_stall_s,
        # A group waits one session for a member that died; two, when another dies meanwhile.
        rebalance_s=rebalance_s and max(rebalance_s, 2 * settings.session_timeout_s),
    )


async def _beat(watchdog: Watchdog) -> None:
    """The loop's heartbeat while there is no worker yet."""
    while True:
        watchdog.see(Seen())
        await asyncio.sleep(BEAT_S)


class Worker:
    """Holds the rooms together.

    Args:
        settings: configuration.
        scorer: the model.
        watchdog: is told what is seen here.
        promoted: the bundle that the model is of, where that is not the configured one.
        reading: what shows its metrics, where somebody may ask for them.
    """

    def __init__(
        self,
        settings: Settings,
        scorer: Scorer[Any],
        watchdog: Watchdog,
        promoted: Named | None = None,
        reading: WorkerReading | None = None,
    ) -> None:
        self._settings = settings
        self._reading = reading
        meter = NO_METER if reading is None else reading.meter
        self._batches = Batches(meter)
        self._tracing, causes = tracing_of(settings), Causes()
        self._watchdog = watchdog
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._store: CounterStore = RedisStore(
            connect_async(settings), Layout(settings.namespace, settings.shards), settings.redis
        )
        if reading is not None:
            self._store = TimedStore(self._store, reading.trips)
        self._board = StatusBoard(connect_async(settings), settings.namespace)
        channels: dict[str, Channel] = {settings.topic_reviews: "reviews", settings.topic_chats: "chats"}
        self._lanes = Lanes(self._store, channels, segments_kept=settings.segments_kept)
        self._state_dir = tempfile.TemporaryDirectory(prefix="reviewpulse-faust-")
        self.app = _faust_app(settings, self._state_dir.name)
        self._publisher = KafkaPublisher(
            producer=self.app.producer,
            store=self._store,
            owned=self._lanes.owned,
            alerts_topic=settings.topic_alerts,
            scores_topic=settings.topic_scores,
            meter=meter,
            causes=causes,
        )
        self._rules = load_rules(settings)
        detector = detector_of(settings, self._rules, scorer.version)
        counted = CountedScorer(scorer, self._batches)
        self._say_oddities(scorer.version)
        self.pipeline = Pipeline(
            store=self._store,
            lanes=self._lanes,
            scorer=counted,
            detector=detector,
            publisher=self._publisher,
            rewind=self._rewind,
            settings=PipelineSettings(
                window_events=settings.window_events,
                token_budget=settings.token_budget,
                limits=Limits(settings.max_event_bytes, round(settings.allowed_skew_s * 1000)),
                late_after_ms=settings.late_after_s * 1000,
                publish_scores=settings.publish_scores,
            ),
            meter=meter,
            tracing=self._tracing,
            causes=causes,
        )
        self._swap: Swap | None = None
        if settings.scorer != "constant":
            configured = _configured(settings)
            self._swap = self._follows(configured, self._opened(promoted or configured, counted, detector))
        self.app.transport.sink = PromotedFirst(self._lanes, self._swap) if self._swap else self._lanes
        self._define_agent()
        self._lookout = Lookout(
            settings, app=self.app, lanes=self._lanes, pipeline=self.pipeline, batches=self._batches
        )
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        if reading is not None:
            reading.parts = Parts(
                self.app,
                self.pipeline,
                self._lookout,
                self._publisher,
                missing=lambda: self._lanes.missing,
                swap=self._swap,
            )

    def _follows(self, configured: Named, serving: Opened) -> Swap:
        """Takes up what is promoted."""
        self._promotions = Promotions(connect_async(self._settings), self._settings.namespace)
        return Swap(
            self._promotions,
            configured=configured,
            serving=serving,
            load=self._open,
            switch=self._switch,
            stage=self.pipeline,
            token_budget=self._settings.token_budget,
        )

    def _open(self, which: Named) -> Opened:
        """Verifies and loads a bundle; not on the event loop."""
        scorer = load_scorer(_with_bundle(self._settings, which))
        detector = detector_of(self._settings, self._rules, scorer.version)
        return self._opened(which, CountedScorer(scorer, self._batches), detector)

    def _opened(self, which: Named, scorer: Scorer[Any], detector: Detection) -> Opened:
        metrics = bundle.load_manifest(Path(which.path)).metrics
        return Opened(which, scorer, detector, {(each.dataset, each.name): each.value for each in metrics})

    def _switch(self, opened: Opened) -> None:
        self._say_oddities(opened.scorer.version)
        self.pipeline.use(opened.scorer, opened.detector)

    def _say_oddities(self, model_version: str) -> None:
        for odd in oddities(self._settings, self._rules, model_version):
            log.warning("a setting is odd", why=odd)

    def _define_agent(self) -> None:
        topic = self.app.topic(*self._settings.topics.values(), schema=RunSchema(), acks=False)

        @self.app.agent(topic, name="runs")
        async def feed(runs: Any) -> None:
            async for run in runs:
                await self.pipeline.put(run)

        @self.app.on_partitions_revoked.connect
        async def close_lanes(_app: Any, revoked: Any, **_: Any) -> None:
            self._lanes.close(revoked)
            await self._take_notes_back(revoked)

    async def start(self) -> None:
        """Waits for Redis, Kafka and the topics, then joins the group."""
        self._tasks = {asyncio.create_task(self._lookout.beat(self._watchdog), name="beat")}
        if self._reading is not None:
            self._tasks.add(asyncio.create_task(self._reading.meter.loop_lag.watch(), name="loop_lag"))
        await retry(self._store.open, f"connect to Redis at {shown_url(self._settings.redis)}")
        if self._reading is not None:
            self._reading.has_redis = True
        await retry(self._check_topics, f"connect to Kafka at {self._settings.kafka}")
        self._tasks |= {
            asyncio.create_task(self.pipeline.run(), name="pipeline"),
            asyncio.create_task(self._publisher.run(), name="publisher"),
            asyncio.create_task(self._report(), name="report"),
            asyncio.create_task(self._lookout.audit(), name="audit"),
            asyncio.create_task(self._lookout.watch_backlog(), name="backlog"),
        }
        if self._swap is not None:
            self._tasks.add(asyncio.create_task(self._swap.run(), name="swap"))
        self._started = self._lookout.joined = True
        self._watchdog.farewell = partial(self._say_farewell, asyncio.get_running_loop())
        await self.app.start()
        log.info(
            "worker started",
            worker=self.name,
            group=self._settings.group,
            kafka=self._settings.kafka,
            redis=shown_url(self._settings.redis),
            model=self.pipeline.scorer.version,
            provider=self.pipeline.scorer.provider,
        )

    async def run_until(self, stopping: asyncio.Task[Any]) -> None:
        """Serves until ``stopping`` is done, then drains.

        Raises:
            DependencyError: Faust gave up on Kafka.
            Exception: one of ours crashed.
        """
        crashed = asyncio.create_task(self.app.wait_until_stopped())
        done, _ = await asyncio.wait({stopping, crashed, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done & self._tasks:
            task.result()  # an error of ours: out with it
        if crashed in done or self.app.crashed:
            raise DependencyError(f"Faust stopped: {self.app.crash_reason!r}")
        crashed.cancel()
        log.info("draining")
        if not await self.pipeline.drain(DRAIN_S):
            log.warning("not everything could be recorded in time; the next owner reads it again")
        await self._take_notes_back(self.app.consumer.assignment())
        if not await within(COMMIT_S, self.app.consumer.commit()):
            log.warning("Kafka does not answer; the group is not told how far this worker got")

    def _say_farewell(self, loop: asyncio.AbstractEventLoop, stuck: Stuck) -> None:
        """Leaves the group, for a process about to end; from another thread, for the loop may not turn."""
        if stuck.check == "progress" and not self.pipeline.busy:  # so no record is to blame
            notes = self._take_notes_back(self.app.consumer.assigned())
            asyncio.run_coroutine_threadsafe(notes, loop).result()
        self.app.consumer.leave_group()

    async def _take_notes_back(self, tps: Iterable[TP]) -> None:
        """Partitions are left in peace. Where Redis is away a death too many is noted: no harm in it."""
        notes = self._lanes.notes_to_take_back(tps)
        if notes:
            with suppress(DependencyError, TimeoutError):
                await asyncio.wait_for(self._store.leave_notes(notes), NOTES_S)

    async def close(self) -> bool:
        """Leaves the group and disconnects; False when Kafka did not answer: what waits for it is left."""
        kafka_let_go = True
        await end(self._tasks)
        if self._started:
            kafka_let_go = await within(LEAVE_S, self.app.stop())
            if not kafka_let_go:
                log.warning(
                    "Kafka does not answer; the group gives the partitions away when this session ends",
                    session_timeout_s=self._settings.session_timeout_s,
                )
            with suppress(DependencyError):
                await within(NOTES_S, self._board.remove(self.name))
        await self._board.close()
        if self._swap is not None:
            await self._promotions.close()
        await self._store.close()
        await self._tracing.close()
        self._state_dir.cleanup()
        progress = self.pipeline.progress
        log.info(
            "worker stopped",
            counted=progress.counted,
            dead=progress.dead,
            skipped=progress.skipped,
            duplicate=progress.duplicate,
        )
        return kafka_let_go

    async def _check_topics(self) -> None:
        client = AIOKafkaClient(**aiokafka_config(self._settings))
        try:
            await client.bootstrap()
            metadata = await client.fetch_all_metadata()
        except KafkaError as error:
            # A worker that is refused says so and ends, as with Redis: waiting mends no certificate.
            if (why := await asyncio.to_thread(refusal, self._settings)) is not None:
                raise (UsageError if why.is_sure else DependencyError)(why.sentence) from error
            raise DependencyError(f"Kafka at {self._settings.kafka}: {error!r}") from error
        finally:
            await client.close()
        missing = sorted(set(self._settings.topics.values()) - set(metadata.topics()))
        if missing:
            raise DependencyError(f"Kafka has no topic {', '.join(missing)}: run `reviewpulse topics`.")

    async def _rewind(self, tps: set[Any]) -> None:
        await self.app.consumer.rewind(tps)

    async def _report(self) -> None:
        """Tells the status board every second, and the log now and then."""
        reports = 0
        recent: deque[tuple[float, int]] = deque([(time.monotonic(), 0)], maxlen=RATE_REPORTS)
        while True:
            await asyncio.sleep(REPORT_S)
            progress = self.pipeline.progress
            total = progress.ended
            now = time.monotonic()
            before_at, before = recent[0]
            recent.append((now, total))
            status = WorkerStatus.of(
                self.name,
                self.pipeline.scorer,
                progress,
                partitions=sorted(self._lanes.owned()),
                events_per_s=(total - before) / (now - before_at),
                missing=self._lanes.missing,
                swap=self._swap.status if self._swap else SwapStatus(),
            )
            try:
                await self._board.post(status)
            except DependencyError as error:
                self._lookout.board.failed(error)
            else:
                self._lookout.board.answered()
            reports += 1
            if reports % LOG_REPORTS == 0:
                log.info(
                    "progress",
                    counted=progress.counted,
                    dead=progress.dead,
                    skipped=progress.skipped,
                    duplicate=progress.duplicate,
                    rewinds=progress.rewinds,
                    missing=status.missing,
                    events_per_s=round(status.events_per_s),
                    latency_p99_ms=status.latency_p99_ms,
                )


def _calm_garbage_collector() -> None:
    """Lets the collector look at young objects less often, and at those made so far never again.

    A window makes some 10,000 objects that reference counting frees; the default threshold of 700 would walk
    them a dozen times, and all older ones now and then. Cycles are rare here, so it may be hours until it
    looks: one that holds megabytes has to be broken where it is made (``stream.transport.FetchedRecords``).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_YOUNG_OBJECTS, 20, 20)


def _return_large_blocks() -> None:
    """Has the allocator give large blocks back to the system when they are freed.

    glibc does so from 128 KB on, but each such block that is freed raises the limit, up to 32 MB
    (mallopt(3)). Fetched batches and tables of fingerprints then come and go between small objects, and the
    holes they leave add up: some 50 MB in a worker, more with each rebalance (docs/soak.md). Other allocators
    have no such option.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)


def _faust_app(settings: Settings, state_dir: str) -> faust.App:
    app = faust.App(
        settings.group,
        broker=faust_broker(settings, "recordrun"),
        broker_credentials=faust_credentials(settings),
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 10,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="none",  # where to go on is for the sink to say, never for a client
        stream_buffer_maxsize=BUFFERED_RUNS,
        stream_wait_empty=False,  # runs are not acked; what is inside at a rebalance is read again
        producer_request_timeout=30.0,
        topic_disable_leader=True,
        topic_allow_declare=False,  # `reviewpulse topics` creates them, with the right partitions
        web_enabled=False,
        datadir=state_dir,
        store="memory://",
    )
    app.conf.web_enabled = False  # the argument alone does not keep it from listening (Faust 0.15.3)
    app.finalize()
    assert isinstance(app.transport, Transport)
    return app
