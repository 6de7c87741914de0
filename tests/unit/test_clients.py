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

from stream.cli.alerts import block
from stream.cli.terminal import printable
from stream.client.alerts import LatestSequences
from stream.client.producer import _RememberingPartitioner, encode_event
from stream.client.validation import check
from stream.core.decode import Limits
from stream.core.events import Quote, Review
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


def test_the_clients_load_no_model_and_no_faust() -> None:
    heavy = ["numpy", "faust", "aiokafka", "onnxruntime", "tokenizers", "typer", "rich"]
    code = f"import sys, json, stream.client; print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert json.loads(loaded.stdout) == []
