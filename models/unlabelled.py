"""Unlabelled texts, for adaptation and distillation.

Rules:
- They come as serving would score them: cleaned, and no two the same.
- Of a prepared set only the training split is read: what is held out must not be seen.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.examples import DESCRIPTION, read_prepared
from models.tables import FORMATS, read_table
from stream.core.events import scored_text
from stream.errors import UsageError
from stream.reading import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def read_unlabelled(paths: Sequence[str], column: str = "text") -> list[str]:
    """Different texts of prepared sets, tables and plain files (``.txt``, a text a line; gzip too), in order.

    Args:
        paths: folders or files.
        column: of the tables.

    Raises:
        UsageError: a file cannot be read, or is of no kind that is known.
    """
    found = (scored_text(None, text) for path in paths for text in _texts(Path(path), column))
    return list(dict.fromkeys(text for text in found if text.strip()))


def _texts(path: Path, column: str) -> Iterator[str]:
    if (path / DESCRIPTION).is_file():
        yield from (example.text for example in read_prepared(path, ("train",))["train"])
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
