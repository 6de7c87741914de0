"""The receiver in the documentation, as its reader runs it."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stream.core.signing import secret_bytes, webhook_headers
from tests.integration.conftest import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "docs" / "verify_webhook.py"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105
BODY = b'{"state": "firing"}'
NOW_S = 1_700_000_000


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("verify_webhook", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_we_sign_is_genuine_with_either_secret(example: Any) -> None:
    other = "a text of at least 24 characters"
    headers = webhook_headers([secret_bytes(SECRET), secret_bytes(other)], "a-1", NOW_S, BODY)
    assert example.is_genuine(SECRET, headers, BODY, NOW_S + 299)
    assert example.is_genuine(other, headers, BODY, NOW_S - 299)


def test_what_is_changed_old_or_unsigned_is_not(example: Any) -> None:
    headers = webhook_headers([secret_bytes(SECRET)], "a-1", NOW_S, BODY)
    assert not example.is_genuine(SECRET, headers, BODY + b" ", NOW_S)
    assert not example.is_genuine(SECRET, headers, BODY, NOW_S + 301)
    assert not example.is_genuine("x" * 24, headers, BODY, NOW_S)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert not example.is_genuine(SECRET, headers | {name: "1"}, BODY, NOW_S)
        assert not example.is_genuine(SECRET, {**headers, name: ""}, BODY, NOW_S)


@pytest.fixture
def receiver() -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLE), str(port)],
        env={**os.environ, "HOOK_SECRET": SECRET},
        stdout=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while socket.socket().connect_ex(("127.0.0.1", port)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield process, port
    process.kill()
    process.wait()


def test_it_takes_what_notify_sends_and_nothing_else(
    receiver: tuple[subprocess.Popen[str], int], tmp_path: Path
) -> None:
    process, port = receiver
    target = f'[[target]]\nname = "hook"\ntype = "webhook"\nurl = "http://127.0.0.1:{port}/"\n'
    file = tmp_path / "notify.toml"
    for envelope in ("plain", "cloudevents"):
        lines = f'secret = {{ env = "HOOK_SECRET" }}\nenvelope = "{envelope}"\n'
        file.write_text(f"version = 1\ndefault = []\n{target}{lines}", "utf-8")
        command = [sys.executable, "-m", "stream.cli.main", "notify", "test", "hook", "--config", str(file)]
        right = subprocess.run(command, env={**os.environ, "HOOK_SECRET": SECRET}, check=False)
        assert right.returncode == 0
        assert process.stdout is not None
        assert process.stdout.readline().startswith("firing warning test-")
    wrong = subprocess.run(
        command, env={**os.environ, "HOOK_SECRET": "x" * 24}, check=False, capture_output=True, text=True
    )
    assert wrong.returncode == 3
    assert "it answered 401" in wrong.stderr
