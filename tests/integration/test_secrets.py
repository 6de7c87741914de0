"""A sweep: no secret in any output, whatever command, with debug logs, and with servers that refuse.

Every setting that is a ``SecretStr`` holds a canary, and so do the URL and the notify file's addresses. The
servers take connections, read what is said, and answer nothing that is right.
"""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from stream.local import HOST
from stream.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WAIT_S = 20.0
"""Longer than clients look for a broker."""
CANARY = "canary-{name}-7Qx"
SECRETS = [
    name
    for name, field in Settings.model_fields.items()
    if SecretStr in getattr(field.annotation, "__args__", ())
]
NOTIFY = f"""
version = 1
default = "a"

[[target]]
name = "a"
type = "slack"
url = "http://{HOST}:1/{CANARY.format(name="hook")}"
"""


class Refuses(socketserver.BaseRequestHandler):
    """Repeats what it is told as an error: the worst that a server can do with a secret."""

    says = b"-WRONGPASS invalid username-password pair: %s\r\n"

    def handle(self) -> None:
        while said := self.request.recv(4096):
            told = said.replace(b"\r\n", b" ")[:300]
            self.request.sendall(self.says % told)


class KnowsNoLogin(Refuses):
    """What Redis 5, and proxies, answer to HELLO and to AUTH with a user."""

    says = b"-ERR unknown command `AUTH`, with args beginning with: %s\r\n"


class Silent(socketserver.BaseRequestHandler):
    """Takes connections and hangs up."""

    def handle(self) -> None:
        self.request.recv(4096)


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    servers = {
        name: socketserver.ThreadingTCPServer((HOST, 0), handler)
        for name, handler in (("redis", Refuses), ("old redis", KnowsNoLogin), ("kafka", Silent))
    }
    for each in servers.values():
        each.daemon_threads = True
        threading.Thread(target=each.serve_forever, args=(0.01,), daemon=True).start()
    yield {name: each.server_address[1] for name, each in servers.items()}
    for each in servers.values():
        each.shutdown()
        each.server_close()


COMMANDS = (
    ("doctor",),
    ("doctor", "--json"),
    ("worker", "--scorer", "constant"),
    ("counters", "kettle"),
    ("top",),
    ("alerts",),
    ("silences",),
    ("bundle", "status"),
    ("notify", "check"),
    ("notify", "queue"),
    ("topics",),
    ("forget", "--product", "kettle", "--dry-run"),
    ("rebuild", "--abort"),
    ("web", "--port", "0"),
)


@pytest.mark.slow
def test_no_command_shows_a_secret_to_anybody(ports: dict[str, int], tmp_path: Path) -> None:
    assert {"redis_password", "kafka_password", "web_tokens", "redis_sentinel_password"} <= set(SECRETS)
    canaries = {name: CANARY.format(name=name.replace("_", "-")) for name in SECRETS}
    (tmp_path / "notify.toml").write_text(NOTIFY)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, canary in canaries.items():
        value = f"ops:read:{canary}" if name == "web_tokens" else canary
        (secrets / f"reviewpulse_{name}").write_text(value)
    url_canary = CANARY.format(name="url")
    environment = {
        **os.environ,
        "REVIEWPULSE_SECRETS_DIR": str(secrets),
        "REVIEWPULSE_REDIS": f"redis://ops:{url_canary}@{HOST}:{ports['redis']}/0?protocol=2",
        "REVIEWPULSE_KAFKA": f"{HOST}:{ports['kafka']}",
        "REVIEWPULSE_KAFKA_SECURITY": "SASL_PLAINTEXT",
        "REVIEWPULSE_KAFKA_SASL_MECHANISM": "PLAIN",
        "REVIEWPULSE_KAFKA_USERNAME": "ops",
        "REVIEWPULSE_NOTIFY": str(tmp_path / "notify.toml"),
        "REVIEWPULSE_LOG_LEVEL": "debug",
        "REVIEWPULSE_SCORER": "constant",
    }
    old = environment | {
        "REVIEWPULSE_REDIS": f"redis://ops:{url_canary}@{HOST}:{ports['old redis']}/0",
    }
    commands = [(environment, each) for each in COMMANDS]
    commands += [(old, each) for each in (("worker", "--scorer", "constant"), ("top",), ("bundle", "status"))]
    found = {}
    everything = (*canaries.values(), url_canary, CANARY.format(name="hook"))
    with ThreadPoolExecutor(6) as threads:  # most of the time they wait
        outputs = list(threads.map(lambda each: said_by(*each), commands))
    for (_, arguments), said in zip(commands, outputs, strict=True):
        assert said.strip(), arguments
        assert "Traceback" not in said, (arguments, said)
        if shown := [each for each in everything if each in said]:
            found[arguments] = shown
    assert found == {}


def said_by(environment: dict[str, str], arguments: tuple[str, ...]) -> str:
    """All that a command prints within some seconds; those that wait are ended."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli.main", *arguments],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        return process.communicate(timeout=WAIT_S)[0]
    except subprocess.TimeoutExpired:
        process.terminate()
        return process.communicate(timeout=30)[0]
