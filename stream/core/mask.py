"""Takes personal data out of review text before any of it leaves in an alert.

Rules:
- Each kind of personal data has a shape (a pattern) and, where one exists, its check digits. What fits is
  replaced by a token such as ``[email]``.
- Text is hostile: every repetition in a pattern is bounded, so the time is linear in the text's length.
- When in doubt about a long number, it is masked: a quote loses little. Prices, sizes, dates and models stay.
- Digits are any Unicode digits, so full-width ones do not slip through.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

QUOTE_CHARS = 280
READ_CHARS = 2_000
"""How much of a text is read for a quote: hostile text of 20,000 characters would cost 200 ms to mask."""

TORN_CHARS = 64
"""What is dropped at the end of a text cut there: half a number would not be known for one."""

# Control characters, lone surrogates, and the marks that turn the direction of text: none belongs in a quote.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def _luhn(digits: str) -> bool:
    """Check digit of payment cards (ISO/IEC 7812)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _is_card(match: str) -> bool:
    return _luhn(_digits(match))


def _is_iban(match: str) -> bool:
    """Check digits of ISO 13616; a mistyped one with many digits counts, too."""
    code = re.sub(r"[ -]", "", match).upper()
    number = "".join(str(int(char, 36)) for char in code[4:] + code[:4])
    return int(number) % 97 == 1 or len(_digits(match)) >= 15


def _is_citizen_id(match: str) -> bool:
    """Check digit of a Chinese resident identity number (GB 11643)."""
    weighted = sum(int(digit) * 2 ** (17 - place) for place, digit in enumerate(match[:17]))
    return "10X98765432"[weighted % 11] == (match[17].upper() if match[17] in "xX" else str(int(match[17])))


def _has_five_digits(match: str) -> bool:
    return len(_digits(match)) >= 5


def _always(_match: str) -> bool:
    return True


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdecimal())


class Shape(NamedTuple):
    """One kind of personal data: a candidate is group 1 of ``pattern`` where ``accept`` agrees."""

    token: str
    pattern: re.Pattern[str]
    accept: Callable[[str], bool] = _always


# No digit (or Latin letter) may touch a number; Chinese characters may.
_START = r"(?<![0-9A-Za-z])(?<!\d)"
_END = r"(?![0-9A-Za-z])(?!\d)"
_GAP = r"[ .\-\u00a0\u2010-\u2013]"

# Chinese characters are no part of an address: they touch it where it stands in a sentence.
_NAME = r"0-9A-Za-z_\u00c0-\u024f"
_DOMAIN = r"[0-9A-Za-z\-]{1,63}"
_CJK_STOP = r"\u3000-\u303f\uff01\uff08\uff09\uff0c\uff1f"

_ORDER_WORD = (
    r"(?:order|tracking|invoice|ticket|case|reference|ref|account|acct|shipment|parcel|awb|rma|customer"
    r"|订单|单号|运单|快递|账号|帐号|会员|编号)"
)

SHAPES = (
    Shape(
        "[link]",
        re.compile(rf"((?:https?://|(?<![0-9A-Za-z])www\.)[^\s<>\"'{_CJK_STOP}]{{1,2000}})", re.IGNORECASE),
    ),
    Shape(
        "[email]",
        re.compile(
            rf"([{_NAME}.%+\-]{{1,64}}[@\uff20][{_NAME}\u4e00-\u9fff\-]{{1,63}}(?:\.{_DOMAIN}){{1,6}})"
        ),
    ),
    Shape(
        "[email]",
        re.compile(
            rf"([{_NAME}.%+\-]{{1,64}} ?[\[(] ?at ?[\])] ?[{_NAME}\-]{{1,63}}"
            rf"(?: ?[\[(] ?dot ?[\])] ?|\.){_DOMAIN})",
            re.IGNORECASE,
        ),
    ),
    Shape(
        "[iban]",
        re.compile(rf"{_START}([A-Z]{{2}}\d{{2}}(?:[ -]?[A-Z0-9]){{11,30}}){_END}", re.ASCII | re.IGNORECASE),
        _is_iban,
    ),
    Shape("[id]", re.compile(rf"{_START}(\d{{17}}[\dXx]){_END}"), _is_citizen_id),
    Shape("[id]", re.compile(rf"{_START}(\d{{3}}-\d{{2}}-\d{{4}}){_END}")),
    Shape(
        "[card]",
        re.compile(rf"{_START}(\d{{4}}([ \-.]?)\d{{4}}\2\d{{4}}\2\d{{1,4}}(?:\2\d{{1,3}})?){_END}"),
        _is_card,
    ),
    Shape("[card]", re.compile(rf"{_START}(\d{{4}}([ \-.]?)\d{{6}}\2\d{{4,5}}|\d{{13,19}}){_END}"), _is_card),
    Shape("[order]", re.compile(rf"{_START}(\d{{3}}-\d{{7}}-\d{{7}}|1Z[0-9A-Z]{{16}}){_END}", re.IGNORECASE)),
    Shape(
        "[order]",
        re.compile(
            rf"{_ORDER_WORD}\s{{0,2}}(?:number|num|no|nr|id|号码|号)?\s{{0,2}}[.:：#]{{0,2}}\s{{0,2}}(?:is|was|是|为)?"  # noqa: RUF001
            rf"\s{{0,2}}#?([0-9A-Z][0-9A-Z\-_/]{{3,38}}[0-9A-Z]){_END}",
            re.IGNORECASE,
        ),
        _has_five_digits,
    ),
    Shape("[order]", re.compile(r"(?<!\w)(#\d{5,30})(?!\w)")),
    Shape("[phone]", re.compile(rf"((?:\+|{_START}00)\d{{1,3}}(?:{_GAP}?\(?\d\)?){{6,13}}){_END}")),
    Shape("[phone]", re.compile(rf"{_START}((?:86{_GAP}?)?1[3-9]\d(?:{_GAP}?\d{{4}}){{2}}){_END}")),
    Shape(
        "[phone]",
        re.compile(rf"(?<!\d)(?<!\w)((?:1{_GAP}?)?\(?\d{{3}}\)?{_GAP}{{1,2}}\d{{3}}{_GAP}\d{{4}}){_END}"),
    ),
    Shape("[phone]", re.compile(rf"(?<!\d)(?<![A-Za-z])(\(?0\d{{1,4}}\)?(?:{_GAP}{{0,2}}\d){{6,9}}){_END}")),
    Shape(
        "[phone]",
        re.compile(
            rf"(?:(?<![A-Za-z])(?:tel|phone|call|text|mobile|cell|whatsapp)|电话|手机)[\W_]{{0,4}}(\d(?:{_GAP}?\d){{6,13}}){_END}",
            re.IGNORECASE,
        ),
    ),
    Shape(
        "[account]",
        re.compile(
            r"(?:(?<![A-Za-z])(?:wechat|weixin|qq)|微信|扣扣)[\W_]{0,4}(?:id|号)?[\W_]{0,4}([0-9a-z][\w\-]{4,24})",
            re.ASCII | re.IGNORECASE,
        ),
        _has_five_digits,
    ),
    Shape("[number]", re.compile(r"(?<!\d)(\d{9,40})")),
)


def mask(text: str) -> str:
    """``text`` with personal data replaced by tokens.

    >>> mask("Write to jo.doe+x@example.co.uk or call +44 20 7946 0958, paid 19.99 for 2 x 500 ml")
    'Write to [email] or call [phone], paid 19.99 for 2 x 500 ml'
    >>> mask("我的电话13812345678 订单号 A20240117001")
    '我的电话[phone] 订单号 [order]'
    """
    for shape in SHAPES:
        text = _replace(text, shape)
    return text


def _replace(text: str, shape: Shape) -> str:
    parts: list[str] = []
    done = searched = 0
    while (found := shape.pattern.search(text, searched)) is not None:
        start, end = found.span(1)
        if shape.accept(found[1]):
            parts += (text[done:start], shape.token)
            done = searched = end
        else:
            # A candidate may begin inside one that failed: "2019 4111 1111 1111 1111".
            searched = found.start() + 1
    return text if done == 0 else "".join((*parts, text[done:]))


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
