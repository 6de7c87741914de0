"""A real worker in which something breaks when it is sent SIGUSR1; what, is its only argument."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from stream import transport, watchdog, worker
from stream.cli.worker import worker as command
from stream.core.watch import Limits
from stream.scorer.constant import ConstantScorer

if TYPE_CHECKING:
    from collections.abc import Callable

LONG_S = 600
broken = threading.Event()


def on_the_loop(call: Callable[[], object]) -> None:
    """Has the worker's loop make the call when the signal comes."""
    start = watchdog.Watchdog.start

    def sabotaged(self: watchdog.Watchdog) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, call)
        start(self)

    watchdog.Watchdog.start = sabotaged


def hold_the_interpreters_lock() -> None:
    ctypes.PyDLL(None).sleep(LONG_S)  # PyDLL, other than CDLL, keeps the lock


class HangingScorer(ConstantScorer):
    """Scores until something breaks, then never returns."""

    def score(self, *arguments: Any) -> Any:
        if broken.is_set():
            time.sleep(LONG_S)
        return super().score(*arguments)


class HangingConsumer(transport.Consumer):
    """After something broke, no assignment is ever complete."""

    async def seek_to_committed(self) -> Any:
        if broken.is_set():
            await asyncio.sleep(LONG_S)
        return await super().seek_to_committed()


class DeafConsumer(transport.Consumer):
    """After something broke, nothing is fetched, and everything else is well."""

    async def _getmany(self, *arguments: Any, **more: Any) -> Any:
        if broken.is_set():
            await asyncio.sleep(0.1)
            return {}
        return await super()._getmany(*arguments, **more)


def sabotage(what: str) -> None:
    signal.signal(signal.SIGUSR1, lambda *_: broken.set())
    match what:
        case "loop":
            on_the_loop(lambda: time.sleep(LONG_S))
        case "loop for a moment":
            on_the_loop(lambda: time.sleep(3))
        case "interpreter":
            on_the_loop(hold_the_interpreters_lock)
        case "scorer":
            worker.load_scorer = lambda _: HangingScorer()
            worker.DRAIN_S = 1.0
            limits = worker._watch_limits
            worker._watch_limits = lambda settings: Limits(*limits(settings)[:3], stop_s=5.0)
        case "assignment":
            transport.Transport.Consumer = HangingConsumer
        case "fetch":
            transport.Transport.Consumer = DeafConsumer
        case _:
            raise ValueError(what)


if __name__ == "__main__":
    sabotage(sys.argv[1])
    command(None, None, "constant")
