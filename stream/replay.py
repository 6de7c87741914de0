"""Replays real history as events, in the order it happened.

Rules:
- The whole file is read and sorted by event time before anything is sent (about 1 KB a row, so a million
  rows take a gigabyte): a worker judges spikes in the order events arrive.
- A row with no product, or with no time that can be read, cannot be placed: it is named and not sent.
- Everything else is sent as it is. A row with an empty text becomes a dead letter whose reason the worker
  gives, so that what was sent adds up to what was counted plus what was refused.
- Optional columns that an event may not carry (a rating of "five", an author's name of 300 characters) are
  left out, and counted, rather than losing the review to them.
- Without a column for it, an event's id is a hash of product, author, time, title and text: replaying a file
  twice makes the same ids, and the repeats within a file share theirs.
- Dates without a time of day are midnight UTC; those of equal time keep the file's order.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

import msgspec

from stream.core.events import EVENT_TYPES, event_time_ms, rfc3339
from stream.errors import UsageError
from stream.reading import Flaws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from stream.core.events import Channel
    from stream.ingest import Sender

Format = Literal["amazon", "csv", "jsonl"]

AMAZON_COLUMNS = {
    "product_id": "asin",
    "event_time": "unixReviewTime",
    "author_id": "reviewerID",
    "rating": "overall",
    "title": "summary",
    "text": "reviewText",
}
"""Columns of the Amazon review data (McAuley, 2014 and 2018), JSON lines or CSV."""

REQUIRED = ("product_id", "event_time", "text")
ROW_BYTES = 4 * 1024 * 1024
"""Longest CSV field read; Python's own bound of 128 KiB is below what reviews reach."""

SEND_CHUNK = 256
"""Events between two looks at what is lost and at the clock."""


class Row(NamedTuple):
    """A row that can be sent."""

    event_ms: int
    number: int
    product_id: str
    fields: dict[str, Any]
    """Of the event, all but its time."""
    beside: Mapping[str, Any] = MappingProxyType({})
    """Columns of the file that are none of an event's, where the reader asked for them."""


@dataclass
class History:
    """A file, read and sorted."""

    rows: list[Row] = field(default_factory=list)
    read: int = 0
    """Rows in the file."""
    skipped: Flaws = field(default_factory=Flaws)
    """Rows that cannot be sent."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Optional fields left out, by name."""

    @property
    def products(self) -> int:
        """How many products the rows are of."""
        return len({row.product_id for row in self.rows})

    @property
    def repeats(self) -> int:
        """Rows whose event id another row before them has."""
        return len(self.rows) - len({row.fields["event_id"] for row in self.rows})


def column_map(format_: Format, channel: Channel, given: Sequence[str]) -> dict[str, str]:
    """Which column of the file each field of the event comes from.

    Args:
        format_: the file's format.
        channel: which event type it becomes.
        given: ``field=column`` each; they win over the format's own.

    Raises:
        UsageError: one is not of that form, or names a field that events do not have.

    >>> column_map("csv", "reviews", ["text=review_content"])["text"]
    'review_content'
    """
    known = EVENT_TYPES[channel].__struct_fields__
    columns = {name: name for name in known}
    if format_ == "amazon":
        columns |= AMAZON_COLUMNS
    for each in given:
        name, separator, column = each.partition("=")
        if not separator or not column or name not in known:
            raise UsageError(
                f"--column {each}: write FIELD=COLUMN, with a field of {channel}: {', '.join(known)}."
            )
        columns[name] = column
    return columns


def read_history(
    file: BinaryIO,
    format_: Format,
    columns: Mapping[str, str],
    channel: Channel,
    *,
    name: str = "",
    beside: Sequence[str] = (),
) -> History:
    """Reads a file and sorts it by event time.

    Args:
        file: its bytes, unpacked.
        format_: how it is written. ``amazon`` is JSON lines, or CSV where ``name`` says so.
        columns: from ``column_map``.
        channel: which event type it becomes.
        name: of the file.
        beside: columns to keep beside the event's own.

    Raises:
        UsageError: it has no column for a field every event needs, or is no CSV.
    """
    as_csv = format_ == "csv" or (format_ == "amazon" and ".csv" in name.lower())
    history = History()
    for number, source in _csv_rows(file, columns) if as_csv else _json_rows(file):
        history.read += 1
        if isinstance(source, str):
            history.skipped.add(number, source)
            continue
        try:
            row = _row(number, source, columns, channel, history.left_out)
        except ValueError as error:
            history.skipped.add(number, str(error))
        else:
            if beside:
                row = row._replace(beside={each: source[each] for each in beside if each in source})
            history.rows.append(row)
    history.rows.sort(key=lambda row: row.event_ms)
    return history


def send_history(
    history: History,
    channel: Channel,
    sender: Sender,
    *,
    shift_ms: int = 0,
    speed: float | None = None,
    on_sent: Callable[[int], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Sends the rows in order and waits for their acknowledgement.

    Args:
        history: what to send.
        channel: where to.
        sender: takes the events.
        shift_ms: added to every event time.
        speed: how many seconds of history pass in one; None for as fast as Kafka takes them.
        on_sent: called with the number sent so far, every now and then.
        clock: seconds, for pacing.
        sleep: waits so many seconds.

    Returns:
        How many were sent.

    Raises:
        DependencyError: Kafka took no more.
    """
    started_s = clock()
    first_ms = history.rows[0].event_ms if history.rows else 0
    sent = 0
    for row in history.rows:
        if speed is not None:
            ahead_s = (row.event_ms - first_ms) / 1000 / speed - (clock() - started_s)
            if ahead_s > 0:
                on_sent(sent)
                sleep(ahead_s)
        sender.send_encoded(channel, row.product_id, encode_row(row, shift_ms))
        sent += 1
        if sent % SEND_CHUNK == 0:
            on_sent(sent)
            if sender.lost:
                break
    on_sent(sent)
    sender.flush()
    return sent


def encode_row(row: Row, shift_ms: int = 0) -> bytes:
    """A row as the event that is sent.

    >>> encode_row(Row(0, 1, "p", {"event_id": "e", "text": "Fine."}), shift_ms=1000)
    b'{"event_id":"e","text":"Fine.","event_time":"1970-01-01T00:00:01.000Z"}'
    """
    fields = {**row.fields, "event_time": rfc3339(row.event_ms + shift_ms)}
    try:
        return msgspec.json.encode(fields)
    except UnicodeEncodeError:  # a lone surrogate: only \\u escapes can carry it to the worker's verdict
        return json.dumps(fields).encode()


_IN_WORDS = ("%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%m %d, %Y", "%Y/%m/%d", "%m/%d/%Y")
_AFTER_ON = re.compile(r"^Reviewed in .* on (.+)$")


def parse_time(value: Any) -> int:
    """Milliseconds since the epoch of a time as shops write it.

    Numbers (seconds, or milliseconds from 1e11 on), ISO 8601 and RFC 3339, ``January 17, 2024``,
    ``17 January 2024``, ``01 17, 2024``, ``1/17/2024`` and Amazon's ``Reviewed in the United States on
    January 17, 2024``.

    Raises:
        ValueError: it is none of these.

    >>> parse_time("Reviewed in the United States on January 17, 2024")
    1705449600000
    >>> parse_time("2024-01-17") == parse_time(1705449600) == parse_time("1705449600.0")
    True
    """
    if value is None or value == "":
        raise ValueError("no event_time")
    try:
        number: float | None = float(value)
    except OverflowError:  # an integer beyond every double
        number = math.inf
    except (TypeError, ValueError):
        number = None
    if number is not None:
        try:
            return event_time_ms(number)
        except ValueError:
            raise ValueError(f"event_time {_shown(value)} is no time of 1970 to 9999") from None
    text = value.strip() if isinstance(value, str) else ""
    if after_on := _AFTER_ON.match(text):
        text = after_on[1]
    moment = _moment(text)
    if moment is None:
        raise ValueError(f"event_time {_shown(value)} is no time that can be read")
    return event_time_ms(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def parse_rating(value: Any) -> float:
    """The number a rating begins with.

    Raises:
        ValueError: it begins with none.

    >>> parse_rating("5.0 out of 5 stars"), parse_rating(4)
    (5.0, 4.0)
    """
    if isinstance(value, int | float):
        return float(value)
    found = re.match(r"\s*(\d+(?:[.,]\d+)?)", str(value))
    if not found:
        raise ValueError("no number")
    return float(found[1].replace(",", "."))


def stable_id(*parts: str) -> str:
    """An event id that the same event always gets: 128 bits of BLAKE2b, in hex.

    >>> stable_id("B001", "ann", "0", "", "Good.") == stable_id("B001", "ann", "0", "", "Good.")
    True
    >>> stable_id("ab", "c") == stable_id("a", "bc")
    False
    """
    joined = json.dumps(parts).encode()  # escapes lone surrogates, keeps the parts apart
    return hashlib.blake2b(joined, digest_size=16).hexdigest()


def _moment(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    for form in _IN_WORDS:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _csv_rows(file: BinaryIO, columns: Mapping[str, str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    csv.field_size_limit(ROW_BYTES)
    # "replace": a stray byte costs one character, not the file.
    text = io.TextIOWrapper(file, "utf-8-sig", errors="replace", newline="")
    reader = csv.DictReader(text)
    try:
        header = reader.fieldnames or []
    except csv.Error as error:
        raise UsageError(f"This is no CSV file: {error}.") from error
    _need_columns(header, columns)
    number = 0
    while True:
        number += 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield number, f"no CSV row: {error}"
            continue
        if row is None:
            return
        yield number, row


def _need_columns(header: Sequence[str], columns: Mapping[str, str]) -> None:
    missing = [name for name in REQUIRED if columns[name] not in header]
    if missing:
        raise UsageError(
            "The file has no column for "
            + ", ".join(f"{name} ({columns[name]!r})" for name in missing)
            + f"; its columns are {', '.join(header) or 'none'}. Say which it is with --column FIELD=COLUMN."
        )


def _json_rows(file: BinaryIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    decode = msgspec.json.decode
    for number, line in enumerate(file, start=1):
        stripped = line.strip()
        if not stripped:
            continue
        try:
            row = decode(stripped)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else "not a JSON object"


def _row(
    number: int,
    source: Mapping[str, Any],
    columns: Mapping[str, str],
    channel: Channel,
    left_out: Counter[str],
) -> Row:
    given = {name: source.get(column) for name, column in columns.items()}
    product_id = _as_text(given.pop("product_id")).strip()
    if not product_id:
        raise ValueError("no product_id")
    event_ms = parse_time(given.pop("event_time"))
    text = _as_text(given.pop("text"))
    event_id = _as_text(given.pop("event_id", None))
    author, title = _as_text(given.get("author_id")), _as_text(given.get("title"))
    fields: dict[str, Any] = {
        "event_id": event_id or stable_id(product_id, author, str(event_ms), title, text),
        "product_id": product_id,
        "text": text,
    }
    for name, value in given.items():
        if value is None or value == "":
            continue
        try:
            fields[name] = _as_field(channel, name, value)
        except ValueError:
            left_out[name] += 1
    return Row(event_ms, number, product_id, fields)


def _as_field(channel: Channel, name: str, value: Any) -> Any:
    """The value as the event type wants it; one that every event needs is left to the worker's verdict.

    Raises:
        ValueError: it cannot be that.
    """
    wanted = parse_rating(value) if name == "rating" else _as_text(value)
    spec = _FIELDS[channel][name]
    return wanted if spec.required else msgspec.convert(wanted, spec.type)


_FIELDS = {
    channel: {each.name: each for each in msgspec.structs.fields(struct)}
    for channel, struct in EVENT_TYPES.items()
}


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
