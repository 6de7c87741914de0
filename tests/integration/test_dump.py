"""``reviewpulse dump`` against a real broker and a real Redis."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from stream.client import EventProducer
from stream.core.buckets import RESOLUTIONS, field
from stream.core.events import rfc3339
from stream.dump_formats import plain
from stream.redis_config import connect
from stream.store.layout import LAYOUT_VERSION, Layout
from stream.store.values import Total
from stream.topics import ensure
from tests.builders import alert, product_hash

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings

NOW_MS = 1_700_000_000_000
PRODUCTS = {"=cmd|calc": (60, 40), "a,b": (1, 99), "новый": (1, 0)}


@pytest.fixture
def counted(settings: Settings) -> Settings:
    """Three products in two shards, as the worker writes them; two events and three alerts in Kafka."""
    ensure(settings)
    layout = Layout(settings.namespace, 2)
    with connect(settings) as redis:
        redis.set(layout.layout_key, json.dumps({"version": LAYOUT_VERSION, "shards": 2}))
        for product, (negative, positive) in PRODUCTS.items():
            sums = (negative, 0, positive, (positive - negative) * 1_000)
            total = Total(sums, 0, NOW_MS - 60_000, NOW_MS)
            held = product_hash(total, {field(RESOLUTIONS[0], NOW_MS): sums})
            redis.hset(layout.product(product), mapping=held)
            redis.zadd(layout.active(layout.shard(product)), {product: NOW_MS})
    with EventProducer(settings) as producer:
        for product, category in (("=cmd|calc", "kettles"), ("a,b", "=lamps")):
            producer.send_review(
                event_id="1", product_id=product, text="Broken.", event_time=1.6e9, category=category
            )
        for id_, sequence, category in (("a", 1, "kettles"), ("a", 2, "kettles"), ("b", 1, None)):
            at = rfc3339(NOW_MS + 1_000 * sequence)
            each = alert(id=id_, sequence=sequence, category=category, at=at)
            producer.send_record(settings.topic_alerts, id_.encode(), msgspec.json.encode(each))
    return settings


def dump(*arguments: str) -> bytes:
    command = [sys.executable, "-m", "stream.cli.main", "dump", *arguments]
    return subprocess.run(command, capture_output=True, check=True).stdout


def table(raw: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(raw.decode(), newline="")))


def test_counters_are_dumped_by_product_and_window(counted: Settings) -> None:
    lines = table(dump("counters", "--window", "all"))
    assert [(plain(each["product_id"]), int(each["negative"])) for each in lines] == [
        ("=cmd|calc", 60),
        ("a,b", 1),
        ("новый", 1),
    ]
    assert lines[0]["product_id"] == "'=cmd|calc"
    assert lines[0]["mean_sentiment"] == "-0.2"
    assert table(dump("counters", "--window", "1h,24h")) == []  # all of it is years ago
    (none,) = table(dump("counters", "--window", "1h", "--product", "nobody"))
    assert (none["events"], none["negative_share"], none["last_event_time"]) == ("0", "", "")
    assert table(dump("counters", "--window", "all", "--since", "1h")) == []


def test_counters_of_a_category_are_those_whose_events_say_so(counted: Settings) -> None:
    lines = table(dump("counters", "--window", "all", "--categories"))
    assert [plain(each["category"]) for each in lines] == ["kettles", "=lamps", ""]
    (only,) = table(dump("counters", "--window", "all", "--category", "=lamps"))
    assert only["product_id"] == "a,b"


def test_alerts_are_dumped_as_they_are_now_or_as_they_came(counted: Settings, tmp_path: Path) -> None:
    now = table(dump("alerts"))
    assert sorted((each["id"], each["sequence"]) for each in now) == [("a", "2"), ("b", "1")]
    came = [json.loads(line) for line in dump("alerts", "--format", "jsonl", "--transitions").splitlines()]
    assert sorted((each["id"], each["sequence"]) for each in came) == [("a", 1), ("a", 2), ("b", 1)]
    assert [each["id"] for each in table(dump("alerts", "--category", "kettles"))] == ["a"]
    assert [each["id"] for each in table(dump("alerts", "--since", rfc3339(NOW_MS + 1_500)))] == ["a"]
    file = tmp_path / "alerts.parquet"
    assert dump("alerts", "--out", str(file)) == f"2 rows in {file}\n".encode()
    parquet = pytest.importorskip("pyarrow.parquet")
    assert sorted(parquet.read_table(file).column("id").to_pylist()) == ["a", "b"]
    piped = dump("alerts", "--format", "parquet")
    assert parquet.read_table(io.BytesIO(piped)).num_rows == 2
