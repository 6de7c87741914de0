"""Which topics there are, and how each must be made.

Rules:
- Creating is idempotent, and never changes a topic that exists: what differs is reported with the remedy,
  for it may be somebody's decision, and Kafka cannot undo all of it.
- Inputs carry the broker's clock (``LogAppendTime``): lateness and retention are judged by a record's
  arrival, and a producer's clock, or its wish, is not that.
- ``alerts`` is compacted, so a late subscriber still sees the state of every alert, and has one partition, so
  all see transitions in one order.
- Dead letters lie in one partition, in the order they were refused, as long as the events themselves.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream.errors import DependencyError
from stream.kafka_config import kafka_python_config
from stream.kafka_refusal import no_broker
from stream.settings import dead_letter_topic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings

TIMEOUT_S = 10.0

BROKER_DEFAULTS = {
    "cleanup.policy": "delete",
    "retention.ms": str(7 * 24 * 3_600_000),
    "message.timestamp.type": "CreateTime",
}
"""Of Kafka, for brokers that report only what was set."""

State = Literal["created", "ok", "differs", "missing"]


@dataclass(frozen=True)
class Topic:
    """A topic as it must be."""

    name: str
    partitions: int
    partitions_setting: str | None
    """The setting that chooses ``partitions``; None where the design does."""
    replication: int
    config: dict[str, str]


@dataclass(frozen=True)
class Finding:
    """What became of one topic, or what is wrong with it."""

    topic: str
    state: State
    detail: str
    remedy: str = ""


def wanted(settings: Settings) -> list[Topic]:
    """Every topic these settings need, inputs first.

    >>> from stream.settings import Settings
    >>> [topic.name for topic in wanted(Settings())]
    ['reviews', 'chats', 'alerts', 'reviews.dlq', 'chats.dlq']
    """
    kept = {"cleanup.policy": "delete", "retention.ms": str(settings.retention_h * 3_600_000)}
    arrival = {"message.timestamp.type": "LogAppendTime"}

    def spread(name: str, config: dict[str, str]) -> Topic:
        return Topic(name, settings.partitions, "REVIEWPULSE_PARTITIONS", settings.replication, config)

    def single(name: str, config: dict[str, str]) -> Topic:
        return Topic(name, 1, None, settings.replication, config)

    inputs = list(settings.topics.values())
    return [
        *(spread(name, kept | arrival) for name in inputs),
        *([spread(settings.topic_scores, kept)] if settings.publish_scores else []),
        single(settings.topic_alerts, {"cleanup.policy": "compact"}),
        *(single(dead_letter_topic(name), kept) for name in inputs),
    ]


def ensure(settings: Settings, *, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Creates what is missing and checks the rest.

    Raises:
        DependencyError: no broker answers, or it refuses.
    """
    with open_admin(settings, timeout_s=timeout_s) as admin:
        topics = wanted(settings)
        made = {topic.name for topic in _missing(admin, topics) if _create(admin, topic)}
        if made:
            admin.wait_for_topics(sorted(made), timeout_ms=int(timeout_s * 1000))
        return [
            Finding(topic.name, "created", describe(topic)) if topic.name in made else finding
            for topic, finding in zip(topics, _findings(admin, topics), strict=True)
        ]


def check(settings: Settings, *, timeout_s: float = TIMEOUT_S) -> list[Finding]:
    """Checks all topics and changes nothing.

    Raises:
        DependencyError: no broker answers, or it refuses.
    """
    with open_admin(settings, timeout_s=timeout_s) as admin:
        return _findings(admin, wanted(settings))


@contextmanager
def open_admin(settings: Settings, *, timeout_s: float = TIMEOUT_S) -> Iterator[KafkaAdminClient]:
    """An admin client; within it, every Kafka error is told as a ``DependencyError``.

    Args:
        settings: where the broker is.
        timeout_s: longest wait for the first answer, and for each later one.

    Raises:
        DependencyError: no broker answers, or it refuses.
        UsageError: the connection's settings are wrong.
    """
    bound_ms = int(timeout_s * 1000)
    config = kafka_python_config(settings)
    admin = None
    try:
        admin = KafkaAdminClient(bootstrap_timeout_ms=bound_ms, request_timeout_ms=bound_ms, **config)
        yield admin
    except (KafkaError, OSError, ValueError) as error:
        doing = "answers" if admin is None else "does its part"
        otherwise = (
            f"No Kafka broker {doing} at {settings.kafka} ({settings.kafka_security}): {told(error)}."
            " Start one, or set REVIEWPULSE_KAFKA; `reviewpulse local` starts one here."
        )
        raise DependencyError(no_broker(settings, otherwise) if admin is None else otherwise) from error
    finally:
        if admin is not None:
            admin.close()


def told(error: Exception) -> str:
    """An error as a clause: its name, and its text where it has one.

    >>> told(TimeoutError()), told(ValueError("no port."))
    ('TimeoutError', 'ValueError: no port')
    """
    name, text = type(error).__name__, str(error)
    # kafka-python's errors begin their text with their name.
    return (text if text.startswith(name) else f"{name}: {text}").rstrip(" :.")


def describe(topic: Topic) -> str:
    """One line on how the topic is made.

    >>> describe(Topic("alerts", 1, None, 3, {"cleanup.policy": "compact"}))
    '1 partition, 3 replicas, compacted'
    """
    parts = [_count(topic.partitions, "partition"), _count(topic.replication, "replica")]
    if topic.config["cleanup.policy"] == "compact":
        parts.append("compacted")
    else:
        hours = int(topic.config["retention.ms"]) // 3_600_000
        parts.append(f"kept {_count(hours, 'hour') if hours % 24 else _count(hours // 24, 'day')}")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _missing(admin: KafkaAdminClient, topics: list[Topic]) -> list[Topic]:
    present = {each["name"] for each in _described(admin, topics) if not each["error_code"]}
    return [topic for topic in topics if topic.name not in present]


def _described(admin: KafkaAdminClient, topics: list[Topic]) -> list[dict[str, Any]]:
    described: list[dict[str, Any]] = admin.describe_topics([topic.name for topic in topics])
    return described


def _create(admin: KafkaAdminClient, topic: Topic) -> bool:
    """Creates one topic; False when somebody else just did."""
    spec = {
        "num_partitions": topic.partitions,
        "replication_factor": topic.replication,
        "configs": topic.config,
    }
    answer = admin.create_topics({topic.name: spec}, raise_errors=False)["topics"][0]
    if not answer["error_code"]:
        return True
    kind = for_code(answer["error_code"])
    if kind is TopicAlreadyExistsError:
        return False
    raise DependencyError(
        f"Kafka refuses to create the topic {topic.name} ({describe(topic)}):"
        f" {answer['error_message'] or kind.__name__}."
        " Change REVIEWPULSE_PARTITIONS or REVIEWPULSE_REPLICATION, or have an administrator create it."
    )


def _findings(admin: KafkaAdminClient, topics: list[Topic]) -> list[Finding]:
    described = {each["name"]: each for each in _described(admin, topics) if not each["error_code"]}
    present = [topic.name for topic in topics if topic.name in described]
    configs = _configs(admin, present)
    return [judge(topic, described.get(topic.name), configs.get(topic.name, {})) for topic in topics]


def _configs(admin: KafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    answer: dict[str, dict[str, dict[str, Any]]] = admin.describe_configs(resources, config_filter="all")[
        "topic"
    ]
    return {name: {key: entry["value"] for key, entry in entries.items()} for name, entries in answer.items()}


def judge(topic: Topic, described: dict[str, Any] | None, config: dict[str, str]) -> Finding:
    """Compares a topic with what the broker says of it.

    Args:
        topic: as it must be.
        described: the broker's metadata; None when it has no such topic.
        config: the topic's configuration, as far as the broker tells it.
    """
    if described is None:
        return Finding(topic.name, "missing", "there is no such topic", "reviewpulse topics")
    partitions = len(described["partitions"])
    replication = len(described["partitions"][0]["replica_nodes"])
    details, remedies = [], []
    if partitions != topic.partitions:
        details.append(f"has {_count(partitions, 'partition')}, not {topic.partitions:,}")
        remedies.append(_partition_remedy(topic, partitions))
    if replication < topic.replication:
        details.append(f"has {_count(replication, 'replica')}, not {topic.replication}")
        remedies.append(
            f"reassign its partitions to {topic.replication} brokers (kafka-reassign-partitions.sh),"
            f" or set REVIEWPULSE_REPLICATION={replication}"
        )
    for key, value in topic.config.items():
        found = config.get(key, BROKER_DEFAULTS[key])
        if found != value:
            details.append(f"has {key}={found}, not {value}")
            remedies.append(
                f"kafka-configs.sh --alter --entity-type topics --entity-name {topic.name}"
                f" --add-config {key}={value}"
            )
    if details:
        return Finding(topic.name, "differs", "; ".join(details), "; ".join(remedies))
    return Finding(topic.name, "ok", describe(topic))


def _partition_remedy(topic: Topic, partitions: int) -> str:
    if topic.partitions_setting is None:
        return (
            f"delete it, or name another topic, and run `reviewpulse topics`: it must have"
            f" {_count(topic.partitions, 'partition')}"
        )
    keep = f"set {topic.partitions_setting}={partitions}"
    if partitions > topic.partitions:
        return f"{keep} (Kafka takes no partition away)"
    # Adding moves keys: for a while a product's old and new events lie in two partitions.
    return (
        f"{keep}, or add some in a quiet hour:"
        f" kafka-topics.sh --alter --topic {topic.name} --partitions {topic.partitions}"
    )
