"""Topics on a real broker, through the command."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient

from stream.cli.main import main
from stream.errors import DependencyError
from stream.settings import load
from stream.topics import check, ensure

if TYPE_CHECKING:
    from stream.settings import Settings


def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str
) -> tuple[int, str]:
    """Runs the command line in this process: exit code and standard output."""
    monkeypatch.setattr("sys.argv", ["reviewpulse", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), capsys.readouterr().out


def partitions(settings: Settings) -> dict[str, int]:
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka)
    try:
        described: list[dict[str, Any]] = admin.describe_topics()
    finally:
        admin.close()
    return {each["name"]: len(each["partitions"]) for each in described}


def test_topics_are_created_once_and_then_found_well(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out = run(capsys, monkeypatch, "topics", "--json")
    first = json.loads(out)
    assert (code, first["ok"]) == (0, True)
    assert {each["state"] for each in first["topics"]} == {"created"}
    code, out = run(capsys, monkeypatch, "topics", "--json")
    second = json.loads(out)
    assert (code, second["ok"]) == (0, True)
    assert {each["state"] for each in second["topics"]} == {"ok"}
    made = partitions(settings)
    assert {name: made[name] for name in (each["topic"] for each in second["topics"])} == {
        settings.topic_reviews: 4,
        settings.topic_chats: 4,
        settings.topic_alerts: 1,
        f"{settings.topic_reviews}.dlq": 1,
        f"{settings.topic_chats}.dlq": 1,
    }


def test_a_topic_that_differs_is_left_alone_and_told_with_exit_1(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure(settings)
    monkeypatch.setenv("REVIEWPULSE_PARTITIONS", "6")
    code, out = run(capsys, monkeypatch, "topics")
    assert code == 1
    lines = {line.split()[1]: line for line in out.splitlines() if not line.lstrip().startswith("→")}
    assert lines[settings.topic_reviews].split()[0] == "differs"
    assert "has 4 partitions, not 6" in lines[settings.topic_reviews]
    assert lines[settings.topic_alerts].split()[0] == "ok"
    assert "set REVIEWPULSE_PARTITIONS=4" in out
    assert partitions(settings)[settings.topic_reviews] == 4


def test_checking_creates_nothing(settings: Settings) -> None:
    assert {each.state for each in check(settings)} == {"missing"}
    assert settings.topic_reviews not in partitions(settings)


def test_scores_get_a_topic_when_they_are_published(settings: Settings) -> None:
    assert settings.topic_scores in {each.topic for each in ensure(load(publish_scores=True))}
    assert partitions(settings)[settings.topic_scores] == 4


def test_a_broker_that_is_away_is_one_sentence_with_a_remedy(settings: Settings) -> None:
    nowhere = settings.model_copy(update={"kafka": "127.0.0.1:1"})
    with pytest.raises(
        DependencyError, match=r"No Kafka broker answers at 127\.0\.0\.1:1 .*REVIEWPULSE_KAFKA"
    ):
        ensure(nowhere, timeout_s=0.5)
