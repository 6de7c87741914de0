"""Sentinel: the primary is found, and found again when it has died; nothing is lost with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stream.doctor import redis_findings
from stream.errors import DependencyError, UsageError
from stream.redis_config import connect_async
from stream.settings import Settings, load
from stream.store.layout import Layout
from stream.store.redis import RedisStore
from tests.integration.sentinel import LocalSentinels
from tests.integration.test_cluster import count_under_load, gaps

if TYPE_CHECKING:
    from collections.abc import Callable

PASSWORD = "of-the-sentinels"  # noqa: S105


@pytest.mark.slow
def test_a_primary_that_dies_with_writes_nobody_else_has_costs_nothing(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, start_worker: Callable[..., Any]
) -> None:
    with LocalSentinels(PASSWORD) as sentinels:
        monkeypatch.setenv("REVIEWPULSE_REDIS", sentinels.url)
        monkeypatch.setenv("REVIEWPULSE_REDIS_SENTINEL_PASSWORD", PASSWORD)
        monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
        settings = load()
        before = {each.name: each for each in redis_findings(settings)}["redis topology"]
        assert before.detail == f"{sentinels.url}: a primary with 1 replica"
        trouble = sentinels.kill_primary_ahead_of_its_replica
        workers, watcher = count_under_load(settings, start_worker, 6, trouble)
    assert gaps(workers) > 0
    assert watcher.refusals > 0


async def test_what_sentinels_refuse_or_do_not_know_is_one_sentence() -> None:
    with LocalSentinels(PASSWORD) as sentinels:
        wrong = Settings(redis=sentinels.url, redis_sentinel_password="wr0ng-secret")  # noqa: S106
        store = RedisStore(connect_async(wrong), Layout("rp", 1), wrong.redis)
        with pytest.raises(UsageError, match="REVIEWPULSE_REDIS_SENTINEL_PASSWORD") as raised:
            await store.open()
        assert "wr0ng" not in str(raised.value)
        await store.close()
        unknown = Settings(
            redis=sentinels.url.replace("/counters", "/other"), redis_sentinel_password=PASSWORD
        )
        store = RedisStore(connect_async(unknown), Layout("rp", 1), unknown.redis)
        with pytest.raises(DependencyError, match="No master found for 'other'"):
            await store.open()
        await store.close()
