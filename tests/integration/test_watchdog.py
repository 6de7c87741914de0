"""Real workers that get stuck end by themselves and say why; those that only wait do not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from stream.client import EventProducer, LiveCounters
from stream.errors import EXIT_STUCK
from stream.redis_config import connect
from stream.settings import load
from stream.topics import ensure
from tests.integration.conftest import WorkerProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream.local import LocalServers

pytestmark = pytest.mark.slow

ENDS_S = 60.0
"""Far above any limit here: a busy machine is no failure."""
PRODUCTS = 7


class SabotagedWorker(WorkerProcess):
    """See ``sabotaged_worker.py``."""

    def __init__(self, log_path: Path, what: str) -> None:
        self.log_path = log_path
        with log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.integration.sabotaged_worker", what], stdout=log, stderr=log
            )

    def break_it(self) -> None:
        self.process.send_signal(signal.SIGUSR1)

    def last_words(self) -> dict[str, Any]:
        """The watchdog's line."""
        lines = [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]
        (line,) = [line for line in lines if line["logger"] == "watchdog"]
        assert line["level"] == "critical"
        assert line["event"] == (
            "the worker is stuck; ending the process, its supervisor is to start it again"
        )
        assert line["exit_code"] == EXIT_STUCK
        return line


@pytest.fixture(autouse=True)
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REVIEWPULSE_WATCHDOG_LOOP_S", "8")
    monkeypatch.setenv("REVIEWPULSE_WATCHDOG_STALL_S", "6")
    monkeypatch.setenv("REVIEWPULSE_WATCHDOG_REBALANCE_S", "12")
    monkeypatch.setenv("REVIEWPULSE_LOG_FORMAT", "json")


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], tuple[int, dict[str, str]]]:
    """Asks the worker's pages: status, and what is not well, by check."""
    port = free_port()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))

    def ask(page: str) -> tuple[int, dict[str, str]]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
                status, body = answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            status, body = error.code, json.load(error)
        assert body["ok"] is (status == 200)
        return status, {check["name"]: check["says"] for check in body["checks"] if not check["ok"]}

    return ask


@pytest.fixture
def sabotaged(topics_made: None, tmp_path: Path) -> Iterator[Callable[[str], SabotagedWorker]]:
    """Starts a worker that can be broken, and waits until it has counted something."""
    started: list[WorkerProcess] = []

    def start(what: str) -> SabotagedWorker:
        worker = SabotagedWorker(tmp_path / "sabotaged.log", what)
        started.append(worker)
        worker.wait_for("worker started")
        return worker

    yield start
    for worker in started:
        if worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def worker(own_servers: LocalServers, tmp_path: Path) -> Iterator[WorkerProcess]:
    """A worker as it is, on servers of its own."""
    running = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    yield running
    if running.process.poll() is None:
        running.kill()


def send_reviews(number: int, first: int = 0, batches: int = 5) -> None:
    """In several batches: the local broker does not tell of the last one before the next comes."""
    with EventProducer(load()) as producer:
        for n in range(first, first + number):
            producer.send_review(
                event_id=f"e{n}", product_id=f"p{n % PRODUCTS}", text="The lid broke.", event_time=time.time()
            )
            if n % max(number // batches, 1) == 0:
                producer.flush()


def assert_counted(number: int) -> None:
    with LiveCounters(load()) as counters:
        for n in range(PRODUCTS):
            assert counters.get(f"p{n}", "all").events == len(range(n, number, PRODUCTS)), f"p{n}"


def until(condition: Callable[[], object], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.1)


# Stuck.


def test_a_worker_whose_loop_is_blocked_ends_and_says_where(
    sabotaged: Callable[[str], SabotagedWorker],
    health: Callable[[str], tuple[int, dict[str, str]]],
    start_worker: Callable[..., WorkerProcess],
    wait_until_ended: Callable[..., Any],
) -> None:
    stuck = sabotaged("loop")
    send_reviews(100)
    wait_until_ended(100)
    stuck.break_it()
    until(lambda: "fresh" in health("readyz")[1])  # it answers all the same
    assert stuck.process.wait(ENDS_S) == EXIT_STUCK
    said = stuck.last_words()
    assert (said["check"], said["saw"]) == ("loop", "the event loop has not turned for 8 s (limit 8 s)")
    assert said["where"][0].startswith("event loop: __main__:")
    assert "<lambda>" in said["where"][0].partition(" < ")[0]
    # What its supervisor does.
    send_reviews(100, first=100)
    start_worker()
    wait_until_ended(200)
    assert_counted(200)


def test_a_loop_that_turns_again_in_time_is_left_alone(
    sabotaged: Callable[[str], SabotagedWorker], wait_until_ended: Callable[..., Any]
) -> None:
    worker = sabotaged("loop for a moment")
    worker.break_it()
    send_reviews(100)
    wait_until_ended(100)
    assert worker.stop() == 0


def test_a_thread_that_keeps_the_interpreters_lock_ends_the_process_with_its_stack(
    sabotaged: Callable[[str], SabotagedWorker],
) -> None:
    stuck = sabotaged("interpreter")
    stuck.break_it()
    assert stuck.process.wait(ENDS_S) == 1
    assert "hold_the_interpreters_lock" in stuck.log


def test_a_worker_whose_model_never_returns_ends_and_says_where(
    sabotaged: Callable[[str], SabotagedWorker],
    start_worker: Callable[..., WorkerProcess],
    wait_until_ended: Callable[..., Any],
) -> None:
    stuck = sabotaged("scorer")
    send_reviews(100)
    wait_until_ended(100)
    stuck.break_it()
    send_reviews(100, first=100)
    assert stuck.process.wait(ENDS_S) == EXIT_STUCK
    said = stuck.last_words()
    assert said["check"] == "progress"
    assert said["saw"].endswith("and nothing has been applied for 6 s (limit 6 s)")
    assert [line for line in said["where"] if line.startswith("score_0: __main__:") and " score < " in line]
    start_worker()
    wait_until_ended(200)
    assert_counted(200)


def test_a_stop_that_a_model_keeps_from_ending_ends(
    sabotaged: Callable[[str], SabotagedWorker], health: Callable[[str], tuple[int, dict[str, str]]]
) -> None:
    stuck = sabotaged("scorer")
    until(lambda: health("readyz") == (200, {}))
    stuck.break_it()
    time.sleep(0.5)  # the flag is set
    send_reviews(20)
    time.sleep(1.0)  # they are inside
    stuck.process.send_signal(signal.SIGTERM)
    until(lambda: health("readyz")[1].get("serving") == "it stops: it was told to")
    assert health("livez") == (200, {})
    assert stuck.process.wait(ENDS_S) == EXIT_STUCK
    assert stuck.last_words()["saw"] == "it has been stopping for 5 s (limit 5 s): it was told to"


def test_a_worker_that_fetches_nothing_any_more_ends(
    sabotaged: Callable[[str], SabotagedWorker],
    start_worker: Callable[..., WorkerProcess],
    wait_until_ended: Callable[..., Any],
) -> None:
    stuck = sabotaged("fetch")
    send_reviews(100)
    wait_until_ended(100)
    stuck.break_it()
    send_reviews(100, first=100)
    assert stuck.process.wait(ENDS_S) == EXIT_STUCK
    assert stuck.last_words()["check"] == "progress"
    start_worker()
    wait_until_ended(200)
    assert_counted(200)


def test_a_worker_whose_rebalance_never_ends_ends(
    sabotaged: Callable[[str], SabotagedWorker],
    start_worker: Callable[..., WorkerProcess],
    wait_until_ended: Callable[..., Any],
) -> None:
    stuck = sabotaged("assignment")
    send_reviews(100)
    wait_until_ended(100)
    stuck.break_it()
    start_worker()  # a second one: a rebalance
    send_reviews(100, first=100)
    assert stuck.process.wait(ENDS_S) == EXIT_STUCK
    assert stuck.last_words()["saw"] == "the group has given no assignment for 12 s (limit 12 s)"
    wait_until_ended(200)
    assert_counted(200)


# Not stuck.


def test_a_redis_that_hangs_is_waited_for(
    health: Callable[[str], tuple[int, dict[str, str]]],
    own_servers: LocalServers,
    worker: WorkerProcess,
    wait_until_ended: Callable[..., Any],
) -> None:
    worker.wait_for("worker started")
    send_reviews(100)
    wait_until_ended(100)
    redis = str(own_servers.pids["redis"])
    subprocess.run(["kill", "-STOP", redis], check=True)
    send_reviews(100, first=100)
    until(lambda: "redis" in health("readyz")[1])
    time.sleep(18)  # three times the limit of a stall, and longer than any answer is waited for
    assert health("livez") == (200, {})
    status, ill = health("readyz")
    assert status == 503
    assert "Redis" in ill["redis"]
    subprocess.run(["kill", "-CONT", redis], check=True)
    wait_until_ended(200)
    until(lambda: health("readyz") == (200, {}))
    assert worker.stop() == 0
    assert_counted(200)


def test_a_broker_that_is_gone_is_waited_for(
    health: Callable[[str], tuple[int, dict[str, str]]], own_servers: LocalServers, worker: WorkerProcess
) -> None:
    worker.wait_for("worker started")
    until(lambda: health("readyz") == (200, {}))
    own_servers.kill_kafka()
    until(lambda: "kafka" in health("readyz")[1])
    time.sleep(15)  # longer than the limit of a stall and of a rebalance
    assert worker.process.poll() is None
    assert health("livez") == (200, {})


def test_a_worker_that_was_stopped_as_a_whole_goes_on(
    worker: WorkerProcess, wait_until_ended: Callable[..., Any]
) -> None:
    worker.wait_for("worker started")
    send_reviews(100)
    wait_until_ended(100)
    worker.process.send_signal(signal.SIGSTOP)
    send_reviews(100, first=100)
    time.sleep(10)  # the limits of its loop and of a stall, its session
    worker.process.send_signal(signal.SIGCONT)
    wait_until_ended(200)
    assert worker.stop() == 0
    assert_counted(200)


def test_a_worker_for_whom_no_partition_is_left_is_well(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REVIEWPULSE_PARTITIONS", "1")  # of each of the two topics
    ensure(load())
    workers, ports = [], [free_port() for _ in range(3)]
    for port in ports:
        monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
        workers.append(WorkerProcess(tmp_path / f"{port}.log", "--scorer", "constant"))
    try:
        until(lambda: "not ready" not in (says := [_assigned(port) for port in ports]) and NONE_LEFT in says)
        time.sleep(14)  # longer than any limit
        assert [worker.process.poll() for worker in workers] == [None] * 3
        says = [_assigned(port) for port in ports]
        assert "not ready" not in says
        assert NONE_LEFT in says
    finally:
        for worker in workers:
            worker.kill()


NONE_LEFT = "no partition is assigned: other workers have them all"


def _assigned(port: int) -> str:
    """What a worker that is ready says of its partitions."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10) as answer:
            checks = json.load(answer)["checks"]
    except OSError:
        return "not ready"
    return next(check["says"] for check in checks if check["name"] == "assigned")


# Lost writes.


def test_counters_that_redis_lost_come_back_without_another_event(
    own_servers: LocalServers, worker: WorkerProcess, wait_until_ended: Callable[..., Any]
) -> None:
    worker.wait_for("worker started")
    send_reviews(1000)
    wait_until_ended(1000)
    with connect(load()) as redis:
        redis.flushall()
    wait_until_ended(1000)
    assert_counted(1000)
    assert worker.stop() == 0
    assert "Redis lost writes" in worker.log


# The endpoints.


def test_before_it_has_joined_a_worker_is_live_and_says_what_it_waits_for(
    env: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    health: Callable[[str], tuple[int, dict[str, str]]],
) -> None:
    monkeypatch.setenv("REVIEWPULSE_REDIS", f"redis://127.0.0.1:{free_port()}/0")
    worker = WorkerProcess(tmp_path / "worker.log", "--scorer", "constant")
    worker.wait_for("waiting for a dependency")
    until(lambda: "waits" in health("readyz")[1])
    status, ill = health("readyz")
    assert status == 503
    assert ill["waits"].startswith("connect to Redis at redis://127.0.0.1:")
    assert ill["assigned"] == "it has not joined the group yet"
    assert health("livez") == (200, {})
    assert worker.stop() == 0


def test_a_port_in_use_is_one_sentence(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # The broker's own.
    port = env["REVIEWPULSE_KAFKA"].rpartition(":")[2]
    monkeypatch.setenv("REVIEWPULSE_HEALTH", f"127.0.0.1:{port}")
    finished = subprocess.run(
        [sys.executable, "-m", "stream.cli.main", "worker", "--scorer", "constant"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 2
    (line,) = finished.stderr.strip().splitlines()
    assert line == (
        f"reviewpulse: REVIEWPULSE_HEALTH=127.0.0.1:{port} cannot be listened on: Address already in use."
        " Choose another port; each worker of a host needs its own."
    )
