"""The shapes of personal data that ``stream.core.mask`` looks for.

Rules:
- The order is part of the meaning: a shape sees what the ones before it have left. What is whole comes before
  a part of it (a link before a handle, a card before any long number), what has check digits before what has
  only a word before it.
- ``tests/unit/mask_personal.tsv`` and ``tests/unit/mask_ordinary.txt`` say what is meant. A new shape comes
  with lines in both.
"""

from __future__ import annotations

from stream.core.personal.networks import ACCOUNTS, EMAILS, LINKS
from stream.core.personal.numbers import (
    BANKS,
    CARDS,
    DEVICES,
    IDENTITIES,
    MOBILES,
    ORDERS,
    PAPERS,
    PARCELS,
    PHONES,
    PLATES,
    REST,
)
from stream.core.personal.places import ADDRESSES, NAMES
from stream.core.personal.shape import Shape

SHAPES: tuple[Shape, ...] = (
    *LINKS,
    *EMAILS,
    *IDENTITIES,
    *PARCELS,
    *MOBILES,
    *DEVICES,
    *CARDS,
    *PLATES,
    *ADDRESSES,
    *ORDERS,
    *PAPERS,
    *BANKS,
    *PHONES,
    *ACCOUNTS,
    *NAMES,
    *REST,
)
TOKENS = tuple(dict.fromkeys(shape.token for shape in SHAPES))

__all__ = ["SHAPES", "TOKENS", "Shape"]
