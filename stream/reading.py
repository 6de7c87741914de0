"""Opens the files that ``ingest`` and ``replay`` read, and gathers what is wrong with them.

Rules:
- gzip is known by its first bytes, not by its name; ``-`` is standard input.
- Bad lines are counted without end, and the first few named: a file of a million bad lines tells as much
  with twenty of them.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, cast

from stream.errors import UsageError

if TYPE_CHECKING:
    import io
    from collections.abc import Iterator

NAMED = 20
GZIP_MAGIC = b"\x1f\x8b"


class Flaw(NamedTuple):
    """What is wrong with one line or row. Numbers start at 1."""

    number: int
    reason: str


@dataclass
class Flaws:
    """Every flaw counted, the first ones kept."""

    count: int = 0
    named: list[Flaw] = field(default_factory=list)

    def add(self, number: int, reason: str) -> None:
        """Counts a flaw."""
        self.count += 1
        if len(self.named) < NAMED:
            self.named.append(Flaw(number, reason))


class OpenFile(NamedTuple):
    """A file being read, and how far that is on disk."""

    lines: BinaryIO
    """Its bytes, unpacked."""
    raw: BinaryIO
    """Its bytes as they lie on disk: ``raw.tell()`` is the progress."""
    size: int | None
    """Bytes on disk; None for a pipe."""


@contextmanager
def open_file(name: str) -> Iterator[OpenFile]:
    """Opens a file, or standard input for ``-``; unpacks gzip.

    Raises:
        UsageError: it cannot be opened, or its gzip is broken (which may show only in the middle).
    """
    with ExitStack() as opened:
        raw = _open_raw(name, opened)
        size = Path(name).stat().st_size if name != "-" and Path(name).is_file() else None
        if raw.peek(2)[:2] != GZIP_MAGIC:
            yield OpenFile(raw, raw, size)
            return
        try:
            yield OpenFile(cast("BinaryIO", gzip.GzipFile(fileobj=raw)), raw, size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise UsageError(f"{name} is a broken gzip file: {error}") from error


def _open_raw(name: str, opened: ExitStack) -> io.BufferedReader:
    if name == "-":
        return cast("io.BufferedReader", sys.stdin.buffer)
    try:
        return opened.enter_context(Path(name).open("rb"))
    except OSError as error:
        raise UsageError(f"Cannot read {name}: {error.strerror or error}.") from error
