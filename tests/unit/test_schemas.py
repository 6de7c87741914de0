"""The published JSON Schemas: up to date, and true of what travels."""

from __future__ import annotations

import json

import jsonschema
import msgspec
import pytest

from stream.core.events import Chat, Review, Score
from stream.schemas import FOLDER, written
from tests.builders import alert

REVIEW = {"event_id": "1", "product_id": "B001", "text": "Broken.", "event_time": "2024-01-17T10:00:00Z"}
CHAT = REVIEW | {"conversation_id": "77", "role": "customer"}

ALERT = alert()

SCORE = Score(
    event_id="1",
    product_id="B001",
    channel="reviews",
    label="negative",
    probabilities={"negative": 0.9, "neutral": 0.0, "positive": 0.1},
    sentiment=-0.8,
    model_version="en-1",
    event_time="2024-01-17T09:30:00.000Z",
    queue_ms=3.0,
    score_ms=12.5,
)


def schema(topic: str) -> dict[str, object]:
    loaded: dict[str, object] = json.loads((FOLDER / f"{topic}.json").read_text(encoding="utf-8"))
    return loaded


def is_valid(topic: str, value: object) -> bool:
    validator = jsonschema.Draft202012Validator(schema(topic))
    return bool(validator.is_valid(value))


def test_files_are_what_the_types_say() -> None:
    found = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert found == written(), "the schemas are out of date: run `python -m stream.schemas` and commit them"


@pytest.mark.parametrize("topic", ["reviews", "chats", "scores", "alerts"])
def test_each_is_a_schema(topic: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema(topic))


@pytest.mark.parametrize("event_time", ["2024-01-17T10:00:00+01:00", 1_700_000_000, 1_700_000_000_123, 1.5])
def test_a_review_fits_its_schema_with_every_form_of_time(event_time: object) -> None:
    review = REVIEW | {"event_time": event_time}
    assert is_valid("reviews", review)
    msgspec.convert(review, Review)


def test_fields_of_a_producers_own_fit() -> None:
    assert is_valid("reviews", REVIEW | {"store": "Basel"})


def test_chats_alerts_and_scores_fit_theirs() -> None:
    assert is_valid("chats", CHAT)
    assert is_valid("alerts", json.loads(msgspec.json.encode(ALERT)))
    assert is_valid("scores", json.loads(msgspec.json.encode(SCORE)))


@pytest.mark.parametrize(
    ("topic", "change"),
    [
        ("reviews", {"event_id": ""}),
        ("reviews", {"product_id": 7}),
        ("reviews", {"text": "x" * 20_001}),
        ("reviews", {"rating": 11}),
        ("reviews", {"event_time": None}),
        ("chats", {"role": "bot"}),
    ],
)
def test_what_the_types_refuse_the_schema_refuses(topic: str, change: dict[str, object]) -> None:
    value = (REVIEW if topic == "reviews" else CHAT) | change
    assert not is_valid(topic, value)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(value, Review if topic == "reviews" else Chat)


@pytest.mark.parametrize("missing", ["event_id", "product_id", "text", "event_time"])
def test_a_review_without_a_needed_field_is_refused(missing: str) -> None:
    assert not is_valid("reviews", {name: value for name, value in REVIEW.items() if name != missing})
