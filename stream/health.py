"""Liveness and readiness over HTTP, for orchestrators and people: ``/livez``, ``/readyz``, with reasons.

Rules:
- Served from a thread with a loop of its own: it answers while the worker's loop is blocked.
- ``/livez`` is 200 while the watchdog is content. ``/readyz`` is 200 while partitions are assigned, or there
  are none for this worker, Redis and Kafka answer, and it does not stop. Else 503.
- ``/readyz`` also names the offsets that this worker found deleted before they were counted, 200 ranges at
  most. That is no reason to be not ready. All that is listed: ``reviewpulse doctor --json``.
- Small and closed: GET alone, a head of at most ``MAX_HEAD_BYTES``, one answer a connection, all within
  ``EXCHANGE_S``, at most ``MAX_CONNECTIONS`` at a time. No stack, no address of another, no setting is shown.
- It listens on loopback unless another address is written. It has no password: nothing in it is secret, but
  it is not for the internet.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import threading
import time
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
import structlog

from stream.core.watch import Check
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from stream.core.watch import Report

log = structlog.get_logger("health")

LOOPBACK = "127.0.0.1"
MAX_HEAD_BYTES = 8192
MAX_CONNECTIONS = 32
"""More than all probes of an orchestrator; few enough that they cannot starve the worker."""
EXCHANGE_S = 5.0
"""From the connection to the answer's last byte."""
OLD_S = 10.0
"""A report older than this means that the watchdog itself does not look any more: it looks every second."""

_ADDRESS = re.compile(r"(?:(?P<host>[^\[\]:]*|\[[^\[\]]+\]):)?(?P<port>\d{1,5})")
_REQUEST_LINE = re.compile(rb"([A-Z]+) (/[^\s?]*)(?:\?\S*)? HTTP/1\.[01]\r\n")


class Page(NamedTuple):
    """An answer."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"


def pages(report: Callable[[], Report]) -> dict[str, Callable[[], Page]]:
    """The pages of a worker that a watchdog looks at. Another one, of metrics say, is one more entry.

    Args:
        report: the latest look's result, on the clock of ``time.monotonic``.
    """
    return {
        "/livez": lambda: checks_page(report().live, report().at),
        "/readyz": lambda: checks_page(report().ready, report().at, report().missing),
    }


def checks_page(
    checks: Sequence[Check], looked_at: float, missing: Sequence[tuple[str, int, int]] | None = None
) -> Page:
    """Checks as JSON: ``{"ok": bool, "checks": [{"name", "ok", "since", "says"}]}``, since when in UTC.

    Args:
        checks: none, before the first look, is not ok.
        looked_at: when they were made, by ``time.monotonic``; seconds.
        missing: a page that has it ends with ``"missing": [{"partition", "first", "last"}]``.
    """
    now = time.monotonic()
    if now - looked_at > OLD_S:
        says = f"the watchdog has not looked for {now - looked_at:.0f} s; what follows is old"
        checks = (Check("watchdog", False, looked_at, says), *checks)
    started_at = time.time() - now
    ok = bool(checks) and all(check.ok for check in checks)
    answer: dict[str, Any] = {
        "ok": ok,
        "checks": [
            {
                "name": check.name,
                "ok": check.ok,
                "since": f"{datetime.fromtimestamp(started_at + check.since, UTC):%Y-%m-%dT%H:%M:%SZ}",
                "says": check.says,
            }
            for check in checks
        ],
    }
    if missing is not None:
        answer["missing"] = [
            {"partition": partition, "first": first, "last": last} for partition, first, last in missing
        ]
    return Page(HTTPStatus.OK if ok else HTTPStatus.SERVICE_UNAVAILABLE, msgspec.json.encode(answer))


def address_of(text: str) -> tuple[str, int]:
    """Host and port; the host is loopback unless one is written.

    >>> address_of("8080"), address_of("0.0.0.0:8080"), address_of("[::1]:8080")
    (('127.0.0.1', 8080), ('0.0.0.0', 8080), ('::1', 8080))

    Raises:
        UsageError: it is no such thing.
    """
    parsed = _ADDRESS.fullmatch(text)
    if parsed is None or int(parsed["port"]) > 65_535:
        raise UsageError(
            f"REVIEWPULSE_HEALTH={text} is no address: write host:port, 127.0.0.1:8080 for example."
        )
    return (parsed["host"] or LOOPBACK).strip("[]"), int(parsed["port"])


class HealthServer:
    """Serves pages while its context lasts.

    Args:
        address: from ``address_of``; port 0 takes a free one.
        pages: what makes the page of each path. Called in the serving thread; it has to return at once.

    Attributes:
        port: the port it listens on, once entered.
    """

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Callable[[], Page]]) -> None:
        self.port = address[1]
        self._address = address
        self._pages = pages
        self._connections = 0

    def __enter__(self) -> Self:
        """Starts listening.

        Raises:
            UsageError: the address cannot be listened on.
        """
        host, port = self._address
        try:
            listening = socket.create_server(
                (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET
            )
        except OSError as error:
            # Python adds the address to the system's own words; a failed look-up has a number below 0.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise UsageError(
                f"REVIEWPULSE_HEALTH={host}:{port} cannot be listened on: {why}."
                " Choose another port; each worker of a host needs its own."
            ) from None
        self.port = listening.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._serve(listening),), name="health", daemon=True
        )
        self._thread.start()
        log.info("health is served", address=f"{host}:{self.port}", paths=sorted(self._pages))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stops listening; what is being answered is dropped."""
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    async def _serve(self, listening: socket.socket) -> None:
        server = await asyncio.start_server(self._connected, sock=listening, limit=MAX_HEAD_BYTES)
        await self._ended.wait()
        server.close()
        answering = asyncio.all_tasks() - {asyncio.current_task()}
        for task in answering:
            task.cancel()
        await asyncio.gather(*answering, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._connections >= MAX_CONNECTIONS:
            writer.close()
            return
        self._connections += 1
        try:
            async with asyncio.timeout(EXCHANGE_S):
                await self._exchange(reader, writer)
        except TimeoutError:
            writer.transport.abort()  # a close would wait until the rest is taken
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # whoever asked went away
        finally:
            self._connections -= 1
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            page = _refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        else:
            page = self._page(head)
        allowed = "Allow: GET\r\n" if page.status is HTTPStatus.METHOD_NOT_ALLOWED else ""
        writer.write(
            f"HTTP/1.1 {page.status.value} {page.status.phrase}\r\n"
            f"Content-Type: {page.content_type}\r\nContent-Length: {len(page.body)}\r\n{allowed}"
            "Cache-Control: no-store\r\nConnection: close\r\n\r\n".encode("ascii")
        )
        writer.write(page.body)
        await writer.drain()

    def _page(self, head: bytes) -> Page:
        request = _REQUEST_LINE.match(head)
        if request is None:
            return _refusal(HTTPStatus.BAD_REQUEST)
        method, path = request.groups()
        make = self._pages.get(path.decode("latin-1"))
        if make is None:
            return _refusal(HTTPStatus.NOT_FOUND)
        if method != b"GET":
            return _refusal(HTTPStatus.METHOD_NOT_ALLOWED)
        try:
            return make()
        except Exception:
            log.exception("a health page cannot be made", path=path.decode("latin-1"))
            return _refusal(HTTPStatus.INTERNAL_SERVER_ERROR)


def _refusal(status: HTTPStatus) -> Page:
    return Page(status, f"{status.phrase}\n".encode("ascii"), "text/plain; charset=utf-8")
