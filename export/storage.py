"""How a bundle's large weights may be stored; apart from what stores them, for the command line's help."""

from __future__ import annotations

from typing import Literal, get_args

Storage = Literal["float32", "float16", "int8", "float16+int8-words"]
STORAGES: tuple[Storage, ...] = get_args(Storage)
