"""A text that makes the model fail costs itself, and is counted once when the model is mended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from stream.client import EventProducer, LiveCounters
from stream.settings import load
from tests.integration.conftest import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EVENTS = 500
POISON = 321


class PoisonedWorker(WorkerProcess):
    command = ("tests.integration.poisoned_worker",)


@pytest.fixture
def poisoned(topics_made: None, tmp_path: Path) -> Iterator[WorkerProcess]:
    worker = PoisonedWorker(tmp_path / "poisoned.log")
    yield worker
    if worker.process.poll() is None:
        worker.kill()


def dlq(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "dlq", *arguments],
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def send_reviews() -> None:
    with EventProducer(load()) as producer:
        for n in range(EVENTS):
            text = "It tastes of poison." if n == POISON else "The lid broke."
            producer.send_review(event_id=f"e{n}", product_id="kettle", text=text, event_time=time.time())


@pytest.mark.slow
def test_a_text_the_model_fails_on_is_set_aside_alone_and_counted_once_after_a_fix(
    poisoned: WorkerProcess, start_worker: Callable[..., Any], wait_until_ended: Callable[..., Any]
) -> None:
    send_reviews()
    totals = wait_until_ended(EVENTS)["reviews"]
    assert (totals.counted, totals.dead) == (EVENTS - 1, 1)
    [letter] = [json.loads(line) for line in dlq("list", "--json").splitlines()]
    assert letter["stage"] == "score"
    assert "RuntimeError: Non-zero status code returned while running Attention node" in letter["reason"]

    dlq("redrive", "--yes")  # too early: it fails again, and is another letter
    totals = wait_until_ended(EVENTS + 1)["reviews"]
    assert (totals.counted, totals.dead) == (EVENTS - 1, 2)
    assert poisoned.stop() == 0

    mended = start_worker()
    dlq("redrive", "--yes")
    totals = wait_until_ended(EVENTS + 2)["reviews"]
    assert (totals.counted, totals.dead, totals.duplicate) == (EVENTS, 2, 0)
    dlq("redrive", "--yes")  # nothing is left to send
    assert mended.stop() == 0
    with LiveCounters(load()) as counters:
        assert counters.get("kettle", "all").events == EVENTS
        assert counters.totals()["reviews"].ended == EVENTS + 2
