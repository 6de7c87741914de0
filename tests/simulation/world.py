"""One schedule: a deployment, its producers and its troubles, from the first record to the last check.

Rules:
- ``simulate(seed)`` does the same every time, to the byte of its trace, and traced or not.
- Everything drawn is drawn from one generator; the product's own draws, waits and ids are, too.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aiokafka.errors import CommitFailedError, KafkaError

from stream import backoff, lanes, pipeline, publish, resume, transport
from stream.core import seen, segments
from stream.errors import DependencyError
from stream.store.contract import ERASED, log_partition
from tests.simulation.audit import Audit, Violation
from tests.simulation.broker import Broker
from tests.simulation.erasing import Operator
from tests.simulation.inputs import (
    NAMES,
    NOW_MS,
    PARTITIONS,
    SEGMENT_OFFSETS,
    draw_record,
    plain_record,
    sent_again,
)
from tests.simulation.loop import PROCESS, Process, SimLoop, Stall, context_of
from tests.simulation.redis_model import Server
from tests.simulation.troubles import Troubles
from tests.simulation.worker import Parts, SimWorker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextvars import Context

    from faust.types import TP

    from tests.simulation.redis_model import Command, Request

PATIENCE_S = 120.0
"""Everything must be recorded so long after the last trouble."""
SETTLE_S = 3.0
"""So long after that everything must still be right."""


class Outcome(NamedTuple):
    """What came of a schedule."""

    seed: int
    violation: str | None
    strikes: Counter[str]
    """What happened how often."""
    fingerprint: float
    """The next number the generator would draw: equal when two runs drew the same."""
    trace: list[str]


@dataclass
class Weather:
    """How likely each kind of trouble is at the moment."""

    slow: float = 1.0
    request_lost: float = 0.0
    request_late: float = 0.0
    publish_fails: float = 0.0
    run_lost: float = 0.0
    end_lags: float = 0.0
    fails_over: float = 0.0


def simulate(seed: int, *, parts: Parts | None = None, trace: bool = False) -> Outcome:
    """Runs the schedule that ``seed`` stands for.

    Args:
        seed: any number.
        parts: of workers and servers, where they are not to be the real ones.
        trace: whether to write down what happens.
    """
    world = World(seed, parts or Parts(), trace=trace)
    violation = None
    try:
        with world.patched():
            world.loop.run(world.story())
    except (Violation, Stall) as error:
        violation = str(error)
    except Exception:  # noqa: BLE001 - whatever it is, its seed must be known
        violation = traceback.format_exc()
    return Outcome(seed, violation, world.strikes, world.chance.random(), world.trace or [])


class World:
    """Everything there is in a schedule.

    Args:
        seed: what it is drawn from.
        parts: of workers and servers.
        trace: whether to write down what happens.
    """

    def __init__(self, seed: int, parts: Parts, *, trace: bool) -> None:
        self.chance = chance = random.Random(seed)
        self.loop = SimLoop(chance, self.work_s)
        self.trace: list[str] | None = [] if trace else None
        self.strikes: Counter[str] = Counter()
        self.weather = Weather()
        self.model_calls_to_fail = 0
        self.in_flight = 0
        """Requests to Redis that are on their way."""
        self.shards = chance.choice((1, 1, 2, 3))
        is_cluster = self.shards > 1 and chance.random() < 0.6
        self.servers = [Server(parts.store, self.shards) for _ in range(self.shards if is_cluster else 1)]
        self.broker = Broker(self)
        self.audit = Audit(self)
        self.counts_once = chance.random() < 0.7
        self.workers: dict[int, SimWorker] = {}
        """Those that run, by the slot their supervisor keeps filled."""
        self._parts = parts
        self._slots = chance.choice((1, 2, 2, 3))
        self._lives: Counter[int] = Counter()
        self.context = context_of(None)
        """Of callbacks that belong to no process."""
        self._contexts: dict[Process | None, Context] = {None: self.context}
        self._records = 0
        self._arrival_step_ms = chance.choice((0, 1000, 50_000))
        self._marks = random.Random(f"marks of moves of {seed}")  # apart: the rest is as it would be without
        self._sends_again = chance.choice((0.0, 0.1, 0.4))
        self.operator = Operator(self, parts.eraser(self), seed)

    # What everything else draws and tells.

    def hop_s(self) -> float:
        """A way over the network."""
        return 0.01 * self.weather.slow * self.chance.random()

    def work_s(self) -> float:
        """A thread's work, or the wait for its turn."""
        scale_s = 1.0 if self.chance.random() < 0.02 else 0.01
        return scale_s * self.chance.random()

    def patience_s(self) -> float:
        """How long a worker waits for Redis."""
        return 0.5 + 1.5 * self.chance.random()

    def note(self, line: str) -> None:
        """Writes a line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.loop.now_s:9.4f} {line}")

    def strike(self, kind: str) -> None:
        """Counts something that happened."""
        self.strikes[kind] += 1

    def context_of(self, process: Process | None) -> Context:
        """The context of a process's callbacks."""
        context = self._contexts.get(process)
        if context is None:
            context = self._contexts[process] = context_of(process)
        return context

    @contextmanager
    def patched(self) -> Iterator[None]:
        """The product draws from the seed, logs to the trace, and has segments that a schedule can fill."""
        ear = Ear(self)
        changes: list[tuple[Any, str, Any]] = [
            (backoff, "random", self.chance),
            (pipeline, "ThreadPoolExecutor", NoThreads),
            (lanes, "uuid4", lambda: UUID(int=self.chance.getrandbits(128))),
            (segments, "SEGMENT_OFFSETS", SEGMENT_OFFSETS),
            (seen, "SEGMENT_OFFSETS", SEGMENT_OFFSETS),
            (resume, "uuid4", lambda: UUID(int=self.chance.getrandbits(128))),
            (resume, "drawn_raise", lambda: 1 + self._marks.getrandbits(31)),
            (transport, "time", Clock(self.loop)),
            *((module, "log", ear) for module in (backoff, lanes, pipeline, publish, resume, transport)),
        ]
        before = [getattr(module, name) for module, name, _ in changes]
        try:
            for module, name, value in changes:
                setattr(module, name, value)
            yield
        finally:
            for (module, name, _), value in zip(changes, before, strict=True):
                setattr(module, name, value)

    def heard(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """A worker logs something."""
        if event == "records were deleted by retention before they were counted":
            self.strike("times a worker named deleted records")
        elif event == "rewinding to what Redis holds":
            self.strike("rewinds")
        if self.trace is not None:
            told = " ".join(f"{name}={value}" for name, value in fields.items())
            self.note(f"{PROCESS.get()}: {level}: {event} {told}")

    # Kafka's side.

    def append(self, tp: TP, text: str | None = None) -> None:
        """A producer's record arrives: a drawn one, or an event with ``text``."""
        log, chance = self.broker.logs[tp], self.chance
        gap = 0 if chance.random() < 0.8 else int(chance.random() * 3)
        offset, number = log.end + gap, self._records
        self._records += 1
        arrival_ms = NOW_MS + number * self._arrival_step_ms
        if text is not None:
            record = plain_record(tp, offset, number, arrival_ms, text)
        elif log.records and chance.random() < self._sends_again:
            record = sent_again(chance.choice(log.records[-12:]), offset, arrival_ms)
            self.strike("records sent again")
        else:
            record = draw_record(chance, tp, offset, number, arrival_ms)
        self.broker.append(tp, record)
        self.audit.take_record(tp, record)

    def name(self, tp: TP) -> str:
        """A partition's name in the store."""
        noted = self.servers[0].store.log_names.get(NAMES[tp], "")
        return log_partition(NAMES[tp], self.broker.topic_ids[tp.topic] or noted)

    def reported_end(self, tp: TP) -> int:
        """The log's end as a broker tells it, which may lag after a change of leader (KIP-207)."""
        log = self.broker.logs[tp]
        if self.chance.random() < self.weather.end_lags:
            self.strike("ends of logs that lagged")
            return max(log.end - 1 - int(self.chance.random() * 5), log.first)
        return log.end

    def commit(self, offsets: Mapping[Any, int], member: str, generation: int) -> None:
        """A worker tells the group how far it is.

        Raises:
            CommitFailedError: the group has gone on without it.
        """
        group = self.broker.group
        if generation != group.generation or member not in group.assignment:
            self.strike("commits refused")
            raise CommitFailedError
        for key, offset in offsets.items():
            group.committed[key] = offset
            self.note(f"{member}: commits {NAMES[key]} at {offset}")

    # Redis' side.

    def run_command(self, server: Server, command: Command, request: Request) -> Any:
        """A server runs a command, under the eyes of the audit."""
        result = self._run_command(server, command, request)
        if self.chance.random() < self.weather.fails_over:
            self.loop.call_later(self.hop_s(), self._fail_over, server, context=self.context)
        return result

    def _fail_over(self, server: Server) -> None:
        if self.weather.fails_over:
            had = len(server.history)
            kept = max(had - int(self.chance.random() * 5), 0)
            self.note(f"trouble: redis keeps {kept} of {had} writes")
            self.strike("times Redis lost its last writes")
            server.go_back(kept)

    def _run_command(self, server: Server, command: Command, request: Request) -> Any:
        if command.method != "apply":
            result = server.run(command)
            if command.method == "erase":
                self.audit.check_erased(server, command)
            if command.method == "move" and result == [True]:
                self.audit.check_move(command.arguments[0][0])
            if self.trace is not None:
                self.note(f"redis: {request.sender} {command.method}{command.arguments} -> {result}")
            return result
        [step] = command.arguments[0]
        before = server.stored(step)
        result = server.run(command)
        [instead] = result
        done = "applied" if instead is None else "refused"
        if instead is not None:
            self.strike(f"steps refused: {_why(instead, step.base)}")
        if request.is_orphan:
            self.strike(f"steps {done} that nobody waited for any more")
        if self.trace is not None:
            products = [product.product_id for product in step.products]
            self.note(
                f"redis: {request.sender} apply {step.partition} ({step.base}..{step.last}] on shard"
                f" {step.shard} {step.ledger} {products}: {done}, {before} was stored"
            )
        self.audit.check_apply(step, instead, before, server.stored(step))
        return result

    # Workers.

    def start_worker(self, slot: int) -> None:
        """A supervisor starts a worker."""
        self._lives[slot] += 1
        worker = SimWorker(self, f"w{slot}.{self._lives[slot]}", self._parts)
        self.workers[slot] = worker
        self.note(f"{worker.process}: starts")
        task = self.loop.spawn(worker.process, worker.main())
        task.add_done_callback(lambda task: self._ended(slot, worker, task), context=self.context)

    def end_worker(self, slot: int, restart_s: float) -> None:
        """A process is no more; its supervisor starts another."""
        worker = self.workers.pop(slot)
        self.loop.kill(worker.process)
        self.loop.call_later(restart_s, self.start_worker, slot, context=self.context)

    def die(self) -> None:
        """The process that runs at the moment crashes in native code."""
        process = PROCESS.get()
        self.strike("workers that a record killed")
        self.note(f"{process}: dies of a record")
        for slot, worker in list(self.workers.items()):
            if worker.process is process:
                self.end_worker(slot, restart_s=self.chance.random())

    def _ended(self, slot: int, worker: SimWorker, task: asyncio.Task[None]) -> None:
        if worker.process.is_dead:
            return
        error = None if task.cancelled() else task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, (DependencyError, KafkaError)):
            raise Violation(f"{worker.process} died of {error!r}") from error
        self.strike("workers that gave up")
        self.note(f"{worker.process}: gives up: {error!r}")
        self.end_worker(slot, restart_s=2 * self.chance.random())

    # The story.

    async def story(self) -> None:
        """From the first record to the last check.

        Raises:
            Violation: something that must hold does not.
        """
        for slot in range(self._slots):
            self.start_worker(slot)
        troubles = Troubles(self)
        erasing = self.operator.start()
        await asyncio.gather(self._produce(), troubles.strike())
        troubles.end()
        self.note("no more troubles")
        if erasing is not None:
            await erasing
        for tp in PARTITIONS:
            self.append(tp, "fine")
        await self._until(self.audit.unfinished)
        self.audit.check_all()
        checked = self.audit.extent()
        await asyncio.sleep(SETTLE_S)
        if self.audit.extent() != checked:
            self.audit.check_all()
        if self.operator.erases_last:
            await self.operator.erase_last()
            await self._until(self.audit.remembered)
            self.audit.check_all()

    async def _until(self, problem: Callable[[], str | None]) -> None:
        deadline_s = self.loop.now_s + PATIENCE_S
        while found := problem():
            if self.loop.now_s > deadline_s:
                raise Violation(f"{PATIENCE_S:.0f} s after the last trouble {found}")
            await asyncio.sleep(0.25)

    async def _produce(self) -> None:
        chance = self.chance
        pause_s = chance.choice((0.05, 0.2, 0.4))
        for _ in range(20 + int(chance.random() * 35)):
            self.append(chance.choice(PARTITIONS))
            if chance.random() < 0.2:
                await asyncio.sleep(pause_s * 4 * chance.random())


def _why(instead: int, base: int) -> str:
    if instead == ERASED:
        return "something was erased"
    return "a gap" if instead < base else "a repeat"


class Clock:
    """In place of the module ``time``, where the product asks it how long ago something was."""

    def __init__(self, loop: SimLoop) -> None:
        self.monotonic = loop.time


class NoThreads:
    """In place of a pool of threads: the loop runs what it would be given."""

    def __init__(self, _workers: int, thread_name_prefix: str) -> None:
        self.name = thread_name_prefix

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        """Nothing to stop."""


class Ear:
    """The product's logger."""

    def __init__(self, world: World) -> None:
        self._world = world

    def debug(self, event: str, **fields: Any) -> None:
        self._world.heard("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._world.heard("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._world.heard("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._world.heard("error", event, fields)
