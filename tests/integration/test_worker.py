"""What a worker does when what it needs is away, comes back, or is not right."""

from __future__ import annotations

import base64
import json
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from kafka import KafkaAdminClient

from stream.client import EventProducer, LiveCounters
from stream.local import LocalServers
from stream.settings import SHIPPED_BUNDLE, load
from stream.topics import ensure
from tests.integration.conftest import WorkerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def send_reviews(number: int, first: int = 0) -> None:
    now = time.time()
    with EventProducer(load()) as producer:
        for n in range(first, first + number):
            producer.send_review(
                event_id=f"e{n}", product_id=f"p{n % 7}", text="The lid broke.", event_time=now
            )
        producer.flush()


def totals_by_product() -> dict[str, int]:
    with LiveCounters(load()) as counters:
        return {f"p{n}": counters.get(f"p{n}", "all").events for n in range(7)}


def expected_totals(number: int) -> dict[str, int]:
    return {f"p{n}": len(range(n, number, 7)) for n in range(7)}


@pytest.fixture
def worker(own_servers: LocalServers, tmp_path: Path) -> Iterator[WorkerProcess]:
    running = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    yield running
    if running.process.poll() is None:
        running.kill()


def run_worker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "worker", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_sigterm_drains_and_exits_with_zero(
    start_worker: Callable[..., Any], wait_until_ended: Callable[..., Any]
) -> None:
    worker = start_worker()
    worker.wait_for("worker started")
    send_reviews(500)
    wait_until_ended(500)
    assert worker.stop() == 0
    last = json.loads(worker.log.splitlines()[-1])
    assert (last["event"], last["counted"]) == ("worker stopped", 500)


def test_a_worker_that_waits_for_redis_and_kafka_says_so_once_and_stops_when_told(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_REDIS", f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    worker = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    worker.wait_for("waiting for a dependency")
    time.sleep(1.0)  # several attempts
    assert worker.stop() == 0
    assert worker.log.count("waiting for a dependency") == 1
    assert "hunter2" not in worker.log


def test_a_worker_started_before_its_topics_begins_when_they_are_made(
    env: dict[str, str], tmp_path: Path, wait_until_ended: Callable[..., Any]
) -> None:
    worker = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    worker.wait_for("reviewpulse topics")
    ensure(load())
    worker.wait_for("worker started")
    send_reviews(100)
    wait_until_ended(100)
    assert worker.stop() == 0


def test_a_broker_that_comes_up_late_is_waited_for(
    env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wait_until_ended: Callable[..., Any],
) -> None:
    port = free_port()
    monkeypatch.setenv("REVIEWPULSE_KAFKA", f"127.0.0.1:{port}")
    worker = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    worker.wait_for("connect to Kafka at")
    with LocalServers(kafka_port=port):
        ensure(load())
        worker.wait_for("worker started")
        send_reviews(50)
        wait_until_ended(50)
        assert worker.stop() == 0
    assert worker.log.count("waiting for a dependency") == 1


@pytest.mark.slow
def test_redis_killed_and_restarted_loses_nothing_and_counts_nothing_twice(
    own_servers: LocalServers, worker: WorkerProcess, wait_until_ended: Callable[..., Any]
) -> None:
    worker.wait_for("worker started")
    send_reviews(1000)
    wait_until_ended(1000)
    own_servers.kill_redis()
    send_reviews(1000, first=1000)
    worker.wait_for("waiting for a dependency")
    own_servers.restart_redis()
    wait_until_ended(2000)
    assert worker.stop() == 0
    assert totals_by_product() == expected_totals(2000)
    assert "the dependency is back" in worker.log


@pytest.mark.slow
def test_counters_that_redis_lost_are_counted_again_from_kafka(
    own_servers: LocalServers, worker: WorkerProcess, wait_until_ended: Callable[..., Any]
) -> None:
    worker.wait_for("worker started")
    send_reviews(1000)
    wait_until_ended(1000)
    with LiveCounters(load()):
        subprocess.run([sys.executable, "-c", FLUSH, own_servers.redis], check=True)
    send_reviews(10, first=1000)  # the next apply meets the gap, in the partitions these are in
    send_reviews(60, first=1010)
    wait_until_ended(1070)
    assert worker.stop() == 0
    assert totals_by_product() == expected_totals(1070)
    assert "Redis lost writes" in worker.log


FLUSH = "import redis, sys; redis.Redis.from_url(sys.argv[1]).flushall()"


@pytest.mark.slow
def test_a_broker_that_stands_still_for_a_while_is_waited_for(
    own_servers: LocalServers, worker: WorkerProcess, wait_until_ended: Callable[..., Any]
) -> None:
    worker.wait_for("worker started")
    send_reviews(500)
    wait_until_ended(500)
    broker = own_servers.pids["kafka"]
    subprocess.run(["kill", f"-{signal.SIGSTOP.value}", str(broker)], check=True)
    time.sleep(8)  # beyond the session timeout
    subprocess.run(["kill", f"-{signal.SIGCONT.value}", str(broker)], check=True)
    send_reviews(500, first=500)
    wait_until_ended(1000)
    assert worker.stop() == 0
    assert totals_by_product() == expected_totals(1000)


def log_lines(worker: WorkerProcess, text: str) -> list[dict[str, Any]]:
    """The worker's lines whose event begins with ``text``."""
    lines = [json.loads(line) for line in worker.log.splitlines() if line.startswith("{")]
    return [line for line in lines if str(line.get("event", "")).startswith(text)]


ANOTHER_LOG = "it is another log than the one counted so far"


@pytest.mark.slow
@pytest.mark.parametrize("number", [20, 500, 2000], ids=["shorter", "as long", "longer"])
def test_a_broker_that_comes_back_empty_under_a_worker_is_noticed(
    own_servers: LocalServers, worker: WorkerProcess, wait_until_ended: Callable[..., Any], number: int
) -> None:
    worker.wait_for("worker started")
    send_reviews(500)
    wait_until_ended(500)
    own_servers.kill_kafka()
    own_servers.restart_kafka()
    ensure(load())
    send_reviews(number, first=500)
    wait_until_ended(500 + number)
    assert worker.stop() == 0
    assert totals_by_product() == expected_totals(500 + number)
    # p0 to p6 do not lie in every partition; a partition that held nothing has nothing to start over.
    assert {line["level"] for line in log_lines(worker, ANOTHER_LOG)} == {"error"}


@pytest.mark.slow
@pytest.mark.parametrize("number", [20, 500, 2000], ids=["shorter", "as long", "longer"])
def test_a_topic_made_anew_under_a_worker_is_noticed(
    own_servers: LocalServers, worker: WorkerProcess, wait_until_ended: Callable[..., Any], number: int
) -> None:
    worker.wait_for("worker started")
    send_reviews(500)
    wait_until_ended(500)
    old_log = topic_id(own_servers, load().topic_reviews)
    delete_topic(own_servers, load().topic_reviews)
    worker.wait_for("the topic is gone")
    ensure(load())
    send_reviews(number, first=500)
    wait_until_ended(500 + number)
    assert worker.stop() == 0
    assert totals_by_product() == expected_totals(500 + number)
    said = log_lines(worker, ANOTHER_LOG)
    assert {(line["old_log"], line["new_log"]) for line in said} == {
        (old_log, topic_id(own_servers, load().topic_reviews))
    }
    assert len({line["partition"] for line in said}) == len(said)  # once each


@pytest.mark.slow
def test_a_topic_made_anew_with_more_partitions_is_read_whole(
    own_servers: LocalServers,
    worker: WorkerProcess,
    wait_until_ended: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worker.wait_for("worker started")
    send_reviews(500)
    wait_until_ended(500)
    delete_topic(own_servers, load().topic_reviews)
    worker.wait_for("the topic is gone")
    monkeypatch.setenv("REVIEWPULSE_PARTITIONS", "7")
    ensure(load())
    send_reviews(700, first=500)
    wait_until_ended(1200)
    assert worker.stop() == 0
    assert totals_by_product() == expected_totals(1200)
    [line] = log_lines(worker, "the topic has another number of partitions")
    assert (line["topic"], line["partitions_before"], line["partitions"]) == (load().topic_reviews, 4, 7)


def topic_id(servers: LocalServers, topic: str) -> str:
    """As Kafka's tools print it, asked with another library than the worker's."""
    admin = KafkaAdminClient(bootstrap_servers=servers.kafka)
    try:
        [described] = admin.describe_topics([topic])
    finally:
        admin.close()
    return base64.urlsafe_b64encode(UUID(described["topic_id"]).bytes).rstrip(b"=").decode()


def delete_topic(servers: LocalServers, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=servers.kafka)
    try:
        admin.delete_topics([topic])
    finally:
        admin.close()


def test_a_bundle_that_is_not_there_is_one_sentence(env: dict[str, str], tmp_path: Path) -> None:
    finished = run_worker("--bundle", str(tmp_path / "nowhere"))
    assert finished.returncode == 2
    assert "nowhere" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_a_tampered_bundle_is_refused_in_one_sentence(env: dict[str, str], tmp_path: Path) -> None:
    if not SHIPPED_BUNDLE.exists():
        pytest.skip("no bundle is shipped")
    shutil.copytree(SHIPPED_BUNDLE, tmp_path / "bundle")
    with (tmp_path / "bundle" / "tokenizer.json").open("ab") as tokenizer:
        tokenizer.write(b" ")
    finished = run_worker("--bundle", str(tmp_path / "bundle"))
    assert finished.returncode == 2
    assert "tokenizer.json" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_cuda_that_is_demanded_and_absent_is_one_sentence(env: dict[str, str]) -> None:
    if not SHIPPED_BUNDLE.exists():
        pytest.skip("no bundle is shipped")
    finished = run_worker("--provider", "cuda")
    if finished.returncode == 0:
        pytest.skip("this machine has CUDA")
    assert finished.returncode == 3
    assert "CUDA" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_wrong_settings_are_named_all_at_once(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWPULSE_SHARDS", "many")
    monkeypatch.setenv("REVIEWPULSE_TOKEN_BUDGET", "1")
    finished = run_worker("--scorer", "constant")
    assert finished.returncode == 2
    assert "REVIEWPULSE_SHARDS" in finished.stderr
    assert "REVIEWPULSE_TOKEN_BUDGET" in finished.stderr
