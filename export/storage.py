"""How a bundle's weights may be stored and computed with; apart from the code, for the command's help."""

from __future__ import annotations

from typing import Literal, get_args

Storage = Literal["float32", "float16", "int8", "float16+int8-words"]
Compute = Literal["float32", "int8"]
"""What the linear layers are computed in; int8 is ``export/int8_graph.py``'s."""
STORAGES: tuple[Storage, ...] = get_args(Storage)
