"""Erasing in Redis leaves what erasing in the store in memory leaves, and refuses the same steps."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from stream.core.events import CHANNELS
from stream.erasure.counters import REPLACE_SCRIPT, Counters
from stream.erasure.redis import Redis
from stream.erasure.report import Tally
from stream.redis_config import connect
from stream.store.contract import ERASED
from stream.store.layout import Layout
from stream.store.memory import MemoryStore
from tests.integration.test_store import PRODUCTS, contents_of, read_back, redis_store, some_steps

if TYPE_CHECKING:
    from stream.settings import Settings
    from stream.store.contract import Apply


def told(memory: MemoryStore, step: Apply, chance: random.Random) -> Apply:
    """The step, now and then by who does not know of the latest erasure, with alerts of its products."""
    alerts = [json.dumps({"product_id": each.product_id, "id": each.product_id}) for each in step.products]
    erased = max(memory.erasures[step.shard] - (chance.random() < 0.3), 0)
    return step._replace(erased=erased, transitions=[each.encode() for each in [*alerts, "no alert"]])


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(4))
async def test_both_stores_erase_alike(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, seed: int, shards: int
) -> None:
    monkeypatch.setattr("stream.erasure.counters.drawn_raise", lambda: 1)
    chance, done, removed = random.Random(seed), Counter[str](), Tally()
    store, memory, layout = redis_store(settings, shards), MemoryStore(shards), Layout("", shards)
    await store.open()
    written = Layout(settings.namespace, shards)
    with connect(settings) as client:
        redis = Redis(settings, client, removed, dry=False)
        counters = Counters(redis, shards, removed)
        for batch in some_steps(seed, shards, number=40):
            steps = [told(memory, step, chance) for step in batch]
            refused = await memory.apply(steps)
            assert await store.apply(steps) == refused
            done["refused"] += refused.count(ERASED)
            product = chance.choice(PRODUCTS)
            if chance.random() < 0.3:
                waiting = sum(map(len, memory.outboxes))
                memory.erase(product, 1)
                known = counters.erase_product(written, product)
                assert known == {product} if waiting > sum(map(len, memory.outboxes)) else known == set()
            elif chance.random() < 0.5:
                shard = layout.shard(product)
                states = [
                    (channel, product, state if chance.random() < 0.7 else b"read long ago", b"without her")
                    for channel in CHANNELS
                    if (state := memory.detector_states.get((channel, product))) is not None
                ]
                keys = [written.offsets(shard), *(written.spike(channel, product) for channel, *_ in states)]
                values = [part for *_, before, after in states for part in (before, after)]
                replaced = memory.replace(shard, states)
                assert redis.trip(("EVAL", REPLACE_SCRIPT, len(keys), *keys, 1, *values)) == [replaced]
                done["replaced"] += replaced
                done["left"] += len(states) - replaced
        assert read_back(client, written) == contents_of(memory)
        assert set(removed.removed) == {
            "counters and detector states",
            "places in lists",
            "alerts on their way",
        }
        assert min(*removed.removed.values(), done["refused"], done["replaced"], done["left"]) > 0
    await store.close()
