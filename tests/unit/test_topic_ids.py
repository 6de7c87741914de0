"""What brokers are asked about topics, and what is made of their answers."""

from __future__ import annotations

from io import BytesIO
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import StaleMetadata
from aiokafka.structs import TopicPartition

from stream.topic_ids import TopicFacts, _MetadataRequest, _MetadataResponse, ask_topics, shown_id

PARTITIONS = [TopicPartition("reviews", 0), TopicPartition("reviews", 1)]
ONE, OTHER = bytes(range(16)), bytes(range(1, 17))


def answer(*topics: tuple[int, str, bytes, int]) -> Any:
    """A broker's answer: error, name, id and number of partitions of each topic; as bytes and back."""
    partition = (0, 0, 1, 0, [1], [1], [], {})
    listed = [
        (error, name, topic_id, False, [partition] * number, 0, {})
        for error, name, topic_id, number in topics
    ]
    whole = _MetadataResponse(0, [(1, "host", 9092, None, {})], "cluster", 1, listed, 0, {})
    return _MetadataResponse.decode(BytesIO(whole.encode()))


class FakeClient:
    """Partition ``n`` of a topic is led by node ``n``."""

    def __init__(self, *answers: Any) -> None:
        self._answers = answers
        self.asked: list[int] = []
        self.cluster = SimpleNamespace(
            leader_for_partition=lambda partition: partition.partition,
            partitions_for_topic=lambda name: {0, 1} if name == "reviews" else None,
        )

    def get_random_node(self) -> int:
        return 0

    async def send(self, node: int, request: Any, *, group: int) -> Any:
        self.asked.append(node)
        found = self._answers[node]
        if isinstance(found, Exception):
            raise found
        return found


async def test_ids_are_shown_as_kafkas_tools_do_and_topics_that_are_not_there_left_out() -> None:
    client = FakeClient(answer((0, "reviews", ONE, 4), (3, "chats", bytes(16), 0)))
    facts = await ask_topics(client, {"reviews", "chats"}, PARTITIONS[:1])
    assert facts == {"reviews": TopicFacts("AAECAwQFBgcICQoLDA0ODw", 4)}


async def test_every_leader_is_asked_and_must_say_the_same() -> None:
    same = FakeClient(answer((0, "reviews", ONE, 2)), answer((0, "reviews", ONE, 2)))
    assert await ask_topics(same, {"reviews"}, PARTITIONS) == {"reviews": TopicFacts(shown_id(ONE), 2)}
    assert sorted(same.asked) == [0, 1]
    differing = FakeClient(answer((0, "reviews", ONE, 2)), answer((0, "reviews", OTHER, 2)))
    with pytest.raises(StaleMetadata):
        await ask_topics(differing, {"reviews"}, PARTITIONS)


async def test_without_a_leader_any_broker_is_asked() -> None:
    client = FakeClient(answer((0, "reviews", ONE, 2)))
    client.cluster.leader_for_partition = lambda _: None
    assert await ask_topics(client, {"reviews"}, PARTITIONS) == {"reviews": TopicFacts(shown_id(ONE), 2)}


async def test_an_older_broker_tells_partitions_and_no_ids() -> None:
    client = FakeClient(NotImplementedError("Support for version 9 has not yet been added"))
    facts = await ask_topics(client, {"reviews", "chats"}, PARTITIONS[:1])
    assert facts == {"reviews": TopicFacts(None, 2)}


def test_asking_creates_no_topic_and_older_versions_are_not_tried() -> None:
    request = _MetadataRequest(["reviews"])
    assert request.prepare({3: (0, 12)}).allow_auto_topic_creation is False
    with pytest.raises(NotImplementedError):
        request.prepare({3: (0, 9)})
