"""Which log a topic is: the id Kafka gives each topic it creates, asked over a consumer's own connections.

Rules:
- A topic that is deleted and created again has another id (KIP-516, Kafka 2.8). Name and offsets tell
  nothing: the new log soon has the offsets of the old one.
- The brokers that lead the partitions are asked, for they serve the fetches: such a broker knows of a new log
  before it hands out records of it. Another one may be behind.
- The question goes over the connection for the group's requests: on the one for fetches it would wait until
  the broker has answered the fetch before it.
- aiokafka speaks the Metadata API up to version 5; ids came with version 10. An older broker tells none.
"""

from __future__ import annotations

import asyncio
import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from aiokafka.client import ConnectionGroup
from aiokafka.errors import IncompatibleBrokerVersion, KafkaTimeoutError, StaleMetadata
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    AbstractType,
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

if TYPE_CHECKING:
    from collections.abc import Iterable
    from io import BytesIO

    from aiokafka.client import AIOKafkaClient
    from aiokafka.structs import TopicPartition

METADATA = 3
"""The API's key."""
VERSION = 10
TIMEOUT_S = 10.0
"""For an answer that takes a broker a millisecond."""
UUID_BYTES = 16


class TopicFacts(NamedTuple):
    """What Kafka says of a topic."""

    log: str | None
    """The topic's id as Kafka's tools print it, 22 characters; None when the broker knows none."""
    partitions: int


def shown_id(uuid: bytes) -> str | None:
    """An id as Kafka's tools print it; None for all zeros, which stand for "no id".

    >>> shown_id(bytes(range(16))), shown_id(bytes(16))
    ('AAECAwQFBgcICQoLDA0ODw', None)
    """
    return base64.urlsafe_b64encode(uuid).rstrip(b"=").decode() if any(uuid) else None


class _Uuid(AbstractType):
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(UUID_BYTES)


_text = CompactString("utf-8")


class _MetadataResponse(Response):
    API_KEY = METADATA
    API_VERSION = VERSION
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32), ("host", _text), ("port", Int32), ("rack", _text), ("tags", TaggedFields)
            ),
        ),
        ("cluster_id", _text),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", _text),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _MetadataRequestStruct(RequestStruct):
    API_KEY = METADATA
    API_VERSION = VERSION
    RESPONSE_TYPE = _MetadataResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        ("topics", CompactArray(("topic_id", _Uuid), ("topic", _text), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class _MetadataRequest(Request[_MetadataRequestStruct]):
    API_KEY = METADATA

    def __init__(self, topics: Iterable[str]) -> None:
        no_id, no_tags = bytes(UUID_BYTES), dict[int, bytes]()
        self._topics = [(no_id, name, no_tags) for name in sorted(topics)]

    def build(self, request_struct_class: type[_MetadataRequestStruct]) -> _MetadataRequestStruct:
        # A question must not bring a deleted topic back.
        return request_struct_class(self._topics, False, False, False, {})


async def ask_topics(
    client: AIOKafkaClient, names: Iterable[str], partitions: Iterable[TopicPartition]
) -> dict[str, TopicFacts]:
    """What the leaders of ``partitions`` say of the topics ``names``; without those there are not.

    Raises:
        KafkaError: a broker does not answer, or they say different things.
    """
    names = set(names)
    leaders = {client.cluster.leader_for_partition(partition) for partition in partitions} - {None, -1}
    request = _MetadataRequest(names)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            answers = await asyncio.gather(
                *[
                    client.send(node, request, group=ConnectionGroup.COORDINATION)
                    for node in leaders or {client.get_random_node()}
                ]
            )
    except TimeoutError:
        raise KafkaTimeoutError(f"no answer to a metadata request within {TIMEOUT_S:g} s") from None
    except (IncompatibleBrokerVersion, NotImplementedError):  # an older broker
        known = {name: client.cluster.partitions_for_topic(name) for name in names}
        return {name: TopicFacts(None, len(numbers)) for name, numbers in known.items() if numbers}
    first, *others = [_facts(answer) for answer in answers]
    if any(other != first for other in others):
        raise StaleMetadata("the brokers do not agree which topics there are")
    return first


def _facts(answer: Any) -> dict[str, TopicFacts]:
    return {
        name: TopicFacts(shown_id(topic_id), len(partitions))
        for error, name, topic_id, _, partitions, *_ in answer.topics
        if not error
    }
