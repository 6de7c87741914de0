"""Another model takes over while workers work: nothing lost or counted twice, one switch a partition."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("onnx")

from kafka import KafkaProducer
from tiny_bundles import make_bundle, some_text

from stream import bundle
from stream.client import LiveCounters
from stream.client.log import read_topic
from stream.kafka_config import kafka_python_config
from stream.redis_config import connect
from stream.scorer.check import scored
from stream.scorer.load import load_scorer
from stream.settings import load
from stream.store.layout import read_written
from stream.topics import ensure
from tests.integration.conftest import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from stream.settings import Settings

PRODUCTS = 40
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``a``, what is nearly the same (``b``), and what says negative for positive (``exchanged``)."""
    folder = tmp_path_factory.mktemp("bundles")
    make_bundle(folder / "a")
    make_bundle(folder / "b", nudge=0.03)
    make_bundle(folder / "exchanged", exchanged=True)
    return folder


@pytest.fixture
def start(
    env: dict[str, str], bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., WorkerProcess]]:
    """Starts workers that are configured with ``a``; those still running at the end are killed."""
    monkeypatch.setenv("REVIEWPULSE_PUBLISH_SCORES", "true")
    monkeypatch.setenv("REVIEWPULSE_BUNDLE", str(bundles / "a"))
    monkeypatch.setenv("REVIEWPULSE_WINDOW_EVENTS", "64")
    monkeypatch.setenv("REVIEWPULSE_THREADS", "1")
    ensure(load())
    started: list[WorkerProcess] = []

    def start_one(*arguments: str) -> WorkerProcess:
        started.append(WorkerProcess(tmp_path / f"worker{len(started)}.log", *arguments))
        return started[-1]

    yield start_one
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


class Load:
    """Reviews at a steady pace, on a thread of its own, until told to stop."""

    def __init__(self, settings: Settings, per_s: int = 250) -> None:
        self.sent: list[dict[str, Any]] = []
        self._settings = settings
        self._pause_s = 1 / per_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _send(self) -> None:
        chance = random.Random(7)
        producer = KafkaProducer(**kafka_python_config(self._settings), acks="all", linger_ms=5)
        while not self._stop.wait(self._pause_s):
            number = len(self.sent)
            value = {
                "event_id": f"e{number}",
                "product_id": f"p{chance.randrange(PRODUCTS)}",
                "text": some_text(chance),
                "event_time": int(time.time() * 1000),
            }
            key = value["product_id"].encode()
            producer.send(self._settings.topic_reviews, msgspec.json.encode(value), key=key)
            self.sent.append(value)
        producer.flush(30)
        producer.close()


def reviewpulse(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments], capture_output=True, text=True, check=False
    )


def promote(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """Exit code and what it printed; how long a text takes is no matter on a machine that is busy."""
    said = reviewpulse("bundle", "promote", str(folder), "--json", "--slowdown", "1000", *options)
    assert said.stdout, said.stderr
    return said.returncode, json.loads(said.stdout)


class Applied(NamedTuple):
    """What became of a run, told from the log and from what Redis holds."""

    changes: dict[str, list[tuple[int, str]]]
    """By ``topic:number``: which model from which offset on."""
    versions: dict[str, list[set[str]]]
    """By ``topic:number``: the versions that each record's scores name, in the order of the log."""


def check_conservation(
    settings: Settings, sent: Sequence[dict[str, Any]], models: dict[str, Path]
) -> Applied:
    """Every event was counted once, with the label that its offset's model gives it.

    Args:
        settings: where all is.
        sent: events.
        models: bundle by version.
    """
    events = {each["event_id"]: each for each in sent}
    scorers = {version: load_scorer(load(bundle=folder)) for version, folder in models.items()}
    with connect(settings) as client:
        layout = read_written(client.get(f"{settings.namespace}:layout")).layout(settings.namespace)
        changes = {
            name.decode().partition("@")[0]: [(offset, version) for offset, version in json.loads(value)]
            for name, value in client.hgetall(layout.models).items()
        }
        ledger = {key.decode(): int(n) for key, n in client.hgetall(layout.ledger(0)).items()}
    assert ledger == {"reviews:counted": len(events)}

    scored_by: dict[str, set[str]] = defaultdict(set)
    for record in read_topic(settings, settings.topic_scores):
        score = json.loads(record.value)
        scored_by[score["event_id"]].add(score["model_version"])

    expected: dict[str, Counter[str]] = defaultdict(Counter)
    versions: dict[str, list[set[str]]] = defaultdict(list)
    by_model: dict[str, list[dict[str, Any]]] = defaultdict(list)
    log = sorted(read_topic(settings, settings.topic_reviews), key=lambda each: (each.partition, each.offset))
    assert Counter(json.loads(each.value)["event_id"] for each in log) == Counter(list(events))
    for record in log:
        event = json.loads(record.value)
        name = f"{record.topic}:{record.partition}"
        versions[name].append(scored_by[event["event_id"]])
        model = next(version for offset, version in reversed(changes[name]) if offset <= record.offset)
        assert model in scored_by[event["event_id"]]  # a score was published before its step was stored
        by_model[model].append(event)
    for version, some in by_model.items():
        labels = scorers[version].label(scored(scorers[version], [each["text"] for each in some]))
        for event, label in zip(some, labels, strict=True):
            expected[event["product_id"]][("negative", "neutral", "positive")[label]] += 1
    with LiveCounters(settings) as counters:
        for product_id, labels_of in expected.items():
            found = counters.get(product_id, "all")
            counted = {name: getattr(found, name) for name in ("negative", "neutral", "positive")}
            assert +Counter(counted) == labels_of
    return Applied(changes, dict(versions))


def version_of(folder: Path) -> str:
    return bundle.load_manifest(folder).version


def test_a_bundle_is_promoted_under_load_and_rolled_back(
    start: Callable[..., WorkerProcess], wait_until_ended: Callable[..., Any], bundles: Path
) -> None:
    settings = load()
    a, b = version_of(bundles / "a"), version_of(bundles / "b")
    workers = [start(), start()]
    for worker in workers:
        worker.wait_for("reading from what Redis holds")
    with Load(settings) as producing:
        wait_until_ended(200)
        code, said = promote(bundles / "b", "--texts", "150")
        assert (code, said["promoted"], said["reasons"]) == (0, True, [])
        assert said["texts"] >= 150
        assert said["agreement"] > 0.95
        assert [each["state"] for each in said["workers"]] == ["switched", "switched"]
        time.sleep(1)
        again, repeated = promote(bundles / "b")
        assert (again, repeated["promoted"], repeated["texts"]) == (0, True, 0)
        back = reviewpulse("bundle", "rollback", "--json")
        assert (back.returncode, json.loads(back.stdout)["promoted"]) == (0, True)
        time.sleep(1)
    wait_until_ended(len(producing.sent))
    applied = check_conservation(settings, producing.sent, {a: bundles / "a", b: bundles / "b"})
    for changes in applied.changes.values():
        assert [version for _, version in changes] == [a, b, a]
    for name, versions in applied.versions.items():
        # Nobody died: one score an event, and each model's events are one piece of the log.
        assert all(len(each) == 1 for each in versions)
        boundaries = [offset for offset, _ in applied.changes[name][1:]]
        flat = [each for only in versions for each in only]
        assert [n for n in range(1, len(flat)) if flat[n] != flat[n - 1]] == boundaries
    assert [worker.stop() for worker in workers] == [0, 0]


def test_what_is_worse_or_tampered_with_is_refused_and_nothing_changes(
    start: Callable[..., WorkerProcess],
    wait_until_ended: Callable[..., Any],
    bundles: Path,
    tmp_path: Path,
) -> None:
    settings = load()
    a = version_of(bundles / "a")
    tampered = shutil.copytree(bundles / "b", tmp_path / "tampered")
    content = bytearray((tampered / bundle.MODEL).read_bytes())
    content[len(content) // 2] ^= 1
    (tampered / bundle.MODEL).write_bytes(content)
    worker = start()
    worker.wait_for("reading from what Redis holds")
    with Load(settings) as producing:
        wait_until_ended(100)
        code, said = promote(bundles / "exchanged", "--texts", "100")
        assert (code, said["promoted"]) == (1, False)
        assert any("the same label for 0.0%" in reason for reason in said["reasons"])
        code, said = promote(tampered)
        assert (code, said["promoted"]) == (1, False)
        assert "checksum differs" in said["reasons"][0]
        code, said = promote(bundles / "b", "--texts", "100000", "--wait", "3")
        assert (code, said["promoted"]) == (1, False)
        assert "of 100000 live texts were compared" in said["reasons"][0]
    wait_until_ended(len(producing.sent))
    applied = check_conservation(settings, producing.sent, {a: bundles / "a"})
    assert all([version for _, version in changes] == [a] for changes in applied.changes.values())
    assert "refused" in worker.log
    assert worker.stop() == 0


@pytest.mark.parametrize("killed_after_s", [0.3, 1.5, 3.0])
def test_killed_in_the_midst_of_a_swap_each_event_counts_once_by_one_model(
    start: Callable[..., WorkerProcess],
    wait_until_ended: Callable[..., Any],
    bundles: Path,
    killed_after_s: float,
) -> None:
    """The other model says the opposite of every text, so that one event too many or too few would show."""
    settings = load()
    a, x = version_of(bundles / "a"), version_of(bundles / "exchanged")
    workers = [start(), start()]
    for worker in workers:
        worker.wait_for("reading from what Redis holds")
    with Load(settings) as producing:
        wait_until_ended(200)
        promoting = threading.Thread(target=promote, args=(bundles / "exchanged", "--force"))
        promoting.start()
        time.sleep(killed_after_s)
        workers.pop(0).kill()
        workers.append(start())
        promoting.join()
        status = json.loads(reviewpulse("bundle", "status", "--json").stdout)
        if status["promotion"] is None:  # the one that was killed had not answered yet
            assert promote(bundles / "exchanged", "--force")[0] == 0
        wait_until_ended(len(producing.sent) + 200)
    wait_until_ended(len(producing.sent))
    applied = check_conservation(settings, producing.sent, {a: bundles / "a", x: bundles / "exchanged"})
    assert all([version for _, version in changes] == [a, x] for changes in applied.changes.values())
    assert [worker.stop() for worker in workers] == [0, 0]


def test_a_worker_that_starts_later_scores_with_what_was_promoted_or_not_at_all(
    start: Callable[..., WorkerProcess], wait_until_ended: Callable[..., Any], bundles: Path, tmp_path: Path
) -> None:
    settings = load()
    code, said = promote(bundles / "b")
    assert (code, said["promoted"]) == (1, False)
    assert "no worker with a bundle is at work" in said["reasons"][0]
    moved = shutil.copytree(bundles / "b", tmp_path / "b")
    assert promote(moved, "--force")[0] == 0
    worker = start()
    worker.wait_for("reading from what Redis holds")
    with Load(settings) as producing:
        wait_until_ended(50)
    wait_until_ended(len(producing.sent))
    b = version_of(moved)
    applied = check_conservation(settings, producing.sent, {b: moved})
    assert all([version for _, version in changes] == [b] for changes in applied.changes.values())
    assert worker.stop() == 0

    shutil.rmtree(moved)
    late = start()
    assert late.process.wait(60) == 2
    assert "one fleet scores with one bundle" in " ".join(late.log.split())
    assert reviewpulse("bundle", "rollback").returncode == 0
    after = start()
    after.wait_for("reading from what Redis holds")
    assert after.stop() == 0
