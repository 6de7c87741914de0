"""What is dumped comes back as it was, whoever reads it."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.client.counts import ProductCounts
from stream.core.events import Alert, Quote, rfc3339
from stream.core.phrases import Phrase
from stream.core.summary import Said
from stream.dump import ALERTS, COUNTERS, CountsRow
from stream.dump_formats import FORMULA_STARTS, harmless, plain, write, write_csv, write_jsonl, write_parquet
from stream.errors import UsageError
from tests.builders import NOW_MS, alert

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AS_OF = datetime.fromtimestamp(NOW_MS / 1000, UTC)
HOSTILE = (
    '=HYPERLINK("https://evil.example","x")',
    "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "  =1", "'=1", "'", "''",
    '<script>alert("x")</script>', 'a,"b"\r\nc', "\u202etxt.exe", "👍🏽", "你好世界", "\x00\x1b[31m",
    "=" + "x" * 9_999, "", "-", "B00004TZTZ",
)  # fmt: skip


def row(product_id: str, **fields: Any) -> CountsRow:
    fields = {"late": 2, "first_event_ms": 1, "last_event_ms": NOW_MS, **fields}
    return CountsRow(AS_OF, "kettles", ProductCounts.of(product_id, "1h", (3, 1, 6, -2_500), **fields))


def written(writer: Any, rows: list[Any], columns: Any) -> bytes:
    out = io.BytesIO()
    assert writer(rows, columns, out) == len(rows)
    return out.getvalue()


def hostile_alert(text: str) -> Alert:
    return alert(
        product_id=text or "x",
        category=text,
        quotes=[Quote(event_id="1", text=text, p_negative=0.9, event_time=rfc3339(NOW_MS))],
        phrases=[Phrase(text, 3, 0.5)],
        summary=[Said(text, 2)],
    )


@given(st.text())
def test_a_cell_gives_its_text_back_and_begins_no_formula(text: str) -> None:
    cell = harmless(text)
    assert plain(cell) == text
    assert not cell.lstrip(" ").startswith(tuple(FORMULA_STARTS))


def test_a_csv_comes_back_with_hostile_ids_as_they_were() -> None:
    raw = written(write_csv, [row(each) for each in HOSTILE], COUNTERS)
    header, *lines = csv.reader(io.StringIO(raw.decode(), newline=""))
    assert header[:4] == ["as_of", "product_id", "category", "window"]
    assert [plain(line[1]) for line in lines] == list(HOSTILE)
    assert not any(line[1].lstrip(" ").startswith(tuple(FORMULA_STARTS)) for line in lines)


def test_a_csv_line_is_as_the_rfc_says_and_numbers_stay_numbers() -> None:
    raw = written(write_csv, [row("-kettle"), row('a "b"', first_event_ms=None)], COUNTERS)
    assert raw.decode().split("\r\n")[1:] == [
        "2023-11-14T22:13:20.000Z,'-kettle,kettles,1h,3,1,6,10,0.3,-0.25,2,1970-01-01T00:00:00.001Z,2023-11-14T22:13:20.000Z",
        '2023-11-14T22:13:20.000Z,"a ""b""",kettles,1h,3,1,6,10,0.3,-0.25,2,,2023-11-14T22:13:20.000Z',
        "",
    ]


def test_a_csv_of_alerts_holds_their_evidence_as_json() -> None:
    rows = [hostile_alert(each) for each in HOSTILE]
    raw = written(write_csv, rows, ALERTS)
    for line, was in zip(csv.DictReader(io.StringIO(raw.decode(), newline="")), rows, strict=True):
        assert plain(line["product_id"]) == was.product_id
        assert msgspec.json.decode(line["phrases"], type=list[Phrase]) == was.phrases
        assert msgspec.json.decode(line["summary"], type=list[Said]) == was.summary
        assert msgspec.json.decode(line["quotes"])[0]["text"] == was.quotes[0].text
        assert float(line["current_low"]) == was.current_interval[0]
        assert line["historic"] == "false"


def test_parquet_comes_back_typed_with_times_in_utc() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(io.BytesIO(written(write_parquet, [row(each) for each in HOSTILE], COUNTERS)))
    assert table.column("product_id").to_pylist() == list(HOSTILE)  # nothing to neutralise: no spreadsheet
    assert {str(each) for each in table.schema.types} == {
        "timestamp[ms, tz=UTC]",
        "string",
        "int64",
        "double",
    }
    assert table.column("last_event_time").to_pylist()[0] == AS_OF
    rows = [hostile_alert(each) for each in HOSTILE]
    table = parquet.read_table(io.BytesIO(written(write_parquet, rows, ALERTS)))
    assert [each[0]["text"] for each in table.column("quotes").to_pylist()] == list(HOSTILE)
    assert table.column("quotes").to_pylist()[0][0]["event_time"] == AS_OF
    assert table.column("onset").to_pylist()[0] == datetime(2024, 1, 17, 9, tzinfo=UTC)


def test_an_empty_table_has_its_columns() -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert parquet.read_table(io.BytesIO(written(write_parquet, [], ALERTS))).num_columns == len(ALERTS)
    assert written(write_csv, [], COUNTERS).startswith(b"as_of,product_id,")


def test_json_lines_of_alerts_are_the_topics_own() -> None:
    rows = [hostile_alert(each) for each in HOSTILE]
    lines = written(write_jsonl, rows, ALERTS).split(b"\n")
    assert [msgspec.json.decode(line, type=Alert) for line in lines[:-1]] == rows
    (line,) = written(write_jsonl, [row("=1")], COUNTERS).splitlines()
    assert msgspec.json.decode(line)["product_id"] == "=1"
    assert msgspec.json.decode(line)["last_event_time"] == "2023-11-14T22:13:20.000Z"


def test_a_table_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    def failing() -> Iterator[CountsRow]:
        yield row("B1")
        raise RuntimeError("Redis is away")

    file = tmp_path / "counters.csv"
    file.write_text("yesterday's")
    with pytest.raises(RuntimeError, match="Redis is away"):
        write(failing(), COUNTERS, file, "csv")
    assert [each.name for each in tmp_path.iterdir()] == ["counters.csv"]
    assert file.read_text() == "yesterday's"


@pytest.mark.parametrize("format_", ["csv", "jsonl", "parquet"])
def test_many_rows_take_no_more_memory_than_a_group(
    format_: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if format_ == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr("stream.dump_formats.ROWS_A_GROUP", 500)
    write([row("B1")], COUNTERS, tmp_path / "first", format_)  # what is imported is no row's
    tracemalloc.start()
    try:
        rows = (row(f"B{n}") for n in range(10_000))
        assert write(rows, COUNTERS, tmp_path / "counters", format_) == 10_000
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 1_500_000  # all of them would be 6 MB and more


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_a_terminal_is_sent_nothing_that_it_would_obey(
    format_: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert write([row(each) for each in HOSTILE], COUNTERS, None, format_) == len(HOSTILE)
    shown = capsys.readouterr().out
    assert not set(shown) & {"\x1b", "\x00", "\r", "\u202e"}
    assert ("\\u202etxt.exe" in shown, "你好世界" in shown) == (True, True)


def test_parquet_without_pyarrow_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"Parquet needs pyarrow: `pip install 'reviewpulse\[parquet\]'`"):
        write([], COUNTERS, tmp_path / "counters.parquet", "parquet")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["counters", "--window", "2h"], "There is no window '2h'"),
        (["counters", "--since", "yesterday"], "--since 'yesterday' is neither a length"),
        (["alerts", "--since", "2024-01-17T22:00:00"], "names no time zone"),
        (["alerts", "--out", "/nowhere/alerts.csv"], "There is no folder /nowhere"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_read(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "stream.cli.main", "dump", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert said in ended.stderr
