"""Tables as teams have them: CSV, TSV, JSON lines, Parquet, each also gzipped.

Rules:
- The format is by the name's ending (``.gz`` aside); gzip is known by its first bytes.
- What is wrong is said with file and line, and what is there instead. Nothing is guessed: a row of four
  fields under a header of three is an error, not a row that was shifted.
- Only the columns asked for are kept.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import msgspec

from stream.errors import UsageError
from stream.reading import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
FIELD_BYTES = 4 * 1024 * 1024
"""Longest CSV field; Python's own bound of 128 KiB is below what reviews reach."""


class Row(NamedTuple):
    """One row of a table."""

    file: str
    line: int
    """Line of the file where the row ends; of a Parquet file, the row. From 1."""
    values: dict[str, Any]
    """By column; one that the row does not have is missing."""


class Dialect(NamedTuple):
    """How text files are written."""

    encoding: str = "utf-8"
    delimiter: str = ""
    """Between the fields; by default a comma in CSV and a tab in TSV."""


def read_table(file: Path, wanted: Mapping[str, str], dialect: Dialect | None = None) -> list[Row]:
    """Rows of a table, with the columns wanted.

    Args:
        file: CSV, TSV, JSON lines or Parquet.
        wanted: name of each column, by the option that asked for it (for the message that it is missing).
        dialect: how CSV, TSV and JSON lines are written.

    Raises:
        UsageError: the file cannot be read, is empty, or lacks a column.
    """
    dialect = dialect or Dialect()
    name = file.name.removesuffix(".gz")
    format_ = FORMATS.get(Path(name).suffix.lower())
    if format_ is None:
        raise UsageError(
            f"{file}: the name's ending does not say what it is; wanted one of {', '.join(FORMATS)}, "
            "each also with .gz."
        )
    with open_file(str(file)) as opened:
        if format_ == "parquet":
            return _parquet(file, opened.lines, wanted)
        try:
            if format_ == "jsonl":
                return _json_lines(file, opened.lines, wanted)
            return _delimited(file, opened.lines, wanted, dialect, "\t" if format_ == "tsv" else ",")
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{file} is not {dialect.encoding}: byte 0x{error.object[error.start]:02x} ({error.reason}); "
                "say what it is with --encoding (gb18030, cp1252, utf-16), or save it as UTF-8."
            ) from None
        except UnicodeError as error:
            raise UsageError(
                f"{file} is not {dialect.encoding}: {error}; name the order of its bytes, utf-16-le or "
                "utf-16-be, with --encoding."
            ) from None
        except LookupError:
            raise UsageError(f"There is no encoding {dialect.encoding!r}; wanted utf-8, gb18030.") from None


def _delimited(
    file: Path, lines: BinaryIO, wanted: Mapping[str, str], dialect: Dialect, usual: str
) -> list[Row]:
    delimiter = dialect.delimiter or usual
    if len(delimiter) != 1:
        raise UsageError(f"The delimiter {delimiter!r} is not one character.")
    csv.field_size_limit(FIELD_BYTES)
    # Excel begins UTF-8 with a byte order mark, which would become part of the first column's name.
    encoding = (
        "utf-8-sig" if dialect.encoding.lower().replace("_", "-") in {"utf-8", "utf8"} else dialect.encoding
    )
    text = io.TextIOWrapper(lines, encoding, newline="")
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not any(header):
            raise UsageError(f"{file} is empty: it has no line with the columns' names.")
        _check_header(file, header, wanted, delimiter)
        places = [(at, name) for at, name in enumerate(header) if name in set(wanted.values())]
        for fields in reader:
            if not fields:
                continue
            if len(fields) != len(header):
                raise UsageError(
                    f"{file}, line {reader.line_num}: {len(fields)} fields under a header of {len(header)}; "
                    "a text that holds the delimiter or a line break must stand in quotes."
                )
            rows.append(Row(str(file), reader.line_num, {name: fields[at] for at, name in places}))
    except csv.Error as error:
        raise UsageError(
            f"{file}, line {reader.line_num}: {error}; a quote inside a quoted text is written twice."
        ) from None
    finally:
        text.detach()  # or closing the text would close what the caller opened
    return _not_empty(file, rows)


def _check_header(file: Path, header: Sequence[str], wanted: Mapping[str, str], delimiter: str) -> None:
    for name in header:
        if header.count(name) > 1 and name in wanted.values():
            raise UsageError(f"{file} has two columns named {name!r}; rename one.")
    if len(header) == 1 and wanted:
        for other, said in ((";", "';'"), ("\t", "a tab"), (",", "a comma"), ("|", "'|'")):
            if other in header[0] and other != delimiter:
                raise UsageError(
                    f"{file} has one column, {header[0]!r}: its delimiter seems to be {said}; "
                    "name it with --delimiter."
                )
    check_columns(file, header, wanted)


def _json_lines(file: Path, lines: BinaryIO, wanted: Mapping[str, str]) -> list[Row]:
    decode = msgspec.json.Decoder().decode
    names = set(wanted.values())
    seen: dict[str, None] = {}
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if number == 1 and line.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
            raise UsageError(
                f"{file} is one JSON array; wanted JSON lines, one object a line: `jq -c '.[]' {file.name}`."
            )
        if not line.strip():
            continue
        try:
            value = decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except UnicodeDecodeError:
            raise UsageError(f"{file}, line {number}: not UTF-8, which JSON is written in.") from None
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(f"{file}, line {number}: not JSON ({error}).") from None
        if not isinstance(value, dict):
            raise UsageError(f"{file}, line {number}: wanted a JSON object, found {_kind(value)}.")
        seen.update(dict.fromkeys(value))
        rows.append(Row(str(file), number, {key: value[key] for key in names & value.keys()}))
    _not_empty(file, rows)
    check_columns(file, seen, wanted)
    return rows


def _parquet(file: Path, content: BinaryIO, wanted: Mapping[str, str]) -> list[Row]:
    from pyarrow import ArrowException, BufferReader
    from pyarrow.parquet import ParquetFile

    try:
        opened = ParquetFile(BufferReader(content.read()))
        check_columns(file, opened.schema_arrow.names, wanted)
        names = sorted(set(wanted.values()))
        numbers = range(1, opened.metadata.num_rows + 1)
        columns = [opened.read(columns=[name]).column(0).to_pylist() for name in names]
    except (ArrowException, OSError) as error:
        raise UsageError(f"{file} is not a Parquet file that can be read: {error}.") from None
    rows = zip(numbers, *columns, strict=True)
    return _not_empty(
        file, [Row(str(file), number, dict(zip(names, row, strict=True))) for number, *row in rows]
    )


def check_columns(file: Path, there: Iterable[str], wanted: Mapping[str, str]) -> None:
    """Looks for the columns wanted.

    Raises:
        UsageError: some are missing; the message names those that are there.
    """
    there = list(there)
    missing = [f"{name!r} (--{option})" for option, name in wanted.items() if name not in there]
    if missing:
        raise UsageError(
            f"{file} has no column {', '.join(missing)}; there are {', '.join(map(repr, there)) or 'none'}."
        )


def _not_empty(file: Path, rows: list[Row]) -> list[Row]:
    if not rows:
        raise UsageError(f"{file} is empty: it has no rows.")
    return rows


def _kind(value: Any) -> str:
    kinds = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
