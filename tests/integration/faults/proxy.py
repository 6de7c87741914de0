"""A TCP proxy that behaves as networks do on a bad day: slow, silent, cut.

Rules:
- It runs on a thread of its own; its methods may be called from any other and return when they hold.
- *Stalled* is half-open: connections stay, new ones are accepted, and nothing passes. What was held back
  passes when it resumes, as after a switch that buffered.
- *Cut* is a reset (RST) for every connection there is and for every one that comes.
- *Deaf* lets requests pass and loses the replies: the caller cannot know what was done. Such a connection
  is reset when it resumes, for a stream with a hole in it is of no use.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

HOST = "127.0.0.1"
CHUNK_BYTES = 65_536
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER: on, for no time at all."""


@dataclass
class Weather:
    """What the network does to bytes now."""

    delay_s: float = 0.0
    bytes_per_s: float = float("inf")
    cut: bool = False
    deaf: bool = False
    passing: asyncio.Event = field(default_factory=asyncio.Event)

    def hold_s(self, number_of_bytes: int) -> float:
        """How long a chunk takes."""
        return self.delay_s + number_of_bytes / self.bytes_per_s


@dataclass(eq=False)
class Link:
    """One client's connection, and ours to the server for it."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    has_hole: bool = False

    def close(self) -> None:
        """Ends both sides when what they were given is sent."""
        for writer in (self.client, self.server):
            writer.close()

    def reset(self) -> None:
        """Drops both sides at once."""
        for writer in (self.client, self.server):
            reset(writer)


def reset(writer: asyncio.StreamWriter) -> None:
    """Closes a connection with RST, whatever is still to be written."""
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    writer.transport.abort()


def is_plain(redis: str) -> bool:
    """Whether a Redis' URL is one that a proxy can stand before: a single server, no TLS."""
    parts = urlsplit(redis)
    return parts.scheme == "redis" and parts.hostname is not None and "," not in parts.netloc


class TcpProxy:
    """Listens on ``port`` of loopback (0 picks one) and passes on to ``upstream_port``."""

    def __init__(self, port: int, upstream_port: int, upstream_host: str = HOST) -> None:
        self.port = port
        self._upstream_host = upstream_host
        self._upstream_port = upstream_port
        self._links: set[Link] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._weather = Weather()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.resume()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def slow(self, *, delay_s: float, bytes_per_s: float) -> None:
        """Each chunk waits ``delay_s``, and for the line."""
        self._on_loop(lambda: self._change(Weather(delay_s, bytes_per_s)))

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told."""

        def change() -> None:
            self._weather.passing.clear()

        self._on_loop(change)

    def cut(self) -> None:
        """Every connection is reset, and every new one."""
        self._on_loop(lambda: self._change(Weather(cut=True)))

    def lose_replies(self) -> None:
        """Requests arrive, replies do not."""
        self._on_loop(lambda: self._change(Weather(deaf=True)))

    def resume(self) -> None:
        """A good day again."""
        self._on_loop(lambda: self._change(Weather()))

    @property
    def has_lost_replies(self) -> bool:
        """Whether somebody who is still connected waits for a reply that will not come."""
        return any(link.has_hole for link in tuple(self._links))

    def _on_loop(self, change: Callable[[], None]) -> None:
        async def call() -> None:
            change()

        asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _change(self, weather: Weather) -> None:
        before, self._weather = self._weather, weather
        weather.passing.set()
        before.passing.set()  # whoever waits there looks at the new weather next
        for link in list(self._links):
            if weather.cut or link.has_hole:
                link.reset()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        for link in list(self._links):
            link.reset()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather.cut:
            reset(writer)
            return
        try:
            answers, server = await asyncio.open_connection(self._upstream_host, self._upstream_port)
        except OSError:
            reset(writer)
            return
        link = Link(writer, server)
        self._links.add(link)
        try:
            pumps = [
                asyncio.create_task(self._pump(link, reader, server, replies=False)),
                asyncio.create_task(self._pump(link, answers, writer, replies=True)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._links.discard(link)
            link.close()

    async def _pump(
        self, link: Link, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, replies: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await source.read(CHUNK_BYTES):
                hold_s = self._weather.hold_s(len(chunk))
                if hold_s:
                    await asyncio.sleep(hold_s)
                await self._weather.passing.wait()
                if replies and self._weather.deaf:
                    link.has_hole = True
                    continue
                target.write(chunk)
                await target.drain()
            await self._weather.passing.wait()  # an end is news, too
