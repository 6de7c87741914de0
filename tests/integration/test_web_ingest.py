"""Events over HTTP to Kafka's log: what was answered with 202 is there, whatever becomes of the server."""

from __future__ import annotations

import json
import signal
import threading
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
from web_server import WebServer, own_names, settings_of, web_server

from stream.bench import ingest_http
from stream.client.log import read_topic
from stream.local import LocalServers
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings

BATCH = {"Content-Type": "application/x-ndjson"}
ONE = {"Content-Type": "application/json"}


def review(**fields: Any) -> dict[str, Any]:
    return {
        "event_id": uuid4().hex,
        "product_id": "kettle",
        "text": "It leaks.",
        "event_time": time.time(),
    } | fields


def lines(*events: dict[str, Any]) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in events)


@pytest.fixture(scope="module")
def names(servers: LocalServers) -> dict[str, str]:
    return own_names(servers)


@pytest.fixture(scope="module")
def settings(names: dict[str, str]) -> Settings:
    return settings_of(names)


@pytest.fixture(scope="module")
def server(names: dict[str, str], settings: Settings) -> Iterator[WebServer]:
    ensure(settings)
    with web_server(names) as server:
        server.wait_until_ready()
        yield server


class Log:
    """What came into the topics since the test began."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._before = {topic: self._places(topic) for topic in settings.topics.values()}

    def _places(self, topic: str) -> set[tuple[int, int]]:
        return {(each.partition, each.offset) for each in read_topic(self._settings, topic)}

    def records(self, channel: str = "reviews") -> list[Any]:
        topic = self._settings.topics[channel]
        records = read_topic(self._settings, topic)
        return [each for each in records if (each.partition, each.offset) not in self._before[topic]]

    def ids(self, channel: str = "reviews") -> list[str]:
        return sorted(json.loads(each.value)["event_id"] for each in self.records(channel))


@pytest.fixture
def log(server: WebServer, settings: Settings) -> Log:
    return Log(settings)


def test_one_review_is_in_the_log_as_it_was_sent(server: WebServer, log: Log) -> None:
    sent = review(product_id="a/b?c=é", shelf=7)
    answer = server.post("/api/v1/reviews", content=json.dumps(sent, indent=2), headers=ONE)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
    (record,) = log.records()
    assert json.loads(record.value) == sent
    assert record.key.decode() == "a/b?c=é"


def test_chat_lines_go_to_their_own_topic_and_an_agents_line_goes_too(server: WebServer, log: Log) -> None:
    said = [review(conversation_id="7", role=role) for role in ("customer", "agent")]
    answer = server.post("/api/v1/chats", content=lines(*said), headers=BATCH)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    assert log.ids("chats") == sorted(each["event_id"] for each in said)


def test_the_good_ones_of_a_batch_go_and_the_bad_ones_are_named(server: WebServer, log: Log) -> None:
    good = [review(), review()]
    body = b"\n".join(
        [lines(good[0]), b"", b'{"event_id": 3}', b"{", lines(review(text=" ")), lines(good[1])]
    )
    answer = server.post("/api/v1/reviews", content=body, headers=BATCH)
    assert (answer.status_code, answer.json()) == (
        400,
        {
            "error": "3 of 5 events were refused; the first, in line 3: Expected `str`, got `int` - at"
            " `$.event_id`.",
            "accepted": 2,
            "refused": [
                {"line": 3, "reason": "Expected `str`, got `int` - at `$.event_id`"},
                {"line": 4, "reason": "not JSON: Input data was truncated"},
                {"line": 5, "reason": "the text is empty"},
            ],
        },
    )
    assert log.ids() == sorted(each["event_id"] for each in good)


@pytest.mark.parametrize(
    ("content", "headers", "status", "error"),
    [
        (b"", BATCH, 400, "The body holds no event."),
        (b" \n\n", BATCH, 400, "The body holds no event."),
        (b"{}\n" * 10_001, BATCH, 413, "The batch has 10,001 events, more than 10,000: divide it."),
        (b"x" * 262_145, ONE, 413, "The body is larger than 262,144 bytes: divide it."),
        (b"x" * (8 << 20) + b"x", BATCH, 413, "The body is larger than 8,388,608 bytes: divide it."),
        (b"{}", {"Content-Type": "text/plain"}, 415, None),
        (b"{}", {}, 415, None),
        (
            b"{}",
            ONE | {"Content-Encoding": "gzip"},
            415,
            "Send the body as it is, without a Content-Encoding.",
        ),
    ],
    ids=["empty", "blank", "many", "large", "large batch", "text", "no type", "gzip"],
)
def test_what_is_no_batch_of_events_is_refused_whole(
    server: WebServer, log: Log, content: bytes, headers: dict[str, str], status: int, error: str | None
) -> None:
    answer = server.post("/api/v1/reviews", content=content, headers=headers)
    assert answer.status_code == status
    if error is not None:
        assert answer.json() == {"error": error}
    assert log.ids() == []


def test_a_body_of_unknown_length_is_cut_off_where_it_is_too_large(server: WebServer) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(10):
            yield b"x" * (1 << 20)

    answer = server.post("/api/v1/reviews", content=pieces(), headers=BATCH)
    assert (answer.status_code, answer.json()) == (
        413,
        {"error": "The body is larger than 8,388,608 bytes: divide it."},
    )


def test_beyond_what_may_wait_senders_are_told_to_come_again(
    names: dict[str, str], settings: Settings
) -> None:
    ensure(settings)
    small = {"REVIEWPULSE_WEB_BATCH_BYTES": "100000", "REVIEWPULSE_WEB_INFLIGHT_BYTES": "200000"}
    with web_server(names | small) as server:
        server.wait_until_ready()
        # Each event counts a kibibyte beside its bytes.
        answer = server.post("/api/v1/reviews", content=b"{}\n" * 300, headers=BATCH)
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "2")
        assert answer.json() == {
            "error": "Too many events are on their way to Kafka already: send these again soon."
        }
        # What was held is given back.
        events = [review() for _ in range(50)]
        for _ in range(5):
            assert server.post("/api/v1/reviews", content=lines(*events), headers=BATCH).status_code == 202


@pytest.mark.slow
def test_every_202_is_in_the_log_after_the_server_was_killed(names: dict[str, str], log: Log) -> None:
    acknowledged: list[str] = []
    for _ in range(3):
        with web_server(names) as server:
            server.wait_until_ready()
            senders = [
                threading.Thread(target=_send_until_dead, args=(server, acknowledged)) for _ in range(4)
            ]
            before = len(acknowledged)
            for each in senders:
                each.start()
            while len(acknowledged) < before + 3_000:
                time.sleep(0.005)
            server.process.send_signal(signal.SIGKILL)
            for each in senders:
                each.join()
    in_log = log.ids()
    assert len(acknowledged) >= 9_000
    assert set(acknowledged) - set(in_log) == set()


def _send_until_dead(server: WebServer, acknowledged: list[str]) -> None:
    with httpx.Client(base_url=server.address, timeout=30) as client:
        while True:
            events = [review() for _ in range(100)]
            try:
                answer = client.post("/api/v1/reviews", content=lines(*events), headers=BATCH)
            except httpx.TransportError:
                return
            assert answer.status_code == 202, answer.text
            acknowledged.extend(each["event_id"] for each in events)


@pytest.mark.slow
def test_told_to_end_it_finishes_what_is_on_its_way(names: dict[str, str], log: Log) -> None:
    acknowledged: list[str] = []
    with web_server(names) as server:
        server.wait_until_ready()
        senders = [threading.Thread(target=_send_until_dead, args=(server, acknowledged)) for _ in range(4)]
        for each in senders:
            each.start()
        while len(acknowledged) < 2_000:
            time.sleep(0.005)
        assert server.end(signal.SIGTERM) == 0
        for each in senders:
            each.join()
    in_log = log.ids()
    # Whatever was taken was answered: a sender that was cut off had sent nothing that was taken.
    assert sorted(acknowledged) == in_log


@pytest.mark.slow
def test_while_kafka_is_away_events_are_refused_and_taken_when_it_is_back() -> None:
    with LocalServers() as servers:
        settings = load(kafka=servers.kafka, redis=servers.redis, session_timeout_s=6)
        ensure(settings)
        with web_server({"REVIEWPULSE_KAFKA": servers.kafka, "REVIEWPULSE_REDIS": servers.redis}) as server:
            server.wait_until_ready()
            assert server.post("/api/v1/reviews", json=review()).status_code == 202
            servers.kill_kafka()
            answer = server.post("/api/v1/reviews", json=review())
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
            assert "send all 1 events again" in answer.json()["error"]
            # Known now, so it is not waited for.
            answer = server.post("/api/v1/reviews", json=review())
            assert answer.status_code == 503
            servers.restart_kafka()
            ensure(settings)
            deadline = time.monotonic() + 60
            while server.post("/api/v1/reviews", json=review()).status_code != 202:
                assert time.monotonic() < deadline
                time.sleep(0.2)


@pytest.mark.slow
def test_the_bench_compares_what_was_acknowledged_with_the_log() -> None:
    report = ingest_http.run(events=2_000, batch=200, connections=2, rounds=1)
    assert set(report.rates) == {ingest_http.HTTP, ingest_http.CLIENT, ingest_http.RAW}
    assert report.in_log == ingest_http.WARM_UP_EVENTS + 3 * 2_000
