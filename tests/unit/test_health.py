"""The health pages, over real sockets on loopback."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from contextlib import closing, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from stream import health
from stream.core.watch import Check, Report
from stream.errors import UsageError
from stream.health import HealthServer, Page, address_of, pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WELL = Check("loop", True, 0.0, "the event loop turns")
ILL = Check("redis", False, 0.0, "Redis has not answered for 12 s")


def get(server: HealthServer, path: str, method: str = "GET") -> tuple[int, str, dict[str, str]]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), dict(answer.getheaders())


def send(server: HealthServer, request: bytes) -> bytes:
    """All that is answered to these bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
        return answer


@pytest.fixture
def serve() -> Iterator[Callable[..., HealthServer]]:
    """Serves the pages of a report, or others."""
    servers: list[HealthServer] = []

    def start(report: Report | None = None, **others: Callable[[], Page]) -> HealthServer:
        made: dict[str, Callable[[], Page]] = pages(lambda: report) if report else {}
        server = HealthServer(("127.0.0.1", 0), made | {f"/{name}": page for name, page in others.items()})
        servers.append(server.__enter__())
        return server

    yield start
    for server in servers:
        server.__exit__(None, None, None)


def report(*, live: tuple[Check, ...] = (WELL,), ready: tuple[Check, ...] = (WELL,)) -> Report:
    return Report(time.monotonic(), live, ready)


def test_a_worker_that_is_well_is_live_and_ready(serve: Callable[..., HealthServer]) -> None:
    server = serve(report())
    for path in ("/livez", "/readyz", "/readyz?verbose"):
        status, body, headers = get(server, path)
        assert status == 200
        assert (headers["Content-Type"], headers["Cache-Control"]) == ("application/json", "no-store")
        answer = json.loads(body)
        assert answer["ok"] is True
        assert [(each["name"], each["ok"], each["says"]) for each in answer["checks"]] == [
            ("loop", True, "the event loop turns")
        ]


def test_ready_also_names_the_offsets_that_were_found_missing(serve: Callable[..., HealthServer]) -> None:
    server = serve(report()._replace(missing=(("reviews:0", 7, 8),)))
    assert json.loads(get(server, "/readyz")[1])["missing"] == [
        {"partition": "reviews:0", "first": 7, "last": 8}
    ]
    assert "missing" not in json.loads(get(server, "/livez")[1])


def test_what_is_not_well_is_said_with_a_sentence_and_since_when(
    serve: Callable[..., HealthServer],
) -> None:
    now = time.monotonic()
    ill = ILL._replace(since=now - 3600)
    server = serve(report(ready=(WELL, ill)))
    assert get(server, "/livez")[0] == 200
    status, body, _ = get(server, "/readyz")
    assert status == 503
    answer: dict[str, Any] = json.loads(body)
    assert answer["ok"] is False
    assert answer["checks"][1]["says"] == "Redis has not answered for 12 s"
    since = time.strptime(answer["checks"][1]["since"], "%Y-%m-%dT%H:%M:%SZ")
    assert (
        time.mktime(time.gmtime(time.time() - 3700))
        < time.mktime(since)
        < time.mktime(time.gmtime(time.time() - 3500))
    )


def test_before_the_first_look_nothing_is_well(serve: Callable[..., HealthServer]) -> None:
    server = serve(Report(time.monotonic()))
    assert get(server, "/livez")[0] == 503
    assert get(server, "/readyz")[0] == 503


def test_a_watchdog_that_does_not_look_any_more_is_not_well(serve: Callable[..., HealthServer]) -> None:
    server = serve(report()._replace(at=time.monotonic() - 60))
    status, body, _ = get(server, "/livez")
    assert status == 503
    assert json.loads(body)["checks"][0]["says"] == (
        "the watchdog has not looked for 60 s; what follows is old"
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"GET /livez/../etc/passwd HTTP/1.1\r\n\r\n", b"404 Not Found"),
        (b"POST /livez HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", b"405 Method Not Allowed"),
        (b"HEAD /livez HTTP/1.1\r\n\r\n", b"405 Method Not Allowed"),
        (b"GET livez HTTP/1.1\r\n\r\n", b"400 Bad Request"),
        (b"GET /livez\r\n\r\n", b"400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", b"400 Bad Request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"431 Request Header Fields Too Large"),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 2000 + b"\r\n", b"431 Request Header Fields Too Large"),
    ],
)
def test_anything_but_a_small_get_of_a_page_is_refused(
    serve: Callable[..., HealthServer], request_: bytes, status: bytes
) -> None:
    server = serve(report())
    answer = send(server, request_)
    assert answer.startswith(b"HTTP/1.1 " + status + b"\r\n")
    assert b"Traceback" not in answer
    assert get(server, "/livez")[0] == 200


def test_a_refused_method_names_the_one_allowed(serve: Callable[..., HealthServer]) -> None:
    assert get(serve(report()), "/livez", "DELETE")[2]["Allow"] == "GET"


def test_who_connects_and_says_nothing_is_let_go(
    serve: Callable[..., HealthServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "EXCHANGE_S", 0.2)
    server = serve(report())
    assert send(server, b"GET /livez HTT") == b""


def test_too_many_at_a_time_are_turned_away_and_later_ones_served(
    serve: Callable[..., HealthServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "MAX_CONNECTIONS", 2)
    server = serve(report())
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
    # The third is closed; that it is shows that the first two are counted.
    assert silent[2].recv(1) == b""
    for connection in silent:
        connection.close()
    deadline = time.monotonic() + 10
    while server._connections:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert get(server, "/livez")[0] == 200


def test_a_page_that_cannot_be_made_shows_nothing_of_why(serve: Callable[..., HealthServer]) -> None:
    def broken() -> Page:
        raise ValueError("secret")

    assert get(serve(broken=broken), "/broken")[:2] == (500, "Internal Server Error\n")


def test_another_page_is_one_more_entry(serve: Callable[..., HealthServer]) -> None:
    page = Page(HTTPStatus.OK, b"up 1\n", "text/plain")
    status, body, headers = get(serve(report(), metrics=lambda: page), "/metrics")
    assert (status, body, headers["Content-Type"]) == (200, "up 1\n", "text/plain")


def test_it_answers_while_the_thread_that_started_it_is_blocked(
    serve: Callable[..., HealthServer],
) -> None:
    server = serve(report())
    answers: list[int] = []
    asking = threading.Thread(target=lambda: answers.append(get(server, "/livez")[0]))
    asking.start()
    asking.join()  # this thread does nothing else
    assert answers == [200]


def test_nothing_is_left_when_it_stops() -> None:
    with HealthServer(("127.0.0.1", 0), {}) as server:
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    with suppress(ConnectionResetError):  # it may not have been accepted yet
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=1)
    assert "health" not in {thread.name for thread in threading.enumerate()}


def test_a_port_in_use_is_one_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                UsageError,
                match=rf"^REVIEWPULSE_HEALTH=127.0.0.1:{port} cannot .*: Address already in use\. ",
            ),
            HealthServer(("127.0.0.1", port), {}),
        ):
            pass


def test_an_address_without_a_host_is_on_loopback() -> None:
    assert address_of("8080") == address_of(":8080") == ("127.0.0.1", 8080)
    assert address_of("health.example:80") == ("health.example", 80)


@pytest.mark.parametrize("text", ["", "localhost", "127.0.0.1:", "127.0.0.1:99999", "http://a:80/", "a:8:8"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write host:port"):
        address_of(text)
