from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError  # noqa: A004

from stream.redis_config import connect_async
from stream.settings import load


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while request := await reader.read(1024):
        writer.write((b"+PONG\r\n" if b"PING" in request else b"+OK\r\n") * request.count(b"*"))
    writer.close()


async def send_on_a_connection_that_was_closed_meanwhile() -> Any:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, connect_async(load(redis=f"redis://127.0.0.1:{port}/0?protocol=2")) as client:
        connection = await client.connection_pool.get_connection()
        connection._writer.transport.abort()
        await asyncio.sleep(0)
        await connection.send_command("PING", check_health=False)


def test_a_connection_that_uvloop_closed_is_a_lost_connection_and_no_error_of_ours() -> None:
    with pytest.raises(ConnectionError, match="was closed"):
        uvloop.run(send_on_a_connection_that_was_closed_meanwhile())
