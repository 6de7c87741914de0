"""A reader without a group counts what the workers would count, through everything the log may do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient

from stream.client import EventProducer
from stream.core.spike import SpikeDetector, rule_from
from stream.errors import DependencyError
from stream.lanes import Lanes
from stream.log_reader import LOOK_S, LogReader
from stream.pipeline import Pipeline, PipelineSettings
from stream.redis_config import connect_async
from stream.scorer.constant import ConstantScorer
from stream.store.layout import Layout
from stream.store.redis import RedisStore
from stream.topics import ensure
from tests.integration.conservation import make_events, recount, send, stored

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from stream.settings import Settings


class Silent:
    async def dead_letters(self, letters: Any) -> None: ...
    async def scores(self, scores: Any) -> None: ...
    def alerts_waiting(self) -> None: ...


@asynccontextmanager
async def reading(settings: Settings) -> AsyncIterator[Pipeline]:
    store = RedisStore(connect_async(settings), Layout(settings.namespace, 1), settings.redis)
    await store.open()
    channels = {topic: channel for channel, topic in settings.topics.items()}
    lanes = Lanes(store, channels)  # type: ignore[arg-type]

    async def rewind(tps: Any) -> None:
        await reader.rewind(tps)

    rule = rule_from(
        false_alarms_per_day=1,
        expected_events_per_day=1e6,
        min_events=20,
        min_negatives=8,
        historic_after_ms=86_400_000,
    )
    pipeline = Pipeline(
        store=store,
        lanes=lanes,
        scorer=ConstantScorer(),
        detector=SpikeDetector(rule, "constant"),
        publisher=Silent(),
        rewind=rewind,
        settings=PipelineSettings(window_events=256),
    )
    reader = LogReader(settings, set(settings.topics.values()), lanes, pipeline.put)
    await reader.start()
    tasks = [asyncio.create_task(pipeline.run()), asyncio.create_task(reader.run())]
    try:
        yield pipeline
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await reader.close()
        await store.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - what it waits for is counted elsewhere
            await asyncio.sleep(0.05)


async def test_it_counts_what_was_sent_and_goes_on_where_it_stopped(
    settings: Settings, topics_made: None
) -> None:
    events = make_events(settings, 5)[:6000]
    await send(settings.kafka, events[:3000], over_s=0)
    async with reading(settings) as pipeline:
        await until(lambda: pipeline.progress.ended >= 2000)
    await send(settings.kafka, events[3000:], over_s=0)
    async with reading(settings) as pipeline:
        products, ledger = recount(events)
        await until(lambda: stored(settings) == (products, ledger))
        assert pipeline.progress.rewinds == 0


async def test_a_topic_made_anew_while_it_reads_is_read_from_its_start(
    settings: Settings, topics_made: None
) -> None:
    def send_reviews(first: int, number: int) -> None:
        with EventProducer(settings) as producer:
            for n in range(first, first + number):
                producer.send_review(
                    event_id=f"e{n}", product_id="p", text="Broke.", event_time=1_700_000_000
                )

    await asyncio.to_thread(send_reviews, 0, 200)
    async with reading(settings) as pipeline:
        await until(lambda: pipeline.progress.counted == 200)
        admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
        admin.delete_topics([settings.topic_reviews])
        admin.close()
        await asyncio.sleep(2 * LOOK_S)
        ensure(settings)
        await asyncio.to_thread(send_reviews, 200, 300)
        await until(lambda: pipeline.progress.counted == 500)


async def test_a_topic_that_is_not_there_is_named(settings: Settings) -> None:
    lanes = Lanes(None, {})  # type: ignore[arg-type]
    reader = LogReader(settings, {settings.topic_reviews}, lanes, lambda run: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(DependencyError, match="has no topic"):
        await reader.start()
    await reader.close()
