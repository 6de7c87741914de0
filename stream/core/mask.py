"""Takes personal data out of review text before any of it leaves in an alert.

Rules:
- Each kind of personal data has a shape (``stream.core.personal``). What fits is replaced by a token such as
  ``[email]``.
- Text is hostile: every repetition in a pattern is bounded, so the time is linear in the text's length.
- When in doubt about a long number, it is masked: a quote loses little. Prices, sizes, dates and models stay.
- Digits are any Unicode digits, full-width or in circles, and letters and signs may be full-width: shapes are
  looked for in a folded copy, in which every character keeps its place, and cut out of the text itself.
- Masking twice is masking once. No shape holds a token.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING
from unicodedata import digit

from stream.core.personal import SHAPES, TOKENS, Shape

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTE_CHARS = 280
READ_CHARS = 2_000
"""How much of a text is read for a quote: hostile text of 20,000 characters would cost 60 ms to mask."""

TORN_CHARS = 64
"""What is dropped at the end of a text cut there: half a number would not be known for one."""

PASSES = 8
"""What stands between tokens may only then have a shape. One pass more settles nearly every text."""

WHOLE = "[masked]"
"""A text that is not settled by then was made to be: none of it is shown."""

# Control characters, lone surrogates, and the marks that turn the direction of text: none belongs in a quote.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)

_TAKEN = "\0"  # in place of what is masked
_TOKEN = re.compile("|".join(map(re.escape, (*TOKENS, WHOLE))))


def _folds() -> dict[int, str]:
    """To ASCII: digits of all kinds, full-width letters and signs of numbers, dashes and spaces."""
    folds = {code: str(digit(chr(code))) for code in range(0x80, 0x20000) if chr(code).isdigit()}
    folds |= {
        0xFEE0 + code: chr(code)
        for code in b"#()*+-./:=@_" + bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B))
    }
    folds |= dict.fromkeys((*range(0x2010, 0x2016), 0x2212, 0xFE58, 0xFE63), "-")
    folds |= dict.fromkeys((0xA0, *range(0x2000, 0x200B), 0x202F, 0x3000), " ")
    # Apostrophes; the one capital that has two small letters.
    return folds | {0x2018: "'", 0x2019: "'", 0x130: "I"}


_FOLDS = _folds()


def mask(text: str) -> str:
    """``text`` with personal data replaced by tokens.

    >>> mask("Write to jo.doe+x@example.co.uk or call +44 20 7946 0958, paid 19.99 for 2 x 500 ml")
    'Write to [email] or call [phone], paid 19.99 for 2 x 500 ml'
    >>> mask("我的电话13812345678 订单号 A20240117001 收件人:李雷")
    '我的电话[phone] 订单号 [order] 收件人:[name]'
    """
    for _ in range(PASSES):
        masked = _masked_once(text)
        if masked == text:
            return text
        text = masked
    return WHOLE


def _masked_once(text: str) -> str:
    view = text if text.isascii() else text.translate(_FOLDS)
    taken: list[tuple[int, int, str]] = []
    if "[" in view:
        taken = [(*found.span(), found[0]) for found in _TOKEN.finditer(view)]
        view = _without(view, taken)
    small = view.lower()
    digits = sum(map(view.count, "0123456789"))
    for shape in SHAPES:
        if digits < shape.digits or not any(map(small.__contains__, shape.signs)):
            continue
        found = [
            (start, end, shape.token) for start, end in _spans(view if shape.keeps_case else small, shape)
        ]
        if found:
            taken += found
            view, small = _without(view, found), _without(small, found)
    parts: list[str] = []
    done = 0
    for start, end, token in sorted(taken):
        parts += (text[done:start], token)
        done = end
    return "".join((*parts, text[done:])) if taken else text


def _without(text: str, spans: list[tuple[int, int, str]]) -> str:
    parts: list[str] = []
    done = 0
    for start, end, _ in spans:
        parts += (text[done:start], _TAKEN * (end - start))
        done = end
    return "".join((*parts, text[done:]))


def _spans(view: str, shape: Shape) -> Iterator[tuple[int, int]]:
    searched = 0
    while (found := shape.pattern.search(view, searched)) is not None:
        start, end = found.span(1)
        if shape.accept(found[1]):
            yield start, end
            searched = end
        else:
            # A candidate may begin inside one that failed: "2019 4111 1111 1111 1111".
            searched = found.start() + 1


@lru_cache(maxsize=256)  # one text posted a thousand times is masked once
def excerpt(text: str, most: int = QUOTE_CHARS) -> str:
    r"""One printable line of at most ``most`` characters, masked, cut between words where there are any.

    >>> excerpt("It died\n after   two days.", 12)
    'It died…'
    """
    masked = mask(_UNPRINTABLE.sub("", text[:READ_CHARS]))
    line = " ".join((masked if len(text) <= READ_CHARS else masked[:-TORN_CHARS]).split())
    if len(line) <= most:
        return line
    cut = line[: most - 1]
    space = cut.rfind(" ")
    # A text without spaces (Chinese, or hostile) is cut where it must be.
    return (cut[:space] if space >= most // 2 and line[most - 1] != " " else cut).rstrip() + "…"
