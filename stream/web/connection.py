"""One connection: what uvicorn's protocol leaves to chance is bounded here.

Rules:
- A request's head has ``HEAD_S`` and ``MOST_HEAD_BYTES``; neither uvicorn nor httptools bounds it (slow
  loris).
- A body must come at ``LEAST_BYTES_PER_S`` at least, as long as it is we who wait for it.
- Who does not take the answer for ``STALLED_S`` is cut off: its part of the answer waits in memory.
- When an answer is out before the body is in (a refusal), the rest is read for ``LINGER_S`` and dropped:
  closing at once would take the answer away from under a sender that still writes.
- What is refused here is answered in the API's shape of errors, and the connection closes.

Times are looked at by ``look``, once a second for all connections: no timer a request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

HEAD_S = 10.0
FIRST_S = 10.0
"""Until the first request of a connection begins."""
IDLE_S = 65.0
"""Until the next one does, and uvicorn's own timer is the same: above the 60 s after which proxies close idle
connections by themselves, so that no request meets one that is being closed."""
MOST_HEAD_BYTES = 32_768
BODY_WINDOW_S = 10.0
LEAST_BYTES_PER_S = 1_024
STALLED_S = 30.0
LINGER_S = 5.0
MOST_LINGER_BYTES = 32 << 20
MOST_PIPELINED = 64
MOST_CONNECTIONS = 4_096

Reading = Literal["nothing", "head", "body"]


class _Excess(Exception):  # noqa: N818  # never seen: httptools makes a parser's error of it
    pass


class Connection(HttpToolsProtocol):
    """uvicorn's protocol, with bounds."""

    most_connections = MOST_CONNECTIONS

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._reading: Reading = "nothing"
        self._has_asked = False
        """Whether the head of a first request is in."""
        self._since_s = 0.0
        """When the present reading, or the window of a body's, began."""
        self._head_bytes = 0
        """Read of a head that has not ended."""
        self._counted_bytes = 0
        """Of the present head's URL and headers."""
        self._body_bytes = 0
        self._stalled_since_s: float | None = None
        self._closing_since_s: float | None = None
        self._lingers_until_s: float | None = None
        self._lingered_bytes = 0
        self._refusing = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins; beyond so many connections the new one is turned away."""
        super().connection_made(transport)
        self._since_s = self.loop.time()
        if len(self.connections) > self.most_connections:
            self._refuse(503, "Too many connections: come again soon.")
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Reads on."""
        if self._lingers_until_s is not None:
            self._lingered_bytes += len(data)
        if self._refusing:
            return
        if self._reading == "nothing":
            self._begin("head")
        super().data_received(data)
        if self._reading == "head" and not self._refusing:
            self._head_bytes += len(data)  # it has not ended with this piece
            if self._head_bytes > MOST_HEAD_BYTES:
                self._refuse(431, _HEAD_TOO_LARGE)

    def send_400_response(self, msg: str) -> None:
        """What could not be parsed."""
        if self._counted_bytes > MOST_HEAD_BYTES:
            self._refuse(431, _HEAD_TOO_LARGE)
        else:
            self._refuse(400, msg)

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begin("head")
        self._counted_bytes = 0
        if len(self.pipeline) >= MOST_PIPELINED:
            raise _Excess

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        self._count(url)
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(name)
        self._count(value)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is in."""
        self._begin("body")
        self._has_asked = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is in."""
        self._begin("nothing")
        self._lingers_until_s = None
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The answer is out."""
        if not self.pipeline and self.cycle.more_body:
            self._lingers_until_s = self.loop.time() + LINGER_S
            self._lingered_bytes = 0
        super().on_response_complete()

    def look(self, now_s: float) -> None:
        """Ends the connection where the other side takes too long.

        Args:
            now_s: the event loop's time.
        """
        if self.transport.is_closing():
            # It closes when the other side has taken the rest, which it may never do.
            self._closing_since_s = self._closing_since_s or now_s
            if now_s - self._closing_since_s >= STALLED_S:
                self.transport.abort()
            return
        self._look_at_writing(now_s)
        since_s = now_s - self._since_s
        if self._lingers_until_s is not None:
            if now_s >= self._lingers_until_s or self._lingered_bytes > MOST_LINGER_BYTES:
                self.transport.close()
        elif self._reading == "head" and since_s >= HEAD_S:
            self._refuse(408, f"The request's head did not come within {HEAD_S:g} s.")
        elif self._reading == "body":
            self._look_at_body(since_s)
        elif not self._has_asked:
            if since_s >= FIRST_S:
                self.transport.close()
        elif since_s >= IDLE_S and self.cycle.response_complete:
            self.transport.close()

    def _look_at_writing(self, now_s: float) -> None:
        if not self.flow.write_paused:
            self._stalled_since_s = None
        elif self._stalled_since_s is None:
            self._stalled_since_s = now_s
        elif now_s - self._stalled_since_s >= STALLED_S:
            self.transport.abort()

    def _look_at_body(self, since_s: float) -> None:
        if self.flow.read_paused:
            self._begin("body")  # it is we who do not read
        elif since_s >= BODY_WINDOW_S:
            if self._body_bytes < LEAST_BYTES_PER_S * BODY_WINDOW_S:
                self._refuse(408, f"The body came slower than {LEAST_BYTES_PER_S:,} bytes a second.")
            self._begin("body")

    def _begin(self, reading: Reading) -> None:
        self._reading = reading
        self._since_s = self.loop.time()
        self._head_bytes = 0
        self._body_bytes = 0

    def _count(self, piece: bytes) -> None:
        self._counted_bytes += len(piece)
        if self._counted_bytes > MOST_HEAD_BYTES:
            raise _Excess

    def _refuse(self, status: int, sentence: str) -> None:
        self._refusing = True
        half_said = False
        if self.cycle is not None and not self.cycle.response_complete:
            half_said = self.cycle.response_started
            self.cycle.disconnected = True  # whoever answers is to end
            self.cycle.message_event.set()
        if half_said or not self.transport.can_write_eof():
            self.transport.close()
            return
        body = json.dumps({"error": sentence}).encode()
        self.transport.write(
            STATUS_LINE[status]
            + b"content-type: application/json\r\ncache-control: no-store\r\nconnection: close\r\n"
            + (b"retry-after: 2\r\n" if status == 503 else b"")
            + b"content-length: %d\r\n\r\n" % len(body)
            + body
        )
        self.transport.write_eof()
        self._lingers_until_s = self.loop.time() + LINGER_S


_HEAD_TOO_LARGE = f"The request's head is larger than {MOST_HEAD_BYTES:,} bytes."
