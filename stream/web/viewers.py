"""Who watches the live stream, and what goes out to them: server-sent events, encoded once for all.

Rules:
- Whatever is told is bytes by the time it comes here, made once however many watch. A viewer costs a queue.
- Of what stands for itself (figures, leaders, silences, a product) only the latest waits for a viewer: a
  slow one skips, and is up to date again with its next read.
- Alerts are told one by one, in order. A viewer with ``MOST_WAITING`` of them unread is let go; it comes
  back with the id of the last one it saw, and gets what it missed.
- Nobody is waited for: telling puts things in queues, and each viewer's own task empties its own.
- An alert's id is ``boot.number.time``. One of this process leads to the exact place. One of another process
  (a restart, another server) leads to all alerts since shortly before its time: a repeat is known by the
  alert's sequence, a gap could not be known.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

HEARTBEAT_S = 15.0
HEARTBEAT = b": still here\n\n"
MOST_WAITING = 256
"""Alerts that wait for one viewer: 1 MB at most."""
REMEMBERED = 1_000
"""Alert events that can be told again."""
OVERLAP_MS = 600_000
"""An alert's time is that of the event that caused it; between that and its being heard lies the lag."""
RETRY_MS = 2_000
"""What browsers are asked to wait before they come back."""

_SEPARATORS = tuple((each.encode(), f"\\u{ord(each):04x}".encode()) for each in "\x85\u2028\u2029")

_ID = re.compile(r"([0-9a-f]{8})\.(\d{1,18})\.(\d{1,18})", re.ASCII)


def event(name: str, data: bytes, id_: str | None = None) -> bytes:
    r"""A server-sent event.

    Args:
        name: of the event.
        data: JSON, hence without a line break. What only some readers take for one (Python's) is escaped.
        id_: what whoever comes back says it has seen.

    >>> event("overview", b'{"lag":0}')
    b'event: overview\ndata: {"lag":0}\n\n'
    """
    for separator, escape in _SEPARATORS:
        data = data.replace(separator, escape)
    head = f"event: {name}\n" if id_ is None else f"id: {id_}\nevent: {name}\n"
    return b"".join((head.encode(), b"data: ", data, b"\n\n"))


class Told(NamedTuple):
    """An alert event that went out."""

    number: int
    sent: bytes


class Viewer:
    """One open stream.

    Args:
        product_id: whose figures it asks for, too; None for none.
    """

    def __init__(self, product_id: str | None = None) -> None:
        self.product_id = product_id
        self._latest: dict[str, bytes] = {}
        self._alerts: deque[bytes] = deque()
        self._has_news = asyncio.Event()
        self._is_over = False

    def show(self, name: str, sent: bytes) -> None:
        """Gives what stands for itself, in place of an older one that was not read yet."""
        self._latest.pop(name, None)  # to the end of the line
        self._latest[name] = sent
        self._has_news.set()

    def tell(self, sent: bytes) -> None:
        """Gives an alert; a viewer that has too many of them unread is let go."""
        if len(self._alerts) >= MOST_WAITING:
            self.let_go()
            return
        self._alerts.append(sent)
        self._has_news.set()

    def let_go(self) -> None:
        """Ends the stream."""
        self._is_over = True
        self._alerts.clear()
        self._latest.clear()
        self._has_news.set()

    async def chunks(self, heartbeat_s: float = HEARTBEAT_S) -> AsyncIterator[bytes]:
        """What goes out, until the stream ends."""
        yield f"retry: {RETRY_MS}\n\n".encode()
        while not self._is_over:
            try:
                async with asyncio.timeout(heartbeat_s):
                    await self._has_news.wait()
            except TimeoutError:
                yield HEARTBEAT
                continue
            self._has_news.clear()
            # Alerts first: nothing that stands for itself is older than they are.
            chunk = b"".join((*self._alerts, *self._latest.values()))
            self._alerts.clear()
            self._latest.clear()
            if chunk:
                yield chunk


class Viewers:
    """All open streams, and what was told lately.

    Args:
        most: viewers at once.
    """

    def __init__(self, most: int = 2_000) -> None:
        self.most = most
        self._boot = uuid4().hex[:8]
        self._viewers: set[Viewer] = set()
        self._by_product: dict[str, set[Viewer]] = {}
        self._latest: dict[str, bytes] = {}
        """Of what stands for itself: everybody gets it at the start."""
        self._told: deque[Told] = deque(maxlen=REMEMBERED)
        self._number = 0
        self._is_over = False

    def __len__(self) -> int:
        return len(self._viewers)

    @property
    def is_full(self) -> bool:
        """Whether no more are taken."""
        return len(self._viewers) >= self.most

    @property
    def products(self) -> list[str]:
        """Products that somebody watches."""
        return list(self._by_product)

    def add(self, product_id: str | None = None, last_id: str = "") -> Viewer:
        """Begins a stream, with how things are now.

        Args:
            product_id: whose figures are wanted, too.
            last_id: of the last alert event that was seen; anything else counts as none.
        """
        viewer = Viewer(product_id)
        for sent in self._since(last_id):
            viewer.tell(sent)
        for name, sent in self._latest.items():
            viewer.show(name, sent)
        if self._is_over:
            viewer.let_go()
        self._viewers.add(viewer)
        if product_id is not None:
            self._by_product.setdefault(product_id, set()).add(viewer)
        return viewer

    def remove(self, viewer: Viewer) -> None:
        """Ends a stream."""
        viewer.let_go()
        self._viewers.discard(viewer)
        if viewer.product_id is not None:
            watching = self._by_product.get(viewer.product_id, set())
            watching.discard(viewer)
            if not watching:
                self._by_product.pop(viewer.product_id, None)

    def show(self, name: str, data: bytes) -> None:
        """Shows everybody what stands for itself.

        Args:
            name: of the event.
            data: JSON.
        """
        sent = self._latest[name] = event(name, data)
        for viewer in self._viewers:
            viewer.show(name, sent)

    def show_product(self, product_id: str, data: bytes) -> None:
        """Shows a product's figures to those who watch it."""
        sent = event("product", data)
        for viewer in self._by_product.get(product_id, ()):
            viewer.show("product", sent)

    def tell(self, data: bytes, at_ms: int) -> None:
        """Tells everybody of an alert.

        Args:
            data: JSON.
            at_ms: now.
        """
        self._number += 1
        told = Told(self._number, event("alert", data, self._id(at_ms)))
        self._told.append(told)
        for viewer in list(self._viewers):
            viewer.tell(told.sent)

    def close(self) -> None:
        """Ends every stream, and those to come."""
        self._is_over = True
        for viewer in self._viewers:
            viewer.let_go()

    def away_since(self, last_id: str) -> int | None:
        """From when on another server's viewer may have missed alerts, ms since the epoch.

        None for an id of this process, which says it exactly, and for what is no id.
        """
        known = _ID.fullmatch(last_id)
        if known is None or known[1] == self._boot:
            return None
        return int(known[3]) - OVERLAP_MS

    def tell_one(self, viewer: Viewer, data: bytes, at_ms: int) -> None:
        """Tells one viewer of an alert of before; arguments as of ``tell``."""
        viewer.tell(event("alert", data, self._id(at_ms)))

    def _id(self, at_ms: int) -> str:
        return f"{self._boot}.{self._number}.{at_ms}"

    def _since(self, last_id: str) -> Iterable[bytes]:
        """What was told after an id of this process, the last ``MOST_WAITING`` of it."""
        known = _ID.fullmatch(last_id)
        if known is None or known[1] != self._boot:
            return []
        return [told.sent for told in self._told if told.number > int(known[2])][-MOST_WAITING:]
