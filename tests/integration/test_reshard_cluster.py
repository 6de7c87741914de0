"""Rebuild and reshard on a real Redis Cluster: their keys lie in many slots, on several masters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream.client import LiveCounters
from stream.settings import load
from tests.integration.cluster import LocalCluster
from tests.integration.conservation import make_events, recount, stored
from tests.integration.test_rebuild import rebuild
from tests.integration.test_reshard import count, reshard

if TYPE_CHECKING:
    from collections.abc import Callable

NUMBER = 4000


@pytest.mark.slow
def test_a_cluster_is_resharded_and_rebuilt_exactly(
    env: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
) -> None:
    with LocalCluster(replicas=0) as cluster:
        monkeypatch.setenv("REVIEWPULSE_REDIS", cluster.url)
        monkeypatch.setenv("REVIEWPULSE_SHARDS", "3")
        settings = load()
        events = make_events(settings, seed=11)[: 2 * NUMBER]
        count(start_worker, wait_until_ended, settings.kafka, events[:NUMBER], NUMBER)
        with LiveCounters(settings) as counters:
            before = counters.totals()
            moved = reshard("--shards", "8")
            assert moved.returncode == 0, moved.stderr
            assert counters.totals() == before
            assert stored(settings) == recount(events[:NUMBER])
            count(start_worker, wait_until_ended, settings.kafka, events[NUMBER:], 2 * NUMBER)
            done = rebuild()
            assert done.returncode == 0, done.stderr
            assert stored(settings) == recount(events)
