"""Labelled incidents, from a file.

Rules:
- CSV with a header, or JSON lines where the first character says so; gzip or not.
- A labelled incident of a product that the history does not have is a mistake worth stopping for: the recall
  would be of another history.
"""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.backtest import Window
from stream.core.events import CHANNELS
from stream.errors import UsageError
from stream.reading import open_file
from stream.replay import parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from stream.core.events import Channel

COLUMNS = ("product_id", "start", "end")
NAMED = 5


def read_windows(file: str, channel: Channel, products: Collection[str]) -> list[Window]:
    """Windows of a file, without those of the other channel.

    Args:
        file: its name.
        channel: what is replayed.
        products: of the history.

    Raises:
        UsageError: it cannot be read, a row is none, or a product is not in the history.
    """
    windows = []
    for number, row in _rows(file):
        try:
            windows.append(_window(row))
        except ValueError as error:
            raise UsageError(f"{file}, row {number}: {error}.") from None
    here = [window for window in windows if window.channel in (None, channel)]
    if not here:
        raise UsageError(f"{file} labels no incident on {channel}; a row has {', '.join(COLUMNS)}.")
    strange = sorted({window.product_id for window in here} - set(products))
    if strange:
        more = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
        raise UsageError(
            f"{file} labels products that the history does not have: {', '.join(strange[:NAMED])}{more}."
            " Name the labels of this history, or take their rows out."
        )
    return here


def _rows(file: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    with open_file(file) as opened:
        try:
            text = opened.lines.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{file} is not UTF-8 ({error.reason}): save it as UTF-8.") from error
    if text.lstrip().startswith("{"):
        yield from _json_rows(file, text)
        return
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise UsageError(
            f"{file} has no column {', '.join(missing)}: labels are CSV with {', '.join(COLUMNS)} and perhaps"
            " channel, or JSON lines with the same names."
        )
    yield from enumerate(reader, start=1)


def _json_rows(file: str, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line, type=dict[str, Any])
        except (ValueError, RecursionError) as error:
            raise UsageError(f"{file}, row {number}: no JSON object ({error}).") from None
        yield number, row


def _window(row: Mapping[str, Any]) -> Window:
    product_id, channel = row.get("product_id"), row.get("channel") or None
    if not isinstance(product_id, str) or not product_id:
        raise ValueError("no product_id")
    if channel is not None and channel not in CHANNELS:
        raise ValueError(f"channel is {channel!r}; write {' or '.join(CHANNELS)}, or leave it out")
    start_ms, end_ms = (_moment(row, name) for name in ("start", "end"))
    if start_ms > end_ms:
        raise ValueError("start is after end")
    return Window(product_id, channel, start_ms, end_ms)


def _moment(row: Mapping[str, Any], name: str) -> int:
    try:
        return parse_time(row.get(name))
    except ValueError:
        raise ValueError(f"{name} is {row.get(name)!r}, no time that can be read") from None
