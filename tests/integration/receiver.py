"""A web server that takes what ``notify`` sends: well, badly, never, or not at all for a while."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

STALL_S = 30.0


class Received(NamedTuple):
    """A request that was read to its end."""

    path: str
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    mood: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Listens on a port of its own, and answers as its mood is.

    Moods: ``ok``, a status (``500``), ``429`` (with Retry-After: 1), ``stall`` (reads, and never answers),
    ``drop`` (reads, and closes), ``deaf`` (closes before it reads), ``redirect``, ``code N`` (a robot's).
    """

    def __init__(self, mood: str | Callable[[], str] = "ok") -> None:
        self.mood = mood
        self.received: list[Received] = []
        self.retry_after = "1"
        self.elsewhere = "/elsewhere"
        self._released = threading.Event()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0
        self.revive()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.die()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def die(self) -> None:
        """Nobody listens any more."""
        self._released.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def revive(self) -> None:
        """Listens again, on the same port."""
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler())
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def wait(self, condition: Callable[[], object], timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, [
                (each.mood, each.headers.get("webhook-id"), each.path) for each in self.received
            ]
            time.sleep(0.05)

    def ids(self, *moods: str) -> list[str]:
        """Ids received, in order; with moods, those answered so."""
        return [each.headers["webhook-id"] for each in list(self.received) if not moods or each.mood in moods]

    def answer(self, mood: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        if mood.startswith("code "):
            return 200, {}, json.dumps({"errcode": int(mood[5:]), "errmsg": f"said {mood}"}).encode()
        if mood == "redirect":
            return 307, {"Location": self.elsewhere}, b""
        if mood.isdigit():
            headers = {"Retry-After": self.retry_after} if mood in ("429", "503") else {}
            return int(mood), headers, f"said {mood}".encode()
        return 200, {}, b'{"errcode": 0, "errmsg": "ok"}'

    def _handler(receiver) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler's below
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            released = receiver._released

            def do_POST(self) -> None:
                mood = receiver.mood if isinstance(receiver.mood, str) else receiver.mood()
                if mood == "deaf":
                    self.close_connection = True
                    return
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.received.append(Received(self.path, headers, body, mood))
                if mood == "stall":
                    self.released.wait(STALL_S)
                if mood in ("stall", "drop"):
                    self.close_connection = True
                    return
                self._answer(mood)

            def _answer(self, mood: str) -> None:
                status, headers, answer = receiver.answer(mood)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        return Handler


def is_signed(received: Received, secret: str) -> bool:
    """Whether the signature is right, by the letter of Standard Webhooks and none of our code."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    headers = received.headers
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + received.body
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    return f"v1,{expected}" in headers["webhook-signature"].split(" ")
