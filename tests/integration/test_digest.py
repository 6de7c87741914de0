"""``reviewpulse digest`` against a real broker, a real Redis, and what a worker counted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from stream.client import EventProducer
from stream.core.buckets import HOUR_MS, RESOLUTIONS, field
from stream.core.events import rfc3339
from stream.digest.pages import file_name
from stream.redis_config import connect
from stream.settings import dead_letter_topic
from stream.store.layout import LAYOUT_VERSION, Layout
from stream.store.values import Total
from stream.topics import ensure
from tests.builders import alert, product_hash

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings


@pytest.fixture
def day(settings: Settings) -> Settings:
    """Two products, one of a category that only its events state, an alert, and a dead letter."""
    now_ms = time.time_ns() // 1_000_000
    ensure(settings)
    layout = Layout(settings.namespace, 1)
    with connect(settings) as redis:
        redis.set(layout.layout_key, json.dumps({"version": LAYOUT_VERSION, "shards": 1}))
        for product, negative in (("kettle", 8), ("lamp", 1)):
            sums = (negative, 0, 10 - negative, 0)
            buckets = {field(resolution, now_ms - 1_000): sums for resolution in RESOLUTIONS[1:]}
            held = product_hash(Total(sums, 0, now_ms - 1_000, now_ms - 1_000), buckets)
            redis.hset(layout.product(product), mapping=held)
            redis.zadd(layout.active(0), {product: now_ms // 60_000 * 60_000})
    firing = alert(
        product_id="kettle",
        category="kettles",
        onset=rfc3339(now_ms - 2 * HOUR_MS),
        at=rfc3339(now_ms - HOUR_MS),
    )
    headers = [
        ("stage", b"decode"),
        ("reason", b"the text is empty, says anna@example.com"),
        ("failed_at", rfc3339(now_ms - 5_000).encode()),
    ]
    with EventProducer(settings) as producer:
        producer.send_review(
            event_id="1", product_id="lamp", text="Fine.", event_time=datetime.now(UTC), category="<i>lamps"
        )
        producer.send_record(settings.topic_alerts, b"a1", msgspec.json.encode(firing))
        producer.send_record(dead_letter_topic(settings.topic_reviews), b"k", b"{}", headers)
    return settings


def digest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream.cli.main", "digest", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_day_becomes_a_page_for_each_category_and_an_index(day: Settings, tmp_path: Path) -> None:
    ended = digest("--out", str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    names = [file_name("kettles"), file_name("<i>lamps"), "index.html"]
    assert ended.stdout.splitlines() == [str(tmp_path / name) for name in names]
    kettles, lamps, index = ((tmp_path / name).read_text("utf-8") for name in names)
    assert "1 alert, still on. 80% of 10 events were negative." in kettles
    assert "Broken." in kettles  # the quote
    assert "A quiet day: no alert. 10% of 10 events were negative." in lamps
    assert "&lt;i&gt;lamps" in index
    assert "45% of 20 events were negative." in index
    assert "the text is empty" in index
    assert "anna@example.com" not in index


def test_one_category_in_chinese_and_one_that_nothing_is_of(day: Settings, tmp_path: Path) -> None:
    ended = digest("--out", str(tmp_path), "--category", "kettles", "--language", "zh")
    assert ended.returncode == 0, ended.stderr
    (page,) = tmp_path.iterdir()
    assert "1 条告警，仍在持续。10 条评价与对话中 80% 为负面。" in page.read_text("utf-8")  # noqa: RUF001
    refused = digest("--out", str(tmp_path), "--category", "toasters")
    assert (refused.returncode, "Nothing of the category 'toasters'" in refused.stderr) == (2, True)
    assert digest("--out", str(tmp_path), "--date", "2023-01-01").returncode == 2
