"""Bytes to events: the room where bad input ends.

Rules:
- A record becomes exactly one of: an event to score, a dead letter with a reason a person understands, or a
  line skipped by rule (what a shop's own agent says in a chat is nobody's sentiment).
- Nothing a producer can send raises out of here.
- Arrival is the record's Kafka timestamp, so what is late, early or historic is the same at every replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

import msgspec

from stream.core.events import END_OF_TIME_MS, Chat, Review, event_time_ms, scored_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.core.events import Channel


LONGEST_REASON = 300
"""Characters. It travels in a header and is shown in one line."""


class Record(Protocol):
    """What decoding needs of a Kafka record (aiokafka's ``ConsumerRecord`` has it)."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Limits(NamedTuple):
    """What an event may be."""

    max_event_bytes: int = 262_144
    allowed_skew_ms: int = 300_000


class Event(msgspec.Struct, frozen=True, gc=False):
    """A valid event, reduced to what the rooms after this one use.

    A struct, because one is made of every event: a sixth of a named tuple's time, and none of the garbage
    collector's.
    """

    offset: int
    event_id: str
    product_id: str
    text: str
    event_ms: int
    arrival_ms: int
    author_id: str | None
    category: str | None = None


class DeadLetter(NamedTuple):
    """A record that cannot be counted, and why."""

    offset: int
    stage: str
    reason: str
    is_ahead: bool = False
    """Whether the reason is its time: further ahead of the record's own than is allowed."""


class _AheadError(ValueError):
    pass


class Decoded(NamedTuple):
    """A run of records, sorted by what becomes of them."""

    events: list[Event]
    dead: list[DeadLetter]
    skipped: list[int]
    """Offsets of lines skipped by rule."""


_DECODERS: dict[str, Callable[[bytes], Review | Chat]] = {
    "reviews": msgspec.json.Decoder(Review).decode,
    "chats": msgspec.json.Decoder(Chat).decode,
}


def decode_run(channel: Channel, records: Sequence[Record], limits: Limits) -> Decoded:
    """Decodes records of one partition, in offset order.

    Args:
        channel: which type the records are of.
        records: as fetched.
        limits: what is too large or too early.

    Returns:
        Events, dead letters and skipped lines, each in offset order. Together they are as many as
        ``records``.
    """
    decode_value = _DECODERS[channel]
    decoded = Decoded([], [], [])
    for record in records:
        try:
            event = _event(record, decode_value(_value(record, limits)), limits)
        except RecursionError:
            decoded.dead.append(DeadLetter(record.offset, "decode", "the JSON is nested too deeply"))
        except (ValueError, msgspec.MsgspecError) as error:
            is_ahead = isinstance(error, _AheadError)
            decoded.dead.append(DeadLetter(record.offset, "decode", _reason(error), is_ahead))
        else:
            if event is None:
                decoded.skipped.append(record.offset)
            else:
                decoded.events.append(event)
    return decoded


def _value(record: Record, limits: Limits) -> bytes:
    value = record.value
    if value is None:
        raise ValueError("the record has no value (a tombstone)")
    if len(value) > limits.max_event_bytes:
        raise ValueError(f"the record has {len(value)} bytes, more than {limits.max_event_bytes}")
    return value


def _event(record: Record, message: Review | Chat, limits: Limits) -> Event | None:
    """The event, or None for a line that is skipped by rule."""
    if isinstance(message, Review):
        title, author_id = message.title, message.author_id
    elif message.role == "agent":
        return None
    else:
        # A conversation is one customer's: its lines are not many people's complaints.
        title, author_id = None, message.author_id or message.conversation_id
    # Before cleaning, which would take it out: a producer that sends binary should hear of it.
    if "\0" in message.text or "\0" in message.product_id or (title and "\0" in title):
        raise ValueError("the text or product_id has a NUL character")
    text = scored_text(title, message.text)
    if not text:
        raise ValueError("the text is empty")
    event_ms = event_time_ms(message.event_time)
    # A broker may leave the timestamp out (-1): then the event's own time is all there is.
    arrival_ms = record.timestamp if record.timestamp >= 0 else event_ms
    if arrival_ms >= END_OF_TIME_MS:  # producers may set it; alerts write it as a date
        raise ValueError("the record's own timestamp is after 9999")
    if event_ms > arrival_ms + limits.allowed_skew_ms:
        ahead_s = (event_ms - arrival_ms) / 1000
        raise _AheadError(
            f"event_time is {ahead_s:.0f} s ahead of the record's own timestamp;"
            f" {limits.allowed_skew_ms / 1000:.0f} s are allowed: check the producer's clock"
        )
    return Event(
        record.offset,
        message.event_id,
        message.product_id,
        text,
        event_ms,
        arrival_ms,
        author_id,
        message.category,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the record is not UTF-8"
    # Its subclass ValidationError is JSON, of a wrong shape; what it says may quote a value of any length.
    said = f"not JSON: {error}" if type(error) is msgspec.DecodeError else str(error)
    return said if len(said) <= LONGEST_REASON else f"{said[: LONGEST_REASON - 1]}…"
