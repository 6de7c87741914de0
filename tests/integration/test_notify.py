"""``reviewpulse notify`` as a whole: at least once, in order, the same id, whatever fails or is killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import pytest

from stream.client import EventProducer
from stream.core.events import Alert, rfc3339
from stream.redis_config import connect
from stream.settings import load
from stream.topics import ensure
from tests.builders import alert
from tests.integration.conftest import WorkerProcess
from tests.integration.receiver import Receiver, is_signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream.local import LocalServers
    from stream.settings import Settings

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - the one of Standard Webhooks' documentation
AT_ONCE = 4


class NotifyProcess(WorkerProcess):
    """``reviewpulse notify`` in a process of its own."""

    command = ("stream.cli.main", "notify")


@pytest.fixture
def topics(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    ensure(settings)
    return settings


@pytest.fixture
def start(topics: Settings, tmp_path: Path) -> Iterator[Callable[..., NotifyProcess]]:
    """Starts ``notify``; those still running at the end are killed."""
    started: list[NotifyProcess] = []

    def begin(*arguments: str, waits_for: str = "delivering") -> NotifyProcess:
        process = NotifyProcess(
            tmp_path / f"notify{len(started)}.log", "--config", str(tmp_path / "notify.toml"), *arguments
        )
        started.append(process)
        process.wait_for(waits_for)
        return process

    begin.started = started  # type: ignore[attr-defined]
    yield begin
    for process in started:
        if process.process.poll() is None:
            process.kill()


def write(tmp_path: Path, *targets: str, default: list[str]) -> None:
    head = f"version = 1\ndefault = {json.dumps(default)}\n"
    (tmp_path / "notify.toml").write_text(head + "\n".join(targets), "utf-8")


def hook(name: str, url: str, **fields: str) -> str:
    usual = {
        "name": f'"{name}"',
        "type": '"webhook"',
        "url": f'"{url}"',
        "secret": '{ env = "HOOK_SECRET" }',
        "timeout": '"1s"',
        "at_once": str(AT_ONCE),
    }
    return "[[target]]\n" + "\n".join(f"{key} = {value}" for key, value in (usual | fields).items())


def transitions(*names: str) -> list[Alert]:
    """Three transitions of each alert: it fires, gets worse, is over; the alerts interleaved."""
    at = rfc3339(time.time_ns() // 1_000_000)
    fields: dict[str, Any] = {"at": at, "onset": at}
    stages: tuple[dict[str, Any], ...] = (
        {"sequence": 1},
        {"sequence": 2, "severity": "critical"},
        {"sequence": 3, "severity": "critical", "state": "resolved"},
    )
    return [
        alert(id=name, product_id=f"product-{name}", **fields, **stage) for stage in stages for name in names
    ]


def publish(settings: Settings, alerts: list[Alert]) -> None:
    with EventProducer(settings) as producer:
        for each in alerts:
            producer.send_record(settings.topic_alerts, each.id.encode(), msgspec.json.encode(each))


def ids_of(alerts: list[Alert]) -> set[str]:
    return {f"{each.id}-{each.sequence}" for each in alerts}


def assert_in_order(ids: list[str]) -> None:
    """Of each alert no transition came before an earlier one, and no repeat after a later one."""
    last: dict[str, int] = {}
    for each in ids:
        name, _, number = each.rpartition("-")
        assert int(number) in (last.get(name, 0), last.get(name, 0) + 1), (each, ids)
        last[name] = int(number)


def assert_told(receiver: Receiver, alerts: list[Alert]) -> None:
    assert set(receiver.ids()) == ids_of(alerts)
    assert_in_order(receiver.ids())
    for each in receiver.received:
        assert is_signed(each, SECRET)
        assert each.headers["idempotency-key"] == each.headers["webhook-id"] == each.json["id"]
        assert (each.json["alert"]["id"], each.json["alert"]["sequence"]) == (
            each.json["lane"],
            each.json["number"],
        )


def reviewpulse(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    return done


# ---- Must hold: at least once, in order, the same id


@pytest.mark.slow
def test_what_a_server_fails_at_arrives_in_order_with_the_same_id(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    chance = random.Random(1)
    moods = ["ok"] * 6 + ["500", "429", "stall", "drop", "deaf"]
    first, second = transitions("a", "b", "c", "d"), transitions("e", "f")
    with Receiver(lambda: chance.choice(moods)) as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        notify = start()
        publish(topics, first)
        receiver.wait(lambda: set(receiver.ids("ok")) == ids_of(first))
        receiver.die()
        publish(topics, second)
        refused = f"cannot connect to 127.0.0.1:{receiver.port}"
        held_when(topics, lambda each: any(reason.startswith(refused) for reason in each.reasons))
        receiver.mood = "ok"
        receiver.revive()
        receiver.wait(lambda: set(receiver.ids("ok")) == ids_of(first + second))
        assert notify.stop() == 0
    assert_told(receiver, first + second)
    acknowledged = receiver.ids("ok")
    assert len(acknowledged) == len(set(acknowledged)), "what was acknowledged came again"
    assert notify.log.count("the target fails") == notify.log.count("the target is back")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_so_it_does_through_kills_at_random_moments(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    moods = ["ok"] * 8 + ["500", "stall", "drop"]
    told: list[Alert] = []
    kills = 5
    with Receiver(lambda: chance.choice(moods)) as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        for number in range(kills):
            notify = start(waits_for="" if number else "delivering")
            new = transitions(*(f"{letter}{number}" for letter in "abcd"))
            publish(topics, new)
            told += new
            time.sleep(chance.uniform(0, 6))  # into imports, reading, sending, waiting
            notify.kill()
        notify = start()
        receiver.mood = "ok"
        receiver.wait(lambda: set(receiver.ids("ok")) == ids_of(told))
        assert notify.stop() == 0
    assert_told(receiver, told)
    acknowledged = receiver.ids("ok")
    # Only what was acknowledged in the moment of a kill may come again.
    assert len(acknowledged) - len(set(acknowledged)) <= kills * AT_ONCE


@pytest.mark.slow
def test_notifications_too_come_through_kills_in_order_with_the_same_id(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    chance = random.Random(5)
    with Receiver(lambda: chance.choice(["ok", "ok", "ok", "500", "drop"])) as receiver:
        write(tmp_path, hook("hook", receiver.url, hears='"notifications"'), default=["hook"])
        start()
        told: set[str] = set()
        for name in "abcd":  # a fifth product would make it an incident
            publish(topics, transitions(name))
            told |= {f"{name}-firing-1", f"{name}-escalated-2", f"{name}-resolved-3"}
            time.sleep(chance.uniform(0, 4))
            for process in start.started:  # type: ignore[attr-defined]
                process.kill()
            last = start(waits_for="")
        receiver.mood = "ok"
        receiver.wait(lambda: set(receiver.ids("ok")) == told)
        last.wait_for("delivering")  # all may have been told by those before it: until then it just ends
        assert last.stop() == 0
    assert set(receiver.ids()) == told
    for name in "abcd":
        numbers = [int(each[-1]) for each in receiver.ids() if each.startswith(name)]
        assert numbers == sorted(numbers)


def test_a_stop_repeats_nothing_and_misses_nothing(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    first, second, third = transitions("a", "b"), transitions("c"), transitions("d")
    with Receiver() as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        notify = start()
        publish(topics, first)
        receiver.wait(lambda: len(receiver.received) == len(first))
        notify.process.send_signal(signal.SIGINT)
        assert notify.process.wait(30) == 0
        publish(topics, second)
        publish(topics, first)  # what the outbox repeats after a worker's crash
        notify = start()
        publish(topics, third)
        receiver.wait(lambda: len(receiver.received) >= len(first + second + third))
        assert notify.stop() == 0
    assert_told(receiver, first + second + third)
    assert len(receiver.received) == len(first + second + third)


def test_a_stalled_target_delays_no_other(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    told = transitions(*"abcdefgh")
    with Receiver("stall") as bad, Receiver() as good:
        write(tmp_path, hook("bad", bad.url), hook("good", good.url), default=["bad", "good"])
        notify = start()
        publish(topics, told)
        good.wait(lambda: len(good.received) == len(told))
        assert bad.ids("ok") == []
        bad.mood = "ok"
        bad.wait(lambda: set(bad.ids("ok")) == ids_of(told))
        assert notify.stop() == 0
    assert_told(good, told)
    assert_told(bad, told)


def test_retry_after_is_heeded(topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path) -> None:
    with Receiver("429") as receiver:
        receiver.retry_after = "3600"
        write(tmp_path, hook("hook", receiver.url, at_once="1"), default=["hook"])
        notify = start()
        publish(topics, transitions("a", "b"))
        notify.wait_for("it answered 429")
        receiver.mood = "ok"
        held = held_when(topics, lambda each: each.reasons and each.waiting == 6)
        assert held.reasons == {"it answered 429: said 429"}
        file = str(tmp_path / "notify.toml")
        shown = json.loads(reviewpulse("notify", "queue", "--config", file, "--json").stdout)
        assert (shown["waiting"], shown["reason"]) == (6, "it answered 429: said 429")
        assert len(receiver.received) == 1
        assert notify.stop() == 0


class Held(NamedTuple):
    """What Redis holds for the target ``hook``."""

    waiting: int
    dead: int
    reasons: set[str]
    """Why attempts failed at what waits."""


def held_when(settings: Settings, condition: Callable[[Held], object]) -> Held:
    prefix = f"{settings.namespace}:notify:{{default}}"
    deadline = time.monotonic() + 60
    with connect(settings) as client:
        while True:
            failed = client.hvals(f"{prefix}:failed:hook")
            reasons = {json.loads(each)["reason"] for each in failed}
            found = Held(client.xlen(f"{prefix}:queue:hook"), client.xlen(f"{prefix}:dead:hook"), reasons)
            if condition(found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.05)


# ---- Dead letters


def test_what_is_hopeless_is_listed_and_goes_again_with_its_id(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    told = transitions("a")
    file = str(tmp_path / "notify.toml")
    with Receiver("404") as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        notify = start()
        publish(topics, told)
        receiver.wait(lambda: receiver.ids() == ["a-1", "a-2", "a-3"])
        assert held_when(topics, lambda each: each.dead == 3).waiting == 0
        letters = [
            json.loads(line)
            for line in reviewpulse("notify", "dead", "list", "--config", file, "--json").stdout.splitlines()
        ]
        assert [each["message"]["id"] for each in letters] == ["a-1", "a-2", "a-3"]
        assert {each["reason"] for each in letters} == {"it answered 404: said 404"}
        assert "it answered 404" in reviewpulse("notify", "dead", "list", "--config", file).stdout
        receiver.mood = "ok"
        done = reviewpulse("notify", "dead", "redrive", "--config", file, "--yes")
        assert done.stdout == "3 dead letters redriven.\n"
        receiver.wait(lambda: receiver.ids("ok") == ["a-1", "a-2", "a-3"])
        assert "no dead letters" in reviewpulse("notify", "dead", "list", "--config", file).stdout
        assert notify.stop() == 0


def test_a_redirect_is_not_followed(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    with Receiver("redirect") as receiver, Receiver() as other:
        receiver.elsewhere = f"{other.url}/stolen"
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        start()
        publish(topics, transitions("a"))
        held_when(topics, lambda each: each.dead == 3)
        assert other.received == []


# ---- One of a group


def test_of_two_processes_one_stands_by_and_takes_over(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    first, second = transitions("a"), transitions("b")
    with Receiver() as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        one = start()
        two = start(waits_for="another process delivers for this group")
        publish(topics, first)
        receiver.wait(lambda: len(receiver.received) == 3)
        held_when(topics, lambda each: each.waiting == 0)
        one.kill()
        publish(topics, second)
        two.wait_for("delivering")
        receiver.wait(lambda: set(receiver.ids()) == ids_of(first + second))
        assert two.stop() == 0
    assert len(receiver.received) == 6


def test_one_that_lost_its_lease_stops_and_writes_nothing(
    topics: Settings, start: Callable[..., NotifyProcess], tmp_path: Path
) -> None:
    with Receiver() as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        notify = start()
        with connect(topics) as client:
            client.set(f"{topics.namespace}:notify:{{default}}:owner", "somebody else")
        publish(topics, transitions("a"))
        assert notify.process.wait(30) == 3
    assert receiver.received == []
    assert "Another `reviewpulse notify` of this group" in notify.log
    assert "Traceback" not in notify.log


# ---- People


def test_people_hear_notifications_and_machines_transitions(
    topics: Settings,
    start: Callable[..., NotifyProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Receiver() as machine, Receiver() as room:
        monkeypatch.setenv("ROOM", f"{room.url}/services/T0/hunter2")
        chat = '[[target]]\nname = "room"\ntype = "slack"\nurl = { env = "ROOM" }'
        write(tmp_path, hook("hook", machine.url), chat, default=["hook", "room"])
        reviewpulse("silence", "product-a", "--for", "2h", "--reason", "known")
        notify = start()
        told = transitions("a", "b")
        publish(topics, told)
        machine.wait(lambda: len(machine.received) == 6)
        room.wait(lambda: len(room.received) == 3)
        assert notify.stop() == 0
    assert [each.json["text"] for each in room.received] == [
        "🔴 [WARNING] FIRING: product-b (reviews), negative_share",
        "🟣 [CRITICAL] WORSE: product-b (reviews), negative_share",
        "🟢 [CRITICAL] RESOLVED: product-b (reviews), negative_share",
    ]
    assert "hunter2" not in notify.log
    with connect(topics) as client:
        for key in client.scan_iter(f"{topics.namespace}:notify:*"):
            assert b"hunter2" not in (client.dump(key) or b"")


# ---- Wrong use


@pytest.mark.slow
def test_a_wrong_file_or_no_server_is_one_sentence(
    topics: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = str(tmp_path / "notify.toml")
    assert "Name a notify file with --config" in reviewpulse("notify", code=2).stderr
    assert "There is no notify file" in reviewpulse("notify", "--config", file, code=2).stderr
    write(tmp_path, hook("hook", "http://127.0.0.1:1/x"), default=["hook"])
    assert "is no name" in reviewpulse("notify", "--config", file, "--group", "a b", code=2).stderr
    done = reviewpulse("notify", "test", "hook", "--config", file, code=3)
    assert "hook did not take it: cannot connect to 127.0.0.1:1" in done.stderr
    assert "there are hook" in reviewpulse("notify", "test", "x", "--config", file, code=2).stderr
    shown = json.loads(reviewpulse("notify", "check", file, "--json").stdout)
    assert shown["targets"] == [
        {"name": "hook", "type": "webhook", "hears": "transitions", "to": "http://127.0.0.1:1"}
    ]
    monkeypatch.setenv("REVIEWPULSE_KAFKA", "127.0.0.1:1")
    assert "No Kafka broker answers" in reviewpulse("notify", "--config", file, code=3).stderr
    monkeypatch.setenv("REVIEWPULSE_REDIS", "redis://127.0.0.1:1/0")
    assert "Redis at redis://127.0.0.1:1" in reviewpulse("notify", "--config", file, code=3).stderr
    monkeypatch.delenv("HOOK_SECRET")
    done = reviewpulse("notify", "check", file, "--json", code=2)
    (problem,) = json.loads(done.stdout)["errors"]
    assert problem["wrong"] == "the environment variable HOOK_SECRET is not set"


@pytest.mark.slow
def test_a_redis_that_is_away_for_a_while_costs_nothing_but_time(
    own_servers: LocalServers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    settings = load()
    first, second, third = transitions("a", "b"), transitions("c"), transitions("d")
    chance = random.Random(3)
    with Receiver(lambda: chance.choice(["ok", "ok", "500"])) as receiver:
        write(tmp_path, hook("hook", receiver.url), default=["hook"])
        notify = NotifyProcess(tmp_path / "notify.log", "--config", str(tmp_path / "notify.toml"))
        try:
            notify.wait_for("delivering")
            publish(settings, first)
            receiver.wait(lambda: receiver.received)
            own_servers.kill_redis()
            publish(settings, second)
            notify.wait_for("waiting")
            own_servers.restart_redis()
            publish(settings, third)
            receiver.wait(lambda: set(receiver.ids("ok")) == ids_of(first + second + third))
            assert notify.stop() == 0
        finally:
            if notify.process.poll() is None:
                notify.kill()
    assert_told(receiver, first + second + third)
