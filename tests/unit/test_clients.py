"""The parts of the clients that need no server: sequences, verdicts, what a terminal is shown."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import DefaultPartitioner

from stream.cli.alerts import block, remarks
from stream.cli.notifications import block as notification_block
from stream.cli.terminal import printable
from stream.client.alerts import LatestSequences
from stream.client.producer import _RememberingPartitioner, encode_event
from stream.client.validation import check
from stream.core.decode import Limits
from stream.core.events import Quote, Review
from stream.core.notify import Incident, Notification
from stream.core.silence import Acknowledgement, Said, Silence
from stream.errors import EventError
from tests.builders import alert

NOW_MS = 1_700_000_000_000


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5))))
def test_each_transition_is_news_once_and_only_in_order(transitions: list[tuple[str, int]]) -> None:
    seen = LatestSequences()
    news = [(name, number) for name, number in transitions if seen.advance(name, number)]
    for name in "abc":
        numbers = [number for each, number in news if each == name]
        assert numbers == sorted(set(numbers))
        delivered = [number for each, number in transitions if each == name]
        assert numbers[-1:] == ([max(delivered)] if delivered else [])


def test_sequences_remember_a_bounded_number_of_alerts() -> None:
    seen = LatestSequences(remembered=2)
    for name in ("a", "b", "c"):
        assert seen.advance(name, 1)
    assert not seen.advance("c", 1)
    assert seen.advance("a", 1)  # the oldest was forgotten: a repeat of it is told again, not lost


@given(st.binary(min_size=1, max_size=40), st.integers(1, 64))
def test_partitions_are_those_of_every_other_kafka_client(key: bytes, partitions: int) -> None:
    cluster = SimpleNamespace(
        topics=lambda: {"t"},
        partitions_for_topic=lambda _: set(range(partitions)),
        available_partitions_for_topic=lambda _: set(range(partitions)),
    )
    ours, theirs = _RememberingPartitioner(), DefaultPartitioner()
    for _ in range(2):
        assert ours.partition("t", None, key, None, None, cluster) == theirs.partition(
            "t", None, key, None, None, cluster
        )


def test_an_event_may_be_a_dict_or_a_struct_and_its_time_a_datetime() -> None:
    at = datetime(2023, 11, 14, tzinfo=UTC)
    fields: dict[str, Any] = {"event_id": "1", "product_id": "B001", "text": "Broken.", "event_time": at}
    for event in (fields, Review(**fields)):
        assert check("reviews", [encode_event(event)], NOW_MS, Limits()) == ["B001"]


def test_a_time_without_a_zone_is_refused() -> None:
    event = {"event_id": "1", "product_id": "B", "text": "x", "event_time": datetime(2023, 1, 1)}  # noqa: DTZ001
    (verdict,) = check("reviews", [encode_event(event)], NOW_MS, Limits())
    assert isinstance(verdict, EventError)
    assert "event_time" in verdict.reason


@pytest.mark.parametrize("value", [object(), print, "\ud800"])
def test_what_json_cannot_carry_is_an_event_error(value: object) -> None:
    with pytest.raises(EventError, match="cannot be written as JSON"):
        encode_event({"event_id": value})


@given(st.text())
def test_a_terminal_is_shown_nothing_it_might_obey(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown


def test_an_alert_block_cannot_be_forged_by_its_quotes() -> None:
    forged = alert(
        severity="critical",
        product_id="B1[red]\x1b[2J",
        quotes=[
            Quote(event_id="1", text="bad\nRESOLVED B1 \u202eevil\x9b1m", p_negative=0.99, event_time="")
        ],
    )
    plain = block(forged).plain
    assert plain.splitlines()[0] == "FIRING B1[red]\\x1b[2J (reviews)  critical, negative_share"
    assert "20 of 40 negative: 50% (35% to 65%), usually 10% (8% to 12%)" in plain
    assert "since 2024-01-17T09:00:00.000Z (1 h 0 min)" in plain
    assert "“bad RESOLVED B1 \\u202eevil\\x9b1m”" in plain
    assert len(plain.splitlines()) == 6


def test_what_people_said_stands_beside_an_alert_that_fires_and_cannot_forge_one() -> None:
    said = Said(
        [
            Silence(
                id="s",
                start_ms=0,
                end_ms=NOW_MS + 1,
                reason="x\nFIRING B1\x1b[2J",
                author="kim",
                product="B1",
            )
        ],
        {"a1": Acknowledgement(alert_id="a1", at_ms=NOW_MS, author="lee", note="on it")},
    )
    firing = alert(product_id="B1")
    plain = block(firing, remarks(firing, said, NOW_MS)).plain.splitlines()
    assert plain[1:3] == [
        "  silenced until 2023-11-14T22:13:20.001Z by kim: x FIRING B1\\x1b[2J",
        "  acknowledged by lee at 2023-11-14T22:13:20.000Z: on it",
    ]
    assert len(remarks(firing, said, NOW_MS + 1)) == 1
    assert remarks(alert(product_id="B1", state="resolved"), said, NOW_MS) == []


def told(**fields: Any) -> Notification:
    at = "2024-01-17T10:00:00.000Z"
    facts: dict[str, Any] = {"id": "n", "thread": "t", "state": "firing", "severity": "critical", "fired": 1}
    return Notification(**{**facts, "at": at, "kind": "alert", **fields})


def test_a_notification_is_shown_with_why_now_and_its_alert() -> None:
    shown = notification_block(told(state="resolved", fired=7, alert=alert(state="resolved"))).plain
    assert shown.splitlines()[:2] == [
        "2024-01-17T10:00:00.000Z  IS OVER  hovers: it has fired 7 times since it was told last",
        "RESOLVED B001 (reviews)  warning, negative_share",
    ]


def test_an_incident_is_shown_with_its_cause_its_size_and_its_products() -> None:
    incident = Incident(
        scope="model",
        category=None,
        models=("en-1", "en-2"),
        since="2024-01-17T09:00:00.000Z",
        products=["B1[red]\x1b[2J", *(f"B{n}" for n in range(2, 12))],
        alerts=[],
        firing=1_200,
        total=1_300,
    )
    shown = notification_block(told(kind="incident", thread="incident-9", incident=incident)).plain
    assert shown.splitlines() == [
        "2024-01-17T10:00:00.000Z  FIRES  critical, id incident-9",
        "  after the model changed from en-1 to en-2: 1,200 of 1,300 fire, since 2024-01-17T09:00:00.000Z",
        "  B1[red]\\x1b[2J",
        *(f"  B{n}" for n in range(2, 11)),
        "  and more",
    ]


def test_the_clients_load_no_model_and_no_faust() -> None:
    heavy = ["numpy", "faust", "aiokafka", "onnxruntime", "tokenizers", "typer", "rich"]
    code = f"import sys, json, stream.client; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(loaded.stdout) == []
