"""A rebuild reads the log that the live run read, and comes to the same alerts, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.core.events import Alert
from stream.redis_config import connect
from stream.store.layout import Layout, read_written
from tests.integration.test_alert_conservation import (
    INCIDENT,
    PRODUCTS,
    ComplainingWorker,
    judged_from_the_log,
    reviews,
    send,
    settings_that_alert,
    told,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream.settings import Settings

GOES_ON = PRODUCTS // 2
"""From this product on, the log ends in the midst of the incident: their alerts fire while it is rebuilt."""


def live(settings: Settings) -> Layout:
    with connect(settings) as client:
        return read_written(client.get(f"{settings.namespace}:layout")).layout(settings.namespace)


def states(settings: Settings) -> dict[str, bytes]:
    """What the detectors remember of each product."""
    layout = live(settings)
    with connect(settings) as client:
        return {f"p{number}": client.get(layout.spike("reviews", f"p{number}")) for number in range(PRODUCTS)}


def all_told(settings: Settings, number: int) -> list[tuple[tuple[str, int], bytes]]:
    """The records of the alerts topic, once they are so many or half a minute has passed."""
    deadline = time.monotonic() + 30
    while len(found := told(settings)) < number and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def rebuilt(withheld: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.complaining_rebuild"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "WITHHELD": str(withheld), **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_rebuild_comes_to_the_alerts_of_the_live_run_byte_for_byte_and_goes_on_from_there(
    topics_made: None,
    wait_until_ended: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_that_alert(monkeypatch, tmp_path)
    everything = reviews()

    def comes_later(value: dict[str, Any]) -> bool:
        product, number = value["event_id"].removeprefix("e").split("-")
        return int(product) >= GOES_ON and int(number) >= INCIDENT.stop - 5

    first = [each for each in everything if not comes_later(each[1])]
    send(settings, first)
    worker = ComplainingWorker(tmp_path / "worker.log")
    try:
        wait_until_ended(len(first))
        expected = judged_from_the_log(settings)
        live_run = all_told(settings, len(expected))
        assert worker.stop() == 0
        before = states(settings)

        # Cut into other micro-batches than the worker's.
        said = rebuilt(tmp_path / "withheld", REVIEWPULSE_WINDOW_EVENTS="500")
        lines = (tmp_path / "withheld").read_bytes().splitlines()
        alerts = [msgspec.json.decode(line, type=Alert) for line in lines]
        again = [((alert.id, alert.sequence), line) for alert, line in zip(alerts, lines, strict=True)]
        assert sorted(again) == sorted(live_run) == sorted(expected.items())
        assert {alert.rule for alert in alerts} == {"negative_share", "negative_rate", "half"}
        resolved = {alert.id for alert in alerts if alert.state == "resolved"}
        assert resolved
        assert {alert.id for alert in alerts} - resolved, "none fires while the log is read again"

        assert "; 0 alert transitions are told" in said
        assert live(settings).generation == 1
        assert states(settings) == before

        worker = ComplainingWorker(tmp_path / "worker.log")
        send(settings, [each for each in everything if comes_later(each[1])])
        wait_until_ended(len(everything))
        expected = judged_from_the_log(settings)
        assert sorted(all_told(settings, len(expected))) == sorted(expected.items())
        assert worker.stop() == 0
    finally:
        if worker.process.poll() is None:
            worker.kill()
