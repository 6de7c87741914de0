"""An event loop without a clock, without threads, and with an order of its own.

Rules:
- Time is virtual: when nothing is ready it jumps to the next timer. A sleep costs nothing.
- Which ready callback runs next is drawn. Everything drawn comes from one seeded generator, so that the same
  seed makes the same schedule, whatever the machine does meanwhile.
- Nothing runs in a thread: what is given to an executor runs here, after a drawn time, and its result arrives
  after another.
- A callback belongs to the process whose context it was made in. A paused process's callbacks are held until
  it is resumed, a killed one's for ever.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Coroutine

MOST_CALLS = 200_000
"""A schedule has some 5,000: beyond this, something goes round in circles."""

ROUNDS = 5
"""Of cancelling what is left: a task may wait once more while it ends."""


class Stall(Exception):  # noqa: N818
    """Nothing is ready and no timer is set, or nothing ends."""


class Process:
    """A worker's process, as the operating system sees it: it runs, is stopped (SIGSTOP), or is dead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.held: list[Call] | None = None
        """What waits while the process is stopped or dead; None while it runs."""

    def __repr__(self) -> str:
        return self.name


PROCESS: ContextVar[Process | None] = ContextVar("process", default=None)


class Call:
    """A callback that waits for its turn; what asyncio calls a handle."""

    __slots__ = ("args", "callback", "context", "is_cancelled", "when")

    def __init__(
        self, callback: Callable[..., Any], args: tuple[Any, ...], context: Context, when: float
    ) -> None:
        self.callback = callback
        self.args = args
        self.context = context
        self.is_cancelled = False
        self.when = when

    def cancel(self) -> None:
        self.is_cancelled = True

    def cancelled(self) -> bool:
        return self.is_cancelled


class SimTask(asyncio.Task[Any]):
    """A task whose place in a set depends on when it was made, not on where in memory it lies."""

    def __init__(self, serial: int, *args: Any, **kwargs: Any) -> None:
        self._serial = serial
        super().__init__(*args, **kwargs)

    def __hash__(self) -> int:
        return self._serial


class SimLoop(asyncio.AbstractEventLoop):
    """The loop.

    Args:
        chance: draws everything.
        work_s: draws how long a thread takes to begin, and its result to arrive.
    """

    def __init__(self, chance: random.Random, work_s: Callable[[], float]) -> None:
        self.now_s = 0.0
        self.calls = 0
        self._random = chance.random
        self._work_s = work_s
        self._ready: list[Call] = []
        self._timers: list[tuple[float, int, Call]] = []
        self._serial = 0
        self._tasks: list[SimTask] = []
        self._stopped: list[Process] = []

    # What asyncio asks of a loop.

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """A task that nobody asked for its exception: whoever started it has been told otherwise."""

    def call_soon(self, callback: Callable[..., Any], *args: Any, context: Context | None = None) -> Call:
        call = Call(callback, args, copy_context() if context is None else context, self.now_s)
        self._ready.append(call)
        return call

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Call:
        when = self.now_s + delay
        call = Call(callback, args, copy_context() if context is None else context, when)
        self._serial += 1
        heappush(self._timers, (when, self._serial, call))
        return call

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Call:
        return self.call_later(when - self.now_s, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Coroutine[Any, Any, Any], **kwargs: Any) -> SimTask:
        self._serial += 1
        task = SimTask(self._serial, coro, loop=self, **kwargs)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Runs ``func`` in the middle of a drawn time."""
        future = self.create_future()

        def work() -> None:
            try:
                outcome, settle = func(*args), future.set_result
            except Exception as error:  # noqa: BLE001 - it is the future's
                outcome, settle = error, future.set_exception
            if self._random() < 0.5:  # and others run before it is known
                self.call_later(self._work_s(), finish, settle, outcome)
            else:
                self.call_soon(finish, settle, outcome)

        def finish(settle: Callable[[Any], None], outcome: Any) -> None:
            if not future.done():
                settle(outcome)

        self.call_later(self._work_s(), work)
        return future

    # Processes.

    def spawn(self, process: Process | None, coro: Coroutine[Any, Any, Any]) -> SimTask:
        """A task of ``process``."""
        return self.create_task(coro, context=context_of(process))

    def pause(self, process: Process) -> None:
        """SIGSTOP: nothing of it runs; what others send it waits."""
        if process.held is None:
            process.held = []
            self._stopped.append(process)

    def resume(self, process: Process) -> None:
        """SIGCONT."""
        if process.held is not None and not process.is_dead:
            self._ready.extend(process.held)
            process.held = None

    def kill(self, process: Process) -> None:
        """Kill -9: it stops between two callbacks, for ever. What it has put on the wire travels on."""
        process.is_dead = True
        self.pause(process)

    # The loop itself.

    def run(self, main: Coroutine[Any, Any, Any]) -> Any:
        """Runs ``main`` to its end, then takes apart what is left.

        Raises:
            Stall: it does not come to its end.
        """
        asyncio._set_running_loop(self)
        try:
            task = self.create_task(main)
            self._run_until(task)
            return task.result()
        finally:
            self._take_apart()
            asyncio._set_running_loop(None)

    def _run_until(self, task: SimTask) -> None:
        ready, draw = self._ready, self._random
        while not task.done():
            if not ready:
                self._jump(task)
            place = int(draw() * len(ready))
            call = ready[place]
            ready[place] = ready[-1]
            ready.pop()
            if call.is_cancelled:
                continue
            process = call.context.get(PROCESS)
            if process is not None and process.held is not None:
                process.held.append(call)
                continue
            self.calls += 1
            if self.calls > MOST_CALLS:
                raise Stall(f"{MOST_CALLS} callbacks and no end")
            call.context.run(call.callback, *call.args)

    def _jump(self, task: SimTask) -> None:
        """To the next timer."""
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heappop(timers)
        if not timers:
            raise Stall(f"nothing is ready and no timer is set, {task} waits")
        self.now_s, _, call = heappop(timers)
        self._ready.append(call)
        while timers and timers[0][0] <= self.now_s:
            self._ready.append(heappop(timers)[2])

    def _take_apart(self) -> None:
        """Cancels what is left, dead processes' tasks too, so that no coroutine is left half way."""
        for process in self._stopped:
            self._ready.extend(process.held or ())
            process.held = None
        for _ in range(ROUNDS):
            for task in self._tasks:
                if not task.done():
                    task.cancel()
            while self._ready:
                call = self._ready.pop()
                with suppress(Exception):  # the schedule is over, and judged
                    call.context.run(call.callback, *call.args)


def context_of(process: Process | None) -> Context:
    """A context in which callbacks belong to ``process``."""
    context = copy_context()
    context.run(PROCESS.set, process)
    return context
