"""Whatever a producer sends is an event, a dead letter with a reason, or a line skipped by rule."""

from __future__ import annotations

from datetime import datetime
from itertools import chain
from typing import Any

import msgspec
import pytest
from builders import NOW_MS, chat, record, review
from hypothesis import given
from hypothesis import strategies as st

from stream.core.decode import Event, Limits, decode_run
from stream.core.events import CHANNELS, Channel, event_time_ms, rfc3339

LIMITS = Limits()


def reason_of(value: dict[str, Any] | bytes | None, channel: Channel = "reviews", **kwargs: Any) -> str:
    """Why the value is refused, sent between two good ones, which must come through."""
    good = review if channel == "reviews" else chat
    records = [record(7, good(7)), record(8, value, **kwargs), record(9, good(9))]
    decoded = decode_run(channel, records, LIMITS)
    assert [event.offset for event in decoded.events] == [7, 9]
    assert decoded.skipped == []
    [letter] = decoded.dead
    assert (letter.offset, letter.stage) == (8, "decode")
    assert "\n" not in letter.reason
    return letter.reason


def event_ms_of(event_time: Any) -> int:
    [event] = decode_run("reviews", [record(0, review(event_time=event_time))], LIMITS).events
    return event.event_ms


def with_text_bytes(raw: bytes) -> bytes:
    """A review whose text is ``raw``, as is, between quotes."""
    return msgspec.json.encode(review(text="TEXT")).replace(b"TEXT", raw)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "no value (a tombstone)"),
        (b"", "not JSON"),
        (b"The battery died.", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "Expected `object`, got `array`"),
        (b"42", "Expected `object`, got `int`"),
        (b"null", "Expected `object`, got `null`"),
        (review(event_id=None), "missing required field `event_id`"),
        (review(product_id=None) | {"key": 1}, "missing required field `product_id`"),
        (review(text=None), "missing required field `text`"),
        (review(event_time=None), "missing required field `event_time`"),
        (review(text=5), "Expected `str`, got `int` - at `$.text`"),
        (review(text=["It", "boils"]), "Expected `str`, got `array` - at `$.text`"),
        (review(event_id=""), "length >= 1 - at `$.event_id`"),
        (review(product_id=""), "length >= 1 - at `$.product_id`"),
        (review(product_id="x" * 257), "length <= 256 - at `$.product_id`"),
        (review(rating="5"), "`$.rating`"),
        (review(rating=11), "<= 10.0 - at `$.rating`"),
        (review(text=""), "the text is empty"),
        (review(text=" \n\t "), "the text is empty"),
        (review(title=" ", text=" "), "the text is empty"),
        (review(text="x" * 20_001), "length <= 20000 - at `$.text`"),
        (review(text="x" * 300_000), "bytes, more than 262144"),
        (review(text="It\0boils"), "NUL"),
        (review(title="Ket\0tle"), "NUL"),
        (review(product_id="ket\0tle"), "NUL"),
        (with_text_bytes(b"\\ud800"), "surrogate"),
        (with_text_bytes(b"\\udc00x"), "surrogate"),
        (with_text_bytes(b"\\ud800\\u0041"), "surrogate"),
        (with_text_bytes(b"\xed\xa0\x80"), "not UTF-8"),  # U+D800, encoded
        (with_text_bytes(b"caf\xe9"), "not UTF-8"),  # Latin-1
        (b"\xff\xfe" + "{}".encode("utf-16-le"), "not JSON"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' * 20_000 + b"1" + b"}" * 20_000, "nested too deeply"),
    ],
)
def test_a_bad_review_is_a_dead_letter_that_says_why(
    value: dict[str, Any] | bytes | None, reason: str
) -> None:
    if isinstance(value, dict):
        value = msgspec.json.encode(value)
    assert reason in reason_of(value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (chat(conversation_id=None), "missing required field `conversation_id`"),
        (chat(role=None), "missing required field `role`"),
        (chat(role="bot"), "Invalid enum value 'bot' - at `$.role`"),
        (chat(text=" "), "the text is empty"),
        (chat(text="\0"), "NUL"),
    ],
)
def test_a_bad_chat_line_is_a_dead_letter_that_says_why(value: dict[str, Any], reason: str) -> None:
    assert reason in reason_of(value, "chats")


def test_a_reason_is_short_however_long_what_it_quotes() -> None:
    reason = reason_of(chat(role="x" * 20_000), "chats")
    assert reason.startswith("Invalid enum value 'xxx")
    assert (len(reason), reason[-1]) == (300, "…")


@pytest.mark.parametrize(
    "raw",
    [
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"1e400",
        b"-1",
        b"-0.001",
        b"1e300",
        b"123456789012345678901234567890",
        b"true",
        b"null",
        b'"1700000000"',
        b'"yesterday"',
        b'"2023-11-14"',
        b'"2023-11-14T22:13:20"',  # naive: whose clock?
        b'"2023-13-14T22:13:20Z"',
        b'"2023-11-14T22:13:60Z"',
        b'"1969-12-31T23:59:59Z"',
        b'"0001-01-01T00:00:00+23:59"',
        b'"9999-12-31T23:59:59-23:59"',
        b"{}",
    ],
)
def test_a_time_that_is_none_is_refused(raw: bytes) -> None:
    value = msgspec.json.encode(review(event_time="TIME")).replace(b'"TIME"', raw)
    reason = reason_of(value)
    assert "event_time" in reason or "not JSON" in reason


def test_a_naive_time_is_told_to_need_its_offset() -> None:
    assert "timezone" in reason_of(review(event_time="2023-11-14T22:13:20"))


@pytest.mark.parametrize(
    "event_time",
    [
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20.000Z",
        "2023-11-15T06:13:20+08:00",
        "2023-11-14T16:43:20-05:30",
        1_700_000_000,
        1_700_000_000.0,
        1_700_000_000_000,
        1_700_000_000_000.9,
    ],
)
def test_one_moment_may_be_written_in_many_ways(event_time: str | float) -> None:
    assert event_ms_of(event_time) == 1_700_000_000_000


@pytest.mark.parametrize("event_time", ["2023-11-14T22:13:20.123Z", 1_700_000_000.123, 1_700_000_000_123])
def test_fractions_of_a_second_are_kept_to_the_millisecond(event_time: str | float) -> None:
    assert event_ms_of(event_time) == 1_700_000_000_123


@given(st.integers(0, 253_402_300_799_999))
def test_rfc3339_reads_back(ms: int) -> None:
    assert event_time_ms(msgspec.convert(rfc3339(ms), datetime)) == ms


def test_a_time_within_the_allowed_skew_is_taken() -> None:
    ahead = review(event_time=NOW_MS + LIMITS.allowed_skew_ms)
    assert decode_run("reviews", [record(0, ahead)], LIMITS).dead == []


def test_a_time_beyond_the_allowed_skew_is_refused_and_names_the_clock() -> None:
    reason = reason_of(review(event_time=NOW_MS + LIMITS.allowed_skew_ms + 1000))
    assert "301 s ahead" in reason
    assert "clock" in reason


def test_skew_is_measured_from_the_records_arrival_not_from_now() -> None:
    assert "ahead" in reason_of(review(event_time=NOW_MS), arrival_ms=NOW_MS - 3_600_000)


def test_without_a_broker_timestamp_arrival_is_the_events_own_time() -> None:
    [event] = decode_run("reviews", [record(0, review(), arrival_ms=-1)], LIMITS).events
    assert event.arrival_ms == event.event_ms == NOW_MS


@pytest.mark.parametrize("arrival_ms", [253_402_300_800_000, 2**63 - 1])
def test_a_record_timestamp_beyond_the_calendar_is_refused(arrival_ms: int) -> None:
    """A producer may set it; alerts would have to write it as a date."""
    assert "timestamp" in reason_of(review(), arrival_ms=arrival_ms)


def test_what_an_agent_says_is_skipped_even_when_it_is_empty() -> None:
    lines = [chat(0), chat(1, role="agent"), chat(2, role="agent", text="\0"), chat(3, role="agent", text="")]
    decoded = decode_run("chats", [record(n, line) for n, line in enumerate(lines)], LIMITS)
    assert [event.offset for event in decoded.events] == [0]
    assert (decoded.skipped, decoded.dead) == ([1, 2, 3], [])


def test_an_event_carries_what_the_rooms_after_need() -> None:
    value = review(3, title="Kettle", text=" Died. ", author_id="ann", colour="red", event_time=NOW_MS - 5)
    [event] = decode_run("reviews", [record(3, value)], LIMITS).events
    assert event == Event(3, "review-3", "kettle", "Kettle. Died.", NOW_MS - 5, NOW_MS, "ann")


def test_a_title_alone_is_text_enough() -> None:
    [event] = decode_run("reviews", [record(0, review(title="Broken!", text=""))], LIMITS).events
    assert event.text == "Broken!"


def test_the_last_of_a_repeated_field_counts() -> None:
    value = msgspec.json.encode(review())[:-1] + b',"product_id":"lamp"}'
    assert decode_run("reviews", [record(0, value)], LIMITS).events[0].product_id == "lamp"


VALUES = st.one_of(
    st.none(),
    st.binary(max_size=80),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    ).map(msgspec.json.encode),
    st.fixed_dictionaries(
        {},
        optional={
            "event_id": st.text(max_size=5) | st.integers(),
            "conversation_id": st.text(max_size=5),
            "product_id": st.text(max_size=5),
            "text": st.text(max_size=5) | st.none(),
            "title": st.text(max_size=5),
            "role": st.sampled_from(["customer", "agent", "bot"]),
            "event_time": st.floats() | st.integers() | st.datetimes().map(str) | st.just(NOW_MS),
        },
    ).map(msgspec.json.encode),
    st.tuples(st.binary(max_size=3), st.integers(0, 120)).map(
        lambda cut: (whole := msgspec.json.encode(chat()))[: cut[1]] + cut[0] + whole[cut[1] :]
    ),
)


@given(st.sampled_from(CHANNELS), st.lists(st.tuples(VALUES, st.integers(-1, 2**63 - 1)), max_size=8))
def test_every_record_ends_as_exactly_one_thing(
    channel: Channel, values: list[tuple[bytes | None, int]]
) -> None:
    records = [record(offset, value, arrival_ms=at) for offset, (value, at) in enumerate(values)]
    decoded = decode_run(channel, records, LIMITS)
    ends = [
        [each.offset for each in decoded.events],
        [each.offset for each in decoded.dead],
        decoded.skipped,
    ]
    assert all(offsets == sorted(offsets) for offsets in ends)
    assert sorted(chain(*ends)) == list(range(len(values)))
    assert all(letter.reason for letter in decoded.dead)
    for event in decoded.events:
        assert event.text.strip()
        assert event.product_id
        assert rfc3339(event.event_ms)
        assert rfc3339(event.arrival_ms)
        event.text.encode()
        event.product_id.encode()
