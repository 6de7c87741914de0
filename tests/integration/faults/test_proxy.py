"""The proxy does to connections what it says."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests import conftest
from tests.integration.faults.proxy import HOST, TcpProxy, is_plain
from tests.integration.faults.scene import by_the_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while said := self.request.recv(100):
            self.request.sendall(said)


@pytest.fixture
def proxy() -> Iterator[TcpProxy]:
    with (
        socketserver.ThreadingTCPServer((HOST, 0), Echo) as server,
        TcpProxy(0, server.server_address[1]) as between,
    ):
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield between
        server.shutdown()


@pytest.fixture
def client(proxy: TcpProxy) -> Iterator[socket.socket]:
    with socket.create_connection((HOST, proxy.port), timeout=5) as connected:
        yield connected


def test_it_passes_on_what_is_said_and_answered(client: socket.socket) -> None:
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"


def test_what_was_said_into_a_stall_arrives_when_it_is_over(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.stall()
    client.sendall(b"hello")
    client.settimeout(0.1)
    with pytest.raises(TimeoutError):
        client.recv(100)
    proxy.resume()
    client.settimeout(5)
    assert client.recv(100) == b"hello"


def test_a_cut_resets_old_and_new_connections_until_it_resumes(
    proxy: TcpProxy, client: socket.socket
) -> None:
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        client.recv(100)
    with pytest.raises(ConnectionResetError), socket.create_connection((HOST, proxy.port), 5) as another:
        another.recv(100)
    proxy.resume()
    with socket.create_connection((HOST, proxy.port), 5) as another:
        another.sendall(b"hello")
        assert another.recv(100) == b"hello"


def test_a_connection_that_lost_a_reply_is_reset_when_replies_come_again(
    proxy: TcpProxy, client: socket.socket
) -> None:
    proxy.lose_replies()
    client.sendall(b"hello")
    client.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.recv(100)
    proxy.resume()
    client.settimeout(5)
    with pytest.raises(ConnectionResetError):
        client.recv(100)


def test_a_slow_way_delays_each_chunk_there_and_back(proxy: TcpProxy, client: socket.socket) -> None:
    proxy.slow(delay_s=0.1, bytes_per_s=1e9)
    began = time.monotonic()
    client.sendall(b"hello")
    assert client.recv(100) == b"hello"
    assert time.monotonic() - began >= 0.2


def test_the_way_by_a_proxy_keeps_user_password_and_database(proxy: TcpProxy) -> None:
    by_proxy = by_the_proxy("redis://user:secret@redis.example:7000/2?protocol=3", proxy, 4)
    assert by_proxy == f"redis://user:secret@127.0.0.1:{proxy.port}/2?protocol=3&socket_timeout=4"


@pytest.mark.parametrize(
    ("url", "plain"),
    [
        ("redis://127.0.0.1:6379/0", True),
        ("redis://redis.example", True),
        ("rediss://redis.example:6379/0", False),
        ("redis+cluster://a:1,b:2", False),
        ("redis+sentinel://a:1,b:2/primary", False),
    ],
)
def test_a_proxy_stands_before_a_single_server_without_tls_alone(url: str, plain: bool) -> None:
    assert is_plain(url) is plain


@pytest.mark.parametrize(("kafka", "redis"), [("k:1", None), (None, "redis://r")])
def test_one_external_server_without_the_other_is_refused(
    monkeypatch: pytest.MonkeyPatch, kafka: str | None, redis: str | None
) -> None:
    monkeypatch.setattr(conftest, "TEST_KAFKA", kafka)
    monkeypatch.setattr(conftest, "TEST_REDIS", redis)
    with pytest.raises(ValueError, match="set both, or neither"):
        conftest.external_servers()
