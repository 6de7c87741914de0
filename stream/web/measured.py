"""Requests counted and timed, around the whole application; and what else ``/metrics`` shows of the server.

Rules:
- A route is shown as its template (``/api/v1/counters``), never as the path that was asked: a path may be
  anything, and hold anything. What matches no route is ``none``.
- Time runs until the head of the answer goes out: a live stream has no other end.
- What the connection refuses before there is a request (a head too large, or too slow) is not counted.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from stream.errors import DependencyError
from stream.metrics.catalogue import BY_NAME, label
from stream.metrics.distribution import Distribution

if TYPE_CHECKING:
    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from stream.metrics.families import Values
    from stream.web.shared import Shared

METHODS = frozenset(label("reviewpulse_http_requests_total", "method").values)
NO_ROUTE = "none"


class Requests:
    """What was answered, and how soon."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, str, str]] = Counter()
        """By method, route, status."""
        self.seconds: dict[str, Distribution] = {}

    def add(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one."""
        self.answered[method if method in METHODS else "other", route, str(status)] += 1
        if route not in self.seconds:
            self.seconds[route] = Distribution(BY_NAME["reviewpulse_http_request_seconds"].buckets)
        self.seconds[route].add(seconds)

    def read(self, values: Values) -> None:
        """All of it; from any thread."""
        values.set_all("reviewpulse_http_requests_total", self.answered.copy())
        for route, distribution in self.seconds.copy().items():
            values.histogram("reviewpulse_http_request_seconds", distribution, route)


class Measured:
    """An ASGI application whose requests are counted.

    Args:
        app: it.
        requests: takes note.
    """

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers as the application does."""
        asked: Any = scope
        if asked["type"] != "http":  # the application's own beginning and end
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                seconds = time.perf_counter() - started
                self._requests.add(asked["method"], _route(asked), message["status"], seconds)
            await send(message)

        await self._app(scope, receive, sending)


def _route(scope: Any) -> str:
    """The template of the route that Litestar found."""
    template: str = scope.get("path_template") or NO_ROUTE
    return template


async def troubles(shared: Shared) -> dict[str, str | None]:
    """What is wrong, by check; see ``stream.metrics.vitals``."""
    redis = None
    try:
        await shared.counters.get("readyz", "all")
    except DependencyError as error:
        redis = str(error)
    return {"redis": redis, "kafka": shared.ingest.trouble, "alerts": shared.alerts.trouble}


def read_shared(shared: Shared, values: Values) -> None:
    """Viewers and events."""
    values.set("reviewpulse_viewers", len(shared.viewers) if shared.viewers is not None else 0)
    values.set_all("reviewpulse_ingest_events_total", shared.ingest.outcomes)
    values.set("reviewpulse_ingest_waiting_bytes", shared.ingest.waiting_bytes)
