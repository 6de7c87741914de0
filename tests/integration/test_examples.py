"""The examples in the docs, run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from stream.client import EventProducer
from stream.client.log import read_topic
from stream.core.phrases import Phrase
from stream.topics import ensure
from tests.builders import alert

if TYPE_CHECKING:
    from stream.settings import Settings

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"


@pytest.fixture
def fired(settings: Settings) -> Settings:
    """The topics, and an alert that fires."""
    ensure(settings)
    firing = alert(product_id="kettle", phrases=[Phrase("leaks", 12, 0.6)], quotes=[])
    with EventProducer(settings) as producer:
        producer.send_record(settings.topic_alerts, b"a1", msgspec.json.encode(firing))
    return settings


def run(example: str, *arguments: str) -> list[str]:
    """What an example prints."""
    command = [sys.executable, str(EXAMPLES / example), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True, timeout=120
    ).stdout.splitlines()


def test_every_example_is_run_here() -> None:
    others = EXAMPLES.glob("tutorial_*.py")  # run by test_docs.py, with the tutorials they belong to
    assert {each.name for each in EXAMPLES.glob("*.py")} - {each.name for each in others} == {
        "send_events.py",
        "send_events_async.py",
        "read_counters.py",
        "follow_alerts.py",
        "follow_alerts_async.py",
        "follow_notifications.py",
    }


def test_sending(fired: Settings) -> None:
    refused, delivered = run("send_events.py")
    assert refused == "refused: Object missing required field `product_id`"
    assert delivered == "delivered: 2"
    said = run("send_events_async.py")
    assert said == ["202 accepted"] * 3 + ["400 Object missing required field `event_id`"]
    assert len(list(read_topic(fired, fired.topic_reviews))) == 4
    assert len(list(read_topic(fired, fired.topic_chats))) == 1


def test_reading_counters(fired: Settings) -> None:
    said = run("read_counters.py", "kettle")
    assert said == [
        *(f"kettle {window}: 0 events, - negative" for window in ("5m", "1h", "24h", "7d", "all")),
        "reviews counted so far: 0",
    ]


def test_following_alerts(fired: Settings) -> None:
    line = "firing warning kettle: 50% negative, usually 10%; about: leaks"
    assert run("follow_alerts.py", "--once") == [line]
    assert run("follow_alerts.py", "--once") == []  # the group keeps its place
    assert run("follow_alerts_async.py", "3") == ["firing kettle"]


def test_following_notifications(fired: Settings) -> None:
    (told,) = run("follow_notifications.py")
    assert told.endswith(" firing warning kettle")
    assert run("follow_notifications.py") == []
