"""Workers as processes, and an independent count of what they should have counted."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from stream.client import LiveCounters
from stream.local import LocalServers
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

STOP_S = 30.0


class WorkerProcess:
    """``reviewpulse worker`` in a process of its own, configured by the environment."""

    command = ("stream.cli.main", "worker")

    def __init__(self, log_path: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command, *arguments],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def wait_for(self, text: str, timeout_s: float = 60.0) -> None:
        deadline = time.monotonic() + timeout_s
        while text not in self.log:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"no {text!r} in:\n{self.log}"
            time.sleep(0.05)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def own_servers(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[LocalServers]:
    """Servers that a test may kill; Redis keeps an append-only file."""
    with LocalServers(data_dir=tmp_path / "servers") as servers:
        monkeypatch.setenv("REVIEWPULSE_KAFKA", servers.kafka)
        monkeypatch.setenv("REVIEWPULSE_REDIS", servers.redis)
        ensure(load())
        yield servers


@pytest.fixture
def topics_made(env: dict[str, str]) -> None:
    ensure(load())


@pytest.fixture
def start_worker(topics_made: None, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers; those still running at the end are killed."""
    started: list[WorkerProcess] = []

    def start(*arguments: str) -> WorkerProcess:
        worker = WorkerProcess(
            tmp_path / f"worker{len(started)}.log", *(arguments or ("--scorer", "constant"))
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def wait_until_ended(env: dict[str, str]) -> Callable[..., dict[str, Any]]:
    """Waits until so many events ended in one of the four ways; returns the totals by channel."""

    def wait(number: int, timeout_s: float = 90.0) -> dict[str, Any]:
        deadline = time.monotonic() + timeout_s
        with LiveCounters(load()) as counters:
            while True:
                totals = counters.totals()
                ended = sum(each.ended for each in totals.values())
                if ended >= number:
                    return totals
                assert time.monotonic() < deadline, f"{ended} of {number} events ended: {totals}"
                time.sleep(0.1)

    return wait
