"""Texts without labels, as commands are given them: what adapting, distilling, trimming and exporting read.

Rules:
- They come as serving would score them: cleaned, and no two the same.
- Of a prepared set only the splits that the caller asks for are read: what learns from texts must not see
  what is held out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.examples import DESCRIPTION, Split, read_prepared
from models.tables import FORMATS, read_table
from stream.core.events import scored_text
from stream.errors import UsageError
from stream.reading import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def read_unlabelled(
    paths: Sequence[str], column: str = "text", splits: Sequence[Split] = ("train",)
) -> list[str]:
    """Different texts of prepared sets, tables and plain files (``.txt``, a text a line; gzip too), in order.

    Args:
        paths: folders or files.
        column: of the tables.
        splits: of the prepared sets.

    Raises:
        UsageError: a file cannot be read, or is of no kind that is known.
    """
    found = (scored_text(None, text) for path in paths for text in _texts(Path(path), column, splits))
    return list(dict.fromkeys(text for text in found if text.strip()))


def _texts(path: Path, column: str, splits: Sequence[Split]) -> Iterator[str]:
    if (path / DESCRIPTION).is_file():
        prepared = read_prepared(path, splits)
        yield from (example.text for split in splits for example in prepared[split])
        return
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind in FORMATS:
        yield from (str(row.values.get(column) or "") for row in read_table(path, {"column": column}))
    elif kind == ".txt":
        with open_file(str(path)) as opened:
            for number, line in enumerate(opened.lines, 1):
                try:
                    yield line.decode("utf-8")
                except UnicodeDecodeError:
                    raise UsageError(f"{path}, line {number}: not UTF-8; save the file as UTF-8.") from None
    else:
        raise UsageError(
            f"{path} is neither a prepared set nor a file of texts; wanted a folder that `reviewpulse "
            f"prepare` left, .txt, or one of {', '.join(FORMATS)}."
        )
