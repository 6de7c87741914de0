"""Certificates of a test's own, and TLS before servers that speak none."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import threading
from typing import TYPE_CHECKING, Self

import trustme

from stream.local import HOST

if TYPE_CHECKING:
    from pathlib import Path


class TlsTerminator:
    """Takes TLS connections on a port (0: a free one) and passes their bytes to a plain one."""

    def __init__(self, upstream_port: int, context: ssl.SSLContext, port: int = 0) -> None:
        self._upstream_port = upstream_port
        self._context = context
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.port = port

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, self.port, ssl=self._context)
        return int(self._server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self._upstream_port)
        try:
            await asyncio.gather(_pump(reader, to_server), _pump(from_server, writer))
        finally:
            to_server.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Authority:
    """A CA of the test's own, in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._ca = trustme.CA()
        self._folder = folder
        self.file = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.file))

    def server(
        self, name: str = HOST, *, expired: bool = False, wants_client: bool = False
    ) -> ssl.SSLContext:
        """A server's TLS with a certificate for ``name``."""
        until = dt.datetime.now(dt.UTC) - dt.timedelta(days=1) if expired else None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(name, not_after=until).configure_cert(context)
        if wants_client:
            context.verify_mode = ssl.CERT_REQUIRED
            self._ca.configure_trust(context)
        return context

    def issue(self, folder: Path, name: str) -> tuple[Path, Path]:
        """A server's certificate and key, as files for a server that is no Python."""
        certificate = self._ca.issue_cert(name)
        cert, key = folder / "cert.pem", folder / "key.pem"
        cert.write_bytes(b"".join(each.bytes() for each in certificate.cert_chain_pems))
        certificate.private_key_pem.write_to_path(str(key))
        return cert, key

    def client(self, server: str = "redis") -> dict[str, Path]:
        """Settings of a client's certificate."""
        cert, key = self.issue(self._folder, "worker@reviewpulse.example")
        return {f"{server}_cert_file": cert, f"{server}_key_file": key}
