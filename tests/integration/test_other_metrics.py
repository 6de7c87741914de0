"""Metrics of the web server and of notify: real processes, known requests, exact numbers."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.client import EventProducer
from stream.client.log import read_topic
from stream.core.events import Alert, rfc3339
from stream.settings import load
from stream.topics import ensure
from tests.builders import alert
from tests.integration.conftest import WorkerProcess, free_port
from tests.integration.receiver import Receiver
from tests.integration.scrape import scraped, total, until, value
from tests.web_server import web_server

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings

pytestmark = pytest.mark.slow


def checks(port: int, page: str) -> dict[str, bool]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/{page}", timeout=10) as answer:
        return {each["name"]: each["ok"] for each in json.load(answer)["checks"]}


def test_requests_are_counted_by_route_and_events_by_what_became_of_them(
    topics_made: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
    now = time.time()
    good = {"event_id": "e1", "product_id": "secret-kettle", "text": "It broke.", "event_time": now}
    with web_server() as web:
        web.wait_until_ready()
        until(port, lambda found: total(found, "watchdog_ok") == 5)  # loop, fresh, redis, kafka, alerts
        for _ in range(3):
            assert web.get("/api/v1/counters?product_id=secret-kettle").status_code == 200
        assert web.get("/secret-path").status_code == 404
        assert web.client.request("TRACE", "/api/v1/counters?product_id=x").status_code == 405
        lines = "\n".join([json.dumps(good), "no JSON", json.dumps(good | {"event_id": "e2"})])
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        headers = {"Content-Type": "application/x-ndjson", "traceparent": trace}
        assert web.post("/api/v1/reviews", content=lines, headers=headers).status_code == 400
        settings = load()
        written = list(read_topic(settings, settings.topic_reviews))
        assert [dict(each.headers) for each in written] == [{"traceparent": trace.encode()}] * 2
        with web.client.stream("GET", "/api/v1/live"):
            until(port, lambda found: value(found, "viewers") == 1)
        samples = until(port, lambda found: value(found, "viewers") == 0)
        kind, _ = scraped(port)

        route = "/api/v1/counters"
        assert kind == "text/plain; version=0.0.4; charset=utf-8"
        assert value(samples, "http_requests_total", method="GET", route=route, status="200") == 3
        assert value(samples, "http_request_seconds_count", route=route) >= 3
        assert total(samples, "http_requests_total", status="404") == 1
        assert total(samples, "http_requests_total", method="other") == 1
        assert (
            value(samples, "http_requests_total", method="POST", route="/api/v1/reviews", status="400") == 1
        )
        assert value(samples, "http_requests_total", method="GET", route="/api/v1/live", status="200") == 1
        assert value(samples, "ingest_events_total", result="accepted") == 2
        assert value(samples, "ingest_events_total", result="refused") == 1
        assert value(samples, "ingest_events_total", result="busy") == 0
        assert value(samples, "ingest_waiting_bytes") == 0
        assert value(samples, "redis_up") == value(samples, "kafka_up") == 1
        assert total(samples, "build_info") == 1
        assert "secret" not in repr(samples)
        assert checks(port, "livez") == {"loop": True}
        assert checks(port, "readyz") == {"fresh": True, "redis": True, "kafka": True, "alerts": True}
        assert web.end() == 0


class NotifyProcess(WorkerProcess):
    """``reviewpulse notify`` in a process of its own."""

    command = ("stream.cli.main", "notify")


def publish(settings: Settings, *alerts: Alert) -> None:
    with EventProducer(settings) as producer:
        for each in alerts:
            producer.send_record(settings.topic_alerts, each.id.encode(), msgspec.json.encode(each))


def hook(name: str, url: str) -> str:
    kind = 'type = "webhook"\nhears = "transitions"\ntimeout = "1s"'
    return f'[[target]]\nname = "{name}"\nurl = "{url}"\n{kind}\n'


def test_deliveries_queues_and_open_alerts_are_counted(
    topics_made: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, settings = free_port(), load()
    monkeypatch.setenv("REVIEWPULSE_HEALTH", str(port))
    ensure(settings)
    at = rfc3339(time.time_ns() // 1_000_000 - 5_000)
    fields: dict[str, Any] = {"product_id": "secret-kettle", "at": at, "onset": at}
    with Receiver() as well, Receiver("500") as ill, Receiver("400") as hopeless:
        targets = {"well": well, "ill": ill, "hopeless": hopeless}
        (tmp_path / "notify.toml").write_text(
            f"version = 1\ndefault = {json.dumps(list(targets))}\n"
            + "".join(hook(name, each.url) for name, each in targets.items()),
            "utf-8",
        )
        notify = NotifyProcess(tmp_path / "notify.log", "--config", str(tmp_path / "notify.toml"))
        try:
            notify.wait_for("delivering")
            publish(
                settings,
                alert(id="a", sequence=1, **fields),
                alert(id="b", sequence=1, **fields),
                alert(id="b", sequence=2, severity="critical", **fields),
                alert(id="c", sequence=1, **fields),
                alert(id="c", sequence=2, state="resolved", **fields),
                alert(id="d", sequence=1, historic=True, **fields),
            )
            samples = until(
                port,
                lambda found: (
                    total(found, "notify_deliveries_total", target="well") >= 5
                    and total(found, "notify_deliveries_total", target="hopeless") >= 5
                    and total(found, "notify_deliveries_total", target="ill") >= 3
                    and total(found, "notify_dead_letters", target="hopeless") >= 5
                    and total(found, "alerts_open") == 2
                    and total(found, "notify_queue", target="ill") >= 5
                    and total(found, "notify_queue", target="well") == 0
                ),
            )
        finally:
            if notify.process.poll() is None:
                notify.stop()
    delivered = value(samples, "notify_deliveries_total", target="well", result="delivered")
    assert delivered == len(well.received)
    assert value(samples, "notify_delay_seconds_count") == delivered
    assert value(samples, "notify_delay_seconds_sum") >= 5 * delivered
    assert value(samples, "notify_deliveries_total", target="ill", result="delivered") == 0
    assert value(samples, "notify_deliveries_total", target="ill", result="retried") >= 3
    dead = value(samples, "notify_deliveries_total", target="hopeless", result="dead")
    assert dead == value(samples, "notify_dead_letters", target="hopeless")
    assert value(samples, "alerts_open", state="firing", severity="warning") == 1
    assert value(samples, "alerts_open", state="firing", severity="critical") == 1
    assert value(samples, "redis_up") == value(samples, "kafka_up") == 1
    assert "secret" not in repr(samples)
