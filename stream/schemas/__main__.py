"""Writes the schema files anew."""

from __future__ import annotations

from stream.schemas import FOLDER, written

for name, text in written().items():
    (FOLDER / name).write_text(text, encoding="utf-8")
