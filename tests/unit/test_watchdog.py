"""How the watchdog ends a process; that it does is tested with real ones."""

from __future__ import annotations

import asyncio
import faulthandler
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from builders import until
from structlog.testing import capture_logs

from stream import watchdog as room
from stream.core.watch import Limits, Seen, Stuck
from stream.errors import EXIT_STUCK
from stream.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Iterator

STUCK = Stuck("loop", "the event loop has not turned for 30 s (limit 30 s)")


class Ended(BaseException):
    """The process is gone."""


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Codes the process ended with, if it were not for the test."""
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        raise Ended

    monkeypatch.setattr(room.os, "_exit", end)
    monkeypatch.setattr(room, "LOG_LINE_S", 0.05)
    monkeypatch.setattr(room, "FAREWELL_S", 0.05)
    return codes


@pytest.fixture
def never() -> Iterator[threading.Event]:
    """Waiting for it hangs; threads that do are let go at the end."""
    event = threading.Event()
    yield event
    event.set()


def end(watchdog: Watchdog) -> dict[str, Any]:
    """Ends the process; returns the log line."""
    with capture_logs() as said, pytest.raises(Ended):
        watchdog._end(STUCK)
    (line,) = said
    return line


def test_one_line_says_what_was_seen_and_what_happens_next(
    exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOG_LINE_S", 30)
    said = end(Watchdog(Limits()))
    assert (said["log_level"], said["check"], said["saw"]) == ("critical", "loop", STUCK.says)
    assert said["event"] == "the worker is stuck; ending the process, its supervisor is to start it again"
    assert exits == [EXIT_STUCK]


async def test_the_line_says_where_the_loop_and_our_tasks_are(
    exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOG_LINE_S", 30)
    monkeypatch.setattr(room.threading.Thread, "start", lambda _: None)
    watchdog = Watchdog(Limits())
    watchdog.start()  # its thread does not
    monkeypatch.undo()

    async def inner() -> None:
        await asyncio.Event().wait()

    async def outer() -> None:
        await inner()

    task = asyncio.create_task(outer(), name="judge")
    await asyncio.sleep(0)
    where = list(watchdog._where())
    task.cancel()
    assert where[0].startswith("event loop: ")
    assert "test_the_line_says_where_the_loop_and_our_tasks_are" in where[0]
    (waits,) = [line for line in where if line.startswith("task judge: ")]
    assert [place.split()[1] for place in waits.removeprefix("task judge: ").split(" < ")] == [
        "wait",
        "inner",
        "outer",
    ]


def test_a_log_that_hangs_does_not_keep_the_process(
    exits: list[int], never: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe that nobody reads any more."""
    watchdog = Watchdog(Limits())
    monkeypatch.setattr(watchdog, "_say", lambda _: never.wait())
    with pytest.raises(Ended):
        watchdog._end(STUCK)
    assert exits == [EXIT_STUCK]


def test_a_broker_that_hangs_does_not_keep_the_process(exits: list[int], never: threading.Event) -> None:
    watchdog = Watchdog(Limits())
    told: list[Stuck] = []

    def farewell(stuck: Stuck) -> None:
        told.append(stuck)
        never.wait()

    watchdog.farewell = farewell
    with pytest.raises(Ended):
        watchdog._end(STUCK)
    assert (told, exits) == ([STUCK], [EXIT_STUCK])


def test_a_line_is_said_even_when_the_stacks_cannot_be(
    exits: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "LOG_LINE_S", 30)
    watchdog = Watchdog(Limits())

    def where() -> Iterator[str]:
        yield "event loop: somewhere"
        raise RuntimeError("set changed size")

    monkeypatch.setattr(watchdog, "_where", where)
    assert end(watchdog)["where"] == [
        "event loop: somewhere",
        "the rest cannot be told: RuntimeError('set changed size')",
    ]


async def test_it_looks_and_reports_until_something_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "LOOK_S", 0.001)
    ended: list[Stuck] = []
    watchdog = Watchdog(Limits(loop_s=0, stop_s=0.01))

    monkeypatch.setattr(watchdog, "_end", ended.append)
    watchdog.start()
    watchdog.see(Seen(joined=True))
    await until(lambda: watchdog.report.ready and watchdog.report.ready[-1].ok)
    watchdog.stopping("it was told to")
    watchdog.stopping("something later")
    deadline = time.monotonic() + 30
    await until(lambda: ended or time.monotonic() > deadline)
    assert ended[0].check == "stop"
    assert ended[0].says.endswith("it was told to")


async def test_without_a_limit_no_timer_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    timers: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda timeout_s, **_: timers.append(timeout_s))
    monkeypatch.setattr(room.time, "sleep", lambda _: (_ for _ in ()).throw(SystemExit))
    for loop_s in (0.0, 30.0):
        watchdog = Watchdog(Limits(loop_s=loop_s))
        with pytest.raises(SystemExit):
            watchdog._run()
    assert timers == [60.0]


def test_a_process_without_standard_error_is_watched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.sys, "stderr", None)
    monkeypatch.setattr(room.time, "sleep", lambda _: (_ for _ in ()).throw(SystemExit))
    watchdog = Watchdog(Limits())
    with pytest.raises(SystemExit):
        watchdog._run()
    assert watchdog.report.live
