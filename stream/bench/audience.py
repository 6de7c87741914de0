"""The audience of ``bench web``, a process of its own: viewers, readers of counters, a publisher of alerts.

Rules:
- Plain sockets and as little Python as will do, for it runs on the same cores as what it measures.
- Readers are open-loop: each read has its time, and its latency counts from then, whether or not a
  connection was free. A slow server is not asked less.
- A viewer reads what comes and notes when: of the figures that come every second the longest silence, of an
  alert how long after Kafka's acknowledgement it came.
"""

from __future__ import annotations

import asyncio
import sys
import time
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import msgspec
from aiokafka import AIOKafkaProducer

from stream.bench.pipeline import event_value, zipf_products

if TYPE_CHECKING:
    from collections.abc import Sequence

CONNECTIONS = 64
ALERT_EVERY_S = 1.0
PACE_S = 0.01
STREAM_LIMIT_BYTES = 1 << 20


class Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is to do, as its argument."""

    kind: str
    """``audience`` or ``producer``."""
    kafka: str
    topic: str
    """To which the producer sends reviews, or the audience alerts."""
    products: int
    seconds: float
    events_per_s: float = 0.0
    address: str = ""
    viewers: int = 0
    reads_per_s: float = 0.0


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a process says at its end, on standard output."""

    sent: int = 0
    """Events that Kafka acknowledged."""
    reads: int = 0
    """Answered."""
    failed_reads: int = 0
    unanswered_reads: int = 0
    """Not even sent when time was up."""
    read_s: float = 0.0
    """How long reads were due."""
    read_ms: list[float] = []
    """From when each was due; of those unanswered, to the end."""
    streams: int = 0
    """Viewers whose stream lived to the end."""
    messages: int = 0
    bytes_read: int = 0
    overview_gap_s: list[float] = []
    """The longest wait for figures, by viewer."""
    alert_ms: list[float] = []
    """Of each alert and viewer."""


def spec(task: Task) -> list[str]:
    """The command line that runs a task."""
    return [sys.executable, "-m", "stream.bench.audience", msgspec.json.encode(task).decode()]


def main(argument: str) -> None:
    """Does what it is told and says what it saw."""
    task = msgspec.json.decode(argument, type=Task)
    seen = asyncio.run(_Audience(task).run() if task.kind == "audience" else _produce(task))
    print(msgspec.json.encode(seen).decode(), flush=True)


async def _produce(task: Task) -> Seen:
    """Sends reviews at a steady rate."""
    producer = AIOKafkaProducer(bootstrap_servers=task.kafka, acks="all", linger_ms=20)
    await producer.start()
    names = zipf_products(task.products, seed=3)
    run = time.time_ns()
    sent = 0
    try:
        started = time.perf_counter()
        while (elapsed := time.perf_counter() - started) < task.seconds:
            for name in islice(names, int(elapsed * task.events_per_s) - sent):
                value = event_value(f"{run}-{sent}", name, time.time())
                await producer.send(task.topic, value, key=name.encode())
                sent += 1
            await asyncio.sleep(PACE_S)
        await producer.flush()
    finally:
        await producer.stop()
    return Seen(sent=sent)


class _Audience:
    def __init__(self, task: Task) -> None:
        self._task = task
        self._host, self._port = urlsplit(task.address).hostname or "", urlsplit(task.address).port or 0
        self._acknowledged: dict[bytes, float] = {}
        self._alert_ms: list[float] = []
        self._gaps: list[float] = []
        self._read_ms: list[float] = []
        self._unanswered_ms: list[float] = []
        self._read_s = 0.0
        self._failed = self._streams = self._messages = self._bytes = 0

    async def run(self) -> Seen:
        until = time.perf_counter() + self._task.seconds
        viewers = [asyncio.create_task(self._view(until)) for _ in range(self._task.viewers)]
        await asyncio.gather(self._read(until), self._publish(until), *viewers)
        return Seen(
            reads=len(self._read_ms),
            failed_reads=self._failed,
            read_s=self._read_s,
            read_ms=[*self._read_ms, *self._unanswered_ms],
            unanswered_reads=len(self._unanswered_ms),
            streams=self._streams,
            messages=self._messages,
            bytes_read=self._bytes,
            overview_gap_s=self._gaps,
            alert_ms=self._alert_ms,
        )

    # Viewers.

    async def _view(self, until: float) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=STREAM_LIMIT_BYTES)
        writer.write(self._request("/api/v1/live"))
        last, longest = time.perf_counter(), 0.0
        kept = b""
        try:
            while (left := until - time.perf_counter()) > 0:
                try:
                    async with asyncio.timeout(left):
                        chunk = await reader.read(65_536)
                except TimeoutError:
                    break
                if not chunk:
                    return  # it was let go
                now = time.perf_counter()
                self._bytes += len(chunk)
                if b"event: overview" in chunk:
                    longest, last = max(longest, now - last), now
                if b"event: alert" in chunk or b"event: alert" in kept:
                    self._note_alerts(kept + chunk, now)
                    kept = chunk[-16_384:] if b"event: alert" in chunk else b""
                self._messages += chunk.count(b"event: ")
            self._streams += 1
        finally:
            self._gaps.append(max(longest, time.perf_counter() - last))
            writer.close()

    def _note_alerts(self, chunk: bytes, now: float) -> None:
        for piece in chunk.split(b'"id":"')[1:]:
            acknowledged = self._acknowledged.get(piece[: piece.index(b'"')])
            if acknowledged is not None:
                self._alert_ms.append((now - acknowledged) * 1000)

    async def _publish(self, until: float) -> None:
        """Alerts, one after another."""
        producer = AIOKafkaProducer(bootstrap_servers=self._task.kafka, acks="all")
        await producer.start()
        try:
            while until - time.perf_counter() > 2 * ALERT_EVERY_S:
                id_ = f"{time.time_ns():016x}"
                await producer.send_and_wait(self._task.topic, _alert(id_), key=id_.encode())
                self._acknowledged[id_.encode()] = time.perf_counter()
                await asyncio.sleep(ALERT_EVERY_S)
        finally:
            await producer.stop()

    # Readers.

    async def _read(self, until: float) -> None:
        names = zipf_products(self._task.products, seed=4)
        requests = [
            self._request(f"/api/v1/counters?product_id={quote(name)}&window=1h")
            for name in islice(names, 4096)
        ]
        due: asyncio.Queue[tuple[float, bytes] | None] = asyncio.Queue()
        readers = [asyncio.create_task(self._reader(due)) for _ in range(CONNECTIONS)]
        started, asked = time.perf_counter(), 0
        while (now := time.perf_counter()) < until:
            while asked < (now - started) * self._task.reads_per_s:
                at = started + asked / self._task.reads_per_s
                due.put_nowait((at, requests[asked % len(requests)]))
                asked += 1
            await asyncio.sleep(PACE_S / 5)
        self._read_s = now - started
        # What is not answered by now has waited so long at least: leaving it out would flatter the server.
        while not due.empty():
            waiting = due.get_nowait()
            assert waiting is not None
            self._unanswered_ms.append((now - waiting[0]) * 1000)
        for _ in readers:
            due.put_nowait(None)
        await asyncio.gather(*readers)

    async def _reader(self, due: asyncio.Queue[tuple[float, bytes] | None]) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            while (asked := await due.get()) is not None:
                at, request = asked
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(_length(head))
                self._read_ms.append((time.perf_counter() - at) * 1000)
                if not head.startswith(b"HTTP/1.1 200 "):
                    self._failed += 1
        except (OSError, asyncio.IncompleteReadError):
            self._failed += 1
        finally:
            writer.close()

    def _request(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n\r\n".encode()


def _length(head: bytes) -> int:
    """Of the body, as the head says it."""
    lowered = head.lower()
    at = lowered.index(b"content-length:") + 15
    return int(lowered[at : lowered.index(b"\r\n", at)])


def _alert(id_: str) -> bytes:
    """An alert of ordinary size that says nothing."""
    now_s = time.time()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s)) + f".{int(now_s * 1000) % 1000:03d}Z"
    quote_ = {"event_id": "r", "text": "Broke after a week. " * 8, "p_negative": 0.99, "event_time": at}
    return msgspec.json.encode(
        {
            "id": id_,
            "sequence": 1,
            "state": "firing",
            "rule": "negative_share",
            "severity": "warning",
            "product_id": "product-1",
            "channel": "reviews",
            "at": at,
            "onset": at,
            "events": 40,
            "negatives": 20,
            "current_share": 0.5,
            "current_interval": [0.35, 0.65],
            "baseline_share": 0.1,
            "baseline_interval": [0.08, 0.12],
            "baseline_events": 400.0,
            "false_alarm_run_length": 1e6,
            "distinct_authors": 19,
            "quotes": [quote_] * 5,
            "peak_share": 0.6,
            "duration_s": 60.0,
            "model_version": "constant",
        }
    )


def quantile(values: Sequence[float], share: float) -> float | None:
    """A quantile by its rank; None of nothing.

    >>> quantile([3.0, 1.0, 2.0], 0.5), quantile([], 0.5)
    (2.0, None)
    """
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


if __name__ == "__main__":
    main(sys.argv[1])
