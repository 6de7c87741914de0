"""Ten posts of one person are not a trend.

Rules:
- Of one author, and of texts that are nearly one text, an excursion counts ``MOST_ALIKE``. What is refused
  still is in the counters and the share; it only proves nothing.
- Texts are alike when the least hash of their overlapping pieces is the same, which two texts have with a
  probability of their pieces' overlap (Broder 1997): a copy with another order number is alike, a complaint
  of the same thing in other words is not. Short texts ("bad", "差评") are many people's, hence never alike.
- The memory is bounded: once it is full, authors and texts it does not hold are admitted unseen.
- An unknown author is nobody's double.
"""

from __future__ import annotations

import struct
import zlib

import msgspec

MOST_ALIKE = 2
"""A customer may write a review and correct it."""
MOST_HELD = 32
"""Of authors and of texts each. Twice what an alert needs."""
PIECE_BYTES = 16
"""Two or three English words, five Chinese characters."""
LEAST_PIECES = 16
MOST_PIECES = 600
"""A longer text's beginning is enough to know its copy by."""


class Damping(msgspec.Struct, array_like=True):
    """What an excursion remembers of whose negatives it has counted."""

    authors: list[int] = []
    """CRC-32 of the authors of counted negatives, as often as they counted."""
    texts: list[int] = []

    @property
    def distinct_authors(self) -> int:
        """Known authors, counted up to ``MOST_HELD`` negatives."""
        return len(set(self.authors))


def admits(state: Damping, author: int | None, text: int | None) -> bool:
    """Whether another negative of this author and text counts; when it does, it is remembered.

    Args:
        state: of the excursion; changed.
        author: ``author_hash`` of it.
        text: ``text_hash`` of it.

    >>> state = Damping()
    >>> [admits(state, author_hash("Ann"), None) for _ in range(4)], admits(state, author_hash("Bo"), None)
    ([True, True, False, False], True)
    """
    if author is not None and state.authors.count(author) >= MOST_ALIKE:
        return False
    if text is not None and state.texts.count(text) >= MOST_ALIKE:
        return False
    if author is not None and len(state.authors) < MOST_HELD:
        state.authors.append(author)
    if text is not None and len(state.texts) < MOST_HELD:
        state.texts.append(text)
    return True


def author_hash(author_id: str | None) -> int | None:
    """32 bits of an author."""
    return None if author_id is None else zlib.crc32(author_id.encode("utf-8", "surrogatepass"))


def text_hash(text: str) -> int | None:
    """32 bits that near copies of ``text`` share; None where it is too short to be anybody's own.

    Case, digits, spaces and punctuation do not matter.

    >>> first = text_hash("The kettle leaked all over my desk after two days. Order 123-4.")
    >>> first == text_hash("the kettle LEAKED all over my desk, after two days!! order 998-7")
    True
    >>> text_hash("Bad.") is None
    True
    """
    letters = "".join(filter(str.isalpha, text[:MOST_PIECES].casefold())).encode("utf-8", "surrogatepass")
    pieces = min(len(letters) - PIECE_BYTES + 1, MOST_PIECES)
    if pieces < LEAST_PIECES:
        return None
    return min(zlib.crc32(letters[start : start + PIECE_BYTES]) for start in range(pieces))


def pack(state: Damping) -> bytes:
    """Two bytes, and four for each hash held."""
    count = len(state.authors) + len(state.texts)
    return struct.pack(f"<BB{count}I", len(state.authors), len(state.texts), *state.authors, *state.texts)


def unpack(packed: bytes) -> Damping:
    """The inverse of ``pack``.

    Raises:
        struct.error: the bytes are not one.

    >>> unpack(pack(Damping([1, 2], [3])))
    Damping(authors=[1, 2], texts=[3])
    """
    authors, texts = struct.unpack_from("<BB", packed)
    hashes = struct.unpack(f"<{authors + texts}I", packed[2:])
    return Damping(list(hashes[:authors]), list(hashes[authors:]))
