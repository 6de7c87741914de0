"""A task that is told to end does, even when it misses the first time."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from stream import tasks


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "AGAIN_S", 0)


async def test_tasks_are_ended() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    started = {asyncio.create_task(work(n)) for n in range(3)}
    await asyncio.sleep(0)
    await tasks.end(started)
    assert sorted(ended) == [0, 1, 2]


async def test_a_task_that_misses_a_cancellation_is_told_again() -> None:
    """As Python 3.11's ``wait_for`` does when what it waits for ends at that moment."""
    missed = 0

    async def deaf() -> None:
        nonlocal missed
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            missed += 1
        await asyncio.Event().wait()

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await tasks.end({task})
    assert missed == 2
    assert task.cancelled()


async def test_what_an_ended_task_raises_is_no_matter() -> None:
    async def broken() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    task = asyncio.create_task(broken())
    await asyncio.sleep(0)
    await tasks.end({task})
    assert isinstance(task.exception(), ValueError)


async def test_there_may_be_nothing_to_end() -> None:
    await tasks.end(set())


async def test_what_ends_in_time_has_run() -> None:
    ran = asyncio.Event()

    async def work() -> None:
        ran.set()

    assert await tasks.within(60, work())
    assert ran.is_set()


async def test_what_fails_in_time_says_so() -> None:
    async def fail() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await tasks.within(60, fail())


async def test_what_takes_too_long_is_left_to_itself_even_when_it_is_deaf() -> None:
    told = asyncio.Event()

    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        told.set()
        await asyncio.Event().wait()

    assert not await tasks.within(0, deaf())
    await told.wait()
