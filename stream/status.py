"""What each worker is doing now, in Redis for whoever watches: ``<ns>:workers``, a hash of JSON by worker.

Rules:
- It is for people and dashboards. Commands refuse by it what would do harm beside workers that it shows;
  nothing relies on it for what is counted.
- A worker that says nothing for ``STALE_S`` is gone; whoever posts next removes it.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from stream.core.shadow import Comparison
from stream.errors import DependencyError
from stream.redis_errors import REDIS_ERRORS, words
from stream.redis_trip import exchange_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.pipeline import Progress
    from stream.redis_config import AsyncClient
    from stream.redis_trip import Command
    from stream.scorer.contract import Scorer

STALE_S = 10.0
EVENT_LOOP, PROCESS = "event loop", "process"


SwapState = Literal["", "loading", "comparing", "ready", "refused"]


class SwapStatus(msgspec.Struct, kw_only=True):
    """What a worker says of bundles."""

    bundle: str = ""
    """SHA-256 of the manifest it scores by; empty where it scores without a bundle and takes no part."""
    is_configured: bool = True
    """Whether that is the one it is configured with."""
    proposal: str = ""
    """The proposal that all below is about."""
    state: SwapState = ""
    reasons: list[str] = []
    """Why it refuses."""
    compared: Comparison = msgspec.field(default_factory=Comparison)
    surer: float | None = None
    """See ``stream.core.shadow.surer_by``."""


class WorkerStatus(msgspec.Struct, kw_only=True):
    """One worker, as of ``at``."""

    name: str
    at: float
    """Seconds since the epoch."""
    model_version: str
    provider: str
    partitions: list[str]
    counted: int
    dead: int
    skipped: int
    duplicate: int = 0
    late: int
    rewinds: int
    missing: int = 0
    """Offsets that it found deleted before they were counted."""
    events_per_s: float
    latency_p50_ms: float | None
    """From Kafka's timestamp to visible in Redis; None before the first event."""
    latency_p99_ms: float | None
    swap: SwapStatus | None = None
    """Which bundle it scores by, and what it makes of one that is proposed; None from a version that knows of
    no such thing."""
    cpu_s: dict[str, float] = {}
    """CPU time so far: of each stage with a thread, of the event loop's (apply, publish), of the process."""
    heeds_erasures: bool = False
    """Whether its steps are refused when what they build on was erased; False from a version that knows of no
    such thing, which writes back what was erased."""

    @classmethod
    def of(
        cls,
        name: str,
        scorer: Scorer[Any],
        progress: Progress,
        *,
        partitions: list[str],
        events_per_s: float,
        missing: int = 0,
        swap: SwapStatus | None = None,
    ) -> WorkerStatus:
        """The status that ``progress`` amounts to; asked for on the event loop's thread."""
        p50, p99 = _p50_p99(progress.latencies_ms) if progress.latencies_ms else (None, None)
        return cls(
            name=name,
            at=time.time(),
            model_version=scorer.version,
            provider=scorer.provider,
            partitions=partitions,
            counted=progress.counted,
            dead=progress.dead,
            skipped=progress.skipped,
            duplicate=progress.duplicate,
            late=progress.late,
            rewinds=progress.rewinds,
            missing=missing,
            events_per_s=events_per_s,
            latency_p50_ms=p50,
            latency_p99_ms=p99,
            swap=swap,
            cpu_s={**progress.cpu_s, EVENT_LOOP: time.thread_time(), PROCESS: time.process_time()},
            heeds_erasures=True,
        )


def board_key(namespace: str) -> str:
    """The hash that workers write to."""
    return f"{namespace}:workers"


def heard_of(board: dict[bytes, bytes], now: float) -> list[WorkerStatus]:
    """Every worker heard of lately, by name.

    Args:
        board: the hash.
        now: seconds since the epoch.
    """
    return [status for status in _decoded(board) if now - status.at <= STALE_S]


class StatusBoard:
    """Where workers say what they do.

    Args:
        client: from ``stream.redis_config.connect_async``.
        namespace: prefix of every Redis key.
    """

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self._key = board_key(namespace)

    async def post(self, status: WorkerStatus) -> None:
        """Says what a worker does, and removes those that went without a word."""
        _, board = await self._trip(
            ("HSET", self._key, status.name, msgspec.json.encode(status)), ("HGETALL", self._key)
        )
        gone = [each.name for each in _decoded(board) if status.at - each.at > STALE_S]
        if gone:
            await self._trip(("HDEL", self._key, *gone))

    async def workers(self) -> list[WorkerStatus]:
        """Every worker heard of lately, by name."""
        (board,) = await self._trip(("HGETALL", self._key))
        return heard_of(board, time.time())

    async def remove(self, name: str) -> None:
        """A worker stops."""
        await self._trip(("HDEL", self._key, name))

    async def close(self) -> None:
        """Disconnects."""
        await self._client.aclose()

    async def _trip(self, *commands: Command) -> list[Any]:
        try:
            return await exchange_async(self._client, commands)
        except REDIS_ERRORS as error:
            raise DependencyError(f"Redis: {words(error)}") from error


def _p50_p99(latencies_ms: Sequence[float]) -> tuple[float, float]:
    # Whoever reads statuses, the page above all, needs no numpy.
    import numpy as np  # noqa: PLC0415

    p50, p99 = (round(float(q), 1) for q in np.percentile(latencies_ms, (50, 99)))
    return p50, p99


def _decoded(board: dict[bytes, bytes]) -> list[WorkerStatus]:
    decode = msgspec.json.Decoder(WorkerStatus).decode
    statuses = []
    for value in board.values():
        # In a rolling upgrade a worker of another version may say it in other words.
        with suppress(msgspec.MsgspecError):
            statuses.append(decode(value))
    return sorted(statuses, key=lambda status: status.name)
