"""What a model's input and scores looked like where it was measured: a bundle's reference, by feature.

    length     tokens of a text, as far as the model reads it
    unknown    share of a text's tokens that the vocabulary does not have
    language   index into ``stream.core.language.LANGUAGES``
    score      the calibrated probability that a text is negative

Whether a stream still looks so is for ``stream.core.drift`` to say; it needs numpy, and reading a manifest
does not.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

FEATURES = ("length", "unknown", "language", "score")
BOUNDS: dict[str, tuple[float, ...]] = {
    "length": (8, 16, 24, 32, 48, 64, 96, 128, 192, 256),
    "unknown": (0, 0.02, 0.05, 0.1),
    "language": (0, 1),
    "score": (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95),
}
"""What an export bins by: upper bounds, a value that equals one is below it."""


class Binned(msgspec.Struct, frozen=True, kw_only=True):
    """A feature's distribution."""

    bounds: tuple[float, ...]
    """Upper bounds of the bins, rising; the last bin has none."""
    counts: tuple[Annotated[int, msgspec.Meta(ge=0)], ...]
    """Texts in each; one more than bounds."""

    def __post_init__(self) -> None:
        """Refuses what cannot be binned by.

        Raises:
            ValueError: bounds and counts do not fit; msgspec makes a ValidationError of it.
        """
        if len(self.counts) != len(self.bounds) + 1 or not sum(self.counts):
            raise ValueError("there must be one more count than bounds, and a text in them")
        if any(low >= high for low, high in zip(self.bounds, self.bounds[1:], strict=False)):
            raise ValueError("bounds must rise")


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """What a model's input and scores looked like when it was exported."""

    texts: str
    """Which, for people."""
    length: Binned
    unknown: Binned
    language: Binned
    score: Binned

    def of(self, feature: str) -> Binned:
        """The distribution of one of ``FEATURES``."""
        found: Binned = getattr(self, feature)
        return found
