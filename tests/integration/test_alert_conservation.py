"""Alerts are a function of the log: whichever workers die, each transition is told, and told alike."""

from __future__ import annotations

import random
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from kafka import KafkaProducer

from stream.client.log import read_topic
from stream.core.decode import Limits, decode_run
from stream.core.events import Alert
from stream.core.spike import Observation
from stream.detectors import detector_of
from stream.kafka_config import kafka_python_config
from stream.rules import load_rules
from stream.scorer.constant import ConstantScorer
from stream.settings import load
from tests.integration.complaining_worker import SURE
from tests.integration.conftest import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream.settings import Settings

PRODUCTS, REVIEWS_EACH = 24, 240
HOUR_MS = 3_600_000
INCIDENT = range(150, 190)
RULES = """version = 1
[[threshold]]
name = "half"
window = "24h"
share = 0.5
min_events = 8
"""
KILLS = 4


class ComplainingWorker(WorkerProcess):
    command = ("tests.integration.complaining_worker",)


@pytest.fixture
def start(topics_made: None, tmp_path: Path) -> Iterator[Callable[[], WorkerProcess]]:
    started: list[WorkerProcess] = []

    def start_one() -> WorkerProcess:
        started.append(ComplainingWorker(tmp_path / f"complaining{len(started)}.log"))
        return started[-1]

    yield start_one
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


def reviews() -> list[tuple[int, dict[str, Any]]]:
    """Time and value of each, an hour apart and by product; half of the products go wrong, then recover."""
    chance = random.Random(5)
    first_ms = int(time.time() * 1000) - REVIEWS_EACH * HOUR_MS
    made = []
    for number in range(REVIEWS_EACH):
        for product in range(PRODUCTS):
            goes_wrong = product % 2 == 0 and number in INCIDENT
            bad = chance.random() < (0.85 if goes_wrong else 0.1)
            # In an incident they come five at a time.
            at_ms = first_ms + HOUR_MS * (INCIDENT.start + number % 8 if goes_wrong else number) + product
            said = f"the lid of number {chance.randrange(10**6)} leaks" if bad else "it boils"
            value = {
                "event_id": f"e{product}-{number}",
                "product_id": f"p{product}",
                "text": f"{'Bad' if bad else 'Good'}, {said}.",
                "event_time": at_ms,
                "author_id": f"a{number}",
                "category": "kettles",
            }
            made.append((at_ms, value))
    return made


def send(settings: Settings, some: list[tuple[int, dict[str, Any]]]) -> None:
    producer = KafkaProducer(**kafka_python_config(settings), acks="all")
    for at_ms, value in some:
        key = value["product_id"].encode()
        producer.send(settings.topic_reviews, msgspec.json.encode(value), key=key, timestamp_ms=at_ms)
    producer.flush(30)
    producer.close()


def judged_from_the_log(settings: Settings) -> dict[tuple[str, int], bytes]:
    """What the whole log means, judged at once: each transition by id and sequence, as bytes."""
    detector = detector_of(settings, load_rules(settings), ConstantScorer.version)
    of_product: dict[str, list[Observation]] = defaultdict(list)
    records = sorted(
        read_topic(settings, settings.topic_reviews), key=lambda each: (each.partition, each.offset)
    )
    for event in decode_run("reviews", records, Limits()).events:
        negative = event.text.startswith("Bad")
        of_product[event.product_id].append(
            Observation(
                event.event_id,
                event.arrival_ms,
                event.event_ms,
                negative,
                float(SURE if negative else 1 - SURE),
                event.author_id,
                event.text,
                event.category,
            )
        )
    alerts = [
        alert
        for product_id, observations in of_product.items()
        for alert in detector.judge(product_id, "reviews", None, observations)[1]
    ]
    return {(alert.id, alert.sequence): msgspec.json.encode(alert) for alert in alerts}


def told(settings: Settings) -> list[tuple[tuple[str, int], bytes]]:
    """Every record of the alerts topic, repeats included."""
    found = []
    for record in read_topic(settings, settings.topic_alerts):
        alert = msgspec.json.decode(record.value, type=Alert)
        found.append(((alert.id, alert.sequence), record.value))
    return found


def settings_that_alert(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Settings:
    """Set for workers, too: three rules, a generous budget, small windows."""
    rules = folder / "rules.toml"
    rules.write_text(RULES)
    monkeypatch.setenv("REVIEWPULSE_RULES", str(rules))
    monkeypatch.setenv("REVIEWPULSE_FALSE_ALARMS_PER_DAY", "10")
    monkeypatch.setenv("REVIEWPULSE_EXPECTED_EVENTS_PER_DAY", "20000")
    monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
    return load()


@pytest.mark.slow
def test_alerts_are_those_of_the_log_byte_for_byte_whichever_workers_die(
    start: Callable[[], WorkerProcess],
    wait_until_ended: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = settings_that_alert(monkeypatch, tmp_path)
    everything = reviews()
    chance = random.Random(6)
    workers = [start(), start()]
    part = len(everything) // (KILLS + 1)
    for kill in range(KILLS):
        send(settings, everything[kill * part : (kill + 1) * part])
        # In the midst of its work: one that has done nothing yet leaves nothing behind.
        wait_until_ended(kill * part + chance.randrange(part // 4, part))
        workers.pop(0).kill()
        workers.append(start())
    send(settings, everything[KILLS * part :])
    wait_until_ended(len(everything))

    expected = judged_from_the_log(settings)
    deadline = time.monotonic() + 30
    while len(dict(told(settings))) < len(expected) and time.monotonic() < deadline:
        time.sleep(0.2)
    found = told(settings)
    assert dict(found) == expected
    assert all(value == expected[which] for which, value in found), "a repeat differs from the first"

    alerts = [msgspec.json.decode(value, type=Alert) for value in expected.values()]
    assert {alert.rule for alert in alerts} == {"negative_share", "negative_rate", "half"}
    wrong = {f"p{product}" for product in range(0, PRODUCTS, 2)}
    for product_id in wrong:
        of_share = [a for a in alerts if a.product_id == product_id and a.rule == "negative_share"]
        assert [a.state for a in of_share if a.sequence == 1] == ["firing"] * len({a.id for a in of_share})
        assert sum(a.state == "resolved" for a in of_share) == len({a.id for a in of_share}) >= 1
    assert [worker.stop() for worker in workers] == [0, 0]
