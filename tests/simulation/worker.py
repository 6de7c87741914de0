"""A simulated worker: what ``stream.worker`` assembles, with modelled Faust, Kafka, Redis and model."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream.backoff import retry
from stream.core.events import CHANNELS
from stream.errors import DependencyError
from stream.lanes import Lanes
from stream.pipeline import LEAST_WINDOW, Pipeline, PipelineSettings
from stream.publish import KafkaPublisher
from stream.store.memory import MemoryStore
from tests.builders import alert
from tests.simulation.broker import SimProducer
from tests.simulation.consumer import SimConsumer
from tests.simulation.erasing import Eraser
from tests.simulation.inputs import KILLER, SEGMENTS_KEPT, remembered
from tests.simulation.loop import Process
from tests.simulation.redis_model import WiredStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.core.events import Alert, Channel
    from stream.core.spike import Observation
    from tests.simulation.world import World

DRAIN_S = 5.0
COMMIT_S = 2.0
AUDIT_S = 4.0


class Parts(NamedTuple):
    """What a worker and a server are made of; a planted bug replaces one."""

    pipeline: type[Pipeline] = Pipeline
    lanes: type[Lanes] = Lanes
    publisher: type[KafkaPublisher] = KafkaPublisher
    consumer: type[SimConsumer] = SimConsumer
    client: type[WiredStore] = WiredStore
    store: type[MemoryStore] = MemoryStore
    eraser: type[Eraser] = Eraser


class Texts(NamedTuple):
    texts: Sequence[str]
    lengths: NDArray[np.int32]


class KeywordScorer:
    """ "bad" is negative, "poison" cannot be scored, everything else is positive."""

    version = "keyword"
    provider = "none"

    def __init__(self, world: World) -> None:
        self._world = world

    def encode(self, texts: Sequence[str]) -> Texts:
        return Texts(texts, np.array([len(text) for text in texts], np.int32))

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        if self._world.model_calls_to_fail:
            self._world.model_calls_to_fail -= 1
            self._world.strike("model calls that failed")
            raise RuntimeError("device gone")
        texts = [encoded.texts[row] for row in rows]
        if KILLER in texts:
            self._world.die()
        if "poison" in texts:
            raise ValueError("cannot take it")
        return np.array([(0.9, 0, 0.1) if "bad" in text else (0.1, 0, 0.9) for text in texts], np.float32)

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        return probabilities.argmax(axis=1).astype(np.int8)


class RememberingDetector:
    """Its state is every event it was given, in order; "alarm" in a text is a transition."""

    def judge(
        self, product_id: str, channel: Channel, state: bytes | None, observations: Sequence[Observation]
    ) -> tuple[bytes, list[Alert]]:
        alerts = []
        for each in observations:
            is_alarm = "alarm" in each.text
            state = remembered(state, each.event_id, is_alarm=is_alarm)
            if is_alarm:
                alerts.append(alarm(channel, product_id, state.count(b"!"), each.event_id))
        assert state is not None
        return state, alerts


def alarm(channel: str, product_id: str, sequence: int, event_id: str) -> Alert:
    """The transition that an event causes."""
    return alert(
        id=f"{channel}/{product_id}",
        sequence=sequence,
        product_id=product_id,
        channel=channel,
        rule=event_id,
        quotes=[],
    )


class SimWorker:
    """One worker, from its start to its end."""

    def __init__(self, world: World, name: str, parts: Parts) -> None:
        self._world = world
        self.process = Process(name)
        self.is_draining = False
        chance = world.chance
        self.store = parts.client(world)
        self.lanes = parts.lanes(
            self.store,
            {channel: channel for channel in CHANNELS},
            segments_kept=SEGMENTS_KEPT if world.counts_once else None,
        )
        self.consumer = parts.consumer(
            world, name, self.lanes, self.store, run_records=chance.choice((2, 5, 20))
        )
        self.publisher = parts.publisher(
            producer=SimProducer(world),
            store=self.store,
            owned=self.lanes.owned,
            alerts_topic="alerts",
            scores_topic="scores",
        )
        window_events = chance.choice((4, 9, 30))
        assert window_events <= LEAST_WINDOW  # so that how long scoring took cannot matter
        self.pipeline = parts.pipeline(
            store=self.store,
            lanes=self.lanes,
            scorer=KeywordScorer(world),
            detector=RememberingDetector(),
            publisher=self.publisher,
            rewind=self._rewind,
            settings=PipelineSettings(window_events=window_events, token_budget=64),
        )

    async def main(self) -> None:
        """Serves until told to stop, or until it fails.

        Raises:
            Exception: what its process dies of.
        """
        await retry(self.store.open, "connect to Redis")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.pipeline.run())
            tasks.create_task(self.publisher.run())
            tasks.create_task(self.consumer.belong())
            tasks.create_task(self.consumer.fetch())
            tasks.create_task(self.consumer.feed(self.pipeline.put))
            tasks.create_task(self._commit())
            tasks.create_task(self._audit())

    async def stop(self) -> None:
        """SIGTERM: records what is inside, tells the group, leaves it."""
        self.is_draining = True
        await self.pipeline.drain(DRAIN_S)
        await self.consumer.take_notes_back()
        await self.consumer.force_commit()
        self._world.broker.group.leave(self.process.name)

    async def _commit(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_S)
            await self.consumer.force_commit()

    async def _audit(self) -> None:
        """As ``stream.worker`` does, through its lookout."""
        while True:
            await asyncio.sleep(AUDIT_S)
            with suppress(DependencyError):
                await self.pipeline.audit()

    async def _rewind(self, tps: set[Any]) -> None:
        await self.consumer.rewind(tps)
