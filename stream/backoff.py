"""How a dependency that is away is waited for: said once when it goes, once when it is back.

Rules:
- Who waits is known (``waits``): the watchdog must not take a worker that waits for one that is stuck.
- What is tried again inside this process (a model whose device is gone) is no such wait: a restart may mend
  it.
- A call that has had no answer for a second is said, too, once a minute: a dead way is silent for long before
  it is an error, and a slow one never is.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import structlog

from stream.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

log = structlog.get_logger("backoff")

T = TypeVar("T")

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 5.0
"""Short enough that a server that is back is used at once; long enough not to hammer one that starts."""
SLOW_S = 1.0
"""A hundred times what an answer takes."""
SAID_AGAIN_S = 60.0


class Wait(NamedTuple):
    """Something that is tried again and again."""

    doing: str
    error: str
    """What the first attempt met."""


_waits: dict[object, Wait] = {}
_said_slow_at: dict[str, float] = {}


def waits() -> list[Wait]:
    """What this process waits for now, outside itself; the longest wait first."""
    return list(_waits.values())


async def retry(call: Callable[[], Awaitable[T]], doing: str, *, inside: bool = False) -> T:
    """Repeats ``call`` until it no longer raises ``DependencyError``.

    Waits grow exponentially with full jitter (AWS Architecture Blog, "Exponential Backoff And Jitter").

    Args:
        call: may be repeated safely.
        doing: what the call does, for the log.
        inside: what fails is part of this process, so that it is not counted among ``waits``.
    """
    ceiling_s = FIRST_WAIT_S
    failures = 0
    this = object()
    try:
        while True:
            try:
                with nullcontext() if inside else _said_when_slow(doing):
                    result = await call()
            except DependencyError as error:
                failures += 1
                if failures == 1:
                    log.warning("waiting for a dependency", doing=doing, error=str(error))
                    if not inside:
                        _waits[this] = Wait(doing, str(error))
                await asyncio.sleep(random.uniform(0, ceiling_s))
                ceiling_s = min(ceiling_s * 2, LONGEST_WAIT_S)
            else:
                if failures:
                    log.info("the dependency is back", doing=doing, failures=failures)
                return result
    finally:
        _waits.pop(this, None)


@contextmanager
def _said_when_slow(doing: str) -> Iterator[None]:
    timer = asyncio.get_running_loop().call_later(SLOW_S, _say_slow, doing)
    try:
        yield
    finally:
        timer.cancel()


def _say_slow(doing: str) -> None:
    now_s = asyncio.get_running_loop().time()
    if now_s >= _said_slow_at.get(doing, -SAID_AGAIN_S) + SAID_AGAIN_S:
        _said_slow_at[doing] = now_s
        log.warning("a dependency is slow", doing=doing, no_answer_for_s=SLOW_S)
