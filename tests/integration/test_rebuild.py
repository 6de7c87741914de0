"""Counting all of it again beside the live counters: exact after the switch, under load, after a kill."""

from __future__ import annotations

import asyncio
import gzip
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stream.client import AlertSubscriber, EventProducer, LiveCounters
from stream.redis_config import connect
from stream.store.layout import MARK_FIELD, Layout, read_written
from tests.integration.conservation import EVENTS, Sent, make_events, recount, send, stored, stored_of_fleet

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings

MORTAL = Path(__file__).with_name("mortal_rebuild.py")


def rebuild(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(MORTAL), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **environment},
    )


def begin(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """A slow one, in the middle of counting when this returns."""
    process = subprocess.Popen(
        [sys.executable, str(MORTAL), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PAUSE_S": "0.1", "REVIEWPULSE_WINDOW_EVENTS": "64", **environment},
    )
    assert process.stdout is not None
    for _ in range(8):
        assert process.stdout.readline(), process.stderr and process.stderr.read()
    return process


def live(settings: Settings) -> Layout:
    with connect(settings) as client:
        return read_written(client.get(f"{settings.namespace}:layout")).layout(settings.namespace)


@pytest.fixture
def counted(
    settings: Settings, start_worker: Callable[..., Any], wait_until_ended: Callable[..., Any]
) -> list[Sent]:
    """A quarter of the events, counted by a worker that has stopped since."""
    events = make_events(settings, seed=7)[: EVENTS // 4]
    worker = start_worker()
    worker.wait_for("worker started")
    asyncio.run(send(settings.kafka, events, over_s=0.5))
    wait_until_ended(len(events))
    assert worker.stop() == 0
    return events


@pytest.mark.slow
def test_a_rebuild_under_load_is_exact_and_workers_and_readers_follow(
    settings: Settings,
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
    events = make_events(settings, seed=8)
    half = EVENTS // 2
    workers = [start_worker(), start_worker()]
    for worker in workers:
        worker.wait_for("worker started")
    asyncio.run(send(settings.kafka, events[:half], over_s=1.0))
    wait_until_ended(half)
    with connect(settings) as client, LiveCounters(settings) as counters:
        layout = live(settings)
        (lost,) = client.zrange(layout.active(0), 0, 0)
        client.unlink(layout.product(lost.decode()))  # what no gap in the offsets tells of
        sender = threading.Thread(
            target=asyncio.run, args=(send(settings.kafka, events[half:], over_s=12.0),)
        )
        sender.start()
        done = rebuild()
        assert done.returncode == 0, done.stderr
        assert counters.get(lost.decode(), "all").events > 0
        sender.join()
        wait_until_ended(EVENTS)
        assert live(settings).generation == 1
        products, _ = found = stored(settings)
        assert found == recount(events)
        assert stored_of_fleet(settings) == sum(each["total"] for each in products.values())
        assert [worker.stop() for worker in workers] == [0, 0]
        assert all("following the counters to another generation" in worker.log for worker in workers)
        old = Layout(settings.namespace, 1)
        assert list(client.hgetall(old.offsets(0))) == [MARK_FIELD.encode()]
        keys = {key.decode() for key in client.scan_iter(f"{old.prefix(0)}*", count=1000)}
        assert keys <= {old.offsets(0), old.notes}


@pytest.mark.slow
def test_a_rebuild_that_is_killed_goes_on_where_it_was(settings: Settings, counted: list[Sent]) -> None:
    before = stored(settings)
    process = begin()
    process.kill()
    process.wait()
    refused = rebuild()
    assert (refused.returncode, "being rebuilt or resharded already" in refused.stderr) == (2, True)
    with connect(settings) as client:
        client.delete(f"{settings.namespace}:moving")  # as if 30 s had passed
        half = client.hgetall(Layout(settings.namespace, 1, 1).ledger(0))
        assert 0 < sum(int(number) for number in half.values()) < len(counted)
    other = rebuild(NEGATIVE="yes")
    assert (other.returncode, "begun with model constant" in " ".join(other.stderr.split())) == (2, True)
    done = rebuild()
    assert done.returncode == 0, done.stderr
    assert live(settings).generation == 1
    assert stored(settings) == before == recount(counted)


def test_ctrl_c_leaves_the_live_counters_and_abort_removes_the_rest(
    settings: Settings, counted: list[Sent]
) -> None:
    before = stored(settings)
    process = begin()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "The same command goes on" in " ".join(said.split())) == (130, True)
    assert "A rebuild is not finished" in rebuild("--dry-run").stdout
    assert "was given up" in rebuild("--abort").stdout
    assert (live(settings).generation, stored(settings)) == (0, before)
    with connect(settings) as client:
        prefix = Layout(settings.namespace, 1, 1).prefix(0)
        assert [key.decode() for key in client.scan_iter(f"{prefix}*", count=1000)] == [f"{prefix}offsets"]


def test_a_dry_run_says_what_would_be_read_and_changes_nothing(
    settings: Settings, counted: list[Sent]
) -> None:
    with connect(settings) as client:
        before = client.get(f"{settings.namespace}:layout")
        dry = rebuild("--dry-run")
        assert dry.returncode == 0, dry.stderr
        said = dry.stdout
        assert client.get(f"{settings.namespace}:layout") == before
    assert f"{settings.topic_reviews}:0: " in said
    assert len(said.splitlines()) == 8


def told(settings: Settings) -> list[tuple[str, str, int]]:
    """Product, state and sequence of every transition that subscribers heard of."""
    with AlertSubscriber(settings, from_beginning=True) as alerts:
        return [(alert.product_id, alert.state, alert.sequence) for alert in alerts.available()]


@pytest.mark.slow
def test_another_model_says_other_things_and_subscribers_hear_only_what_differs(
    settings: Settings,
    start_worker: Callable[..., Any],
    wait_until_ended: Callable[..., Any],
) -> None:
    texts = ["It boils."] * 400 + ["It is awful."] * 80
    now_s = time.time()
    with EventProducer(settings) as producer:
        for n, text in enumerate(texts):
            producer.send_review(event_id=f"e{n}", product_id="kettle", text=text, event_time=now_s)
        producer.flush()

    def after_a_worker_ran() -> list[tuple[str, str, int]]:
        worker = start_worker()
        worker.wait_for("worker started")
        wait_until_ended(len(texts))
        with connect(settings) as client:
            deadline = time.monotonic() + 30
            while client.xlen(live(settings).outbox(0)):
                assert time.monotonic() < deadline, worker.log
                time.sleep(0.1)
        assert worker.stop() == 0
        return told(settings)

    assert after_a_worker_ran() == []
    done = rebuild(NEGATIVE="yes")
    assert done.returncode == 0, done.stderr
    with LiveCounters(settings) as counters:
        kettle = counters.get("kettle", "all")
    assert (kettle.negative, kettle.positive) == (80, 400)
    assert "1 alert transitions are told" in done.stdout
    assert after_a_worker_ran() == [("kettle", "firing", 1)]

    assert "0 alert transitions are told" in rebuild(NEGATIVE="yes").stdout
    assert after_a_worker_ran() == [("kettle", "firing", 1)]

    assert "1 alert transitions are told" in rebuild().stdout
    assert after_a_worker_ran()[-1] == ("kettle", "resolved", 2)

    assert "1 alert transitions are told" in rebuild(NEGATIVE="yes").stdout
    assert after_a_worker_ran()[-1] == ("kettle", "firing", 3)


def test_files_are_counted_first(settings: Settings, counted: list[Sent], tmp_path: Path) -> None:
    older = [each for each in make_events(settings, seed=9)[:600] if each.channel == "reviews"]
    path = tmp_path / "older.jsonl.gz"
    path.write_bytes(gzip.compress(b"\n".join(each.value.replace(b"\n", b" ") for each in older) + b"\n"))
    done = rebuild("--replay", str(path))
    assert done.returncode == 0, done.stderr
    products, ledger = recount(counted + older)
    stored_products, stored_ledger = stored(settings)
    assert {name: hash_["total"] for name, hash_ in stored_products.items()} == {
        name: hash_["total"] for name, hash_ in products.items()
    }
    for name in ("reviews:counted", "reviews:dead", "chats:counted", "chats:skipped"):
        assert stored_ledger[name] == ledger[name]


def test_a_file_that_is_not_there_is_one_sentence(settings: Settings, counted: list[Sent]) -> None:
    refused = rebuild("--replay", "/nowhere.jsonl")
    assert refused.returncode == 2
    assert refused.stderr.strip() == "reviewpulse: Cannot read /nowhere.jsonl: No such file or directory."
