"""``reviewpulse forget`` beside a running worker: what was erased is nowhere, and stays so."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream.cli.forget import forget
from stream.client import AlertSubscriber, EventProducer, LiveCounters, Notifications
from stream.client.log import read_topic
from stream.core.damping import author_hash
from stream.core.detection import _Opened
from stream.core.events import Alert, Quote
from stream.core.messages import of_alert
from stream.core.routing import Ear, Routing
from stream.core.silence import Acknowledgement, Silence
from stream.deliver.intake import Sorter
from stream.deliver.queue import Keys, Queues
from stream.erasure.report import LEFT
from stream.erasure.run import Forgetting
from stream.errors import UsageError
from stream.pipeline import Progress
from stream.redis_config import connect, connect_async
from stream.scorer.constant import ConstantScorer
from stream.silences import Silences
from stream.status import STALE_S, StatusBoard, WorkerStatus
from stream.store.layout import Layout
from tests.builders import alert
from tests.integration.conftest import WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stream.redis_config import Client
    from stream.settings import Settings


class ComplainingWorker(WorkerProcess):
    command = ("tests.integration.complaining_worker",)


@pytest.fixture
def worker(topics_made: None, tmp_path: Path) -> Iterator[WorkerProcess]:
    started = ComplainingWorker(tmp_path / "worker.log")
    yield started
    if started.process.poll() is None:
        started.kill()


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with connect(settings) as connected:
        yield connected


def send(settings: Settings, product: str, first: int, number: int, text: str, author: str = "") -> None:
    now_s = time.time()
    with EventProducer(settings) as producer:
        for n in range(first, first + number):
            producer.send_review(
                event_id=f"{product}-{n}",
                product_id=product,
                text=f"{text} number {n}.",
                event_time=now_s - 1,
                author_id=author or f"author-of-{product}-{n}",
            )


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.05)


def everything(client: Client, settings: Settings) -> dict[bytes, Any]:
    """Every key of the namespace with its value."""
    found = {}
    for key in client.scan_iter(f"{settings.namespace}:*"):
        kind = client.type(key)
        found[key] = {
            b"string": lambda key=key: client.get(key),
            b"hash": lambda key=key: client.hgetall(key),
            b"zset": lambda key=key: client.zrange(key, 0, -1),
            b"stream": lambda key=key: client.xrange(key),
            b"set": lambda key=key: client.smembers(key),
        }[kind]()
    return found


def alerts_of(settings: Settings, product: str) -> list[Alert]:
    with AlertSubscriber(settings, from_beginning=True) as subscriber:
        return [each for each in subscriber.available() if each.product_id == product]


def fire(settings: Settings, wait: Callable[..., Any], *products: str) -> None:
    """A past without complaints, then complaints alone."""
    for product in products:
        send(settings, product, 0, 200, "Fine, it boils water, thank you")
        send(settings, product, 200, 30, "Bad, it leaks")
    wait(230 * len(products))
    for product in products:
        until(lambda product=product: alerts_of(settings, product))


def test_a_product_is_gone_from_redis_and_the_topic_and_a_worker_brings_nothing_back(
    settings: Settings,
    client: Client,
    worker: WorkerProcess,
    wait_until_ended: Callable[..., Any],
) -> None:
    fire(settings, wait_until_ended, "kettle", "toaster")
    (told,) = alerts_of(settings, "kettle")
    silences = Silences(settings, client)
    now_ms = time.time_ns() // 1_000_000
    for id_, product in (("s1", "kettle"), ("s2", "toaster")):
        silences.add(Silence(id=id_, start_ms=0, end_ms=now_ms + 1, reason="r", product=product), now_ms)
    silences.acknowledge(Acknowledgement(alert_id=told.id, at_ms=now_ms, author="ops", note="mine"))
    with Notifications(settings, group="pager", from_beginning=True) as notifications:
        assert list(notifications.available())
    assert b"kettle" in client.hget(f"{settings.namespace}:notified:pager", "state")
    queues = Queues(client, Keys(settings.namespace, "g"), settings.redis, "me")
    queues.take()
    sorter = Sorter(Routing((), ("a",), {"a": Ear("transitions")}), queues, lambda _: None)
    for each in (told, *alerts_of(settings, "toaster")):
        sorter.put(of_alert(each), now_ms)

    dry = Forgetting(settings, client, dry=True).product("kettle")
    assert dry.removed == {
        "counters and detector states": 2,
        "places in lists": 1,
        "what notifications remember": 1,
        "messages that wait": 1,
        "what was told": 1,
        "silences": 1,
        "acknowledgements": 1,
        "alerts in Kafka": 1,
    }
    assert [each.id for each in alerts_of(settings, "kettle")] == [told.id]
    assert reviewpulse("forget", "--product", "kettle", "--yes", "--json")["removed"] == dry.removed

    assert b"kettle" not in repr(everything(client, settings)).encode()
    assert told.id.encode() not in repr(everything(client, settings)).encode()
    last = {record.key: record.value for record in read_topic(settings, settings.topic_alerts)}
    assert last[told.id.encode()] is None
    assert len([value for value in last.values() if value is not None]) == len(alerts_of(settings, "toaster"))
    assert queues.waiting("a")[0] == 1
    assert Forgetting(settings, client, dry=False).product("kettle").removed == {}

    # The worker remembered the detector's state, which fires: with the next event it would be back.
    send(settings, "kettle", 1000, 3, "Bad, it leaks")
    send(settings, "toaster", 1000, 3, "Bad, it smokes")
    wait_until_ended(466)
    with LiveCounters(settings) as counters:
        assert counters.get("kettle", "all").events == 3
        assert counters.get("toaster", "all").events == 233
        assert counters.totals()["reviews"].counted == 466
        assert counters.fleet(["all"]).windows[0].events == 466
    state = client.get(Layout(settings.namespace, 1).spike("reviews", "kettle"))
    opened = _Opened.of(state)
    assert opened.spike is not None
    assert opened.spike.seen == 3
    assert opened.spike.quotes == []
    assert "rewinding to what Redis holds" in worker.log
    assert "something was erased, and" in worker.log
    assert worker.stop() == 0


def test_a_customer_is_gone_from_states_alerts_and_queues_and_what_was_counted_stays(
    settings: Settings,
    client: Client,
    worker: WorkerProcess,
    wait_until_ended: Callable[..., Any],
) -> None:
    send(settings, "kettle", 0, 200, "Fine, it boils water, thank you")
    send(settings, "kettle", 200, 5, "Bad, it leaks")
    send(settings, "kettle", 205, 1, "Bad, Zanzibar burnt me", "jane")
    send(settings, "kettle", 206, 25, "Bad, it leaks")
    wait_until_ended(231)
    until(lambda: alerts_of(settings, "kettle"))
    (told,) = alerts_of(settings, "kettle")
    key = Layout(settings.namespace, 1).spike("reviews", "kettle")
    jane = author_hash("jane")
    before = _Opened.of(client.get(key))
    assert before.spike is not None
    assert jane in before.spike.damping.authors
    queues = Queues(client, Keys(settings.namespace, "g"), settings.redis, "me")
    queues.take()
    now_ms = time.time_ns() // 1_000_000
    sorter = Sorter(Routing((), ("a",), {"a": Ear("transitions")}), queues, lambda _: None)
    sorter.put(of_alert(told), now_ms)
    assert b"Zanzibar" in repr(everything(client, settings)).encode()

    report = Forgetting(settings, client, dry=False).author("jane")
    assert report.removed == {"detector states": 1, "messages that wait": 1}
    assert report.left[0] == "Of the customer's events, Kafka still has 1."
    assert report.left[1].startswith("1 alert in Kafka that quotes the customer still fires")
    assert b"Zanzibar" not in repr(everything(client, settings)).encode()
    ((_, fields),) = client.xrange(f"{settings.namespace}:notify:{{g}}:queue:a")
    assert msgspec.json.decode(fields[b"message"])["alert"]["events"] == told.events
    assert Forgetting(settings, client, dry=False).author("jane").removed == {}

    # The alert goes on: it resolves, and its last word quotes nobody who was forgotten.
    send(settings, "kettle", 400, 400, "Fine, it boils water, thank you")
    wait_until_ended(631)
    until(lambda: alerts_of(settings, "kettle")[-1].state == "resolved")
    resolved = alerts_of(settings, "kettle")[-1]
    assert resolved.id == told.id
    assert "Zanzibar" not in repr(resolved)
    after = _Opened.of(client.get(key))
    assert after.spike is not None
    assert jane not in after.spike.damping.authors
    with LiveCounters(settings) as counters:
        assert counters.get("kettle", "all").events == 631
    assert worker.stop() == 0


def test_a_resolved_alert_that_quotes_the_customer_is_written_over(
    settings: Settings, client: Client, topics_made: None
) -> None:
    send(settings, "kettle", 0, 1, "Bad", "jane")
    words = Quote(
        event_id="kettle-0", text="Says Zanzibar", p_negative=0.9, event_time="2024-01-17T09:30:00Z"
    )
    over = alert(id="over", sequence=2, state="resolved", quotes=[words])
    with EventProducer(settings) as producer:
        producer.send_record(settings.topic_alerts, b"over", msgspec.json.encode(over))
    report = Forgetting(settings, client, dry=False).author("jane")
    assert report.removed == {"alerts in Kafka": 1}
    *_, last = read_topic(settings, settings.topic_alerts)
    assert last.key == b"over"
    assert msgspec.json.decode(last.value, type=Alert) == msgspec.structs.replace(over, quotes=[])


def test_a_memory_that_changes_too_fast_is_told(
    settings: Settings, client: Client, topics_made: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EventProducer(settings) as producer:
        fires = alert(id="fires", product_id="kettle")
        producer.send_record(settings.topic_alerts, b"fires", msgspec.json.encode(fires))
    with Notifications(settings, group="pager", from_beginning=True) as notifications:
        assert list(notifications.available())
    with monkeypatch.context() as patch:
        patch.setattr("stream.erasure.told._REPLACE_MEMORY", "return 0")
        report = Forgetting(settings, client, dry=False, with_kafka=False).product("kettle")
    memory = f"{settings.namespace}:notified:pager"
    assert report == ({}, (f"{memory} changed too fast to be replaced: run this again.", *LEFT))
    report = Forgetting(settings, client, dry=False, with_kafka=False).product("kettle")
    assert report == ({"what notifications remember": 1}, LEFT)


def test_nothing_is_erased_while_counters_are_moved(settings: Settings, client: Client) -> None:
    client.set(f"{settings.namespace}:moving", "a rebuild")
    with pytest.raises(UsageError, match="are being moved or erased already"):
        Forgetting(settings, client, dry=False, with_kafka=False).product("kettle")
    assert client.get(f"{settings.namespace}:moving") == b"a rebuild"


async def test_nothing_is_erased_beside_a_worker_that_would_bring_it_back(
    settings: Settings, client: Client
) -> None:
    board = StatusBoard(connect_async(settings), settings.namespace)
    status = WorkerStatus.of("new", ConstantScorer(), Progress(), partitions=[], events_per_s=0.0)
    await board.post(status)
    forgetting = {"settings": settings, "client": client, "with_kafka": False}
    assert Forgetting(**forgetting, dry=False).product("kettle").left == LEFT
    # As a worker posts that knows of no erasures.
    told = msgspec.json.decode(msgspec.json.encode(status)) | {"name": "old"}
    del told["heeds_erasures"]
    client.hset(f"{settings.namespace}:workers", "old", msgspec.json.encode(told))
    for erase in (Forgetting.product, Forgetting.author):
        with pytest.raises(UsageError, match=r"would write back what is erased: old\. Restart them"):
            erase(Forgetting(**forgetting, dry=False), "kettle")
        first, *rest = erase(Forgetting(**forgetting, dry=True), "kettle").left
        assert "would write back what is erased: old." in first
        assert tuple(rest) == LEFT
    assert client.get(f"{settings.namespace}:moving") is None
    told["at"] -= STALE_S + 1
    client.hset(f"{settings.namespace}:workers", "old", msgspec.json.encode(told))
    assert Forgetting(**forgetting, dry=False).product("kettle").left == LEFT
    await board.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "Say who or what is to be forgotten"),
        ({"author": "a", "product": "b"}, "one of them"),
        ({"author": "a"}, "look with --dry-run, then say --yes"),
    ],
)
def test_what_is_asked_for_wrongly_is_told(arguments: dict[str, str], sentence: str) -> None:
    nothing = {"author": None, "product": None}
    with pytest.raises(UsageError, match=sentence):
        forget(dry_run=False, yes=False, redis_only=False, as_json=False, **{**nothing, **arguments})


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream.cli.main", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def reviewpulse(*arguments: str) -> dict[str, Any]:
    done = command(*arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
