"""TLS and ACL users: the least rights that work, and what is wrong as one sentence without the secret.

The embedded Valkey has no TLS, so a terminator in this process stands before it: what a client sees is real.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from builders import alert, event

from stream.client import EventProducer, LiveCounters, Notifications
from stream.core.delivery import GivenUp
from stream.core.messages import of_alert
from stream.core.routing import Ear, Routing
from stream.core.silence import Acknowledgement, Silence
from stream.deliver.intake import Sorter
from stream.deliver.queue import Failure, Keys, Queue, Queues
from stream.erasure.run import Forgetting
from stream.errors import DependencyError, UsageError
from stream.local import HOST, LocalServers
from stream.pipeline import Progress
from stream.redis_config import connect, connect_async
from stream.redis_trip import exchange
from stream.scorer.constant import ConstantScorer
from stream.settings import Settings
from stream.silences import KEPT_MS, Silences
from stream.status import StatusBoard, WorkerStatus
from stream.store.layout import Layout
from stream.store.redis import RedisStore
from stream.topics import ensure
from tests.integration.test_store import step_of
from tests.integration.tls import Authority, TlsTerminator

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD, WRONG = "correct-horse", "wr0ng-secret"
DOCS = Path(__file__).parents[2] / "docs" / "redis.md"


@pytest.fixture(scope="module")
def valkey() -> Iterator[LocalServers]:
    """Valkey with the users of docs/redis.md, and nobody else let in."""
    with LocalServers() as servers, connect(Settings(redis=servers.redis)) as client:
        for line in re.findall(r"^user (.*)$", DOCS.read_text("utf-8"), re.MULTILINE):
            rights = line.replace("PASSWORD", PASSWORD).split()
            exchange(client, [("ACL", "SETUSER", *rights)])
        exchange(client, [("CONFIG", "SET", "requirepass", "nobody-knows")])
        yield servers


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


def as_user(name: str, port: int, scheme: str = "rediss", **settings: Any) -> Settings:
    given = {"redis_password": PASSWORD} | settings
    return Settings(redis=f"{scheme}://{name}@{HOST}:{port}/0", **given)


def port_of(servers: LocalServers) -> int:
    return int(servers.redis.rpartition(":")[2].partition("/")[0])


def store_of(settings: Settings, namespace: str = "rp") -> RedisStore:
    return RedisStore(connect_async(settings), Layout(namespace, 1), settings.redis)


async def test_over_tls_the_least_rights_of_the_documents_are_enough(
    valkey: LocalServers, authority: Authority
) -> None:
    with TlsTerminator(port_of(valkey), authority.server()) as front:
        worker = as_user("worker", front.port, redis_ca_file=authority.file)
        store = store_of(worker)
        await store.open()
        step = step_of([event()], states={"kettle": b"x"}, transitions=[b"{}"])
        assert await store.apply([step._replace(seen=[(0, b"12345678")], forgotten=[7])]) == [None]
        assert (await store.states("reviews:0", "reviews", ["kettle"])).states == [b"x"]
        assert await store.applied(["reviews:0"]) == {"reviews:0": (0,)}
        await store.delivered(await store.outbox(0))
        await store.close()
        board = StatusBoard(connect_async(worker), "rp")
        await board.post(WorkerStatus.of("w", ConstantScorer(), Progress(), partitions=[], events_per_s=0))
        await board.remove("w")
        await board.close()
        with LiveCounters(as_user("reader", front.port, redis_ca_file=authority.file)) as counters:
            assert counters.get("kettle", "all").events == 1
            assert counters.leaders("all", min_events=1)[0].product_id == "kettle"
            assert counters.totals()["reviews"].counted == 1
            assert counters.fleet(["all"]).windows[0].events == 1
            assert sum(each.positive for each in counters.series(None, "7d").points) == 0  # of long ago
            assert counters.baselines("kettle") == []
            assert counters.products("KETT") == ["kettle"]
            assert counters.applied() == {"reviews:0": 0}


def test_silencing_and_notifying_need_no_more_than_the_documents_give(valkey: LocalServers) -> None:
    operator = as_user("operator", port_of(valkey), "redis")
    with connect(operator) as client:
        silences = Silences(operator, client)
        silences.add(Silence(id="old", start_ms=0, end_ms=1, reason="r", everything=True), 0)
        silences.add(Silence(id="s", start_ms=0, end_ms=2, reason="r", everything=True), KEPT_MS + 1)
        silences.acknowledge(Acknowledgement(alert_id="other", at_ms=0))
        assert [each.id for each in silences.read().silences] == ["s"]
    notifier = as_user("notifier", port_of(valkey), "redis", kafka=valkey.kafka)
    ensure(notifier)
    with EventProducer(notifier) as producer:
        producer.send_record(notifier.topic_alerts, b"a1", msgspec.json.encode(alert()))
    for expected in (["a1-firing-1"], []):
        with Notifications(notifier, group="pager", from_beginning=True) as told:
            assert [each.id for each in told.available()] == expected
    with connect(notifier) as client, pytest.raises(DependencyError, match="refuses this user"):
        Silences(notifier, client).add(Silence(id="t", start_ms=0, end_ms=1, reason="r"), 0)


async def test_delivering_needs_no_more_than_the_documents_give(valkey: LocalServers) -> None:
    # A topic of its own: others of this file publish alerts, too.
    deliverer = as_user("deliverer", port_of(valkey), "redis", kafka=valkey.kafka).model_copy(
        update={"topic_alerts": "alerts-of-deliverer"}
    )
    ensure(deliverer)
    keys = Keys(deliverer.namespace, "g")
    with connect(deliverer) as client:
        queues = Queues(client, keys, deliverer.redis, "me")
        assert queues.take() is None
        routing = Routing((), ("a",), {"a": Ear("transitions")})
        for number in (1, 2, 3):
            message = of_alert(alert(sequence=number))
            assert Sorter(routing, queues, lambda _: None).put(message, number) == ["a"]
        async_client = connect_async(deliverer)
        queue = Queue(async_client, keys, "a", deliverer.redis, "me")
        first, second, third = await queue.read(None)
        await queue.failed(first.entry.id, Failure(1, "r", 0))
        await queue.done(first.entry.id, {"x": b"held"})
        await queue.bury([(GivenUp(each.entry, "r"), "x") for each in (second, third)], 0)
        assert await queue.on() == {}
        await async_client.aclose()
        assert queues.waiting("a")[0] == 0
        one, two = queues.dead("a")
        assert queues.redrive(one, 0)
        assert queues.drop(two)
        queues.leave()
    with Notifications(deliverer, group="notify.g", from_beginning=True) as told:
        assert list(told.available()) == []


async def test_forgetting_needs_no_more_than_the_documents_give(valkey: LocalServers) -> None:
    store = store_of(as_user("worker", port_of(valkey), "redis"))
    await store.open()
    step = step_of([event(product_id="toaster")], states={"toaster": b"x"}, transitions=[b"{}"])
    assert await store.apply([step._replace(partition="chats:0")]) == [None]
    await store.close()
    eraser = as_user("eraser", port_of(valkey), "redis")
    with connect(eraser) as client:
        report = Forgetting(eraser, client, dry=False, with_kafka=False).product("toaster")
        assert report.removed == {"counters and detector states": 2, "places in lists": 1}
        assert Forgetting(eraser, client, dry=False, with_kafka=False).author("jane").removed == {}
    denied = as_user("reader", port_of(valkey), "redis")
    with connect(denied) as client, pytest.raises(UsageError, match="refuses this user"):
        Forgetting(denied, client, dry=False, with_kafka=False).product("toaster")


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("expired", r"shows a certificate that is not trusted: certificate has expired"),
        ("another name", r"not trusted: IP address mismatch"),
        ("another CA", r"not trusted: (unable to get local issuer|self.signed) certificate"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_one_sentence(
    valkey: LocalServers, authority: Authority, tmp_path: Path, fault: str, sentence: str
) -> None:
    context = authority.server(
        "other.example" if fault == "another name" else HOST,
        expired=fault == "expired",
    )
    trusted = Authority(tmp_path / "another") if fault == "another CA" else authority
    with TlsTerminator(port_of(valkey), context) as front:
        settings = as_user("worker", front.port, redis_ca_file=trusted.file)
        store = store_of(settings)
        with pytest.raises(UsageError, match=sentence) as raised:
            await store.open()
        await store.close()
        assert str(raised.value).startswith(f"Redis at rediss://worker@{HOST}:{front.port}/0 ")
        assert PASSWORD not in str(raised.value)
        with LiveCounters(settings) as counters, pytest.raises(DependencyError, match=sentence):
            counters.totals()


async def test_a_client_certificate_lets_in(valkey: LocalServers, authority: Authority) -> None:
    with TlsTerminator(port_of(valkey), authority.server(wants_client=True)) as front:
        without = store_of(as_user("worker", front.port, redis_ca_file=authority.file), "rp:client")
        with pytest.raises(
            (DependencyError, UsageError)
        ):  # why is in an alert that may come too late to be read
            await without.open()
        await without.close()
        store = store_of(
            as_user("worker", front.port, redis_ca_file=authority.file, **authority.client()), "rp:client"
        )
        await store.open()
        await store.close()


async def test_a_wrong_password_is_one_sentence_without_it(valkey: LocalServers) -> None:
    store = store_of(as_user("worker", port_of(valkey), "redis", redis_password=WRONG))
    with pytest.raises(UsageError, match=r"refuses this user: .*REVIEWPULSE_REDIS_PASSWORD") as raised:
        await store.open()
    assert WRONG not in str(raised.value)
    await store.close()


async def test_a_user_who_may_not_do_all_of_a_step_is_told_before_anything_is_counted(
    valkey: LocalServers,
) -> None:
    """Redis asks for each command when it is called: half a step would be counted, again at each start."""
    settings = as_user("worker", port_of(valkey), "redis")
    foreign = store_of(settings, "elsewhere")
    with pytest.raises(UsageError, match="refuses this user"):
        await foreign.open()
    await foreign.close()
    with connect(Settings(redis=valkey.redis, redis_password="nobody-knows")) as client:  # noqa: S106
        exchange(client, [("ACL", "SETUSER", "worker", "-xadd", "-append")])
        store = store_of(settings)
        with pytest.raises(UsageError, match=r"it may not run APPEND, XADD on rp:\{s0\}:offsets"):
            await store.open()
        await store.close()
        exchange(client, [("ACL", "SETUSER", "worker", "+xadd", "+append")])
