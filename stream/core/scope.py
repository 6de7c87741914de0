"""Which products, categories and channels a rule is about.

Rules:
- Product and channel never change along a stream, so they are looked up once a product. The category comes
  with each event: an event is in a category's scope by its own, and one that says none is in no category's.
- A pattern knows one special character: ``*`` stands for any run of characters, or none. The rest stands for
  itself, case included. There are no regular expressions: this one cannot be made slow.
- What is not given does not narrow the scope.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from stream.core.events import Channel

if TYPE_CHECKING:
    from collections.abc import Iterator

ProductId = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=256,
        extra={"wanted": "a product id of 1 to 256 characters", "write": '"B00ABC"'},
    ),
]
Pattern = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=256,
        pattern=r"^[^?\[\]]*$",
        extra={"wanted": "a pattern of 1 to 256 characters without ?, [ and ]", "write": '"B00*"'},
    ),
]
Category = Annotated[
    str,
    msgspec.Meta(
        min_length=1,
        max_length=256,
        extra={"wanted": "a category of 1 to 256 characters", "write": '"kettles"'},
    ),
]
OneChannel = Annotated[
    Channel, msgspec.Meta(extra={"wanted": "reviews or chats", "write": '"reviews" or "chats"'})
]


def matches(pattern: str, text: str) -> bool:
    """Whether all of ``text`` is what ``pattern`` says; time linear in their lengths.

    >>> matches("B00*", "B00ABC"), matches("*-eu-*", "tv-eu-7"), matches("b00*", "B00ABC"), matches("B", "B0")
    (True, True, False, False)
    """
    if "*" not in pattern:
        return pattern == text
    first, *middle, last = pattern.split("*")
    at, stop = len(first), len(text) - len(last)
    if at > stop or not text.startswith(first) or not text.endswith(last):
        return False
    for piece in middle:
        # The leftmost place leaves most room for the rest, so no other has to be tried.
        found = text.find(piece, at, stop)
        if found < 0:
            return False
        at = found + len(piece)
    return True


class Scope(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What narrows a rule; all that is given must fit."""

    product: Annotated[ProductId | None, msgspec.Meta(description="The one product.")] = None
    pattern: Annotated[
        Pattern | None, msgspec.Meta(description="Product ids; * stands for any characters.")
    ] = None
    category: Annotated[Category | None, msgspec.Meta(description="The category that events say.")] = None
    channel: Annotated[
        OneChannel | None, msgspec.Meta(description="reviews or chats; both if not given.")
    ] = None

    def covers(self, product_id: str, channel: Channel) -> bool:
        """Whether a product on a channel is in it, for all that can be known without an event.

        >>> Scope(pattern="B0*").covers("B01", "chats"), Scope(channel="reviews").covers("B01", "chats")
        (True, False)
        """
        return (
            (self.channel is None or self.channel == channel)
            and (self.product is None or self.product == product_id)
            and (self.pattern is None or matches(self.pattern, product_id))
        )

    def takes(self, category: str | None) -> bool:
        """Whether an event of this category is in it.

        >>> Scope(category="kettles").takes(None), Scope().takes(None)
        (False, True)
        """
        return self.category is None or self.category == category

    def narrowed(self) -> Iterator[tuple[str, str]]:
        """The keys that narrow it, with what they say.

        >>> dict(Scope(category="kettles", channel="chats").narrowed())
        {'category': 'kettles', 'channel': 'chats'}
        """
        for key in ("product", "pattern", "category", "channel"):
            said = getattr(self, key)
            if said is not None:
                yield key, said
