"""`reviewpulse web` as a process, for tests: a real server on a real socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

from stream.settings import PREFIX, load

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from stream.settings import Settings

READY_S = 30.0


class WebServer:
    """One that runs."""

    def __init__(self, process: subprocess.Popen[str], address: str) -> None:
        self.process = process
        self.address = address.rstrip("/")
        self.port = urlsplit(address).port or 0
        self.client = httpx.Client(base_url=self.address, timeout=30)

    def get(self, path: str, **keywords: Any) -> httpx.Response:
        return self.client.get(path, **keywords)

    def post(self, path: str, **keywords: Any) -> httpx.Response:
        return self.client.post(path, **keywords)

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_S
        while (answer := self.get("/readyz")).status_code != 200:
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.05)

    def end(self, with_signal: int = signal.SIGTERM) -> int:
        self.process.send_signal(with_signal)
        return self.process.wait(30)


def own_names(servers: Any) -> dict[str, str]:
    """Variables that give a module's tests names of their own, as ``env`` gives a test's."""
    unique = f"test-{uuid4().hex[:10]}"
    return {
        "REVIEWPULSE_KAFKA": servers.kafka,
        "REVIEWPULSE_REDIS": servers.redis,
        "REVIEWPULSE_NAMESPACE": unique,
        "REVIEWPULSE_TOPIC_REVIEWS": f"{unique}.reviews",
        "REVIEWPULSE_TOPIC_CHATS": f"{unique}.chats",
        "REVIEWPULSE_TOPIC_ALERTS": f"{unique}.alerts",
        "REVIEWPULSE_PARTITIONS": "4",
        "REVIEWPULSE_SESSION_TIMEOUT_S": "6",
    }


def settings_of(variables: Mapping[str, str]) -> Settings:
    """The settings that variables make."""
    return load(**{name.removeprefix(PREFIX).lower(): value for name, value in variables.items()})


@contextmanager
def web_server(variables: Mapping[str, str] | None = None) -> Iterator[WebServer]:
    """Starts one on a free port, and kills it at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli.main", "web", "--port", "0"],
        stdout=subprocess.PIPE,
        env=os.environ | dict(variables or {}),
        text=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert "http://" in line, line
        server = WebServer(process, line[line.index("http://") :].strip())
        with server.client:
            yield server
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
