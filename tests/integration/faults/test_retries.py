"""At the wire, retries never reorder: what the log holds of a producer whose way to the broker fails."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from stream.client import EventProducer
from stream.client.log import read_topic
from stream.local import LocalServers
from stream.settings import load
from stream.topics import ensure
from tests.integration.faults.proxy import TcpProxy
from tests.integration.faults.scene import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings

PRODUCTS = 7
FAILURES = 6
MOST_FAILURES = 24
"""When no request was repeated until then, something is wrong with the test."""
LOST_WITHIN_S = 30.0


@pytest.fixture
def way() -> Iterator[TcpProxy]:
    """Everybody's way to a broker."""
    kafka, redis, kafka_proxy = free_ports(3)
    with (
        TcpProxy(kafka_proxy, kafka) as way,
        LocalServers(kafka_port=kafka, redis_port=redis, advertised_kafka_port=kafka_proxy),
    ):
        yield way


@pytest.fixture
def by_the_way(way: TcpProxy) -> Settings:
    settings = load(kafka=f"127.0.0.1:{way.port}", partitions=4)
    ensure(settings)
    return settings


class Sender:
    """Sends numbered events of a few products, some at a time."""

    def __init__(self, producer: EventProducer) -> None:
        self.numbers: dict[str, list[int]] = defaultdict(list)
        """What each product was sent, in order."""
        self.sent = 0
        self._producer = producer

    def send(self, requests: int) -> None:
        """Sends so many requests' worth of events."""
        for _ in range(requests):
            for _ in range(50):
                product_id = f"B{self.sent % PRODUCTS}"
                self._producer.send_review(
                    event_id=str(self.sent), product_id=product_id, text="A lid.", event_time=1.6e9
                )
                self.numbers[product_id].append(self.sent)
                self.sent += 1
            time.sleep(0.01)  # as long as the producer lingers: what comes next is another request


def fail(way: TcpProxy, sender: Sender) -> None:
    """Requests are lost, then replies; connections are reset. The sender goes on all the while."""
    way.stall()
    sender.send(10)  # several requests are on their way, if several may be
    way.cut()
    sender.send(10)
    way.resume()
    sender.send(10)
    way.lose_replies()
    deadline = time.monotonic() + LOST_WITHIN_S
    while not way.has_lost_replies:
        assert time.monotonic() < deadline, "no reply was lost"
        sender.send(5)
    way.cut()
    sender.send(10)
    way.resume()
    sender.send(10)


def logged(settings: Settings) -> dict[str, list[int]]:
    """By product, the numbers of its events as the log has them."""
    numbers: dict[str, list[int]] = defaultdict(list)
    for record in read_topic(settings, settings.topic_reviews):
        numbers[record.key.decode()].append(int(json.loads(record.value)["event_id"]))
    return numbers


@pytest.mark.slow
@pytest.mark.parametrize("idempotent", [True, False], ids=["idempotent", "one request at a time"])
def test_retries_neither_reorder_nor_lose_a_products_events(
    way: TcpProxy, by_the_way: Settings, idempotent: bool
) -> None:
    with EventProducer(by_the_way, idempotent=idempotent, delivery_timeout_s=60) as producer:
        sender = Sender(producer)
        repeats = 0
        failures = 0
        while failures < FAILURES or (not idempotent and not repeats):
            assert failures < MOST_FAILURES, "no request was repeated, so nothing is proven"
            for _ in range(FAILURES):
                fail(way, sender)
            failures += FAILURES
            producer.flush()
            in_log = logged(by_the_way)
            repeats = sum(map(len, in_log.values())) - sender.sent
        assert producer.delivered == sender.sent
    assert {product: list(dict.fromkeys(numbers)) for product, numbers in in_log.items()} == sender.numbers
    assert (repeats == 0) == idempotent
