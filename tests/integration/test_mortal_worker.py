"""A record that kills every worker that reads it costs a few restarts, and itself."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from stream.client import EventProducer, LiveCounters
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVENTS = 600
DEADLY = 321


class Supervised:
    """A worker that is started again when it dies, as by Kubernetes or systemd."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self.deaths = 0
        self.start()

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.mortal_worker"], stdout=log, stderr=log
            )

    def restart_when_dead(self) -> None:
        if (code := self.process.poll()) is not None:
            assert code == -signal.SIGKILL, self.log_path.read_text()
            self.deaths += 1
            assert self.deaths < 12, self.log_path.read_text()
            self.start()


@pytest.fixture
def supervised(topics_made: None, tmp_path: Path) -> Iterator[Supervised]:
    worker = Supervised(tmp_path / "worker.log")
    yield worker
    if worker.process.poll() is None:
        worker.process.kill()
        worker.process.wait()


def dlq(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "dlq", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


@pytest.mark.slow
def test_a_deadly_record_is_set_aside_and_counted_once_after_a_fix(supervised: Supervised) -> None:
    def send(n: int, text: str) -> None:
        producer.send_review(event_id=f"e{n}", product_id="kettle", text=text, event_time=time.time())

    def ended(number: int) -> dict[str, Any]:
        deadline = time.monotonic() + 150
        while (totals := counters.totals()["reviews"]).ended < number:
            assert time.monotonic() < deadline, supervised.log_path.read_text()
            supervised.restart_when_dead()
            time.sleep(0.1)
        return totals

    with EventProducer(load()) as producer, LiveCounters(load()) as counters:
        for n in range(EVENTS):
            send(n, "deadly" if n == DEADLY else "The lid broke.")
        producer.flush()
        totals = ended(EVENTS)
        assert (totals.counted, totals.dead) == (EVENTS - 1, 1)
        assert 5 <= supervised.deaths <= 8
        assert "looking for the record that kills them" in supervised.log_path.read_text()
        (letter,) = [json.loads(line) for line in dlq("list", "--json").splitlines()]
        assert letter["stage"] == "worker"
        assert letter["reason"].startswith("workers died while they worked on this record")

        supervised.process.terminate()
        assert supervised.process.wait(30) == 0
        fixed = subprocess.Popen(
            [sys.executable, "-m", "stream.cli.main", "worker", "--scorer", "constant"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        supervised.process = fixed
        dlq("redrive", "--yes")
        send(DEADLY, "The lid broke.")  # its producer, too, sends it again
        producer.flush()
        totals = ended(EVENTS + 2)
        assert (totals.counted, totals.dead, totals.duplicate) == (EVENTS, 1, 1)
        assert counters.get("kettle", "all").events == EVENTS
