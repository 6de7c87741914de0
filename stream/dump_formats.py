"""Tables as CSV, Parquet or JSON lines, written row by row.

Rules:
- A CSV is RFC 4180 in UTF-8: a header, CRLF, quotes where needed. A null is an empty cell, a time RFC 3339 in
  UTC, a list JSON. Ids and texts are hostile: spreadsheets take what begins with one of ``= + - @``, a tab or
  a line end for a formula. Such a text gets an apostrophe before it, and so does one that begins with an
  apostrophe; whoever reads the file takes one leading apostrophe off every text (``plain``). Numbers are
  written as they are, negative ones too.
- Parquet has typed columns: times as milliseconds in UTC, lists of structs as such.
- A file is there whole, or as it was before.
"""

from __future__ import annotations

import csv
import io
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from itertools import islice
from typing import IO, TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar, get_args

import msgspec

from stream.errors import UsageError
from stream.pages import visible
from stream.writing import fresh_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

Format = Literal["csv", "parquet", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)

ROWS_A_GROUP = 10_000
"""Of Parquet: about a megabyte, held until it is written."""
FORMULA_STARTS = "=+-@\t\r\n"
"""What makes a spreadsheet take a cell for a formula (OWASP, CSV injection)."""

Kind = Literal["text", "whole", "real", "flag", "time", "list"]

R = TypeVar("R")


class Column(NamedTuple, Generic[R]):
    """A column: what it is called, what it holds, and where that is in a row."""

    name: str
    kind: Kind
    of: Callable[[R], Any]
    fields: Mapping[str, Kind] = {}
    """Of each item of a list."""


def write(rows: Iterable[R], columns: Sequence[Column[R]], file: Path | None, format_: Format) -> int:
    """Writes a table.

    Args:
        rows: read while they are written.
        columns: of the table.
        file: where to; None for standard output.
        format_: which.

    Returns:
        How many rows.

    Raises:
        UsageError: Parquet, and pyarrow is not installed.
        OSError: the file cannot be written; what was there stays.
    """
    writer = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}[format_]
    if format_ == "parquet":
        _pyarrow()  # before anything is read
    if file is not None:
        with fresh_file(file) as fresh, fresh.open("wb") as opened:
            return writer(rows, columns, opened)
    if format_ != "parquet":
        out: Any = _Terminal() if sys.stdout.isatty() else sys.stdout.buffer
        return writer(rows, columns, out)
    with tempfile.TemporaryFile() as whole:  # a pipe does not tell how far it is, which Parquet must know
        written = writer(rows, columns, whole)
        whole.seek(0)
        shutil.copyfileobj(whole, sys.stdout.buffer)
    return written


class _Terminal(io.RawIOBase):
    """Standard output where a person reads it: what a terminal might obey is written out."""

    def writable(self) -> bool:
        return True

    def write(self, written: Any) -> int:
        text = bytes(written).decode().replace("\r\n", "\n")
        sys.stdout.write(visible(text))
        return len(written)


def write_csv(rows: Iterable[R], columns: Sequence[Column[R]], out: IO[bytes]) -> int:
    """Writes the rows as CSV; see the rules above."""
    text = io.TextIOWrapper(out, "utf-8", newline="", write_through=False)
    lines = csv.writer(text, lineterminator="\r\n")
    lines.writerow([column.name for column in columns])
    written = 0
    for row in rows:
        lines.writerow([_cell(column.of(row)) for column in columns])
        written += 1
    text.flush()
    text.detach()
    return written


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return _moment(value)
    if isinstance(value, int | float):
        return repr(value)
    return msgspec.json.encode(value).decode()


def harmless(text: str) -> str:
    """A text as a cell that no spreadsheet takes for a formula.

    >>> harmless("=1+1"), harmless(" @x"), harmless("'quoted'"), harmless("ordinary")
    ("'=1+1", "' @x", "''quoted'", 'ordinary')
    """
    begins = text.lstrip(" ")[:1]  # some readers drop blanks first
    return f"'{text}" if text.startswith("'") or (begins and begins in FORMULA_STARTS) else text


def plain(cell: str) -> str:
    """What ``harmless`` was given.

    >>> plain(harmless("=1+1")), plain(harmless("'quoted'")), plain("ordinary")
    ('=1+1', "'quoted'", 'ordinary')
    """
    return cell.removeprefix("'")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_jsonl(rows: Iterable[R], columns: Sequence[Column[R]], out: IO[bytes]) -> int:
    """Writes a line of JSON a row: a struct as it is, else an object of the columns."""
    encoder = msgspec.json.Encoder()
    written = 0
    for row in rows:
        shown: Any = row
        if not isinstance(row, msgspec.Struct):
            shown = {column.name: column.of(row) for column in columns}
            for name, value in shown.items():
                if isinstance(value, datetime):
                    shown[name] = _moment(value)
        out.write(encoder.encode(shown) + b"\n")
        written += 1
    return written


def write_parquet(rows: Iterable[R], columns: Sequence[Column[R]], out: IO[bytes]) -> int:
    """Writes the rows as Parquet, in groups of ``ROWS_A_GROUP``.

    Raises:
        UsageError: pyarrow is not installed.
    """
    pyarrow, parquet = _pyarrow()
    schema = _schema(pyarrow, columns)
    written = 0
    with parquet.ParquetWriter(out, schema, compression="zstd") as writer:
        waiting = iter(rows)
        while group := list(islice(waiting, ROWS_A_GROUP)):
            held = {column.name: [column.of(row) for row in group] for column in columns}
            writer.write_table(pyarrow.table(held, schema=schema))
            written += len(group)
    return written


def _schema(pyarrow: Any, columns: Sequence[Column[R]]) -> Any:
    kinds: Mapping[Kind, Any] = {
        "text": pyarrow.string(),
        "whole": pyarrow.int64(),
        "real": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "time": pyarrow.timestamp("ms", tz="UTC"),
    }

    def type_of(column: Column[R]) -> Any:
        if column.kind != "list":
            return kinds[column.kind]
        item = [(name, kinds[kind]) for name, kind in column.fields.items()]
        return pyarrow.list_(pyarrow.struct(item))

    return pyarrow.schema([(column.name, type_of(column)) for column in columns])


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  # an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise UsageError(
            "Parquet needs pyarrow: `pip install 'reviewpulse[parquet]'`, or take --format csv or jsonl."
        ) from None
    return pa, parquet
