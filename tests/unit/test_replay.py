"""History to events: order, times, ids, what is left out and what cannot be sent."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.client.validation import check
from stream.core.decode import Limits
from stream.core.events import Review, event_time_ms
from stream.errors import UsageError
from stream.replay import (
    SEND_CHUNK,
    History,
    column_map,
    encode_row,
    parse_rating,
    parse_time,
    read_history,
    send_history,
)

JAN_17_MS = 1_705_449_600_000

AMAZON = {
    "overall": 2.0,
    "reviewerID": "A3",
    "asin": "B0000530HU",
    "reviewText": "Smells awful.",
    "summary": "Awful",
    "unixReviewTime": 1_384_387_200,
}


def amazon(*rows: dict[str, Any] | str) -> History:
    lines = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    return read_history(
        io.BytesIO(lines.encode("utf-8", "surrogatepass")),
        "amazon",
        column_map("amazon", "reviews", []),
        "reviews",
    )


def from_csv(text: str, *columns: str) -> History:
    return read_history(io.BytesIO(text.encode()), "csv", column_map("csv", "reviews", columns), "reviews")


class Collected:
    """A sender that keeps what it is given."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.values: list[bytes] = []
        self._fails_at = fails_at
        self.flushes = 0

    @property
    def lost(self) -> int:
        return int(self._fails_at is not None and len(self.values) >= self._fails_at)

    def send_encoded(self, channel: str, product_id: str, value: bytes) -> None:
        self.values.append(value)

    def flush(self) -> None:
        self.flushes += 1


def test_an_amazon_row_becomes_a_review() -> None:
    (row,) = amazon(AMAZON).rows
    sent = msgspec.json.decode(encode_row(row), type=Review)
    assert (sent.product_id, sent.author_id, sent.rating) == ("B0000530HU", "A3", 2.0)
    assert (sent.title, sent.text) == ("Awful", "Smells awful.")
    assert event_time_ms(sent.event_time) == 1_384_387_200_000
    assert check("reviews", [encode_row(row)], JAN_17_MS, Limits()) == ["B0000530HU"]


def test_rows_are_sent_in_event_time_order_and_equal_times_in_the_files() -> None:
    history = amazon(
        AMAZON | {"unixReviewTime": 300, "summary": "c"},
        AMAZON | {"unixReviewTime": 100, "summary": "a"},
        AMAZON | {"unixReviewTime": 300, "summary": "d"},
        AMAZON | {"unixReviewTime": 200, "summary": "b"},
    )
    assert [row.fields["title"] for row in history.rows] == ["a", "b", "c", "d"]


def test_rows_without_product_or_time_are_named_and_the_rest_is_kept() -> None:
    history = amazon(
        AMAZON | {"asin": " "},
        AMAZON,
        AMAZON | {"unixReviewTime": None},
        "{oops",
        AMAZON | {"unixReviewTime": "soon"},
        "[]",
        AMAZON | {"unixReviewTime": -5},
    )
    assert [row.number for row in history.rows] == [2]
    assert history.read == 7
    assert [flaw.number for flaw in history.skipped.named] == [1, 3, 4, 5, 6, 7]
    reasons = [flaw.reason for flaw in history.skipped.named]
    assert reasons[0] == "no product_id"
    assert reasons[1] == "no event_time"
    assert reasons[2].startswith("not JSON")
    assert reasons[3] == "event_time 'soon' is no time that can be read"
    assert reasons[4] == "not a JSON object"
    assert reasons[5] == "event_time -5 is no time of 1970 to 9999"


def test_a_row_with_no_text_is_sent_for_the_worker_to_refuse() -> None:
    (row,) = amazon(
        {name: value for name, value in AMAZON.items() if name not in ("reviewText", "summary")}
    ).rows
    (verdict,) = check("reviews", [encode_row(row)], JAN_17_MS, Limits())
    assert str(verdict) == "the text is empty"


def test_ids_are_the_same_at_every_replay_and_differ_between_reviews() -> None:
    rows = [
        AMAZON,
        AMAZON | {"reviewText": "Other."},
        AMAZON | {"reviewerID": "A4"},
        AMAZON | {"summary": ""},
    ]
    first, again = amazon(*rows), amazon(*rows)
    ids = [row.fields["event_id"] for row in first.rows]
    assert ids == [row.fields["event_id"] for row in again.rows]
    assert len(set(ids)) == 4


def test_repeats_within_a_file_share_their_id_and_are_counted() -> None:
    history = amazon(AMAZON, AMAZON, AMAZON | {"asin": "B2"})
    assert (len(history.rows), history.repeats, history.products) == (3, 1, 2)


def test_a_shift_moves_the_time_and_keeps_the_id() -> None:
    (row,) = amazon(AMAZON).rows
    plain, shifted = json.loads(encode_row(row)), json.loads(encode_row(row, 3_600_000))
    assert plain["event_id"] == shifted["event_id"]
    assert parse_time(shifted["event_time"]) - parse_time(plain["event_time"]) == 3_600_000


def test_a_csv_with_other_names_is_mapped() -> None:
    history = from_csv(
        'sku,when,body,stars\nB1,2024-01-17,"Fine, mostly",4.0 out of 5 stars\n',
        "product_id=sku",
        "event_time=when",
        "text=body",
        "rating=stars",
    )
    (row,) = history.rows
    assert (row.product_id, row.event_ms, row.fields["text"], row.fields["rating"]) == (
        "B1",
        JAN_17_MS,
        "Fine, mostly",
        4.0,
    )


def test_a_csv_without_a_needed_column_names_what_it_has() -> None:
    with pytest.raises(UsageError, match=r"text \('text'\); its columns are product_id, event_time"):
        from_csv("product_id,event_time\nB1,1\n")


@pytest.mark.parametrize("given", ["text", "text=", "stars=rating", "=x"])
def test_a_wrong_column_option_lists_the_fields(given: str) -> None:
    with pytest.raises(UsageError, match="event_id, product_id"):
        column_map("csv", "reviews", [given])


def test_an_event_id_column_counts() -> None:
    history = from_csv("event_id,product_id,event_time,text\nmine,B1,1,x\n")
    assert history.rows[0].fields["event_id"] == "mine"


def test_optional_values_that_do_not_fit_are_left_out_and_counted() -> None:
    history = amazon(AMAZON | {"overall": "five", "reviewerID": "x" * 300}, AMAZON | {"overall": 99})
    assert history.left_out == {"rating": 2, "author_id": 1}
    assert "author_id" not in history.rows[0].fields
    assert check("reviews", [encode_row(row) for row in history.rows], JAN_17_MS, Limits()) == [
        "B0000530HU",
        "B0000530HU",
    ]


def test_a_wrong_role_is_left_to_the_workers_verdict() -> None:
    history = read_history(
        io.BytesIO(b"product_id,event_time,text,role,conversation_id\nB1,1,x,bot,7\n"),
        "csv",
        column_map("csv", "chats", []),
        "chats",
    )
    (verdict,) = check("chats", [encode_row(history.rows[0])], JAN_17_MS, Limits())
    assert "bot" in str(verdict)


def test_a_lone_surrogate_travels_to_the_workers_verdict() -> None:
    (row,) = from_csv("product_id,event_time,text\nB1,1,x\n").rows
    row.fields["text"] = "\ud800"
    (verdict,) = check("reviews", [encode_row(row)], JAN_17_MS, Limits())
    assert "surrogate" in str(verdict)


@pytest.mark.parametrize(
    "written",
    [
        "Reviewed in the United States on January 17, 2024",
        "Reviewed in Canada on 17 January 2024",
        "Jan 17, 2024",
        "01 17, 2024",
        "1/17/2024",
        "2024-01-17",
        "2024-01-17T01:00:00+01:00",
        "2024-01-17 00:00:00",
        "1705449600",
        1_705_449_600_000,
        1_705_449_600.0,
    ],
)
def test_times_as_shops_write_them_are_read(written: object) -> None:
    assert parse_time(written) == JAN_17_MS


@pytest.mark.parametrize(
    "written", [None, "", "soon", [], {}, "nan", "inf", -1, 1e300, 10**400, "31 February 2024", "1969-12-31"]
)
def test_what_is_no_time_is_a_value_error(written: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_time(written)


def test_a_date_of_1970_is_a_date() -> None:
    """The message of a failed ``float`` quotes the text: it must not be taken for one about the range."""
    assert parse_time("1970-01-02T00:00:00+00:00") == parse_time("January 2, 1970") == 86_400_000


@given(st.datetimes(datetime(1970, 1, 2), datetime(9998, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_rfc3339_time_is_read_to_the_millisecond(moment: datetime) -> None:
    exact = (moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1)
    assert abs(parse_time(moment.isoformat()) - exact) <= 1


@given(st.text(max_size=40))
def test_no_text_breaks_the_time_or_the_rating(text: str) -> None:
    for parse in (parse_time, parse_rating):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - either outcome is right


def test_speed_paces_by_event_time() -> None:
    waits: list[float] = []
    now_s = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now_s
        waits.append(seconds)
        now_s += seconds

    history = amazon(*(AMAZON | {"unixReviewTime": second} for second in (1_000, 1_010, 1_010, 1_060)))
    sent = send_history(history, "reviews", Collected(), speed=10.0, clock=lambda: now_s, sleep=sleep)
    assert sent == 4
    assert waits == pytest.approx([1.0, 5.0])


def test_max_speed_never_sleeps_and_flushes_once() -> None:
    sender = Collected()
    history = amazon(*(AMAZON | {"unixReviewTime": second} for second in range(1, 600)))
    seen: list[int] = []

    def sleep(seconds: float) -> None:
        raise AssertionError(seconds)

    assert send_history(history, "reviews", sender, sleep=sleep, on_sent=seen.append) == 599
    assert (len(sender.values), sender.flushes, seen) == (599, 1, [256, 512, 599])


def test_sending_stops_when_kafka_gives_up() -> None:
    sender = Collected(fails_at=1)
    history = amazon(*([AMAZON] * (3 * SEND_CHUNK)))
    assert send_history(history, "reviews", sender) == SEND_CHUNK
    assert sender.flushes == 1


def test_an_empty_history_sends_nothing() -> None:
    assert send_history(History(), "reviews", Collected()) == 0
