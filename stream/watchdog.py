"""Ends a worker that no longer makes progress, so that its supervisor starts it again.

Rules:
- ``stream.core.watch`` decides; this room has the clock, the thread and the end.
- The end is one log line (what was seen, where it is stuck, what happens next), a word to the group, so that
  the other workers need not wait for the session to time out, and ``os._exit``. ``sys.exit`` would need the
  loop, and the interpreter's own end waits for threads that may never return.
- Nothing on that way may keep it: a log line can hang (a full pipe), and so can Kafka. Each is given seconds.
- A thread that never gives up the interpreter's lock stops this one, too. ``faulthandler`` has a timer that
  needs no lock: it writes every thread's stack to standard error and ends the process, with code 1. It cannot
  tell that from a process that was stopped for as long (SIGSTOP) and woke up; either way nothing is lost.
- Stacks are logged, never served.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from stream.core.watch import Report, Seen, Watch
from stream.errors import EXIT_STUCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from stream.core.watch import Limits, Stuck

log = structlog.get_logger("watchdog")

LOOK_S = 1.0
"""How often the worker is looked at."""
LOG_LINE_S = 2.0
"""How long the last log line may take."""
FAREWELL_S = 3.0
"""How long leaving the group may take: one round trip to a broker that answers."""
LOCKED_LIMITS = 2.0
"""The interpreter's lock may be held for so many times the loop's limit."""
FRAMES = 12
"""Innermost frames of each stack that are logged."""


class Watchdog:
    """Looks at this process' worker from a thread of its own, for as long as the process lives.

    Args:
        limits: how long it may go without a sign of life.

    Attributes:
        report: the latest look's result.
        farewell: called before the end with what is wrong, from a thread of its own; it may hang.
    """

    def __init__(self, limits: Limits) -> None:
        self.report = Report(time.monotonic())
        self.farewell: Callable[[Stuck], object] = lambda _: None
        self._limits = limits
        self._watch = Watch(limits, time.monotonic())
        self._beats = 0
        self._seen = Seen()
        self._stopping: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loop_thread = 0

    def start(self) -> None:
        """Begins. Call it on the loop that is to be watched."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def see(self, seen: Seen) -> None:
        """Tells what the loop sees; that it is called is the loop's heartbeat."""
        self._seen = seen
        self._beats += 1

    def stopping(self, why: str) -> None:
        """From here on only the end is waited for: with a limit, whatever hangs on the way."""
        self._stopping = self._stopping or why

    def _run(self) -> None:
        while True:
            self._set_timer()
            self.report = self._watch.look(time.monotonic(), self._beats, self._seen, self._stopping)
            if self.report.stuck:
                return self._end(self.report.stuck)
            time.sleep(LOOK_S)

    def _set_timer(self) -> None:
        if self._limits.loop_s:
            with suppress(RuntimeError, OSError):  # there is no standard error to write to: do without
                faulthandler.dump_traceback_later(self._limits.loop_s * LOCKED_LIMITS, exit=True)

    def _end(self, stuck: Stuck) -> None:
        faulthandler.cancel_dump_traceback_later()
        _within(LOG_LINE_S, lambda: self._say(stuck))
        _within(FAREWELL_S, lambda: self.farewell(stuck))
        os._exit(EXIT_STUCK)

    def _say(self, stuck: Stuck) -> None:
        where: list[str] = []
        try:
            where.extend(self._where())
        except Exception as error:  # noqa: BLE001 - tasks come and go meanwhile; the line must be said
            where.append(f"the rest cannot be told: {error!r}")
        log.critical(
            "the worker is stuck; ending the process, its supervisor is to start it again",
            check=stuck.check,
            saw=stuck.says,
            where=where,
            exit_code=EXIT_STUCK,
        )

    def _where(self) -> Iterator[str]:
        """Where the loop's thread is, the other threads that do something, and our tasks: innermost first."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames()  # noqa: SLF001 - documented, and the only way
        names[self._loop_thread] = "event loop"
        for ident in sorted(frames, key=lambda ident: ident != self._loop_thread):
            stack = _stack(frames[ident])
            if not stack[0].endswith(" _worker") and names.get(ident) not in {"watchdog", "health", None}:
                yield f"{names[ident]}: {' < '.join(stack[:FRAMES])}"
        if self._loop is not None:
            for task in asyncio.all_tasks(self._loop):
                if task.get_name().isidentifier():  # ours; Faust names its own after their coroutines
                    yield f"task {task.get_name()}: {' < '.join(_awaits(task))}"


def _within(limit_s: float, call: Callable[[], object]) -> None:
    """Calls, and goes on after ``limit_s`` whether it has returned or not."""
    thread = threading.Thread(target=call, name="watchdog", daemon=True)
    thread.start()
    thread.join(limit_s)


def _stack(frame: FrameType | None) -> list[str]:
    places = []
    while frame is not None:
        places.append(_place(frame))
        frame = frame.f_back
    return places


def _awaits(task: asyncio.Task[Any]) -> list[str]:
    """Where a suspended task waits."""
    places = []
    awaited: Any = task.get_coro()
    while (frame := getattr(awaited, "cr_frame", None)) is not None:
        places.append(_place(frame))
        awaited = awaited.cr_await
    return places[::-1][:FRAMES]


def _place(frame: FrameType) -> str:
    """Module, line and function; no text of a line, no value."""
    return f"{frame.f_globals.get('__name__')}:{frame.f_lineno} {frame.f_code.co_name}"
