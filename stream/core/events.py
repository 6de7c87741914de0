"""What travels on the topics, as types; their JSON Schemas are made from the same types.

Rules:
- Unknown fields are ignored, so producers may add their own. A missing or wrong one is refused.
- Times are RFC 3339 with an offset, or a number: seconds since the epoch, or milliseconds when the number
  is 1e11 or more (1e11 s is the year 5138; 1e11 ms is 1973).
- A product's events share its ``product_id`` as Kafka key, so one partition holds them in order.
- Nothing here reads a clock.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

import msgspec

from stream.core.clean import clean
from stream.core.phrases import Phrase  # noqa: TC001  # msgspec reads the annotations
from stream.core.summary import Said  # noqa: TC001

Channel = Literal["reviews", "chats"]
CHANNELS: tuple[Channel, ...] = ("reviews", "chats")

Label = Literal["negative", "neutral", "positive"]
LABELS: tuple[Label, ...] = ("negative", "neutral", "positive")
"""Order of the counts everywhere: in Redis, in the clients, in the scorer's columns for 3-label bundles."""

MAX_TEXT_CHARS = 20_000
"""Longest text accepted. The longest Amazon reviews are near 30,000 characters, one in 100,000; a model that
reads 512 tokens uses the first 3,000."""

Resolution = Literal["recovered", "new_normal"]

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_CHARS)]
EventTime = Annotated[datetime, msgspec.Meta(tz=True)] | int | float


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """A product review, as producers send it to the ``reviews`` topic."""

    event_id: Id
    product_id: Id
    text: Text
    event_time: EventTime
    rating: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    title: Annotated[str, msgspec.Meta(max_length=2_000)] | None = None
    lang: Annotated[str, msgspec.Meta(max_length=35)] | None = None
    category: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    author_id: Annotated[str, msgspec.Meta(max_length=256)] | None = None


class Chat(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a customer-service chat, as producers send it to the ``chats`` topic."""

    event_id: Id
    conversation_id: Id
    product_id: Id
    role: Literal["customer", "agent"]
    text: Text
    event_time: EventTime
    lang: Annotated[str, msgspec.Meta(max_length=35)] | None = None
    category: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    author_id: Annotated[str, msgspec.Meta(max_length=256)] | None = None


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What the worker says of one event, on the opt-in ``scores`` topic."""

    event_id: str
    product_id: str
    channel: Channel
    label: Label
    probabilities: dict[str, float]
    sentiment: float
    """In [-1, 1]: P(positive) - P(negative)."""
    model_version: str
    event_time: str
    queue_ms: float
    """From the record's Kafka timestamp to the start of scoring."""
    score_ms: float
    """Of the micro-batch the event was scored in."""


class Quote(msgspec.Struct, frozen=True, kw_only=True):
    """A complaint, word for word, with personal data masked."""

    event_id: str
    text: str
    p_negative: float
    event_time: str


class RateEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """What an alert on the rate of negatives stands on. Days are operational."""

    per_day: float
    """Negatives a day: since the onset when it fires, since it has been quiet when it resolves."""
    per_day_interval: tuple[float, float]
    """95%; bursts widen it."""
    usual_per_day: float
    usual_interval: tuple[float, float]
    burstiness: float
    """Variance of the ordinary rate over its square; 0: negatives come by themselves."""
    evidence: float
    """Log-likelihood ratio of the rise when it fired."""
    threshold: float
    """Of the evidence."""
    profile: str
    """Version of the daily and weekly pattern."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One transition of one alert, on the compacted ``alerts`` topic, keyed by ``id``.

    Subscribers keep the highest ``sequence`` they have seen of an ``id`` and ignore the rest.
    """

    schema: Literal[1] = 1
    id: str
    """Stable across restarts and replays: made from product, channel, rule and onset."""
    sequence: int
    """1 when it fires; each later transition (it becomes critical, it resolves) adds one."""
    state: Literal["firing", "resolved"]
    rule: str
    severity: Literal["warning", "critical"]
    product_id: str
    channel: Channel
    at: str
    """RFC 3339: when the event that caused this transition reached Kafka."""
    onset: str
    """RFC 3339: the estimated moment the share changed (the CUSUM's last zero)."""
    events: int
    """Scored events since the onset."""
    negatives: int
    current_share: float
    current_interval: tuple[float, float]
    """95% Wilson interval of ``current_share``."""
    baseline_share: float
    baseline_interval: tuple[float, float]
    """95% credible interval of the share before the onset."""
    baseline_events: float
    """Weight of the evidence behind the baseline, prior included; old events count less."""
    false_alarm_run_length: float
    """Events between two false alarms that the threshold was set for."""
    distinct_authors: int
    """Authors known among the negatives since the onset, counted up to a bound."""
    quotes: list[Quote]
    peak_share: float
    duration_s: float
    """From onset to this transition."""
    model_version: str
    historic: bool = False
    """The events were old when they reached Kafka (a backfill): nobody should be woken."""
    resolution: Resolution | None = None
    """Why it resolved: the share is back, or has been what it is for so long that it is the new normal."""
    category: str | None = None
    """Of the product, as the event that caused this transition states it."""
    phrases: list[Phrase] = []
    """What sets these complaints apart from the product's earlier ones, the most telling first."""
    summary: list[Said] = []
    """Two or three of the complaints' own sentences, personal data masked."""
    vocabulary: str = ""
    """Version of the table of ordinary phrases that ``phrases`` was told from."""
    priors: str = ""
    """Version of the snapshot that baselines begin with; empty without one."""
    rate: RateEvidence | None = None
    """Of the rule on the rate of negatives; the counts and shares beside it are told for context."""


def alert_id(product_id: str, channel: Channel, rule: str, onset_ms: int, event_id: str) -> bytes:
    """The 8 bytes whose hex is an alert's ``id``.

    Args:
        product_id: whose alert it is.
        channel: where its events came from.
        rule: which fired.
        onset_ms: when its first event reached Kafka.
        event_id: of that event.

    >>> alert_id("kettle", "reviews", "negative_share", 0, "e1").hex()
    '472d8c3769bdfd52'
    """
    name = f"{product_id}\0{channel}\0{rule}\0{onset_ms}\0{event_id}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]


EVENT_TYPES: dict[str, type[Review | Chat]] = {"reviews": Review, "chats": Chat}


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END_OF_TIME_MS = 253_402_300_800_000
"""The year 10000 in ms since the epoch: RFC 3339 has four digits."""


def event_time_ms(value: datetime | float) -> int:
    """Milliseconds since the epoch.

    Raises:
        ValueError: the time is before 1970 or after 9999.

    >>> event_time_ms(1_700_000_000), event_time_ms(1_700_000_000_123)
    (1700000000000, 1700000000123)
    """
    if isinstance(value, datetime):
        ms: float = round(value.timestamp() * 1000)
    else:
        ms = value if value >= 1e11 else value * 1000
    if not 0 <= ms < END_OF_TIME_MS:
        raise ValueError("event_time is not between 1970 and 9999")
    return int(ms)


def rfc3339(ms: int) -> str:
    """Milliseconds since the epoch as RFC 3339 in UTC.

    >>> rfc3339(1_700_000_000_123)
    '2023-11-14T22:13:20.123Z'
    """
    # Not fromtimestamp: far from now, a float of seconds has no exact milliseconds.
    return (_EPOCH + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def scored_text(title: str | None, text: str) -> str:
    """The text a score is of: a review's title, when it has one, then its text, both cleaned.

    >>> scored_text("Broken", "It died."), scored_text(None, " It died. ")
    ('Broken. It died.', 'It died.')
    """
    text = clean(text)
    title = clean(title) if title else ""
    if not title:
        return text
    if not text:
        return title
    return f"{title} {text}" if title[-1] in ".!?…。！？" else f"{title}. {text}"  # noqa: RUF001


def json_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema (2020-12) of every topic's value, by topic name."""
    named: dict[str, type[msgspec.Struct]] = {**EVENT_TYPES, "scores": Score, "alerts": Alert}
    return {
        topic: {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(struct)}
        for topic, struct in named.items()
    }
