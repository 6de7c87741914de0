"""The live stream of a real server: alerts as they come, servers that go, viewers that do not read."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import msgspec
import pytest
from builders import alert
from web_server import WebServer, web_server

from stream.client import AsyncLiveCounters, EventProducer, LiveCounters
from stream.core.silence import Silence
from stream.redis_config import connect
from stream.settings import load
from stream.silences import Silences
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.local import LocalServers
    from stream.settings import Settings

PATIENCE_S = 60.0
AT = "2026-11-27T10:00:00.000Z"


class Event(NamedTuple):
    """A server-sent event."""

    id: str
    name: str
    data: Any


@pytest.fixture
def topics(settings: Settings) -> Settings:
    ensure(settings)
    return settings


@pytest.fixture
def server(topics: Settings) -> Iterator[WebServer]:
    with web_server() as running:
        running.wait_until_ready()
        yield running


def stream(server: WebServer, path: str = "/api/v1/live", last_id: str = "") -> Iterator[Event]:
    """The events of a stream, until it ends or says nothing for as long as tests have patience."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    with httpx.stream("GET", server.address + path, headers=headers, timeout=PATIENCE_S) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        fields: dict[str, str] = {}
        for line in answer.iter_lines():
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                if "event" in fields:
                    yield Event(fields.get("id", ""), fields["event"], json.loads(fields["data"]))
                fields = {}


def publish(settings: Settings, id_: str, **fields: Any) -> None:
    with EventProducer(settings) as producer:
        producer.send_record(settings.topic_alerts, id_.encode(), encoded(id_, **fields))


def encoded(id_: str, **fields: Any) -> bytes:
    return msgspec.json.encode(alert(id=id_, at=AT, **fields))


def until(
    events: Iterator[Event],
    name: str,
    wanted: Callable[[Any], bool] = lambda _: True,
    patience_s: float = PATIENCE_S,
) -> Event:
    """The next event of a name whose data are as wanted."""
    deadline = time.monotonic() + patience_s
    for event in events:
        if event.name == name and wanted(event.data):
            return event
        assert time.monotonic() < deadline, f"no {name} as wanted"
    raise AssertionError("the stream ended")


def test_an_alert_is_told_to_everybody_with_all_its_fields(server: WebServer, topics: Settings) -> None:
    one, other = stream(server), stream(server)
    until(one, "overview")
    until(other, "overview")
    hostile = "<script>alert(1)</script>\n\ndata: x\r\n\u2028\x85\u2029\u0645\u0631"
    publish(topics, "a1", product_id=hostile)
    told = until(one, "alert")
    assert told.data["product_id"] == hostile
    assert told.data == json.loads(encoded("a1", product_id=hostile)) | {
        "silenced_until": None,
        "acknowledged": None,
    }
    assert until(other, "alert") == told
    assert until(one, "overview", lambda data: data["firing"] == 1).data["critical"] == 0


def test_who_comes_back_is_told_what_it_missed(server: WebServer, topics: Settings) -> None:
    events = stream(server)
    until(events, "overview")
    publish(topics, "a1")
    last_id = until(events, "alert").id
    events.close()  # type: ignore[attr-defined]
    publish(topics, "a2")
    publish(topics, "a3")
    while server.get("/api/v1/overview").json()["firing"] < 3:
        time.sleep(0.05)
    again = stream(server, last_id=last_id)
    assert [until(again, "alert").data["id"] for _ in range(2)] == ["a2", "a3"]


def test_a_silence_is_shown_and_told_with_the_alert_it_hides(server: WebServer, topics: Settings) -> None:
    publish(topics, "a1", product_id="lamp")
    events = stream(server)
    until(events, "overview", lambda data: data["firing"] == 1)
    now_ms = time.time_ns() // 1_000_000
    with connect(topics) as client:
        silence = Silence(id="s1", start_ms=now_ms, end_ms=now_ms + 3_600_000, reason="known", product="lamp")
        Silences(topics, client).add(silence, now_ms)
    seen = {}
    while {"alert", "silences"} - seen.keys():
        event = next(events)
        if event.name == "alert" and event.data["silenced_until"]:
            seen["alert"] = event.data["id"]
        if event.name == "silences" and event.data["silences"]:
            seen["silences"] = event.data["silences"][0]["reason"]
    assert seen == {"alert": "a1", "silences": "known"}


def test_the_end_of_the_server_ends_the_streams(server: WebServer) -> None:
    events = stream(server)
    until(events, "overview")
    started = time.monotonic()
    assert server.end() == 0
    assert [event.name for event in events if event.name not in ("overview", "silences", "leaders")] == []
    assert time.monotonic() - started < 15  # not the grace that unfinished answers have


@pytest.mark.slow
def test_a_viewer_that_does_not_read_holds_nobody_up(server: WebServer, topics: Settings) -> None:
    host, port = server.address.removeprefix("http://").split(":")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        deaf.sendall(f"GET /api/v1/live HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        events = stream(server)
        until(events, "overview")
        text = "x" * 20_000
        ids = []
        with EventProducer(topics) as producer:
            for n in range(400):  # 8 MB: more than sockets and queues hold
                value = encoded(f"a{n}", model_version=text)
                producer.send_record(topics.topic_alerts, b"%d" % n, value)
                if n % 40 == 39:  # whoever reads keeps up, however busy the machine
                    producer.flush()
                    ids += [until(events, "alert").data["id"] for _ in range(40)]
        assert sorted(ids) == sorted(f"a{n}" for n in range(400))


@pytest.mark.slow
def test_servers_that_go_are_said_and_those_that_come_back_are_followed_again(
    own_servers: LocalServers, env: dict[str, str]
) -> None:
    settings = load()
    with web_server() as server:
        server.wait_until_ready()
        events = stream(server)
        until(events, "overview", lambda data: data["redis_ok"] and data["kafka_ok"])
        own_servers.kill_redis()
        until(events, "overview", lambda data: not data["redis_ok"] and data["kafka_ok"])
        own_servers.restart_redis()
        until(events, "overview", lambda data: data["redis_ok"])
        for attempt in range(5):
            own_servers.kill_kafka()
            until(events, "overview", lambda data: data["redis_ok"] and not data["kafka_ok"])
            own_servers.restart_kafka()
            ensure(settings)  # its log was in memory
            until(events, "overview", lambda data: data["kafka_ok"])
            publish(settings, f"a{attempt}")
            # Who asks the local broker for a topic that is not there yet hears on that connection ever after
            # that it is empty: where the page came before the topic did, once more.
            with suppress(AssertionError):
                assert until(events, "alert", patience_s=10).data["id"] == f"a{attempt}"
                return
        raise AssertionError("the page did not follow a broker that came back, five times")


@pytest.mark.slow
async def test_the_fleet_is_what_its_products_are_together(
    topics: Settings, start_worker: Callable[..., Any], wait_until_ended: Callable[..., Any]
) -> None:
    now_s = time.time()
    start_worker()
    with EventProducer(topics) as producer:
        for n in range(900):
            producer.send_review(
                event_id=f"r{n}",
                product_id=f"Product {n % 30}",
                text="It works.",
                event_time=now_s - (n % 3) * 4_000,
            )
    wait_until_ended(900)
    with LiveCounters(topics) as counters:
        fleet = counters.fleet()
        of_products = {
            window: sum(each.events for each in counters.leaders(window, "events", limit=100))
            for window in ("5m", "1h", "24h", "7d", "all")
        }
        assert {each.window: each.events for each in fleet.windows} == of_products
        assert (fleet.products, fleet.totals["reviews"].counted) == (30, 900)
        hour = counters.series(None, "24h")
        assert sum(each.positive for each in hour.points) == 900
        assert counters.products("PRODUCT 1", limit=2) == ["Product 1", "Product 10"]
        (baseline,) = counters.baselines("Product 1")
        assert (baseline.channel, baseline.interval[0] < baseline.share < baseline.interval[1]) == (
            "reviews",
            True,
        )
        assert set(counters.applied().values()) != {-1}
        async with AsyncLiveCounters(topics) as others:
            answers = await asyncio.gather(
                others.fleet(),
                others.series(None, "24h"),
                others.baselines("Product 1"),
                others.products("PRODUCT 1", limit=2),
                others.applied(),
            )
        assert answers == [
            fleet,
            hour,
            [baseline],
            ["Product 1", "Product 10"],
            counters.applied(),
        ]
