"""``base.json``: what a folder's encoder was made of, so that a model card names it and its licence.

Rules:
- A packaged base is known by ``models.bases``; ``trim`` and ``adapt`` leave the file beside what they write;
  a fine-tuned checkpoint says it in its record. Elsewhere the folder's name is all that is known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from models.bases import BASES
from models.checkpoint import RECORD, read_record
from stream.bundle import TrainingSource  # noqa: TC001  # msgspec reads the annotation
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

FILE = "base.json"


class Provenance(msgspec.Struct, frozen=True):
    """Where an encoder comes from; what is not known is empty."""

    name: str
    licence: str = ""
    pooling: str = ""
    trained_on: tuple[TrainingSource, ...] = ()
    """Labelled sets, where it is a classifier already: what goes on from it has learned of them, too."""


def of_folder(folder: Path) -> Provenance:
    """What is known of a folder with config.json.

    Raises:
        UsageError: its ``base.json`` or its record cannot be read.
    """
    if (folder / FILE).is_file():
        try:
            return msgspec.json.decode((folder / FILE).read_bytes(), type=Provenance)
        except msgspec.MsgspecError as error:
            raise UsageError(f"{folder / FILE} cannot be read: {error}.") from None
    if (folder / RECORD).is_file():
        record = read_record(folder)
        return Provenance(record.base_model, record.base_licence, trained_on=record.trained_on)
    return Provenance(folder.resolve().name)


def of_base(name: str) -> Provenance:
    """What is known of a packaged base."""
    base = BASES[name]
    return Provenance(f"{base.title} ({base.origin})", base.licence, base.pooling)


def write(provenance: Provenance, folder: Path) -> None:
    """Leaves ``base.json`` in a folder."""
    (folder / FILE).write_bytes(msgspec.json.encode(provenance) + b"\n")
