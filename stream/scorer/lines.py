"""JSON lines with a ``text``, and perhaps a ``title``: what `score` and `bench scorer` read."""

from __future__ import annotations

import msgspec

from stream.core.events import MAX_TEXT_CHARS, scored_text
from stream.errors import EventError

MAX_LINE_CHARS = 1_000_000
"""A longer line is no review; it is refused before it is parsed."""


def text_of(line: bytes) -> str:
    """The text a line's score is of.

    Raises:
        EventError: the line is not an object with a usable text.
    """
    if len(line) > MAX_LINE_CHARS:
        raise EventError("score", f"{len(line):,} bytes are more than the {MAX_LINE_CHARS:,} a line may have")
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EventError("score", f"not JSON ({error})") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise EventError("score", "not an object with a `text`")
    title = row.get("title")
    text = scored_text(title if isinstance(title, str) else None, row["text"])
    if not text:
        raise EventError("score", "the text is empty")
    if len(text) > MAX_TEXT_CHARS:
        raise EventError("score", f"{len(text):,} characters are more than the {MAX_TEXT_CHARS:,} accepted")
    return text
