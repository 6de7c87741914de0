"""How a topic that exists is judged."""

from __future__ import annotations

from typing import Any

from stream.settings import load
from stream.topics import Topic, judge, wanted

REVIEWS = Topic(
    "reviews", 8, "REVIEWPULSE_PARTITIONS", 3, {"cleanup.policy": "delete", "retention.ms": "3600000"}
)
ALERTS = Topic("alerts", 1, None, 1, {"cleanup.policy": "compact"})


def described(partitions: int, replicas: int) -> dict[str, Any]:
    return {"partitions": [{"replica_nodes": list(range(replicas))} for _ in range(partitions)]}


def test_a_topic_as_wanted_is_ok() -> None:
    finding = judge(REVIEWS, described(8, 3), REVIEWS.config)
    assert (finding.state, finding.detail, finding.remedy) == (
        "ok",
        "8 partitions, 3 replicas, kept 1 hour",
        "",
    )


def test_more_replicas_than_wanted_are_no_fault() -> None:
    assert judge(ALERTS, described(1, 3), ALERTS.config).state == "ok"


def test_each_difference_has_its_remedy() -> None:
    finding = judge(REVIEWS, described(4, 1), {"cleanup.policy": "compact", "retention.ms": "3600000"})
    assert finding.state == "differs"
    assert (
        finding.detail
        == "has 4 partitions, not 8; has 1 replica, not 3; has cleanup.policy=compact, not delete"
    )
    assert "set REVIEWPULSE_PARTITIONS=4, or add some" in finding.remedy
    assert "set REVIEWPULSE_REPLICATION=1" in finding.remedy
    assert "--add-config cleanup.policy=delete" in finding.remedy


def test_too_many_partitions_can_only_be_accepted() -> None:
    remedy = judge(REVIEWS, described(16, 3), REVIEWS.config).remedy
    assert remedy == "set REVIEWPULSE_PARTITIONS=16 (Kafka takes no partition away)"


def test_alerts_in_several_partitions_cannot_be_accepted() -> None:
    finding = judge(ALERTS, described(8, 1), ALERTS.config)
    assert finding.detail == "has 8 partitions, not 1"
    assert "it must have 1 partition" in finding.remedy


def test_what_the_broker_does_not_tell_is_kafkas_default() -> None:
    assert judge(ALERTS, described(1, 1), {}).detail == "has cleanup.policy=delete, not compact"


def test_a_topic_that_is_not_there_is_missing() -> None:
    finding = judge(REVIEWS, None, {})
    assert (finding.state, finding.remedy) == ("missing", "reviewpulse topics")


def test_the_scores_topic_is_wanted_only_when_scores_are_published() -> None:
    assert "scores" not in {topic.name for topic in wanted(load())}
    assert "scores" in {topic.name for topic in wanted(load(publish_scores=True))}


def test_inputs_are_stamped_by_the_broker_and_dead_letters_kept_as_long() -> None:
    topics = {topic.name: topic for topic in wanted(load(retention_h=5))}
    assert topics["reviews"].config == {
        "cleanup.policy": "delete",
        "retention.ms": "18000000",
        "message.timestamp.type": "LogAppendTime",
    }
    assert topics["reviews.dlq"].config["retention.ms"] == "18000000"
    assert topics["alerts"].config == {"cleanup.policy": "compact"}
