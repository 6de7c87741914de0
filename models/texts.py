"""Texts without labels, as commands are given them: what trimming, adapting and comparing read."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

from models.examples import read_prepared
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


def read_texts(files: Iterable[Path]) -> Iterator[str]:
    """Texts of files, one a line, also gzipped, and of prepared sets: their training and validation splits.

    Raises:
        UsageError: one cannot be read.
    """
    for file in files:
        if file.is_dir():
            prepared = read_prepared(file, ("train", "validation"))
            yield from (example.text for split in prepared.splits.values() for example in split)
            continue
        try:
            with (
                gzip.open(file, "rt", encoding="utf-8")
                if file.suffix == ".gz"
                else file.open(encoding="utf-8") as lines
            ):
                yield from filter(None, (line.strip() for line in lines))
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise UsageError(f"{file} cannot be read: {error}; wanted texts, one a line, in UTF-8.") from None
