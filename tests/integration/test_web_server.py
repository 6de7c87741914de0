"""The server as a process: its answers, its end, and servers that go and come back."""

from __future__ import annotations

import signal
import socket
import time
from typing import TYPE_CHECKING

import builders
import msgspec
import pytest
from web_server import WebServer, own_names, settings_of, web_server

from stream.client import EventProducer
from stream.core.events import Alert, rfc3339
from stream.local import LocalServers
from stream.settings import load
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.settings import Settings

WAIT_S = 30.0


def alert(alert_id: str, sequence: int, at_ms: int, **fields: object) -> Alert:
    made = {"product_id": "a/b", "quotes": [], "at": rfc3339(at_ms)}
    return builders.alert(id=alert_id, sequence=sequence, **made | fields)


def publish(settings: Settings, *alerts: Alert) -> None:
    with EventProducer(settings, idempotent=False) as producer:
        for each in alerts:
            producer.send_record(settings.topic_alerts, each.id.encode(), msgspec.json.encode(each))


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def settings(servers: LocalServers) -> Settings:
    names = own_names(servers)
    made = settings_of(names)
    ensure(made)
    publish(
        made,
        alert("a", 1, 1_000),
        alert("b", 1, 2_000, product_id="kettle", category="kitchen", severity="critical"),
        alert("a", 2, 3_000, state="resolved", resolution="recovered"),
        alert("c", 1, 4_000, rule="negative_rate"),
    )
    return made


@pytest.fixture(scope="module")
def server(servers: LocalServers, settings: Settings) -> Iterator[WebServer]:
    variables = {
        f"REVIEWPULSE_{name.upper()}": str(getattr(settings, name))
        for name in ("kafka", "redis", "namespace", "topic_reviews", "topic_chats", "topic_alerts")
    }
    with web_server(variables | {"REVIEWPULSE_SCORER": "constant"}) as server:
        server.wait_until_ready()
        yield server


def ids(server: WebServer, query: str) -> list[str]:
    answer = server.get(f"/api/v1/alerts?{query}")
    assert answer.status_code == 200, answer.text
    return [each["id"] for each in answer.json()["alerts"]]


def test_alerts_come_newest_first_and_by_what_is_asked(server: WebServer) -> None:
    assert ids(server, "") == ["c", "a", "b"]
    assert ids(server, "state=resolved") == ["a"]
    assert ids(server, "severity=critical") == ["b"]
    assert ids(server, "product_id=a/b") == ["c", "a"]
    assert ids(server, "product_id=a%2Fb&rule=negative_rate") == ["c"]
    assert ids(server, "category=kitchen&state=firing") == ["b"]


def test_pages_of_alerts_lead_on_to_the_end(server: WebServer) -> None:
    first = server.get("/api/v1/alerts?limit=2").json()
    assert [each["id"] for each in first["alerts"]] == ["c", "a"]
    second = server.get("/api/v1/alerts", params={"limit": 2, "before": first["next"]}).json()
    assert [each["id"] for each in second["alerts"]] == ["b"]
    assert second["next"] is None


def test_an_alerts_story_is_told_from_its_beginning(server: WebServer) -> None:
    told = server.get("/api/v1/alerts/transitions?id=a").json()["alerts"]
    assert [(each["sequence"], each["state"]) for each in told] == [(1, "firing"), (2, "resolved")]


def test_a_silence_stands_beside_the_alerts_that_it_covers_until_it_is_ended(server: WebServer) -> None:
    made = server.post(
        "/api/v1/silences", json={"product": "a/b", "for": "2h", "reason": "recall", "author": "kim"}
    )
    assert made.status_code == 201
    silence = made.json()

    def silenced() -> dict[str, str | None]:
        alerts = server.get("/api/v1/alerts?state=firing").json()["alerts"]
        return {each["id"]: each["silenced_until"] for each in alerts}

    assert silenced() == {"c": silence["end"], "b": None}
    assert [each["id"] for each in server.get("/api/v1/silences").json()["silences"] if each["on"]] == [
        silence["id"]
    ]
    ended = server.client.delete(f"/api/v1/silences/{silence['id']}")
    assert (ended.status_code, ended.json()["reason"]) == (200, "recall")
    assert silenced() == {"c": None, "b": None}
    again = server.client.delete(f"/api/v1/silences/{silence['id']}")
    assert again.status_code == 404


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (
            {"for": "2h", "reason": "r"},
            "Say what is to be silent: product, category, pattern, rule or everything.",
        ),
        (
            {"for": "2h", "reason": "r", "product": "p", "everything": True},
            "`everything` is every product: leave it out, or `product`.",
        ),
        (
            {"for": "2h", "reason": " ", "product": "p"},
            "`reason` is empty: whoever finds the silence will want to know why.",
        ),
        (
            {"for": "2m3h", "reason": "r", "product": "p"},
            "'2m3h' is no duration: write 90s, 30m, 2h, 1d12h or 1w.",
        ),
        (
            {"for": "400d", "reason": "r", "product": "p"},
            "'400d' is not between one second and a year (365d).",
        ),
    ],
)
def test_a_silence_that_cannot_be_says_why(server: WebServer, body: dict[str, object], error: str) -> None:
    answer = server.post("/api/v1/silences", json=body)
    assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "The body is empty."),
        (b'{"product": "\xff"}', "The body is not UTF-8."),
        (b'{"product": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "The body's JSON is nested too deeply."),
        (b'{"product"', "Input data was truncated"),
        (b"[]", "data: Expected `object`, got `array`"),
    ],
    ids=["empty", "not UTF-8", "deep", "cut", "a list"],
)
def test_a_body_that_is_no_json_is_the_senders_fault(server: WebServer, body: bytes, error: str) -> None:
    answer = server.post("/api/v1/silences", content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_a_cookie_that_is_no_text_is_nobodys(server: WebServer) -> None:
    cookie = {b"Cookie": b"reviewpulse_session=wall~1~\xe9"}
    assert server.get("/api/v1/session", headers=cookie).status_code == 200


def test_what_fires_can_be_acknowledged_and_nothing_else(server: WebServer) -> None:
    said = {"alert_id": "b", "author": "kim", "note": "with the supplier"}
    assert server.post("/api/v1/acknowledgements", json=said).status_code == 201
    (critical,) = server.get("/api/v1/alerts?severity=critical").json()["alerts"]
    assert (critical["acknowledged"]["author"], critical["acknowledged"]["note"]) == (
        "kim",
        "with the supplier",
    )
    resolved = server.post("/api/v1/acknowledgements", json={"alert_id": "a"})
    assert (resolved.status_code, resolved.json()) == (
        400,
        {"error": "The alert resolved at 1970-01-01T00:00:03.000Z: there is nothing to acknowledge."},
    )
    assert server.post("/api/v1/acknowledgements", json={"alert_id": "zzz"}).status_code == 404


def test_texts_are_scored_in_their_order(server: WebServer) -> None:
    answer = server.post("/api/v1/score", json={"texts": ["good", "bad"]}).json()["scores"]
    assert [each["model_version"] for each in answer] == ["constant", "constant"]
    assert sum(answer[0][label] for label in ("negative", "neutral", "positive")) == pytest.approx(1.0)


def test_a_parameter_that_does_not_exist_is_named(server: WebServer) -> None:
    answer = server.get("/api/v1/leaders?windw=1h")
    assert (answer.status_code, answer.json()) == (
        400,
        {"error": "There is no parameter 'windw' here: take by, limit, min_events, window."},
    )


@pytest.mark.parametrize("with_signal", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_it_ends_its_streams_at_once(
    servers: LocalServers, settings: Settings, with_signal: signal.Signals
) -> None:
    variables = {"REVIEWPULSE_KAFKA": servers.kafka, "REVIEWPULSE_REDIS": servers.redis}
    with web_server(variables) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as viewer:
            viewer.sendall(b"GET /api/v1/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"text/event-stream" in viewer.recv(65_536)
            server.process.send_signal(with_signal)
            while viewer.recv(65_536):
                pass
        assert server.process.wait(WAIT_S) == 0


@pytest.mark.parametrize(("apart_s", "says"), [(0.02, []), (1.2, ["told to end again"])])
def test_told_twice_at_once_it_ends_in_order_and_told_again_later_it_waits_for_nothing(
    servers: LocalServers,
    settings: Settings,
    capfd: pytest.CaptureFixture[str],
    apart_s: float,
    says: list[str],
) -> None:
    variables = {"REVIEWPULSE_KAFKA": servers.kafka, "REVIEWPULSE_REDIS": servers.redis}
    with (
        web_server(variables) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as slow,
    ):
        assert server.client.get("/").status_code == 200
        if says:  # a request that is still on its way is what it would wait for
            slow.sendall(
                b"POST /api/v1/reviews HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            time.sleep(0.5)
        server.process.send_signal(signal.SIGINT)
        time.sleep(apart_s)
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 0
    logged = capfd.readouterr().err
    assert "Traceback" not in logged
    assert [line for line in ["told to end again"] if line in logged] == says


def test_a_bundle_that_does_not_load_is_told_and_the_rest_goes_on(
    servers: LocalServers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    variables = {
        "REVIEWPULSE_KAFKA": servers.kafka,
        "REVIEWPULSE_REDIS": servers.redis,
        "REVIEWPULSE_BUNDLE": str(tmp_path_factory.mktemp("empty")),
    }
    with web_server(variables) as server:
        answer = server.post("/api/v1/score", json={"texts": ["good"]})
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("The model does not load: ")
        assert server.get("/livez").status_code == 200


@pytest.mark.slow
def test_redis_that_is_away_is_told_and_used_again_when_it_is_back() -> None:
    with LocalServers() as servers:
        ensure(load(kafka=servers.kafka, redis=servers.redis))
        with web_server({"REVIEWPULSE_KAFKA": servers.kafka, "REVIEWPULSE_REDIS": servers.redis}) as server:
            server.wait_until_ready()
            servers.kill_redis()
            for path in ("counters?product_id=a&window=1h", "leaders?window=24h", "silences", "alerts"):
                # What was read a moment ago may still be told.
                wait_until(lambda path=path: server.get(f"/api/v1/{path}").status_code == 503)
                answer = server.get(f"/api/v1/{path}")
                assert f"Redis at {servers.redis}" in answer.json()["error"]
                assert answer.headers["retry-after"] == "2"
            ready = server.get("/readyz")
            assert (ready.status_code, ready.json()["ok"]) == (503, False)
            servers.restart_redis()
            wait_until(lambda: server.get("/readyz").status_code == 200)
            assert server.get("/api/v1/silences").status_code == 200


def test_where_its_servers_are_is_told_to_nobody_without_a_token() -> None:
    token = "a-token-that-may-read"  # noqa: S105
    away = {"REVIEWPULSE_KAFKA": "127.0.0.1:1", "REVIEWPULSE_REDIS": "redis://127.0.0.1:1/0"}
    with web_server(away | {"REVIEWPULSE_WEB_TOKENS": f"wall:read:{token}"}) as server:
        assert server.get("/readyz").json() == {
            "ok": False,
            "troubles": ["Redis does not answer.", "The alerts cannot be followed.", "No events are taken."],
        }
        known = server.get("/readyz", headers={"Authorization": f"Bearer {token}"}).json()
        assert "redis://127.0.0.1:1/0" in known["troubles"][0]
        assert server.end() == 0


@pytest.mark.slow
def test_it_starts_before_kafka_and_redis_do() -> None:
    with LocalServers() as servers:
        settings = load(kafka=servers.kafka, redis=servers.redis)
        servers.kill_kafka()
        servers.kill_redis()
        with web_server({"REVIEWPULSE_KAFKA": servers.kafka, "REVIEWPULSE_REDIS": servers.redis}) as server:
            assert server.get("/livez").status_code == 200
            assert server.get("/readyz").status_code == 503
            servers.restart_kafka()
            servers.restart_redis()
            ensure(settings)
            server.wait_until_ready()
