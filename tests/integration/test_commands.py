"""ingest, replay, counters, top, alerts and dlq as operations people run them."""

from __future__ import annotations

import gzip
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.client import EventProducer
from stream.client.log import read_topic
from stream.core.buckets import RESOLUTIONS, field
from stream.core.events import Alert, Quote
from stream.redis_config import connect
from stream.settings import dead_letter_topic
from stream.store.layout import LAYOUT_VERSION, Layout
from stream.store.values import Total
from stream.topics import ensure
from tests.builders import alert, product_hash

if TYPE_CHECKING:
    from stream.settings import Settings

BEAUTY = Path(__file__).parents[3] / "shared" / "data" / "amazon2018_All_Beauty_5.json.gz"
HOSTILE = "evil\n\x1b[2J\x9b31m\u202e [bold]x[/bold]"


@pytest.fixture
def topics(settings: Settings) -> Settings:
    ensure(settings)
    return settings


def reviewpulse(*arguments: str, stdin: bytes = b"", code: int = 0) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments], input=stdin, capture_output=True, check=False
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def printed(*arguments: str, stdin: bytes = b"", code: int = 0) -> list[dict[str, Any]]:
    done = reviewpulse(*arguments, "--json", stdin=stdin, code=code)
    return [json.loads(line) for line in done.stdout.splitlines()]


def review(n: int, **changes: Any) -> bytes:
    return json.dumps(
        {"event_id": str(n), "product_id": f"B{n % 5}", "text": "x", "event_time": 1.6e9} | changes
    ).encode()


def assert_harmless(output: bytes) -> None:
    text = output.decode()
    assert all(char.isprintable() or char == "\n" for char in text), text
    assert "[bold]" in text


# ---- ingest


def test_ingest_sends_good_lines_and_names_bad_ones(topics: Settings) -> None:
    lines = [review(n) for n in range(700)]
    lines[100] = b'{"event_id": "\\u0000'
    lines[300] = review(300, text="")
    (summary,) = printed("ingest", "-", stdin=gzip.compress(b"\n".join(lines)), code=1)
    assert (summary["lines"], summary["sent"], summary["bad"]) == (700, 698, 2)
    assert [each["number"] for each in summary["bad_lines"]] == [101, 301]
    received = sorted(each.value for each in read_topic(topics, topics.topic_reviews))
    assert received == sorted(line for n, line in enumerate(lines) if n not in (100, 300))


def test_ingest_shows_reasons_that_a_terminal_cannot_obey(topics: Settings, tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    path.write_bytes(json.dumps({"event_id": "1", "role": HOSTILE}).encode())
    done = reviewpulse("ingest", str(path), "--topic", "chats", code=1)
    assert b"line 1: " in done.stderr
    assert all(char.isprintable() or char == "\n" for char in done.stderr.decode())


def test_an_interrupted_ingest_says_how_many_went_and_they_are_there(topics: Settings) -> None:
    command = [sys.executable, "-m", "stream.cli.main", "ingest", "-", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin
        assert running.stdout
        # Two steps are judged as soon as they are there; the rest of the third waits for more input.
        running.stdin.write(b"\n".join(review(n) for n in range(600)) + b"\n")
        running.stdin.flush()
        deadline = time.monotonic() + 60
        while sum(1 for _ in read_topic(topics, topics.topic_reviews)) < 512:
            assert time.monotonic() < deadline
        running.send_signal(signal.SIGINT)
        summary = json.loads(running.stdout.read())
        assert running.wait() == 130
    assert summary["interrupted"]
    assert summary["sent"] == summary["last_line"] == 512
    assert sum(1 for _ in read_topic(topics, topics.topic_reviews)) == 512


def test_ingest_without_a_broker_is_one_sentence(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_KAFKA", "127.0.0.1:1")
    done = reviewpulse("ingest", "-", stdin=review(1), code=3)
    assert done.stderr.startswith(b"reviewpulse: No Kafka broker answers at 127.0.0.1:1")


# ---- replay


@pytest.mark.skipif(not BEAUTY.exists(), reason="the replay data is not here")
def test_replaying_real_history_sends_every_row_in_order_and_the_same_twice(topics: Settings) -> None:
    with gzip.open(BEAUTY, "rt") as file:
        wanted = Counter(json.loads(line)["asin"] for line in file)
    for _ in range(2):
        (summary,) = printed("replay", str(BEAUTY), "--format", "amazon")
        assert (summary["rows"], summary["sent"], summary["skipped"]) == (5269, 5269, 0)
    events = [msgspec.json.decode(each.value) for each in read_topic(topics, topics.topic_reviews)]
    assert Counter(each["product_id"] for each in events) == wanted + wanted
    ids = Counter(each["event_id"] for each in events)
    assert len(ids) == 5269 - summary["repeated_event_ids"]
    assert all(count % 2 == 0 for count in ids.values())
    by_product: dict[str, list[str]] = {}
    for each in events:
        by_product.setdefault(each["product_id"], []).append(each["event_time"])
    for times in by_product.values():
        half = len(times) // 2
        assert times[:half] == sorted(times[:half]) == times[half:]


def test_replaying_now_ends_now_and_names_what_cannot_be_sent(topics: Settings, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_text("sku,when,body\nB1,2020-01-01,a\n,2020-01-02,b\nB1,2020-01-03,c\nB1,never,d\n")
    columns = ["--column", "product_id=sku", "--column", "event_time=when", "--column", "text=body"]
    before_ms = time.time_ns() // 1_000_000
    (summary,) = printed("replay", str(path), "--format", "csv", "--now", *columns, code=1)
    assert [each["number"] for each in summary["skipped_rows"]] == [2, 4]
    first, last = (msgspec.json.decode(each.value) for each in read_topic(topics, topics.topic_reviews))
    assert (first["text"], last["text"]) == ("a", "c")
    times = [msgspec.convert(each["event_time"], type=datetime) for each in (first, last)]
    assert (times[1] - times[0]).days == 2
    assert 0 <= times[1].timestamp() * 1000 - before_ms < 60_000
    (strict,) = printed("replay", str(path), "--format", "csv", "--strict", *columns, code=1)
    assert strict["sent"] == 0
    assert sum(1 for _ in read_topic(topics, topics.topic_reviews)) == 2


@pytest.mark.parametrize("speed", ["0", "-1", "fast", "inf", "nan"])
def test_a_wrong_speed_is_wrong_usage(env: dict[str, str], speed: str) -> None:
    done = reviewpulse("replay", "-", "--format", "jsonl", "--speed", speed, code=2)
    assert b"write a number above 0, or max" in done.stderr


# ---- counters and top


@pytest.fixture
def counted(settings: Settings) -> Settings:
    layout = Layout(settings.namespace, 1)
    now_ms = time.time_ns() // 1_000_000
    with connect(settings) as redis:
        redis.set(layout.layout_key, f'{{"version": {LAYOUT_VERSION}, "shards": 1}}')
        for product, negative, positive in ((HOSTILE, 1, 0), ("B2", 30, 70), ("B3", 5, 195)):
            sums = (negative, 0, positive, (positive - negative) * 1_000)
            buckets = {field(RESOLUTIONS[0], now_ms): sums}
            redis.hset(layout.product(product), mapping=product_hash(Total(sums, 0, now_ms, now_ms), buckets))
            redis.zadd(layout.active(0), {product: now_ms})
    return settings


def test_counters_prints_a_line_a_window(counted: Settings) -> None:
    found = printed("counters", "B2")
    assert [each["window"] for each in found] == ["5m", "1h", "24h", "7d", "all"]
    assert [each["events"] for each in found] == [100, 100, 0, 0, 100]
    (all_time,) = printed("counters", "B2", "--window", "all")
    assert (all_time["negative"], all_time["negative_share"], all_time["mean_sentiment"]) == (30, 0.3, 0.4)
    assert b"30.0%" in reviewpulse("counters", "B2").stdout
    assert b"No event of this product" in reviewpulse("counters", "nobody").stdout
    assert b"no window '2h'" in reviewpulse("counters", "B2", "--window", "2h", code=2).stderr


def test_top_prints_the_leaders(counted: Settings) -> None:
    assert [each["product_id"] for each in printed("top")] == ["B2", HOSTILE, "B3"]
    assert [each["product_id"] for each in printed("top", "--by", "events", "--limit", "2")] == ["B3", "B2"]
    assert [each["product_id"] for each in printed("top", "--min-events", "2")] == ["B2", "B3"]
    assert_harmless(reviewpulse("top").stdout)
    assert_harmless(reviewpulse("counters", HOSTILE).stdout)


# ---- alerts


def transition(id_: str, sequence: int, text: str = "It died.") -> Alert:
    return alert(
        id=id_,
        sequence=sequence,
        state="firing" if sequence == 1 else "resolved",
        product_id="B2",
        at=f"2024-01-17T10:00:0{sequence}.000Z",
        quotes=[Quote(event_id="1", text=text, p_negative=0.99, event_time="2024-01-17T09:30:00.000Z")],
    )


def publish(settings: Settings, *alerts: Alert) -> None:
    with EventProducer(settings) as producer:
        for each in alerts:
            producer.send_record(settings.topic_alerts, each.id.encode(), msgspec.json.encode(each))


def test_alerts_prints_the_present_state_or_every_transition(topics: Settings) -> None:
    publish(topics, transition("a", 1), transition("a", 2), transition("b", 1, HOSTILE), transition("a", 1))
    assert [(each["id"], each["state"]) for each in printed("alerts")] == [("b", "firing"), ("a", "resolved")]
    every = [(each["id"], each["sequence"]) for each in printed("alerts", "--from-beginning")]
    assert every == [("a", 1), ("a", 2), ("b", 1)]
    assert_harmless(reviewpulse("alerts").stdout)


def test_following_prints_alerts_as_they_come_and_ends_well_on_a_signal(topics: Settings) -> None:
    publish(topics, transition("old", 1))
    command = [sys.executable, "-m", "stream.cli.main", "alerts", "--follow", "--from-beginning", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as following:
        assert following.stdout
        assert json.loads(following.stdout.readline())["id"] == "old"
        publish(topics, transition("new", 1))
        assert json.loads(following.stdout.readline())["id"] == "new"
        following.send_signal(signal.SIGTERM)
        assert following.wait(20) == 0


# ---- dead letters


def bury(settings: Settings, offset: int, value: bytes, stage: str = "decode") -> None:
    headers = {
        "stage": stage,
        "reason": f"not JSON {HOSTILE}",
        "source_topic": settings.topic_reviews,
        "source_partition": "2",
        "source_offset": str(offset),
        "failed_at": "2024-01-17T10:00:00Z",
    }
    with EventProducer(settings) as producer:
        producer.send_record(
            dead_letter_topic(settings.topic_reviews),
            b"B1",
            value,
            [(name, text.encode()) for name, text in headers.items()],
        )


def test_dead_letters_are_listed_once_and_go_back_once(topics: Settings) -> None:
    bury(topics, 1, b"{")
    bury(topics, 2, b"\xff\x00", stage="score")
    bury(topics, 1, b"{")
    assert [each["offset"] for each in printed("dlq", "list")] == [1, 2]
    assert [each["offset"] for each in printed("dlq", "list", "--limit", "1")] == [1]
    assert_harmless(reviewpulse("dlq", "list").stdout)
    assert printed("dlq", "redrive", "--yes", "--stage", "score") == [{"redriven": 1}]
    assert [each["offset"] for each in printed("dlq", "list")] == [1]
    assert printed("dlq", "redrive", "--yes") == [{"redriven": 1}]
    assert printed("dlq", "redrive", "--yes") == [{"redriven": 0}]
    returned = list(read_topic(topics, topics.topic_reviews))
    assert sorted((each.key, each.value) for each in returned) == [(b"B1", b"{"), (b"B1", b"\xff\x00")]
    sources = {dict(each.headers)["redriven_from"] for each in returned}
    assert sources == {f"{topics.topic_reviews}/2/{n}".encode() for n in (1, 2)}
    assert b"No dead letters wait." in reviewpulse("dlq", "list").stdout


def test_redriving_asks_first(topics: Settings) -> None:
    bury(topics, 1, b"{")
    done = reviewpulse("dlq", "redrive", stdin=b"n\n")
    assert b"0 dead letters redriven" in done.stdout
    assert b"Send 1 dead letters again?" in done.stderr
    assert list(read_topic(topics, topics.topic_reviews)) == []
