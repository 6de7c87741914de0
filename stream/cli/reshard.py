"""``reviewpulse reshard``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.redis_config import AsyncClient
    from stream.settings import Settings
    from stream.store.switch import Switch


def reshard(
    shards: int | None = typer.Option(
        None, min=1, max=1024, help="How many shards there are to be; 1 is right for one Redis."
    ),
    abort: bool = typer.Option(False, "--abort", help="Gives up a move that was not finished."),
) -> None:
    """Moves the counters into another number of shards, hence slots of a Redis Cluster.

    Stop the workers first. All of it moves: counters, detector states, ledger, offsets, alerts on their way;
    nothing is read from Kafka. Readers go on meanwhile and follow the switch; a worker that is started waits.
    Afterwards start the workers with `REVIEWPULSE_SHARDS` set to the new number.

    Both copies are in memory until the switch. Ctrl-C or a crash leaves the old shards in use, and the same
    command goes on where it was.

    Exit codes: 2 when it cannot be done now (the sentence says what to do), 3 when Redis fails, 130 when
    interrupted.
    """
    import asyncio

    from stream.cli.moving import give_up, run_interruptible
    from stream.cli.terminal import event_progress
    from stream.errors import UsageError
    from stream.settings import load

    settings = load()
    if abort:
        print(asyncio.run(give_up(settings, "reshard")))
        return
    if shards is None:
        raise UsageError("Say how many shards there are to be: reviewpulse reshard --shards 4")
    with event_progress("products", None) as advance:
        moved = run_interruptible(
            _move(settings, shards, lambda done: advance(done, done)),
            "Interrupted. The same command goes on; `reviewpulse reshard --abort` gives it up. A worker that"
            " is started counts on in the old shards.",
        )
    print(
        f"{moved:,} products are in {shards} shards now. Start the workers with REVIEWPULSE_SHARDS={shards}."
    )


async def _move(settings: Settings, shards: int, on_step: Callable[[int], None]) -> int:
    from stream.cli.moving import holding_lock
    from stream.reshard import Reshard
    from stream.status import StatusBoard

    async def work(client: AsyncClient, switch: Switch) -> int:
        board = StatusBoard(client, settings.namespace)
        return await Reshard(client, switch, board, settings.topics.values()).run(shards, on_step=on_step)

    return await holding_lock(settings, work)
