"""What workers say they do, on the board in Redis."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.errors import DependencyError
from stream.pipeline import Progress
from stream.redis_config import connect, connect_async
from stream.scorer.constant import ConstantScorer
from stream.settings import Settings
from stream.status import STALE_S, StatusBoard, WorkerStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def board(settings: Settings) -> AsyncIterator[StatusBoard]:
    opened = StatusBoard(connect_async(settings), settings.namespace)
    yield opened
    await opened.close()


def status(name: str, *, age_s: float = 0.0, **changes: Any) -> WorkerStatus:
    progress = Progress(counted=7, dead=2, skipped=1, late=3, rewinds=1)
    progress.latencies_ms.extend(float(ms) for ms in range(101))
    made = WorkerStatus.of(name, ConstantScorer(), progress, partitions=["reviews:0"], events_per_s=12.5)
    return msgspec.structs.replace(made, at=time.time() - age_s, **changes)


def test_a_status_is_what_the_progress_amounts_to() -> None:
    made = status("w")
    assert (made.counted, made.dead, made.skipped, made.late, made.rewinds) == (7, 2, 1, 3, 1)
    assert (made.latency_p50_ms, made.latency_p99_ms) == (50.0, 99.0)
    assert (made.model_version, made.provider) == ("constant", "none")


def test_before_the_first_event_there_is_no_latency() -> None:
    made = WorkerStatus.of("w", ConstantScorer(), Progress(), partitions=[], events_per_s=0.0)
    assert (made.latency_p50_ms, made.latency_p99_ms) == (None, None)


async def test_what_is_posted_can_be_read_by_name(board: StatusBoard) -> None:
    posted = [status("b"), status("a", counted=1)]
    for each in posted:
        await board.post(each)
    assert await board.workers() == posted[::-1]


async def test_the_latest_word_of_a_worker_counts(board: StatusBoard) -> None:
    await board.post(status("a", counted=1))
    await board.post(status("a", counted=2))
    assert [each.counted for each in await board.workers()] == [2]


async def test_a_worker_that_stops_is_gone(board: StatusBoard) -> None:
    await board.post(status("a"))
    await board.post(status("b"))
    await board.remove("a")
    assert [each.name for each in await board.workers()] == ["b"]


async def test_a_silent_worker_is_not_shown_and_removed_by_the_next(
    board: StatusBoard, settings: Settings
) -> None:
    await board.post(status("silent", age_s=STALE_S + 1))
    assert await board.workers() == []
    await board.post(status("here"))
    with connect(settings) as client:
        assert client.hkeys(f"{settings.namespace}:workers") == [b"here"]


@pytest.mark.parametrize("words", [b"{}", b'{"name":"next","stage":3}', b"\xff"])
async def test_a_worker_of_another_version_harms_nobody(
    board: StatusBoard, settings: Settings, words: bytes
) -> None:
    """In a rolling upgrade both versions post to one board."""
    with connect(settings) as client:
        client.hset(f"{settings.namespace}:workers", "next", words)
        await board.post(status("here"))
        assert [each.name for each in await board.workers()] == ["here"]
        assert client.hget(f"{settings.namespace}:workers", "next") == words


async def test_a_board_that_is_away_is_a_dependency() -> None:
    board = StatusBoard(connect_async(Settings(redis="redis://127.0.0.1:1/0")), "rp")
    with pytest.raises(DependencyError):
        await board.post(status("a"))
    with pytest.raises(DependencyError):
        await board.workers()
    with pytest.raises(DependencyError):
        await board.remove("a")
    await board.close()
