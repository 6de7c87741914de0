"""Files that are whole or absent.

Rules:
- What is written lies beside its place, with ``.new`` at the end of its name, and is renamed when it is
  whole. Where anything fails it goes, and what was there stays.
- A disk that fails is an ``OSError`` that names the place.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def write_whole(file: Path, content: bytes) -> None:
    """Writes a file; one that is there is replaced in one step.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    with fresh_file(file) as fresh:
        fresh.write_bytes(content)


@contextmanager
def fresh_file(file: Path) -> Iterator[Path]:
    """Gives a name to write to, which then takes the place of ``file``.

    Raises:
        OSError: it cannot be written; what was there stays.
    """
    fresh = file.with_name(f"{file.name}.new")
    try:
        try:
            yield fresh
        except OSError as error:
            if error.filename is None and error.errno is not None:
                error.filename = str(file)
            raise
        fresh.replace(file)
    except BaseException:
        if fresh.is_file():
            fresh.unlink()
        raise
