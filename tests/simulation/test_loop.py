"""The event loop that schedules run on."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING

import pytest

from tests.simulation.loop import Process, SimLoop, Stall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def loop_of(seed: int = 0) -> SimLoop:
    chance = random.Random(seed)
    return SimLoop(chance, chance.random)


def test_a_sleep_of_a_year_costs_nothing() -> None:
    loop = loop_of()

    async def story() -> float:
        await asyncio.sleep(365 * 86_400)
        return loop.time()

    assert loop.run(story()) == 365 * 86_400


async def order_of_ten() -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        order.append(number)

    await asyncio.gather(*(note(number) for number in range(10)))
    return order


def test_who_runs_next_is_drawn_from_the_seed() -> None:
    orders = [loop_of(seed).run(order_of_ten()) for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(10))


def test_a_wait_for_what_nobody_does_is_a_stall() -> None:
    async def story() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stall, match="nothing is ready"):
        loop_of().run(story())


def test_going_round_in_circles_is_a_stall() -> None:
    async def story() -> None:
        while True:  # noqa: ASYNC110 - that is the point
            await asyncio.sleep(0)

    with pytest.raises(Stall, match="no end"):
        loop_of().run(story())


def test_an_executors_work_runs_in_no_thread_and_takes_time() -> None:
    loop = loop_of()

    async def story() -> threading.Thread:
        return await loop.run_in_executor(None, threading.current_thread)

    assert loop.run(story()) is threading.current_thread()
    assert loop.time() > 0


def test_an_executors_error_is_the_callers() -> None:
    loop = loop_of()

    async def story() -> None:
        await loop.run_in_executor(None, [].pop)

    with pytest.raises(IndexError):
        loop.run(story())


def ticks_while(stopped: Callable[[SimLoop, Process], Awaitable[None]]) -> list[float]:
    """When a process that ticks every second did so, in ten seconds of which ``stopped`` tells."""
    loop, process = loop_of(), Process("ticker")
    ticks = []

    async def tick() -> None:
        while True:
            ticks.append(loop.time())
            await asyncio.sleep(1)

    async def story() -> None:
        loop.spawn(process, tick())
        await asyncio.sleep(2.5)
        await stopped(loop, process)
        await asyncio.sleep(10 - loop.time())

    loop.run(story())
    return ticks


def test_a_stopped_process_goes_on_where_it_was() -> None:
    async def stop_for_three_seconds(loop: SimLoop, process: Process) -> None:
        loop.pause(process)
        await asyncio.sleep(3)
        loop.resume(process)

    assert ticks_while(stop_for_three_seconds) == [0, 1, 2, 5.5, 6.5, 7.5, 8.5, 9.5]


def test_a_killed_process_never_goes_on() -> None:
    async def kill(loop: SimLoop, process: Process) -> None:
        loop.kill(process)
        loop.resume(process)

    assert ticks_while(kill) == [0, 1, 2]


def test_what_is_left_is_taken_apart() -> None:
    ended = []

    async def endless(name: str) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(name)

    loop, dead = loop_of(), Process("dead")

    async def story() -> None:
        loop.spawn(dead, endless("dead"))
        loop.spawn(None, endless("alive"))
        await asyncio.sleep(1)
        loop.kill(dead)

    loop.run(story())
    assert sorted(ended) == ["alive", "dead"]
