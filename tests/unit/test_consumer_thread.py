"""The consumer's thread ends by itself, so that Faust need not wait for it for ever."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from faust.transport.drivers import aiokafka as driver

from stream.transport import ConsumerThread

if TYPE_CHECKING:
    import pytest


async def test_a_fetch_that_passes_its_cancellation_on_does_not_keep_the_thread_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def close_as_aiokafka_does(_thread: ConsumerThread) -> None:
        fetch = asyncio.create_task(asyncio.sleep(60))
        await asyncio.sleep(0)
        fetch.cancel()
        await fetch

    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "on_thread_stop", close_as_aiokafka_does)
    await ConsumerThread.__new__(ConsumerThread).on_thread_stop()
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
