"""Silences, acknowledgements and notifications as operations people and pagers use them."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.client import EventProducer, Notifications
from stream.core.events import Alert, rfc3339
from stream.core.notify import Notification, Policy
from stream.core.silence import Acknowledgement, Silence
from stream.redis_config import connect
from stream.settings import load
from stream.silences import ACKNOWLEDGED_MS, KEPT_MS, Silences
from stream.topics import ensure
from tests.builders import alert
from tests.integration.cluster import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from stream.local import LocalServers
    from stream.settings import Settings

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
NOWHERE = "redis://127.0.0.1:1/0"
FOLLOW = [sys.executable, "-m", "stream.cli.main", "alerts", "--follow", "--notifications", "--json"]


@pytest.fixture
def topics(settings: Settings) -> Settings:
    ensure(settings)
    return settings


@pytest.fixture
def silences(settings: Settings) -> Iterator[Silences]:
    with connect(settings) as client:
        yield Silences(settings, client)


class Clock:
    """Time as the test has it."""

    def __init__(self, now_ms: int = START_MS) -> None:
        self.now_ms = now_ms

    def __call__(self) -> int:
        return self.now_ms


def begun(name: str, at_ms: int = START_MS, **fields: Any) -> Alert:
    return alert(id=name, product_id=f"product-{name}", at=rfc3339(at_ms), **fields)


def ended(name: str, at_ms: int = START_MS) -> Alert:
    return begun(name, at_ms, state="resolved", sequence=2)


def publish(settings: Settings, *alerts: Alert) -> None:
    with EventProducer(settings) as producer:
        for each in alerts:
            producer.send_record(settings.topic_alerts, each.id.encode(), msgspec.json.encode(each))


def silence(**fields: Any) -> Silence:
    usual: dict[str, Any] = {"id": "s", "start_ms": START_MS, "end_ms": START_MS + HOUR_MS, "reason": "r"}
    return Silence(**usual | fields)


def reviewpulse(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def listed() -> list[dict[str, Any]]:
    return [json.loads(line) for line in reviewpulse("silences", "--json").stdout.splitlines()]


# ---- Silences


def test_a_silence_is_made_listed_and_ended(settings: Settings) -> None:
    made = reviewpulse(
        "silence", "B1", "--for", "2h", "--reason", "the recall is out", "--rule", "surge", "--author", "kim"
    ).stdout
    id_ = made.partition(":")[0]
    assert made.startswith(f"{id_}: product B1, rule surge is silent until 20")
    (found,) = listed()
    assert {
        name: found[name] for name in ("id", "on", "product", "rule", "category", "reason", "author")
    } == {
        "id": id_,
        "on": True,
        "product": "B1",
        "rule": "surge",
        "category": None,
        "reason": "the recall is out",
        "author": "kim",
    }
    assert f"{id_}  on  product B1, rule surge" in reviewpulse("silences").stdout
    assert reviewpulse("unsilence", id_).stdout == "product B1, rule surge is no longer silent.\n"
    (found,) = listed()
    assert not found["on"]
    assert "Over already" in reviewpulse("unsilence", id_, code=2).stderr


def test_a_silence_may_begin_later(settings: Settings) -> None:
    reviewpulse("silence", "--all", "--for", "1h", "--reason", "r", "--from", "2999-01-01T00:00:00+01:00")
    (found,) = listed()
    assert (found["on"], found["start"], found["end"]) == (
        False,
        "2998-12-31T23:00:00.000Z",
        "2999-01-01T00:00:00.000Z",
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--for", "2h", "--reason", "r"], "Say what is to be silent"),
        (["B1", "--for", "2 hours", "--reason", "r"], "'2 hours' is no duration: write 90s"),
        (["B1", "--for", "400d", "--reason", "r"], "not between one second and a year"),
        (["B1", "--for", "2h", "--reason", " "], "--reason is empty"),
        (["B1", "--for", "2h", "--reason", "r" * 1_001], "That cannot be noted: Expected `str` of length"),
        (["B1", "--for", "2h", "--reason", "r", "--all"], "--all is every product"),
        (["B1", "--for", "2h", "--reason", "r", "--from", "tomorrow"], "is no time"),
        (["B1", "--for", "2h", "--reason", "r", "--from", "2024-01-01T00:00:00"], "names no time zone"),
        (
            ["B1", "--for", "2h", "--reason", "r", "--from", "2024-01-01T00:00:00Z"],
            "was over at 2024-01-01T02",
        ),
    ],
)
def test_a_wrong_silence_is_one_sentence_and_makes_none(
    settings: Settings, arguments: list[str], sentence: str
) -> None:
    assert sentence in reviewpulse("silence", *arguments, code=2).stderr
    assert listed() == []


def test_what_is_not_there_is_named_with_the_remedy(topics: Settings) -> None:
    publish(topics, begun("over"), ended("over"))
    assert "`reviewpulse silences` lists" in reviewpulse("unsilence", "nope", code=2).stderr
    assert "`reviewpulse alerts` lists" in reviewpulse("ack", "nope", code=2).stderr
    assert "nothing to acknowledge" in reviewpulse("ack", "over", code=2).stderr


def test_without_redis_it_is_one_sentence_and_exit_3(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_REDIS", NOWHERE)
    for arguments in (
        ("silence", "B1", "--for", "2h", "--reason", "r"),
        ("silences",),
        ("unsilence", "x"),
        ("ack", "incident-0"),
        ("alerts", "--notifications"),
    ):
        assert "127.0.0.1:1" in reviewpulse(*arguments, code=3).stderr


def test_what_has_been_over_for_a_day_is_removed_by_the_next_one(silences: Silences) -> None:
    silences.add(silence(id="old"), START_MS)
    silences.add(silence(id="new", end_ms=START_MS + 9 * KEPT_MS), START_MS + HOUR_MS + KEPT_MS - 1)
    assert [each.id for each in silences.read().silences] == ["new", "old"]
    silences.add(silence(id="newer", end_ms=START_MS + 9 * KEPT_MS), START_MS + HOUR_MS + KEPT_MS)
    assert [each.id for each in silences.read().silences] == ["new", "newer"]


def test_old_acknowledgements_are_removed_by_the_next_one(silences: Silences) -> None:
    for name, at_ms in (("old", START_MS), ("new", START_MS + 1), ("newest", START_MS + ACKNOWLEDGED_MS)):
        silences.acknowledge(Acknowledgement(alert_id=name, at_ms=at_ms))
    assert set(silences.read().acknowledged) == {"new", "newest"}


def test_what_is_no_silence_silences_nothing_and_is_said_once(
    settings: Settings, silences: Silences, caplog: pytest.LogCaptureFixture
) -> None:
    silences.add(silence(everything=True), START_MS)
    with connect(settings) as client:
        client.hset(f"{settings.namespace}:silences", "x", b'{"everything": true')
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert [each.id for each in silences.read().silences] == ["s"]
    assert len(caplog.records) == 1


# ---- Beside an alert


def test_alerts_are_listed_with_who_silenced_and_who_acknowledged_them(topics: Settings) -> None:
    publish(topics, begun("a"), begun("b"), begun("c"), ended("c"))
    reviewpulse("silence", "product-a", "--for", "2h", "--reason", "recall\x1b[2J", "--author", "kim")
    reviewpulse("silence", "product-c", "--for", "2h", "--reason", "recall", "--author", "kim")
    assert reviewpulse("ack", "b", "--note", "calling the maker", "--author", "lee").stdout == (
        "b is acknowledged by lee.\n"
    )
    shown = reviewpulse("alerts").stdout
    blocks = {each.splitlines()[0].split()[1]: each.splitlines()[1] for each in shown.strip().split("\n\n")}
    assert blocks["product-a"].startswith("  silenced until 20")
    assert blocks["product-a"].endswith(" by kim: recall\\x1b[2J")
    assert blocks["product-b"].startswith("  acknowledged by lee at 20")
    assert blocks["product-b"].endswith(": calling the maker")
    assert blocks["product-c"].startswith("  at ")  # it is over


def test_alerts_are_listed_without_redis_too(topics: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(topics, begun("a"), begun("b"))
    monkeypatch.setenv("REVIEWPULSE_REDIS", NOWHERE)
    done = reviewpulse("alerts")
    assert "FIRING product-a" in done.stdout
    assert done.stderr.count("Cannot reach silences and acknowledgements") == 1


# ---- Notifications


def turns(told: Notifications) -> list[str]:
    return [f"{each.alert.id} {each.state}" for each in told.available() if each.alert is not None]


def test_what_people_said_is_heeded_as_time_goes_by(topics: Settings, silences: Silences) -> None:
    clock = Clock()
    with Notifications(topics, group="pager", now_ms=clock) as told:
        silences.add(silence(product="product-b"), START_MS)
        publish(topics, begun("a"))
        publish(topics, begun("b"))
        clock.now_ms += 10_000
        assert turns(told) == ["a firing"]
        silences.acknowledge(Acknowledgement(alert_id="a", at_ms=clock.now_ms))
        clock.now_ms = START_MS + HOUR_MS
        assert turns(told) == ["b firing"]
        clock.now_ms += 4 * HOUR_MS
        assert turns(told) == ["b still_firing"]
        publish(topics, ended("a", clock.now_ms))
        clock.now_ms += 10_000
        assert turns(told) == ["a resolved"]


def test_what_was_not_finished_comes_again_with_its_id_and_nothing_else_does(topics: Settings) -> None:
    clock = Clock()

    def page(until: str) -> list[str]:
        paged = []
        with Notifications(topics, group="pager", from_beginning=True, now_ms=clock) as told:
            for each in told.available():
                paged.append(each.id)
                if each.alert is not None and each.alert.id == until:
                    raise RuntimeError("the pager is down")
        return paged

    publish(topics, *(begun(name) for name in "abc"))
    everything = {f"{name}-firing-1" for name in "abc"}
    with Notifications(topics, from_beginning=True, now_ms=clock) as alone:  # no group: keeps nothing
        order = [each.id for each in alone.available()]
    assert set(order) == everything
    last = order[-1].partition("-")[0]
    with pytest.raises(RuntimeError, match="the pager is down"):
        page(until=last)
    clock.now_ms += 60_000
    assert page(until="") == [f"{last}-firing-1"]
    assert page(until="") == []
    clock.now_ms = START_MS + 4 * HOUR_MS + 60_000
    again = page(until="")
    assert sorted(again) == [f"{name}-still_firing-2" for name in "abc"]


def test_leaving_the_block_in_peace_finishes_what_was_in_hand(topics: Settings) -> None:
    publish(topics, begun("a"), begun("b"))
    with Notifications(topics, group="pager", from_beginning=True, now_ms=Clock()) as told:
        first = next(iter(told))
    with Notifications(topics, group="pager", now_ms=Clock()) as told:
        (second,) = told.available()
    assert {first.id, second.id} == {"a-firing-1", "b-firing-1"}


def test_a_crowd_is_one_incident_that_can_be_acknowledged(topics: Settings) -> None:
    clock = Clock()
    publish(topics, *(begun(f"a{n}", START_MS + n) for n in range(30)))
    with Notifications(topics, group="pager", from_beginning=True, now_ms=clock) as told:
        first = list(told.available())
        assert [each.kind for each in first] == ["alert"] * 4 + ["incident"]
        incident = first[-1]
        assert reviewpulse("ack", incident.thread, "--author", "kim").returncode == 0
        clock.now_ms += 5 * HOUR_MS
        assert list(told.available()) == []


def test_a_change_of_model_is_seen_in_what_the_workers_say(topics: Settings) -> None:
    clock = Clock()
    with connect(topics) as client, Notifications(topics, group="pager", now_ms=clock) as told:
        for version in ("en-1", "en-2"):
            clock.now_ms += 60_000
            status = json.dumps({"name": "w", "at": clock.now_ms / 1000, "model_version": version, "x": 1})
            client.hset(f"{topics.namespace}:workers", "w", status)
            assert list(told.available()) == []
        publish(topics, *(begun(name, clock.now_ms + 1, model_version="en-2") for name in "abc"))
        clock.now_ms += 60_000
        kinds = [each.kind for each in told.available()]
    assert kinds == ["alert", "incident"]


def test_a_rollback_is_heard_of_where_it_was_promoted(topics: Settings) -> None:
    clock = Clock()
    one, two = ({"path": "/b", "version": version, "manifest": "0" * 64} for version in ("en-1", "en-2"))
    with connect(topics) as client, Notifications(topics, group="pager", now_ms=clock) as told:
        for bundle, previous in ((two, one), (one, two)):
            clock.now_ms += 60_000
            promotion = {"bundle": bundle, "previous": previous, "by": "me", "at": rfc3339(clock.now_ms)}
            client.set(f"{topics.namespace}:bundle", json.dumps(promotion))
            status = {"name": "w", "at": clock.now_ms / 1000, "model_version": bundle["version"]}
            client.hset(f"{topics.namespace}:workers", "w", json.dumps(status))
            assert list(told.available()) == []
        publish(topics, *(begun(name, clock.now_ms + 1, model_version="en-1") for name in "abc"))
        clock.now_ms += 60_000
        (_, incident) = told.available()
        assert incident.incident is not None
        assert incident.incident.models == ("en-2", "en-1")
        client.set(f"{topics.namespace}:bundle", b"damaged")
        clock.now_ms += 60_000
        assert list(told.available()) == []


def test_memory_that_cannot_be_read_is_said_and_begun_anew(
    topics: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    key = f"{topics.namespace}:notified:pager"
    with connect(topics) as client:
        client.hset(key, mapping={"state": b"damaged", "finished": b"7"})
    publish(topics, begun("a"))
    with Notifications(topics, group="pager", from_beginning=True, now_ms=Clock()) as told:
        assert turns(told) == ["a firing"]
    assert f"cannot read {key}" in caplog.text


def test_on_a_cluster_it_is_the_same(topics: Settings) -> None:
    """Silences, acknowledgements and memory lie with different masters."""
    with LocalCluster(replicas=0) as cluster:
        settings = topics.model_copy(update={"redis": cluster.url})
        publish(settings, begun("a"), begun("b"))
        with connect(settings) as client:
            there = Silences(settings, client)
            there.add(silence(product="product-b"), START_MS)
            there.acknowledge(Acknowledgement(alert_id="a", at_ms=START_MS))
            assert set(there.read().acknowledged) == {"a"}
            there.end("s", START_MS + 1)
            there.add(silence(id="t", product="product-b"), START_MS)
        for expected in ([], ["b-firing-1"], []):
            clock = Clock(START_MS if not expected else START_MS + HOUR_MS)
            with Notifications(settings, group="pager", from_beginning=True, now_ms=clock) as told:
                assert [each.id for each in told.available()] == expected


# ---- After a kill


def ids_of(lines: Iterable[str]) -> list[str]:
    return [msgspec.json.decode(line, type=Notification).id for line in lines if line.endswith("\n")]


def test_a_killed_notifier_misses_nothing_and_repeats_only_what_was_in_its_hand(topics: Settings) -> None:
    now_ms = time.time_ns() // 1_000_000
    publish(topics, *(begun(name, now_ms) for name in "abc"))
    command = [*FOLLOW, "--from-beginning", "--group", "pager"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        told = ids_of([following.stdout.readline()])
        following.kill()
        told += ids_of(following.stdout)  # what it printed before it died
    publish(topics, ended("a", now_ms), begun("d", now_ms))
    wanted = {*(f"{name}-firing-1" for name in "abcd"), "a-resolved-2"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        while not wanted <= set(told):
            told += ids_of([following.stdout.readline()])
        following.send_signal(signal.SIGTERM)
        told += ids_of(following.stdout)
        assert following.wait(20) == 0
    assert set(told) == wanted
    assert len(told) <= len(wanted) + 1
    assert (
        reviewpulse("alerts", "--notifications", "--group", "pager").stdout == "There is nothing to tell.\n"
    )


def test_what_comes_between_a_kill_and_the_next_start_is_told_though_nothing_came_before(
    topics: Settings,
) -> None:
    killed = Notifications(topics, group="pager", now_ms=Clock())
    killed._subscriber.poll()  # its first look; then it is no more
    publish(topics, begun("a"))
    with Notifications(topics, group="pager", now_ms=Clock()) as told:
        assert [each.id for each in told.available()] == ["a-firing-1"]
    killed.close()


def test_a_redis_that_goes_away_is_waited_for(own_servers: LocalServers) -> None:
    settings = load()
    received = []
    with Notifications(settings, group="pager", policy=Policy(), from_beginning=True) as told:
        publish(settings, begun("a", time.time_ns() // 1_000_000))
        for each in told:
            received.append(each.id)
            if len(received) == 2:
                break
            own_servers.kill_redis()
            publish(settings, ended("a", time.time_ns() // 1_000_000))
            own_servers.restart_redis()
    assert received == ["a-firing-1", "a-resolved-2"]
