"""Runs the application: one process, one event loop, a graceful end.

Rules:
- It listens beyond loopback only with tokens.
- When told to end it takes no new connection, ends the streams at once (``Shared.stopping``), and finishes what
  is being answered, for ``GRACE_S`` at most.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import TYPE_CHECKING

import uvicorn

from stream.errors import UsageError
from stream.web.app import create_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings
    from stream.web.shared import Shared

GRACE_S = 15


class Server(uvicorn.Server):
    """uvicorn's, which tells the streams before it waits for them."""

    def __init__(self, config: uvicorn.Config, shared: Shared) -> None:
        super().__init__(config)
        self._shared = shared

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends the streams, then the rest."""
        self._shared.stopping.set()
        await super().shutdown(sockets)


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
    if not shared.tokens and not is_loopback(settings.web_host):
        raise UsageError(
            f"REVIEWPULSE_WEB_HOST={settings.web_host} is reached from other machines: that needs"
            " REVIEWPULSE_WEB_TOKENS, or everybody could silence alerts."
        )
    with _listen(settings.web_host, settings.web_port) as listening:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            http="httptools",
            ws="none",
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        on_ready(address(settings.web_host, listening.getsockname()[1]))
        Server(config, shared).run([listening])


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
