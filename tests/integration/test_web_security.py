"""What a server on a real socket refuses, and how: tokens, scopes, other sites' pages, slow and large
requests."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from web_server import WebServer, own_names, settings_of, web_server

from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stream.local import LocalServers

WALL, SHOP, DUTY = "token-of-the-wall-01", "token-of-the-shop-02", "token-on-duty-000003"
TOKENS = f"wall:read:{WALL},shop:ingest:{SHOP},duty:read+operate:{DUTY}"
SILENCE = {"product": "kettle", "for": "2h", "reason": "known"}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
def names(servers: LocalServers) -> dict[str, str]:
    variables = own_names(servers)
    ensure(settings_of(variables))
    return variables


@pytest.fixture(scope="module")
def with_tokens(names: dict[str, str]) -> Iterator[WebServer]:
    with web_server(names | {"REVIEWPULSE_WEB_TOKENS": TOKENS}) as server:
        yield server


@pytest.fixture(scope="module")
def without_tokens(names: dict[str, str]) -> Iterator[WebServer]:
    with web_server(names) as server:
        yield server


@pytest.fixture
def server(with_tokens: WebServer) -> WebServer:
    """With tokens, and nobody signed in."""
    with_tokens.client.cookies.clear()
    return with_tokens


@pytest.fixture
def open_server(without_tokens: WebServer) -> WebServer:
    """Without tokens."""
    return without_tokens


def test_each_token_may_do_what_its_scopes_say_and_no_more(server: WebServer) -> None:
    def statuses(headers: dict[str, str]) -> dict[str, int]:
        return {
            "read": server.get("/api/v1/leaders", headers=headers).status_code,
            "ingest": server.post("/api/v1/reviews", json={}, headers=headers).status_code,
            "operate": server.post("/api/v1/silences", json=SILENCE, headers=headers).status_code,
        }

    assert statuses({}) == {"read": 401, "ingest": 401, "operate": 401}
    assert statuses(bearer("token-of-the-wall-0X")) == {"read": 401, "ingest": 401, "operate": 401}
    assert statuses({"Authorization": f"Basic {WALL}"}) == {"read": 401, "ingest": 401, "operate": 401}
    assert statuses(bearer(WALL)) == {"read": 200, "ingest": 403, "operate": 403}
    assert statuses(bearer(SHOP)) == {"read": 403, "ingest": 400, "operate": 403}  # 400: it was looked at
    assert statuses(bearer(DUTY)) == {"read": 200, "ingest": 403, "operate": 201}


def test_a_refusal_says_why_in_one_sentence_and_shows_no_token(server: WebServer) -> None:
    nobody = server.get("/api/v1/leaders")
    assert nobody.json() == {"error": "This needs a token: send `Authorization: Bearer TOKEN`."}
    assert nobody.headers["www-authenticate"] == 'Bearer realm="reviewpulse"'
    wrong = server.get("/api/v1/leaders", headers=bearer("a-wrong-one-0123456789"))
    assert wrong.json() == {"error": "There is no such token."}
    scope = server.post("/api/v1/reviews", json={}, headers=bearer(WALL))
    assert scope.json() == {"error": "The token 'wall' has not the scope 'ingest' that this needs."}


def test_every_operation_but_health_and_the_session_needs_a_token(server: WebServer) -> None:
    document = server.get("/api/v1/openapi.json").json()
    is_open = set()
    for path, item in document["paths"].items():
        for method in item:
            content = {"content": b"{}", "headers": {"Content-Type": "application/json"}}
            answer = server.client.request(
                method, path.replace("{silence_id}", "0" * 8), **({} if method == "get" else content)
            )
            if answer.status_code not in (401, 400) or path.endswith("/session"):
                is_open.add((method, path))
    assert is_open == {
        ("get", "/livez"),
        ("get", "/readyz"),
        ("get", "/api/v1/session"),
        ("post", "/api/v1/session"),
        ("delete", "/api/v1/session"),
    }


def test_the_page_signs_in_with_a_token_and_out_again(server: WebServer) -> None:
    assert server.get("/api/v1/session").json() == {"scopes": [], "needs_token": True}
    assert server.post("/api/v1/session", json={"token": "no-such-token-0000"}).status_code == 401
    answer = server.post("/api/v1/session", json={"token": DUTY})
    assert answer.json() == {"scopes": ["operate", "read"], "needs_token": True}
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("reviewpulse_session=duty~")
    assert DUTY not in cookie
    attributes = {each.strip().lower() for each in cookie.split(";")[1:]}
    assert {"httponly", "samesite=strict", "path=/"} <= attributes
    # httpx carries it from here on.
    assert server.post("/api/v1/silences", json=SILENCE).status_code == 201
    stolen = server.client.cookies["reviewpulse_session"]
    assert server.client.delete("/api/v1/session").json() == {"scopes": [], "needs_token": True}
    assert server.get("/api/v1/leaders").status_code == 401
    # It holds no longer on this server, whoever kept it.
    assert (
        server.get("/api/v1/leaders", headers={"Cookie": f"reviewpulse_session={stolen}"}).status_code == 401
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[half"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=lambda headers: " ".join(*headers.items()),
)
@pytest.mark.parametrize("kind", ["open_server", "server"])
def test_another_sites_page_can_change_nothing(
    request: pytest.FixtureRequest, kind: str, headers: dict[str, str]
) -> None:
    server: WebServer = request.getfixturevalue(kind)
    if kind == "server":
        server.post("/api/v1/session", json={"token": DUTY})
    answer = server.post("/api/v1/silences", json=SILENCE, headers=headers)
    assert answer.status_code == 403
    assert answer.json() == {
        "error": "This came from another site's page: only our own pages may change something."
    }
    ours = {"Origin": server.address, "Sec-Fetch-Site": "same-origin"}
    assert server.post("/api/v1/silences", json=SILENCE, headers=ours).status_code == 201


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_a_form_of_another_site_is_no_request_of_ours(open_server: WebServer, kind: str) -> None:
    body = json.dumps(SILENCE)
    answer = open_server.post("/api/v1/silences", content=body, headers={"Content-Type": kind})
    assert answer.status_code == 415


def test_without_tokens_a_name_that_was_rebound_to_this_machine_reads_nothing(open_server: WebServer) -> None:
    port = open_server.port
    for host, status in {
        f"evil.example:{port}": 421,
        "127.0.0.1.evil.example": 421,
        "": 421,
        f"localhost:{port}": 200,
        f"127.0.0.1:{port}": 200,
        f"[::1]:{port}": 200,
    }.items():
        assert open_server.get("/api/v1/leaders", headers={"Host": host}).status_code == status, host


def test_every_answer_carries_the_headers_that_keep_a_browser_safe(open_server: WebServer) -> None:
    for path in ("/api/v1/leaders", "/api/v1/nothing", "/api/v1/counters", "/livez"):
        headers = open_server.get(path).headers
        assert headers["x-content-type-options"] == "nosniff", path
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'", path
        assert headers["cache-control"] == "no-store", path
        assert headers["referrer-policy"] == "no-referrer", path
        assert "server" not in headers
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize(
    "path",
    [
        "/static/../settings.py",
        "/static/x/../../../../etc/passwd",
        "/static/%2e%2e/%2e%2e/settings.py",
        "/static/x/..%2f..%2fsettings.py",
        "/static/x/%5c..%5csettings.py",
        "/static//etc/passwd",
        "/static/x/%00",
        "//evil.example/",
        "/api/v1/../../etc/passwd",
        "/api/v1/silences/../../livez",
        "/.git/config",
        "/%",
        "/%ff",
        "/api/v1/counters/a%2Fb",
    ],
)
def test_no_path_leads_out(open_server: WebServer, path: str) -> None:
    status, body = raw(open_server, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    assert status == 404, body
    assert b"root:" not in body


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # a TLS hello
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://evil.example/livez HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"POST /api/v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50, 200),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5_000, 400),
    ],
    ids=[
        "garbage",
        "tls",
        "length",
        "smuggling",
        "bytes",
        "absolute",
        "no body",
        "long url",
        "long header",
        "many headers",
        "some pipelined",
        "many pipelined",
    ],
)
def test_a_strange_request_is_refused_with_the_status_that_fits(
    open_server: WebServer, request_: bytes, status: int
) -> None:
    assert raw(open_server, request_)[0] == status
    assert open_server.get("/livez").status_code == 200


def test_a_large_body_is_refused_before_it_is_read(open_server: WebServer) -> None:
    head = (
        b"POST /api/v1/silences HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 99999999999\r\n\r\n"
    )
    status, body = raw(open_server, head + b"{", until_closed=False)
    assert (status, json.loads(body)) == (413, {"error": "The body is larger than this takes."})


def test_a_body_that_is_refused_does_not_have_to_be_sent(server: WebServer) -> None:
    """`Expect: 100-continue`, as curl sends it with large bodies."""
    head = (
        b"POST /api/v1/reviews HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
        b"Content-Length: 5000000\r\nExpect: 100-continue\r\n\r\n"
    )
    status, _ = raw(server, head, until_closed=False)
    assert status == 401


def test_a_sender_that_is_refused_while_it_sends_still_hears_why(server: WebServer) -> None:
    answer = server.post(
        "/api/v1/reviews",
        content=b"x" * 8_000_000,
        headers={"Content-Type": "application/x-ndjson", "Connection": "close"},
    )
    assert answer.status_code == 401


@pytest.mark.slow
def test_slow_senders_are_cut_off_and_keep_nobody_waiting(open_server: WebServer) -> None:
    """Slow loris: heads and bodies that come byte by byte, and connections that say nothing."""
    head = b"POST /api/v1/reviews HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\n"
    slow = [
        _Slow(open_server, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n", b"X-A: b\r\n"),
        _Slow(open_server, head + b"Content-Length: 100000\r\n\r\n", b"{"),
        _Slow(open_server, head + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n{\r\n"),
    ]
    many = [socket.create_connection(("127.0.0.1", open_server.port)) for _ in range(200)]
    for _ in range(5):
        assert open_server.get("/api/v1/leaders").status_code == 200
    for each in slow:
        each.thread.join(40)
        status, body = _parsed(each.answer)
        assert (status, list(json.loads(body))) == (408, ["error"])
    for each in many:
        each.settimeout(40)
        assert each.recv(1) == b""
        each.close()
    assert open_server.get("/api/v1/leaders").status_code == 200


class _Slow:
    """Sends a little every half second, until it hears something."""

    def __init__(self, server: WebServer, first: bytes, drop: bytes) -> None:
        self.answer = b""
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=0.5)
        self._first, self._drop = first, drop
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        with self._socket:
            self._socket.sendall(self._first)
            while True:
                try:
                    if not (piece := self._socket.recv(65_536)):
                        return
                    self.answer += piece
                except TimeoutError:
                    self._socket.sendall(self._drop)
                except ConnectionError:
                    return


@pytest.mark.parametrize(
    ("arguments", "variables", "sentence"),
    [
        (["--host", "0.0.0.0"], {}, "needs REVIEWPULSE_WEB_TOKENS"),  # noqa: S104  # refused, that is the point
        (["--host", "256.1.1.1"], {"REVIEWPULSE_WEB_TOKENS": TOKENS}, "256.1.1.1:8000 cannot be listened on"),
        ([], {"REVIEWPULSE_WEB_TOKENS": "wall:read"}, "entry 1 is not written name:scope+scope:token"),
        ([], {"REVIEWPULSE_WEB_TOKENS": f"wall:write:{WALL}"}, "'wall' has a scope that is none"),
        (
            [],
            {"REVIEWPULSE_WEB_TOKENS": "wall:read:short"},
            "the token of 'wall' has fewer than 16 characters",
        ),
        ([], {"REVIEWPULSE_WEB_TOKENS": ""}, "it holds no token"),
        (
            [],
            {"REVIEWPULSE_WEB_INFLIGHT_BYTES": "4096"},
            "must be at least twice REVIEWPULSE_WEB_BATCH_BYTES",
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_one_sentence(
    clean_environment: None, arguments: list[str], variables: dict[str, str], sentence: str
) -> None:
    ended = _web(arguments, variables)
    assert ended.returncode == 2
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr
    assert WALL not in ended.stderr


def test_a_port_that_is_taken_is_named(open_server: WebServer) -> None:
    ended = _web(["--port", str(open_server.port)], {})
    assert ended.returncode == 2
    assert f"127.0.0.1:{open_server.port} cannot be listened on: Address already in use." in ended.stderr


def test_tokens_may_be_a_secret_file(names: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path
    (folder / "reviewpulse_web_tokens").write_text(f"# the wall in the hall\nwall:read:{WALL}\n")
    with web_server(names | {"REVIEWPULSE_SECRETS_DIR": str(folder)}) as server:
        assert server.get("/api/v1/leaders").status_code == 401
        assert server.get("/api/v1/leaders", headers=bearer(WALL)).status_code == 200


def _web(arguments: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "web", *arguments],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def raw(server: WebServer, request: bytes, *, until_closed: bool = True) -> tuple[int, bytes]:
    """Status and body of the first answer to bytes as they are."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b""
        try:
            while b"\r\n\r\n" not in answer or (until_closed and len(answer) < 100):
                if not (piece := connection.recv(65_536)):
                    break
                answer += piece
            if b"\r\n\r\n" in answer:
                time.sleep(0.05)
                connection.settimeout(0.2)
                answer += connection.recv(65_536)
        except (TimeoutError, ConnectionError):
            pass
    return _parsed(answer)


def _parsed(answer: bytes) -> tuple[int, bytes]:
    head, _, rest = answer.partition(b"\r\n\r\n")
    length = next(
        int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")
    )
    return int(head.split(b" ")[1]), rest[:length]
