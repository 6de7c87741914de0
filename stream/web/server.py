"""Runs the application: one process, one event loop, a graceful end.

Rules:
- It listens beyond loopback only with tokens.
- When told to end it takes no new connection, ends the streams at once (``Shared.stopping``), and finishes
  what is being answered, for ``GRACE_S`` at most. Told again later, it ends without that, and says so;
  `timeout` and a terminal's group tell it twice at once, which is one wish.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import resource
import signal
import socket
import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from stream.errors import UsageError
from stream.health import HealthServer, address_of, pages
from stream.metrics.vitals import Vitals
from stream.tasks import end
from stream.web.app import create_app
from stream.web.connection import IDLE_S, MOST_CONNECTIONS, Connection
from stream.web.measured import Measured, Requests, read_shared, troubles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from stream.settings import Settings
    from stream.web.shared import Shared

log = structlog.get_logger("stream.web")

GRACE_S = 15
"""Above the producer's flush, below the 30 s that supervisors grant."""
SAME_S = 1.0
"""Signals this close together are one."""
LOOK_S = 1.0
"""How often connections are looked at."""
RESERVED_FILES = 256
"""Of the files a process may open: what connections must leave to the rest."""


class Server(uvicorn.Server):
    """uvicorn's, which tells the streams before it waits for them, and looks after its connections.

    Signals end it; they are not raised again when it has ended, for an end in good order is no failure.
    """

    def __init__(self, config: uvicorn.Config, shared: Shared, vitals: Vitals | None = None) -> None:
        super().__init__(config)
        self._shared = shared
        self._vitals = vitals
        self._told_at: float | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins."""
        await super().startup(sockets)
        self._looking = [asyncio.create_task(self._look())]
        if self._vitals is not None:
            self._looking.append(asyncio.create_task(self._vitals.run()))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams, then the rest."""
        self._shared.stopping.set()
        await super().shutdown(sockets)
        await end(self._looking)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask for the end; one more later, and it is not waited for."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {each: signal.signal(each, self._told) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _told(self, *_: Any) -> None:
        now = time.monotonic()
        if self._told_at is None:
            self._told_at = now
            self.should_exit = True
        elif now - self._told_at >= SAME_S and not self.force_exit:
            log.warning("told to end again: what is being answered is not waited for")
            # What is cut off then is no error, and uvicorn would print where each task was.
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
            self.force_exit = True

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_S)
            for connection in list(self.server_state.connections):
                assert isinstance(connection, Connection)
                connection.look(loop.time())


def serve(settings: Settings, on_ready: Callable[[str], None] = lambda _: None) -> None:
    """Serves until SIGTERM or Ctrl-C.

    Args:
        settings: of the server.
        on_ready: called with the address, once connections are taken.

    Raises:
        UsageError: the settings are wrong, or the address cannot be listened on.
    """
    app = create_app(settings)
    shared: Shared = app.state.shared
    check_reach(settings, bool(shared.tokens))
    vitals, requests = None, Requests()
    health: AbstractContextManager[object] = contextlib.nullcontext()
    if settings.health:
        vitals = Vitals(partial(troubles, shared))
        health = _health(settings.health, shared, vitals, requests)
    with _listen(settings.web_host, settings.web_port) as listening, health:
        config = uvicorn.Config(
            app if vitals is None else Measured(app, requests),
            log_config=None,
            access_log=False,
            http=Connection,
            ws="none",
            lifespan="on",
            server_header=False,
            timeout_keep_alive=int(IDLE_S),
            timeout_graceful_shutdown=GRACE_S,
        )
        Connection.most_connections = most_connections()
        for name in ("uvicorn", "uvicorn.error"):  # a line for each bad request would be anybody's to write
            logging.getLogger(name).setLevel(logging.ERROR)
        on_ready(address(settings.web_host, listening.getsockname()[1]))
        Server(config, shared, vitals).run([listening])


def _health(where: str, shared: Shared, vitals: Vitals, requests: Requests) -> HealthServer:
    from stream.metrics.page import metrics_pages, registry  # noqa: PLC0415  # only where they are served

    shown = metrics_pages(registry("web", vitals.read, requests.read, partial(read_shared, shared)))
    return HealthServer(address_of(where), pages(vitals.report) | shown)


def check_reach(settings: Settings, has_tokens: bool) -> None:
    """Refuses to be open to everybody.

    Raises:
        UsageError: other machines reach the server, and it has no tokens.
    """
    if not has_tokens and not is_loopback(settings.web_host):
        raise UsageError(
            f"REVIEWPULSE_WEB_HOST={settings.web_host} is reached from other machines: that needs"
            " REVIEWPULSE_WEB_TOKENS, or everybody could silence alerts."
        )


def address(host: str, port: int) -> str:
    """Where a browser finds it.

    >>> address("127.0.0.1", 8000), address("::1", 80)
    ('http://127.0.0.1:8000/', 'http://[::1]:80/')
    """
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0"), is_loopback("::1")
    (True, True, False, True)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def most_connections() -> int:
    """How many connections this process may hold; raises its limit of open files as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_CONNECTIONS + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return min(MOST_CONNECTIONS, soft - RESERVED_FILES)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=1024
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise UsageError(
            f"{host}:{port} cannot be listened on: {why}. Choose another with --port or REVIEWPULSE_WEB_PORT."
        ) from None
