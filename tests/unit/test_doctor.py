"""What the doctor makes of the facts."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from stream import doctor
from stream.core.watch import Check, Report
from stream.doctor import (
    Finding,
    Room,
    judge_disk,
    judge_eviction,
    judge_missing,
    judge_persistence,
    judge_redis_version,
    judge_spread,
    judge_topology,
)
from stream.errors import DependencyError, UsageError
from stream.health import HealthServer, Page, pages
from stream.redis_nodes import Node
from stream.settings import Settings, load
from stream.store.missing import Missing

if TYPE_CHECKING:
    from collections.abc import Iterator

HEALTHY = {
    "redis_version": "7.2.4",
    "aof_enabled": 1,
    "aof_last_write_status": "ok",
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "used_memory": 1 << 20,
}


@pytest.mark.parametrize(
    ("judge", "facts", "state"),
    [
        (judge_persistence, {}, "ok"),
        (judge_persistence, {"aof_enabled": 0}, "warn"),
        (judge_persistence, {"aof_last_write_status": "err"}, "fail"),
        (judge_eviction, {}, "ok"),
        (judge_eviction, {"maxmemory_policy": "allkeys-lru"}, "warn"),
        (judge_eviction, {"maxmemory_policy": "allkeys-lru", "maxmemory": 1 << 30}, "fail"),
        (judge_eviction, {"maxmemory": 1 << 30}, "ok"),
        (judge_eviction, {"maxmemory": 1 << 30, "used_memory": 1000 << 20}, "warn"),
    ],
)
def test_redis_is_judged_by_what_it_may_lose(judge: Any, facts: dict[str, Any], state: str) -> None:
    finding = judge(HEALTHY | facts)
    assert finding.state == state
    assert bool(finding.remedy) is (state != "ok")


def test_records_that_were_deleted_before_they_were_counted_are_named() -> None:
    assert judge_missing([]).state == "ok"
    missing = [Missing("chats:0", "", 0, 4), *(Missing("reviews:1", "A", n, n + 1) for n in range(0, 90, 10))]
    found = judge_missing(missing)
    assert found.state == "warn"
    assert found.detail.endswith("chats:0 0-4; reviews:1 40-41, 50-51, 60-61, 70-71, 80-81")
    assert found.missing == tuple(missing)
    assert found.remedy


def test_a_redis_too_old_fails() -> None:
    assert judge_redis_version("redis://h", HEALTHY | {"redis_version": "6.0.16"}).state == "fail"
    assert judge_redis_version("redis://h", HEALTHY | {"redis_version": "6.2.0"}).state == "ok"
    assert "Valkey 9.1.2" in judge_redis_version("redis://h", HEALTHY | {"valkey_version": "9.1.2"}).detail


def node(name: str = "", role: str = "master", replicas: int = 1) -> Node:
    return Node(name, {"role": role, "connected_slaves": replicas, "master_host": "h", "master_port": 7})


@pytest.mark.parametrize(
    ("nodes", "state", "detail"),
    [
        ([node()], "ok", "redis://h: a primary with 1 replica"),
        ([node(replicas=0)], "ok", "redis://h: a primary with no replicas"),
        ([node(role="slave")], "fail", "redis://h: a replica of h:7, which takes no writes"),
        (
            [node("a"), node("b"), node("c", "slave")],
            "ok",
            "redis://h: a cluster of 2 masters and 2 replicas",
        ),
        (
            [node("a"), node("b", replicas=0), node("c", "slave")],
            "warn",
            "redis://h: a cluster of 2 masters and 1 replica; without b nothing is counted",
        ),
        ([node("a"), Node("b", {})], "warn", "redis://h: b of the cluster do not answer"),
    ],
)
def test_what_stands_behind_the_url_is_told(nodes: list[Node], state: str, detail: str) -> None:
    finding = judge_topology("redis://h", nodes)
    assert (finding.state, finding.detail) == (state, detail)
    assert bool(finding.remedy) is (state != "ok")


@pytest.mark.parametrize(
    ("shards", "state"),
    [
        ({"a": 6, "b": 6, "c": 4}, "ok"),
        ({"a": 1, "b": 0, "c": 0}, "warn"),
        ({"a": 2, "b": 1, "c": 0}, "warn"),
        ({"a": 4, "b": 1, "c": 1}, "warn"),
    ],
)
def test_masters_that_share_the_work_unevenly_are_a_warning(shards: dict[str, int], state: str) -> None:
    finding = judge_spread(Counter(shards))
    assert finding.state == state
    assert "a " in finding.detail
    if state == "warn" and not min(shards.values()):
        assert "REVIEWPULSE_SHARDS=12" in finding.remedy


def test_little_disk_warns_and_hardly_any_fails() -> None:
    states = [judge_disk(Path("/tmp"), free << 20).state for free in (2000, 500, 50)]  # noqa: S108
    assert states == ["ok", "warn", "fail"]


def test_the_constant_scorer_is_a_warning() -> None:
    (finding,) = doctor.scorer_findings(load(scorer="constant"))
    assert (finding.name, finding.state) == ("scorer", "warn")


def examined(monkeypatch: pytest.MonkeyPatch, *rooms: Room) -> list[Finding]:
    monkeypatch.setattr(doctor, "ROOMS", rooms)
    return doctor.examine(load(), {})


def test_a_room_that_hangs_keeps_what_it_had_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()

    def hang(settings: Settings) -> Iterator[Finding]:
        yield Finding("kafka", "ok", "answers")
        never.wait()

    monkeypatch.setattr(doctor, "ROOM_TIMEOUT_S", 0.05)
    findings = examined(monkeypatch, Room("kafka", hang, "look at it"))
    never.set()
    assert [(each.name, each.state) for each in findings] == [
        ("settings", "ok"),
        ("kafka", "ok"),
        ("kafka", "fail"),
    ]
    assert findings[-1].remedy == "look at it"


@pytest.mark.parametrize("error", [DependencyError("It is away."), UsageError("It is wrong.")])
def test_a_rooms_error_is_its_failure_and_the_others_are_still_told(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(settings: Settings) -> Iterator[Finding]:
        raise error
        yield

    def well(settings: Settings) -> Iterator[Finding]:
        yield Finding("disk", "ok", "room enough")

    findings = examined(monkeypatch, Room("kafka", fail, "start it"), Room("disk", well, ""))
    assert findings[1:] == [
        Finding("kafka", "fail", str(error), "start it"),
        Finding("disk", "ok", "room enough"),
    ]


def test_an_error_of_ours_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(settings: Settings) -> Iterator[Finding]:
        raise KeyError("aof_enabled")
        yield

    with pytest.raises(KeyError, match="aof_enabled"):
        examined(monkeypatch, Room("redis", broken, ""))


def test_unknown_variables_are_warnings_with_the_nearest_setting() -> None:
    findings = list(doctor.settings_findings(load(), {"REVIEWPULSE_KAFKKA": "k:9092"}))
    assert [(each.state, each.remedy) for each in findings] == [
        ("warn", "perhaps REVIEWPULSE_KAFKA is meant")
    ]


# The worker here, asked itself.


def asked(*live: Check) -> Finding:
    """What is found of a worker with these checks."""
    report = Report(time.monotonic(), live)
    with HealthServer(("127.0.0.1", 0), pages(lambda: report)) as server:
        return doctor.worker_here(Settings.model_construct(health=f"0.0.0.0:{server.port}"))


def test_a_worker_that_says_it_is_well_is_well() -> None:
    assert asked(
        Check("loop", True, 0.0, "the event loop turns"), Check("x", True, 0.0, "no records wait")
    ) == (
        "worker",
        "ok",
        "the event loop turns; no records wait",
        "",
        (),
    )


def test_a_worker_that_is_ill_says_why() -> None:
    ill = asked(
        Check("loop", False, 0.0, "the event loop has not turned for 31 s (limit 30 s)"),
        Check("progress", True, 0.0, "no records wait"),
    )
    assert ill[:3] == ("worker", "fail", "the event loop has not turned for 31 s (limit 30 s)")


def test_a_worker_that_does_not_answer_is_a_failure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    found = doctor.worker_here(Settings.model_construct(health=str(port)))
    assert (found.name, found.state) == ("worker", "fail")
    assert f"no worker answers at 127.0.0.1:{port}" in found.detail


def test_something_else_that_answers_is_no_worker() -> None:
    page = Page(HTTPStatus.OK, b"welcome", "text/html")
    with HealthServer(("127.0.0.1", 0), {"/livez": lambda: page}) as server:
        found = doctor.worker_here(Settings.model_construct(health=str(server.port)))
    assert found.state == "fail"


def test_the_rules_file_is_read_as_a_worker_would(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"

    def found(text: str) -> list[tuple[str, str]]:
        file.write_text(text)
        return [(each.state, each.detail) for each in doctor.rules_findings(load(rules=file))]

    rule = '[[threshold]]\nname = "half"\nwindow = "1h"\nshare = '
    assert found(f"version = 1\n{rule}0.5\n") == [
        ("ok", "thresholds: 1, exceptions: 0; baselines begin with the built-in prior")
    ]
    [(state, said)] = found(f"version = 1\n{rule}0.0\n")
    assert state == "warn"
    assert "rules.toml:5" in said
    with pytest.raises(UsageError, match=r"rules.toml:5: share"):
        found(f"version = 1\n{rule}1.5\n")
