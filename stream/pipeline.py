"""Runs of records in, one atomic step per window out: decode, score, judge, apply.

Rules:
- A *window* is what waits when the first stage is free, up to ``window_events`` and to what the model scores
  in ``WINDOW_S``. An idle pipeline therefore scores at once, a busy one fills its windows: the linger is
  exactly as long as the stage ahead takes.
- Four stages overlap: while Redis applies one window, the next is judged, the one after scored, the one after
  that decoded and tokenised; the last three on a thread each. Each stage takes windows in order, so every
  partition is applied in offset order.
- A window is judged on what the one before it will have stored. Should that be refused, the lane is closed
  and both are dropped; the fence would refuse the second in any case, for its base is not stored.
- A run that says that its log does not go on has its partition read from where the store says, when
  everything before it is recorded.
- Everything is bounded: a full inbox makes ``put`` wait, which fills Faust's buffer, which stops the fetch.
- Records that follow deaths of workers are suspects: they are worked on alone, a few at a time, with a note
  of which left in the store before. What is condemned is a dead letter, unread.
- What is stale (its lane was revoked or rewound) is dropped before the store sees it; what slips through is
  fenced there.
- Redis that has lost writes is noticed by the next apply of a partition, and by an audit where none comes.
- A record ends as exactly one of counted, dead, skipped or duplicate, and the ledger says so in the same
  atomic step.
- What is a duplicate of an event recorded already is not scored; one of an event still inside is found when
  it is judged.
- A window is tokenised, scored and judged by one model, the one that served when it was decoded. Another one
  (``use``) takes over with the next window, so in each partition from one offset on; which, is noted by the
  store in the same step.
- Dead letters and scores are published before the step that counts them, alerts after it, from the outbox:
  each at least once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

import structlog

from stream.backoff import retry
from stream.core.decode import DeadLetter, Limits, decode_run
from stream.lanes import RunMissing
from stream.metrics.meter import NO_METER
from stream.record import Basis, Judge, Part, Timing
from stream.scorer import isolate
from stream.store.contract import ERASED, MOVED
from stream.tasks import end
from stream.tracing import NO_TRACE, NO_TRACING, Causes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP

    from stream.core.decode import Decoded
    from stream.core.events import Score
    from stream.lanes import Lane, Lanes
    from stream.metrics.meter import Meter
    from stream.record import Detector, Judged, Refused
    from stream.runs import Run
    from stream.scorer.contract import Scorer
    from stream.store.contract import Apply, CounterStore, StoredStates
    from stream.tracing import Trace, Tracing

log = structlog.get_logger("pipeline")

T = TypeVar("T")

WINDOW_S = 0.5
"""A window takes the model about so long at most: a slow model's windows stay short enough to drain, and to
be read again after a crash."""
THREADS = ("decode", "score", "judge")
"""Stages that run on a thread of their own; the fourth is the event loop's."""
LEAST_WINDOW = 256
"""Events a window may always hold: enough for sorting by length to pay (useful-token share 0.9)."""


FORGOTTEN = "something was erased, and what was remembered of it must go, too"
DIED_OF_IT = "workers died while they worked on this record and nothing else; it was not tried again"


class Publisher(Protocol):
    """Where results go besides the store. Each call returns when Kafka has what it was given."""

    async def dead_letters(self, letters: Sequence[Refused]) -> None:
        """Sends records that cannot be counted to the dead-letter topics."""
        ...

    async def scores(self, scores: Sequence[Score]) -> None:
        """Sends scores to the scores topic."""
        ...

    def alerts_waiting(self) -> None:
        """There are transitions in the outbox. Does not wait."""
        ...


class Model(NamedTuple):
    """What a window is scored and judged by."""

    scorer: Scorer[Any]
    judge: Judge


Listener: TypeAlias = "Callable[[Sequence[str], isolate.Scored, float], None]"
"""Is given a window's texts, what became of them, and how long it took, in seconds; on the scoring thread."""


class PipelineSettings(NamedTuple):
    """What the pipeline can be told."""

    window_events: int = 4096
    token_budget: int = 1024
    limits: Limits = Limits()
    late_after_ms: float = 3_600_000
    publish_scores: bool = False


@dataclass
class Progress:
    """What has become of the records so far; since the worker started."""

    counted: int = 0
    dead: int = 0
    skipped: int = 0
    duplicate: int = 0
    late: int = 0
    windows: int = 0
    rewinds: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=2000))
    """From Kafka's timestamp to visible in the store, of the latest windows' first and last events."""
    cpu_s: dict[str, float] = field(default_factory=lambda: dict.fromkeys(THREADS, 0.0))
    """CPU time by the stage that has a thread of its own."""

    @property
    def ended(self) -> int:
        """Records that came to an end."""
        return self.counted + self.dead + self.skipped + self.duplicate


@dataclass
class Window:
    """Parts that are tokenised, scored and recorded together."""

    parts: list[Part]
    texts: list[str]
    encoded: Any
    model: Model
    trace: Trace = NO_TRACE
    scored: isolate.Scored | None = None
    timing: Timing | None = None


class Pipeline:
    """Holds the stages together.

    Args:
        store: counters, detector states, offsets, outbox.
        lanes: which runs are next.
        scorer: the model.
        detector: the judge of spikes.
        publisher: dead letters, scores, alerts.
        rewind: has partitions read again from what the store holds.
        settings: sizes and limits.
        meter: is told what is done, where somebody wants to know.
        tracing: likewise, window by window.
        causes: is told which record an alert's transition was caused by.
    """

    def __init__(
        self,
        *,
        store: CounterStore,
        lanes: Lanes,
        scorer: Scorer[Any],
        detector: Detector,
        publisher: Publisher,
        rewind: Callable[[set[TP]], Awaitable[None]],
        settings: PipelineSettings,
        meter: Meter = NO_METER,
        tracing: Tracing = NO_TRACING,
        causes: Causes | None = None,
    ) -> None:
        self.progress = Progress()
        self._tracing = tracing
        self._causes = causes or Causes()
        self._meter = meter
        self._store = store
        self._lanes = lanes
        self._publisher = publisher
        self._rewind = rewind
        self._settings = settings
        self.use(scorer, detector)
        self._listener: Listener | None = None
        self._inbox: deque[Run] = deque()
        self._waiting_records = 0
        self._arrived = asyncio.Event()
        self._space = asyncio.Event()
        self._to_score: asyncio.Queue[Window] = asyncio.Queue(maxsize=1)
        self._to_judge: asyncio.Queue[Window] = asyncio.Queue(maxsize=1)
        self._to_apply: asyncio.Queue[tuple[list[Judged], Trace]] = asyncio.Queue(maxsize=1)
        self._window_room = min(LEAST_WINDOW, settings.window_events)
        self._windows_in_flight = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._draining = False
        self._rewinding: set[asyncio.Task[None]] = set()
        self._threads = {stage: ThreadPoolExecutor(1, thread_name_prefix=stage) for stage in THREADS}

    @property
    def scorer(self) -> Scorer[Any]:
        """The model that the next window is scored with."""
        return self._model.scorer

    def use(self, scorer: Scorer[Any], detector: Detector) -> None:
        """Has another model score from the next window on; what is inside is finished with its own.

        Args:
            scorer: the model.
            detector: names the same model in alerts.
        """
        judge = Judge(
            detector=detector,
            model_version=scorer.version,
            late_after_ms=self._settings.late_after_ms,
            with_scores=self._settings.publish_scores,
        )
        self._model = Model(scorer, judge)

    def listen(self, listener: Listener | None) -> None:
        """Has somebody told of every window that is scored; None ends it."""
        self._listener = listener

    async def between_windows(self, call: Callable[[], T]) -> T:
        """Runs ``call`` on the scoring thread, when it is free: never beside a window."""
        result: T = await self._in_thread("score", call)
        return result

    async def put(self, run: Run) -> None:
        """Takes a run in; waits while two windows are waiting already."""
        while self._waiting_records >= 2 * self._settings.window_events:
            self._space.clear()
            await self._space.wait()
        if self._draining:
            return  # nothing is lost: the store's offset is where the next owner begins
        try:
            if not self._lanes.take(run):
                return
        except RunMissing as missing:
            self._start_rewind(run.tp, str(missing))
            return
        if run.ended:
            await self._quiet.wait()  # what came before it may not be read again: it is recorded first
            if self._lanes.is_current(run.tp, run.epoch):
                self._start_rewind(run.tp, run.ended)
            return
        self._inbox.append(run._replace(taken_at=time.perf_counter()))
        self._waiting_records += len(run.records)
        self._meter.taken(self._lanes[run.tp].channel, run)
        self._quiet.clear()
        self._arrived.set()

    async def run(self) -> None:
        """Runs the stages until cancelled."""
        stages = {
            asyncio.create_task(self._decode_stage(), name="decode"),
            asyncio.create_task(self._score_stage(), name="score"),
            asyncio.create_task(self._judge_stage(), name="judge"),
            asyncio.create_task(self._apply_stage(), name="apply"),
        }
        try:
            failed, _ = await asyncio.wait(stages, return_when=asyncio.FIRST_COMPLETED)
            for stage in failed:
                stage.result()
        finally:
            await end(stages | self._rewinding)
            for thread in self._threads.values():
                thread.shutdown(wait=False, cancel_futures=True)

    async def drain(self, timeout_s: float) -> bool:
        """Takes nothing more in and waits for what is inside; False when that took too long."""
        self._draining = True
        try:
            await asyncio.wait_for(self._quiet.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    @property
    def busy(self) -> bool:
        """Whether anything is inside."""
        return not self._quiet.is_set()

    async def audit(self) -> None:
        """Compares what was applied with what the store holds, and rewinds what the store has lost.

        The next apply would notice, too; but a quiet partition has none, and its counters would stay wrong.

        Raises:
            DependencyError: the store is away.
        """
        # Noted before the store is read: what is applied meanwhile makes the stored offset higher.
        confirmed = self._lanes.confirmed()
        stored = await self._store.applied([each.name for each in confirmed.values()])
        generation, erased = self._store.generation, self._store.erased
        for tp, (name, epoch, of_generation, applied, erased_before) in confirmed.items():
            if not self._lanes.is_current(tp, epoch):
                continue  # it was read anew meanwhile
            if of_generation != generation:
                self._start_rewind(tp, "the counters moved to another generation")
                continue
            if erased_before != erased:
                self._start_rewind(tp, FORGOTTEN)
                continue
            holds = stored[name]
            if any(has < had for has, had in zip(holds, applied, strict=True)):
                self._start_rewind(
                    tp, f"offsets to {max(applied)} were applied, {min(holds)} is stored: Redis lost writes"
                )

    async def _in_thread(self, stage: str, call: Callable[..., Any], *arguments: Any) -> Any:
        def timed() -> Any:
            started_s = time.thread_time()
            try:
                return call(*arguments)
            finally:
                self.progress.cpu_s[stage] += time.thread_time() - started_s

        return await asyncio.get_running_loop().run_in_executor(self._threads[stage], timed)

    # Stage 1: decode and tokenise.

    async def _decode_stage(self) -> None:
        while True:
            await self._arrived.wait()
            suspects = self._suspects_wait()
            if suspects:
                await self._empty.wait()  # a death must have been theirs
            runs = self._take_window()
            if runs:
                self._windows_in_flight += 1
                self._empty.clear()
                trace = self._tracing.begin(runs)
                self._stage("queue", time.perf_counter() - min(run.taken_at for run in runs), trace)
                await self._leave_notes(runs)
                await self._to_score.put(await self._in_thread("decode", self._decode, runs, trace))
            if suspects:
                await self._empty.wait()
            self._note_quiet()

    def _suspects_wait(self) -> bool:
        return any(
            self._lanes.is_current(run.tp, run.epoch) and self._lanes[run.tp].note.width
            for run in self._inbox
        )

    async def _leave_notes(self, runs: Sequence[Run]) -> None:
        at = (runs[0].records[0].offset, runs[-1].records[-1].offset)
        notes = self._lanes.notes_to_leave({run.tp for run in runs}, at)
        if notes:
            await retry(lambda: self._store.leave_notes(notes), "leave a note")

    def _take_window(self) -> list[Run]:
        runs: list[Run] = []
        room = self._window_room
        while self._inbox and room:
            run = self._inbox.popleft()
            self._waiting_records -= len(run.records)
            if not self._lanes.is_current(run.tp, run.epoch):
                continue
            width = self._lanes[run.tp].note.width
            if width and runs:
                self._give_back(run)
                break
            if width:
                room = min(room, width)
            if len(run.records) > room:
                self._give_back(run._replace(records=run.records[room:]))
                run = run._replace(records=run.records[:room])
            runs.append(run)
            room -= len(run.records)
            if width:
                break
        if not self._inbox:
            self._arrived.clear()
        self._space.set()
        return runs

    def _give_back(self, run: Run) -> None:
        self._inbox.appendleft(run)
        self._waiting_records += len(run.records)

    def _stage(self, stage: str, seconds: float, trace: Trace) -> None:
        self._meter.stage(stage, seconds)
        trace.stage(stage, seconds)

    def _decode(self, runs: Sequence[Run], trace: Trace) -> Window:
        model = self._model  # once: another may be used at any moment
        started = time.perf_counter()
        by_tp: dict[TP, list[ConsumerRecord]] = {}
        latest: dict[TP, Run] = {}
        for run in runs:
            by_tp.setdefault(run.tp, []).extend(run.records)
            latest[run.tp] = run
        parts = []
        texts: list[str] = []
        for tp, records in by_tp.items():
            lane = self._lanes[tp]
            decoded = _decode_uncondemned(lane, records, self._settings.limits)
            part = Part.of(
                tp,
                latest[tp].epoch,
                lane.channel,
                records,
                decoded,
                lane.seen,
                first_row=len(texts),
                log=latest[tp].log,
            )
            texts.extend([event.text for event in part.events])
            parts.append(part)
        decoded_at = time.perf_counter()
        encoded = isolate.encode(model.scorer, texts)
        tokenised_at = time.perf_counter()
        self._stage("decode", decoded_at - started, trace)
        self._stage("tokenise", tokenised_at - decoded_at, trace)
        self._meter.encoded(model.scorer, texts, encoded)
        return Window(parts, texts, encoded, model, trace)

    # Stage 2: score.

    async def _score_stage(self) -> None:
        while True:
            window = await self._to_score.get()
            await retry(partial(self._in_thread, "score", self._score, window), "score", inside=True)
            await self._to_judge.put(window)

    def _score(self, window: Window) -> None:
        scored_at_ms = time.time() * 1000
        started = time.perf_counter()
        window.scored = isolate.score(
            window.model.scorer, window.texts, window.encoded, token_budget=self._settings.token_budget
        )
        elapsed_s = time.perf_counter() - started
        window.encoded = None
        window.timing = Timing(scored_at_ms, elapsed_s * 1000)
        self._stage("score", elapsed_s, window.trace)
        self._meter.scored(window.model.scorer, window.scored)
        affordable = round(len(window.texts) / elapsed_s * WINDOW_S)
        self._window_room = min(max(affordable, LEAST_WINDOW), self._settings.window_events)
        if self._listener is not None:
            self._listener(window.texts, window.scored, elapsed_s)

    # Stage 3: judge.

    async def _judge_stage(self) -> None:
        while True:
            window = await self._to_judge.get()
            # A part keeps the lane it was read for. While this waits, the partition may be rewound or given
            # away and back; on the new lane's base the part would pass the fence with a gap before it.
            parts = [
                (part, self._lanes[part.tp])
                for part in window.parts
                if self._lanes.is_current(part.tp, part.epoch)
            ]
            await self._to_apply.put((await self._judge_window(window, parts), window.trace))

    async def _judge_window(self, window: Window, parts: Sequence[tuple[Part, Lane]]) -> list[Judged]:
        # These tasks answer with states alone: on a new connection redis-py leaves a cycle that holds the
        # task until the collector comes, and what a lane remembers is megabytes (docs/soak.md).
        found = await asyncio.gather(*(self._states(part, lane) for part, lane in parts))
        based = [
            (part, lane, _basis(lane, states))
            for (part, lane), states in zip(parts, found, strict=True)
            if states is not None
        ]
        # In one visit to the thread: a small window's visits cost more than its judging.
        judged: list[Judged] = await self._in_thread("judge", self._judge_parts, window, based)
        for (_, lane, _), each in zip(based, judged, strict=True):
            for step in each.steps:
                lane.judged[step.shard] = step.last
                lane.model = step.model or lane.model
            lane.remember(each.states)
        return judged

    def _judge_parts(self, window: Window, parts: Sequence[tuple[Part, Lane, Basis]]) -> list[Judged]:
        assert window.scored is not None
        assert window.timing is not None
        judge = window.model.judge
        started = time.perf_counter()
        judged = [judge.judge(part, window.scored, basis, window.timing) for part, _, basis in parts]
        self._stage("judge", time.perf_counter() - started, window.trace)
        return judged

    async def _states(self, part: Part, lane: Lane) -> dict[str, bytes | None] | None:
        """Detector states of the part's products: remembered ones, the others from the store.

        None, and a rewind, when the store's are not of offsets that this lane knows: read while somebody
        else's step was stored, which Redis then lost, they would pass the fence.
        """
        applied, remembered = tuple(lane.applied), lane.states
        states: dict[str, bytes | None] = {}
        missing = []
        for product_id in {event.product_id for event in part.events}:
            if (state := remembered.get(product_id)) is None:
                missing.append(product_id)
            else:
                states[product_id] = state
        if missing:
            found = await retry(
                lambda: self._store.states(part.name, part.channel, missing), "read detector states"
            )
            problem = _why_unknown(found, applied, lane)
            if problem is not None:
                if self._lanes.is_current(part.tp, part.epoch):
                    self._start_rewind(part.tp, f"detector states cannot be built on: {problem}")
                return None
            states.update(zip(missing, found.states, strict=True))
        return states

    # Stage 4: apply.

    async def _apply_stage(self) -> None:
        while True:
            found, trace = await self._to_apply.get()
            judged = [each for each in found if self._lanes.is_current(each.part.tp, each.part.epoch)]
            await self._apply(judged, trace)
            trace.end(judged)
            self._windows_in_flight -= 1
            if not self._windows_in_flight:
                self._empty.set()
            self.progress.windows += 1
            self._note_quiet()

    async def _apply(self, judged: Sequence[Judged], trace: Trace) -> None:
        await self._publish_first(judged)
        steps = [step for each in judged for step in each.steps]
        if not steps:
            return
        for each in judged:
            self._causes.note(each)
        started = time.perf_counter()
        results = await retry(lambda: self._store.apply(steps), "apply")
        self._stage("apply", time.perf_counter() - started, trace)
        stored = dict(zip(((step.partition, step.shard) for step in steps), results, strict=True))
        for each in judged:
            self._settle(each, stored)
        if any(step.transitions for step in steps):
            self._publisher.alerts_waiting()

    async def _publish_first(self, judged: Iterable[Judged]) -> None:
        """What must be in Kafka before the step that counts it: a crash between repeats it, loses nothing."""
        dead = [letter for each in judged for letter in each.dead]
        if dead:
            await retry(lambda: self._publisher.dead_letters(dead), "publish dead letters")
        scores = [score for each in judged for score in each.scores]
        if scores:
            await retry(lambda: self._publisher.scores(scores), "publish scores")

    def _settle(self, judged: Judged, stored: Mapping[tuple[str, int], int | None]) -> None:
        """Takes note of what the store said to a part's steps."""
        part = judged.part
        if not self._lanes.is_current(part.tp, part.epoch):
            return
        lane = self._lanes[part.tp]
        for step in judged.steps:
            instead = stored[step.partition, step.shard]
            if instead is not None:
                self._start_rewind(part.tp, _why_refused(step, instead))
                return
            lane.advance(step.shard, step.last)
        self._note_progress(judged)

    def _note_progress(self, judged: Judged) -> None:
        progress = self.progress
        for step in judged.steps:
            for name, number in step.ledger.items():
                outcome = name.partition(":")[2]
                setattr(progress, outcome, getattr(progress, outcome) + number)
        now_ms = time.time() * 1000
        records = judged.part.records
        progress.latencies_ms.extend((now_ms - records[0].timestamp, now_ms - records[-1].timestamp))
        self._meter.applied(judged, now_ms)

    def _start_rewind(self, tp: TP, reason: str) -> None:
        self._lanes.close([tp])
        self.progress.rewinds += 1
        log.warning("rewinding to what Redis holds", partition=f"{tp.topic}:{tp.partition}", reason=reason)
        task = asyncio.create_task(retry(lambda: self._rewind({tp}), "rewind"))
        self._rewinding.add(task)
        task.add_done_callback(self._rewinding.discard)

    def _note_quiet(self) -> None:
        if not self._inbox and not self._windows_in_flight:
            self._quiet.set()


def _basis(lane: Lane, states: Mapping[str, bytes | None]) -> Basis:
    return Basis(tuple(lane.judged), states, lane.seen, lane.generation, lane.model, lane.erased)


def _decode_uncondemned(lane: Lane, records: Sequence[ConsumerRecord], limits: Limits) -> Decoded:
    """Decodes what workers did not die of."""
    condemned = lane.note.condemned
    if not condemned:
        return decode_run(lane.channel, records, limits)
    decoded = decode_run(lane.channel, [each for each in records if each.offset not in condemned], limits)
    dead = [DeadLetter(each.offset, "worker", DIED_OF_IT) for each in records if each.offset in condemned]
    return decoded._replace(dead=sorted(decoded.dead + dead))


def _why_refused(step: Apply, instead: int) -> str:
    offsets = f"offsets {step.base + 1} to {step.last} refused"
    if instead == MOVED:
        return f"{offsets}: the counters moved to another generation"
    if instead == ERASED:
        return f"{offsets}: {FORGOTTEN}"
    return f"{offsets}, {instead} is stored: {_problem(instead, step.base)}"


def _why_unknown(found: StoredStates, applied: Sequence[int], lane: Lane) -> str | None:
    """What is wrong with states that were read; None when they are as of what ``lane`` knows.

    Args:
        found: what was read.
        applied: what the lane knew to be applied before they were asked for.
        lane: whose offsets up to ``judged`` hold no event of these products beyond ``applied``.
    """
    if len(applied) <= max(found.as_of):
        return "the counters moved to another generation"
    for shard, (before, after) in found.as_of.items():
        if before < applied[shard] or after > lane.judged[shard]:
            known = f"{applied[shard]} to {lane.judged[shard]} is known"
            return f"{before} to {after} is stored, {known}: {_problem(before, applied[shard])}"
        if found.erased[shard] != {lane.erased[shard] if lane.erased else 0}:
            return FORGOTTEN
    return None


def _problem(stored: int, known: int) -> str:
    if stored < known:
        return "Redis lost writes"
    return "they were applied already, by another worker or by a call whose answer got lost"
