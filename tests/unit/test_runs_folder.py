"""Run folders: taken by a run, and never from somebody else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from models.fitting import FitOptions
from models.runs import claim
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_a_run_goes_on_with_the_same_options_and_data_alone(tmp_path: Path) -> None:
    claim(tmp_path / "run", FitOptions(), "data", "base", restart=False)
    claim(tmp_path / "run", FitOptions(threads=2), "data", "base", restart=False)
    with pytest.raises(UsageError, match="epochs 4, not 5; other examples"):
        claim(tmp_path / "run", FitOptions(epochs=5), "others", "base", restart=False)
    claim(tmp_path / "run", FitOptions(epochs=5), "others", "base", restart=True)


def test_what_is_no_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine").touch()
    for name in ("file", "folder"):
        with pytest.raises(UsageError, match=f"{name} exists and is not a run; name another"):
            claim(tmp_path / name, FitOptions(), "data", "base", restart=True)
    assert (tmp_path / "file").read_text() == "mine"
    assert (tmp_path / "folder" / "mine").exists()


def test_a_record_that_cannot_be_read_is_named_and_can_be_replaced(tmp_path: Path) -> None:
    claim(tmp_path / "run", FitOptions(), "data", "base", restart=False)
    (tmp_path / "run" / "run.json").write_text('{"options": ')
    with pytest.raises(UsageError, match=r"run.json cannot be read: .*--restart"):
        claim(tmp_path / "run", FitOptions(), "data", "base", restart=False)
    claim(tmp_path / "run", FitOptions(), "data", "base", restart=True)
