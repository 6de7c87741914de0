"""Ending tasks for certain, and waiting for what may never end.

Python 3.11's ``asyncio.wait_for`` swallows a cancellation that comes just as what it waits for is done
(https://github.com/python/cpython/issues/86296, mended in 3.12), and redis-py sends through it: nearly
every second cancelled call went on as if nothing had been said. So a task is cancelled until it ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

AGAIN_S = 1.0
"""Time to end in good order, before a task is told again."""


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels ``tasks`` and waits until every one has ended. What they raise is dropped."""
    pending = set(tasks)
    while pending:
        for task in pending:
            task.cancel()
        ended, pending = await asyncio.wait(pending, timeout=AGAIN_S)
        for task in ended:
            task.cancelled() or task.exception()  # asked for, lest asyncio logs that nobody did


async def within(timeout_s: float, call: Coroutine[Any, Any, Any]) -> bool:
    """Runs ``call``; False when it takes longer. Then it is cancelled and left to itself.

    ``asyncio.wait_for`` would wait until it has taken notice.
    """
    task = asyncio.create_task(call)
    await asyncio.wait({task}, timeout=timeout_s)
    if task.done():
        task.result()
        return True
    task.cancel()
    task.add_done_callback(lambda late: late.cancelled() or late.exception())
    return False
