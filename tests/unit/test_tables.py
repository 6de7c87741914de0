from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from models.tables import Dialect, read_table
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

WANTED = {"text": "review", "label": "stars"}
CSV = 'id,review,stars\n1,"Good, really.\nVery.",5\n2,"He said ""no""",1\n\n3,好,4\n'
ROWS: Sequence[tuple[int, dict[str, str]]] = [
    (3, {"review": "Good, really.\nVery.", "stars": "5"}),
    (4, {"review": 'He said "no"', "stars": "1"}),
    (6, {"review": "好", "stars": "4"}),
]


def write(file: Path, content: str | bytes) -> Path:
    raw = content.encode() if isinstance(content, str) else content
    file.write_bytes(gzip.compress(raw) if file.suffix == ".gz" else raw)
    return file


@pytest.mark.parametrize(
    ("name", "content", "dialect"),
    [
        ("r.csv", CSV, Dialect()),
        ("r.CSV.gz", CSV, Dialect()),
        ("r.tsv", CSV.replace(",", "\t").replace("Good\t", "Good,"), Dialect()),
        ("r.csv", CSV.replace(",", ";").replace("Good;", "Good,"), Dialect(delimiter=";")),
        ("r.csv", b"\xef\xbb\xbf" + CSV.encode(), Dialect()),  # as Excel writes UTF-8
        ("r.csv", CSV.encode("gb18030"), Dialect("gb18030")),
        ("r.csv", CSV.encode("utf-16"), Dialect("utf-16")),
        ("r.csv", CSV.replace("\n", "\r\n"), Dialect()),
    ],
)
def test_delimited_files_are_read_with_their_lines(
    tmp_path: Path, name: str, content: str | bytes, dialect: Dialect
) -> None:
    rows = read_table(write(tmp_path / name, content), WANTED, dialect)
    found = [(row.line, {key: text.replace("\r", "") for key, text in row.values.items()}) for row in rows]
    assert found == ROWS


@pytest.mark.parametrize("name", ["r.jsonl", "r.ndjson.gz", "r.json"])
def test_json_lines_keep_their_types_and_may_lack_a_column(tmp_path: Path, name: str) -> None:
    content = '{"review": "Good.", "stars": 5, "more": [1]}\n\n{"review": null}\n'
    rows = read_table(write(tmp_path / name, content), WANTED)
    assert [(row.line, row.values) for row in rows] == [
        (1, {"review": "Good.", "stars": 5}),
        (3, {"review": None}),
    ]


@pytest.mark.parametrize("name", ["r.parquet", "r.parquet.gz"])
def test_parquet_is_read(tmp_path: Path, name: str) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"stars": [5.0, None], "review": ["Good.", "Bad."], "more": [1, 2]})
    parquet.write_table(table, tmp_path / "plain")
    rows = read_table(write(tmp_path / name, (tmp_path / "plain").read_bytes()), WANTED)
    assert [(row.line, row.values) for row in rows] == [
        (1, {"review": "Good.", "stars": 5.0}),
        (2, {"review": "Bad.", "stars": None}),
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "r.csv",
            "id,text\n1,x\n",
            r"no column 'review' \(--text\), 'stars' \(--label\); there are 'id', 'text'",
        ),
        ("r.jsonl", '{"review": "x"}\n', r"no column 'stars' \(--label\); there are 'review'"),
        ("r.csv", "", "is empty: it has no line with the columns' names"),
        ("r.csv", "review,stars\n", "is empty: it has no rows"),
        ("r.jsonl", "\n", "is empty: it has no rows"),
        ("r.csv", "review,stars\nfine,1\nGood, really,5\n", "line 3: 3 fields under a header of 2"),
        ("r.csv", 'review,stars\n"never closed,5\nx,1\n', "line 3: unexpected end of data"),
        ("r.csv", 'review,stars\n"a "quote" in it",5\n', "line 2: .*is written twice"),
        ("r.csv", "review;stars\nx;1\n", "delimiter seems to be ';'"),
        ("r.csv", "review\tstars\nx\t1\n", "delimiter seems to be a tab"),
        ("r.csv", "review,stars,stars\nx,1,2\n", "two columns named 'stars'"),
        ("r.csv", b"review,stars\ncaf\xe9,1\n", "is not utf-8: byte 0xe9 .*--encoding"),
        ("r.jsonl", b'{"review": "caf\xe9", "stars": 1}\n', "line 1: not UTF-8|line 1: not JSON"),
        ("r.jsonl", '{"review": "x", "stars": 1}\n{"review": \n', "line 2: not JSON"),
        ("r.jsonl", '{"review": "x", "stars": 1}\n[1]\n', "line 2: wanted a JSON object, found an array"),
        ("r.json", '[\n{"review": "x"}]', "one JSON array; wanted JSON lines"),
        ("r.parquet", "no parquet", "is not a Parquet file"),
        ("r.xlsx", "x", "wanted one of .csv, .tsv"),
        ("r.csv.gz", CSV, "is a broken gzip file"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(
    tmp_path: Path, name: str, content: str | bytes, said: str
) -> None:
    file = write(tmp_path / name, content)
    if name.endswith(".gz"):
        file.write_bytes(file.read_bytes()[:-12])
    with pytest.raises(UsageError, match=said):
        read_table(file, WANTED)


def test_utf_16_without_its_mark_is_refused_with_what_to_say_instead(tmp_path: Path) -> None:
    file = write(tmp_path / "r.csv", CSV.encode("utf-16-le"))
    with pytest.raises(UsageError, match=r"is not utf-16: .*BOM; name the order of its bytes, utf-16-le"):
        read_table(file, WANTED, Dialect("utf-16"))
    assert len(read_table(file, WANTED, Dialect("utf-16-le"))) == 3


def test_a_file_or_encoding_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Cannot read .*nowhere.csv: No such file"):
        read_table(tmp_path / "nowhere.csv", WANTED)
    with pytest.raises(UsageError, match="no encoding 'utf-5'"):
        read_table(write(tmp_path / "r.csv", CSV), WANTED, Dialect("utf-5"))
