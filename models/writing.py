"""Files and folders that are whole or absent.

Rules:
- What is written lies beside its place, with ``.new`` at the end of its name, and is renamed when it is
  whole. Where anything fails it goes, and what was there stays.
- A disk that fails is an ``OSError`` that names the place, whichever library wrote: safetensors, tokenizers
  and PyTorch raise errors of their own.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import stream.writing
from stream.writing import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["disk_errors", "fresh_file", "fresh_folder", "write_whole"]


@contextmanager
def fresh_file(file: Path) -> Iterator[Path]:
    """Gives a name to write to, which then takes the place of ``file``."""
    with stream.writing.fresh_file(file) as fresh, disk_errors(file):
        yield fresh


@contextmanager
def fresh_folder(folder: Path) -> Iterator[Path]:
    """Gives an empty folder to write into, which then takes the place of ``folder``."""
    fresh = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        with disk_errors(folder):
            fresh.mkdir(parents=True)
            yield fresh
        shutil.rmtree(folder, ignore_errors=True)
        fresh.rename(folder)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise


@contextmanager
def disk_errors(where: Path) -> Iterator[None]:
    """Makes an ``OSError`` that names ``where`` of what libraries and the system raise when a disk fails.

    Raises:
        OSError: a file could not be written.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = str(where)
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))  # as Rust's libraries say it
        if number is None and "inline_container" not in str(error):  # as PyTorch does
            raise
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code), str(where)) from error
