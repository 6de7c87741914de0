from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest

from models.examples import Example, PreparedSet, Split, write_prepared
from models.unlabelled import read_unlabelled
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def write(file: Path, content: str) -> str:
    raw = content.encode()
    file.write_bytes(gzip.compress(raw) if file.suffix == ".gz" else raw)
    return str(file)


def prepared(folder: Path) -> str:
    splits: tuple[Split, ...] = ("train", "validation", "test")
    sets = {split: [Example(text=f"of {split}", target=(0.0, 1.0))] for split in splits}
    write_prepared(PreparedSet(labels=("negative", "positive"), splits=sets), folder)
    return str(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("r.csv", 'text,stars\n"Good, really.\nVery.",5\n,1\n好,4\n'),
        ("r.jsonl", '{"text": "Good, really.\\nVery."}\n{"text": null}\n{"stars": 1}\n{"text": "好"}\n'),
        ("r.txt", "Good, really. Very.\n\n 好 \n"),
        ("r.txt.gz", "Good, really. Very.\r\n好\r\n"),
        ("r.csv.gz", "text\nGood&#44; really.  Very.\n好\n好\n"),
    ],
)
def test_texts_come_as_serving_would_score_them_and_none_twice(
    tmp_path: Path, name: str, content: str
) -> None:
    assert read_unlabelled([write(tmp_path / name, content)]) == ["Good, really. Very.", "好"]


def test_a_table_is_read_by_the_column_that_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "r.csv", "id,review\n1,good\n")
    assert read_unlabelled([file], "review") == ["good"]
    with pytest.raises(UsageError, match=r"no column 'text' \(--column\); there are 'id', 'review'"):
        read_unlabelled([file])


@pytest.mark.parametrize(
    ("splits", "texts"),
    [(("train",), ["of train"]), (("train", "validation"), ["of train", "of validation"])],
)
def test_of_a_prepared_set_only_the_splits_asked_for_are_read(
    tmp_path: Path, splits: Sequence[Split], texts: list[str]
) -> None:
    assert read_unlabelled([prepared(tmp_path / "set")], splits=splits) == texts


def test_what_learns_sees_nothing_that_is_held_out(tmp_path: Path) -> None:
    assert read_unlabelled([prepared(tmp_path / "set")]) == ["of train"]


def test_files_come_one_after_another(tmp_path: Path) -> None:
    files = [write(tmp_path / "b.txt", "two\none\n"), write(tmp_path / "a.csv", "text\none\nthree\n")]
    assert read_unlabelled(files) == ["two", "one", "three"]


@pytest.mark.parametrize("name", ["r.docx", "r", "r.gz", "folder"])
def test_what_is_of_no_known_kind_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match=rf"{name} is neither a prepared set nor a file of texts; wanted"):
        read_unlabelled([str(tmp_path / name)])


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(UsageError, match=r"latin.txt, line 2: not UTF-8"):
        read_unlabelled([str(tmp_path / "latin.txt")])
    whole = gzip.compress("\n".join(map(str, range(500))).encode())
    (tmp_path / "broken.txt.gz").write_bytes(whole[:100] + bytes(50) + whole[150:])
    with pytest.raises(UsageError, match=r"broken.txt.gz is a broken gzip file"):
        read_unlabelled([str(tmp_path / "broken.txt.gz")])
    with pytest.raises(UsageError, match=r"Cannot read .*nowhere.txt: No such file"):
        read_unlabelled([str(tmp_path / "nowhere.txt")])
