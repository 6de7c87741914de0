"""What ``rebuild`` and ``reshard`` share on the command line: the lock, Redis' errors, being interrupted.

Rules:
- Ctrl-C and SIGTERM are the same: what is under way is left so that the next run goes on with it, the lock is
  given back, a sentence says what to do, exit code 130.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING, TypeVar

import typer

from stream.errors import UsageError
from stream.redis_config import connect_async
from stream.redis_errors import REDIS_ERRORS, failure
from stream.store.layout import Layout, UnknownLayout
from stream.store.switch import Switch, new_owner

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import Any

    from stream.redis_config import AsyncClient
    from stream.settings import Settings

A = TypeVar("A")
INTERRUPT_AGAIN_S = 1.0
"""Above what giving the lock back takes."""


async def holding_lock(settings: Settings, work: Callable[[AsyncClient, Switch], Awaitable[A]]) -> A:
    """Does ``work`` while nobody else rebuilds or reshards.

    Raises:
        UsageError: somebody else does, or another version wrote the layout.
        DependencyError: Redis failed.
    """
    client = connect_async(settings)
    switch = Switch(client, settings.namespace, new_owner())
    try:
        async with switch.holding_lock():
            await switch.look(Layout(settings.namespace, settings.shards))
            return await work(client, switch)
    except UnknownLayout as error:
        raise UsageError(
            f"Redis holds {error} under '{settings.namespace}': use the version of reviewpulse that wrote it."
        ) from None
    except REDIS_ERRORS as error:
        raise failure(error, settings.redis, at_start=True) from error
    finally:
        await client.aclose()


def run_interruptible(work: Coroutine[Any, Any, A], when_interrupted: str) -> A:
    """Runs ``work``; says ``when_interrupted`` and exits with 130 when Ctrl-C or SIGTERM ends it."""
    interrupted = False

    async def until_interrupted() -> A:
        working = asyncio.ensure_future(work)

        loop = asyncio.get_running_loop()

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            if not working.done():
                working.cancel()
                # Once may not do: in Python 3.11 asyncio.wait_for swallows it when its result has just come.
                loop.call_later(INTERRUPT_AGAIN_S, interrupt)

        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, interrupt)
        return await working

    try:
        return asyncio.run(until_interrupted())
    except asyncio.CancelledError:
        if not interrupted:
            raise
        print(when_interrupted, file=sys.stderr)
        raise typer.Exit(130) from None


async def give_up(settings: Settings, kind: str) -> str:
    """Removes a pending generation; says what was done.

    Raises:
        UsageError: what is pending is another command's.
    """

    async def work(_client: AsyncClient, switch: Switch) -> str:
        pending = switch.written.pending
        if pending is None:
            await switch.remove_old()
            return f"No {kind} of '{settings.namespace}' is pending."
        if pending.kind != kind:
            raise UsageError(
                f"What is pending is a {pending.kind}: `reviewpulse {pending.kind} --abort` gives it up."
            )
        await switch.give_up()
        await switch.remove_old()
        return f"The {kind} of '{settings.namespace}' was given up; its keys are removed."

    return await holding_lock(settings, work)
