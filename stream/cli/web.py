"""``reviewpulse web``."""

from __future__ import annotations

import typer


def web(
    host: str | None = typer.Option(None, help="Address to listen on; beyond loopback only with tokens."),
    port: int | None = typer.Option(None, min=0, max=65_535, help="Port; 0 picks a free one."),
    open_page: bool = typer.Option(False, "--open", help="Opens the page in a browser."),
) -> None:
    """Serves the live page and the HTTP API until SIGTERM or Ctrl-C.

    The API is under `/api/v1`; `/api/v1/openapi.json` describes it (docs/http-api.md). Without
    REVIEWPULSE_WEB_TOKENS everybody on this machine may use it, and it listens on loopback only. It waits for
    Kafka and Redis when they are away. Exit codes: 0 stopped, 2 wrong settings, or the port is taken.
    """
    from stream import logs
    from stream.config import log_unknown, start_settings
    from stream.web.server import serve

    settings = start_settings(("kafka", "redis", "web"), web_host=host, web_port=port)
    logs.configure(settings)
    log_unknown()

    def ready(address: str) -> None:
        print(f"The page is at {address}", flush=True)
        if open_page:
            import webbrowser

            webbrowser.open(address)

    serve(settings, ready)
