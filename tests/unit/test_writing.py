"""What is written is whole or absent, and a disk that fails has one sentence."""

from __future__ import annotations

import errno
import resource
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from models.examples import PreparedSet, write_prepared
from models.writing import disk_errors, fresh_file, fresh_folder, write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def full_disk() -> Iterator[None]:
    """No file may grow beyond a few bytes: the same errors as on a disk without room, of another number.

    Nothing may be imported within: Python would write short byte code.
    """
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    for content in (b"first", b"second"):
        write_whole(tmp_path / "file", content)
        with fresh_folder(tmp_path / "folder") as fresh:
            (fresh / content.decode()).touch()
    assert (tmp_path / "file").read_bytes() == b"second"
    assert {each.name for each in tmp_path.rglob("*")} == {"file", "folder", "second"}


def test_what_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"first")
    with fresh_folder(tmp_path / "folder") as fresh:
        (fresh / "first").touch()
    with pytest.raises(KeyboardInterrupt), fresh_file(tmp_path / "file") as fresh:  # noqa: PT012
        fresh.write_bytes(b"sec")
        raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt), fresh_folder(tmp_path / "folder") as fresh:  # noqa: PT012
        (fresh / "second").touch()
        raise KeyboardInterrupt
    assert {each.name for each in tmp_path.rglob("*")} == {"file", "folder", "first"}


def test_a_set_on_a_full_disk_names_its_place_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="File too large") as raised, full_disk():
        write_prepared(PreparedSet(labels=("negative", "positive"), splits={}), tmp_path / "set")
    assert str(raised.value.filename).startswith(str(tmp_path / "set"))
    assert not list(tmp_path.iterdir())


def test_what_libraries_say_of_a_full_disk_is_the_systems_error(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    safetensors = pytest.importorskip("safetensors.torch")
    tensors = {"a": torch.zeros(1000)}
    with pytest.raises(OSError, match="File too large") as raised, full_disk():  # noqa: SIM117
        with fresh_file(tmp_path / "weights") as fresh:
            safetensors.save_file(tensors, fresh)
    assert (raised.value.errno, raised.value.filename) == (errno.EFBIG, str(tmp_path / "weights"))
    with pytest.raises(OSError, match="Input/output error"), full_disk():  # noqa: SIM117
        with fresh_file(tmp_path / "optimizer") as fresh:
            torch.save(tensors, fresh)
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a mistake"), disk_errors(tmp_path):
        raise RuntimeError("a mistake")
