"""What a shape of personal data is, and the checks that tell it from the numbers of things.

Rules:
- A shape is a pattern, a check where one exists (check digits, a calendar, a count of digits), and what a
  text holds at least for the pattern to be worth running: digits and signs. Most reviews hold neither.
- A pattern sees text as ``stream.core.mask`` folds it: digits, Latin letters and the signs of numbers are
  ASCII and, unless the shape keeps case, letters are small.
- Every repetition in a pattern is bounded, and so is the longest match.
- The checks say what a row of numbers is not: no telephone number is made of years.
"""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


_SIZES = frozenset({"16", "32", "64", "128", "256", "512", "1024", "2048"})


def always(_match: str) -> bool:
    """No check beyond the pattern."""
    return True


class Shape(NamedTuple):
    """One kind of personal data: a candidate is group 1 of ``pattern`` where ``accept`` agrees."""

    token: str
    written: str
    """The pattern as a regular expression."""
    accept: Callable[[str], bool] = always
    digits: int = 0
    """A text with fewer digits does not hold it."""
    signs: tuple[str, ...] = ("",)
    """A text with none of these, in small letters, does not hold it."""
    keeps_case: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """Compiled when it is first needed: all together cost a start 0.3 s, and few texts need any."""
        return _compiled(self.written)


@cache
def _compiled(written: str) -> re.Pattern[str]:
    return re.compile(written)


# No digit or Latin letter may touch a number; Chinese characters may. The first digit stands before its
# look-behind: a search for a digit is ten times as quick as one for a look-behind.
FIRST = r"\d(?<![0-9a-z]\d)"
END = r"(?![0-9a-z])"
GAP = r"[ .\-]"

# "number is", "No.:", "号码是", " #": each part may be missing.
_NUMBER_IS = (
    r"(?:[\s_]{0,2}(?:numbers?|num|nos?|nr|ids?|code|号码|號碼|号|號|编号|編號|码))?"
    r"\s{0,2}[.:#=]{0,2}\s{0,2}(?:is|was|为|是|為)?\s{0,2}[:#(]{0,2}\s{0,2}"
)


def after(  # noqa: D417  # the rest are fields of Shape
    token: str,
    words: str,
    value: str,
    accept: Callable[[str], bool],
    digits: int,
    between: str = _NUMBER_IS,
) -> Shape:
    """A value that has no shape of its own, after a word that says what it is.

    Args:
        words: separated by "|". A Latin one stands alone, but for a plural's s; a Chinese one anywhere.
        value: pattern of the value, with group 1.
        between: pattern of what may stand between.

    >>> after("[order]", "order|订单", "([0-9]{5,20})", always, 5).pattern.search("my order no. 88412345")[1]
    '88412345'
    """
    named = words.split("|")
    latin = "|".join(re.escape(word) for word in named if word.isascii())
    chinese = "|".join(word for word in named if not word.isascii())
    alone = rf"(?<![a-z])(?:{latin})s?(?![a-z])"
    word = f"(?:{alone}|{chinese})" if latin and chinese else alone if latin else f"(?:{chinese})"
    return Shape(token, word + between + value, accept, digits, tuple(named))


def digits_of(match: str) -> str:
    """The digits alone.

    >>> digits_of("+44 20 7946 0958")
    '442079460958'
    """
    return "".join(char for char in match if char.isdecimal())


def at_least(digits: int) -> Callable[[str], bool]:
    """A check: so many digits, in no row of years, round numbers or sizes.

    >>> at_least(5)("A-20240"), at_least(5)("2017-2018"), at_least(5)("A-2024")
    (True, False, False)
    """
    return lambda match: len(digits_of(match)) >= digits and is_no_row(match)


def is_no_row(match: str) -> bool:
    """Whether it is not years, round numbers or sizes in a row, nor a cheer: "66666666666".

    >>> is_no_row("2017-2018"), is_no_row("100 000 000"), is_no_row("128 256 512"), is_no_row("555 123 4567")
    (False, False, False, True)
    """
    groups = re.findall(r"\d+", match)
    if len(groups) < 2:
        return len(match) < 9 or len(set(match)) > 1
    return not (
        all(map(_is_year, groups))
        or all(group[-2:] in {"0", "00", "50"} for group in groups[1:])
        or all(group in _SIZES for group in groups)
    )


def is_no_date(match: str) -> bool:
    """Whether it is neither a row nor a date.

    >>> is_no_date("05-06-2019"), is_no_date("2019.11.05"), is_no_date("01 45 67 89 10")
    (False, False, True)
    """
    groups = re.findall(r"\d+", match)
    dated = sum(map(_is_year, groups)) == 1 and all(len(group) <= 2 or _is_year(group) for group in groups)
    written = len(groups) == 1 and re.fullmatch(r"(?:19|20)\d\d[01]\d[0-3]\d", groups[0])
    return is_no_row(match) and not dated and not written


def _is_year(group: str) -> bool:
    return len(group) == 4 and group[:2] in {"18", "19", "20"}


def is_card(match: str) -> bool:
    """Check digit of payment cards (Luhn's, ISO/IEC 7812).

    >>> is_card("4111 1111 1111 1111"), is_card("4111 1111 1111 1112")
    (True, False)
    """
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits_of(match))))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0 and is_no_row(match)


def is_iban(match: str) -> bool:
    """Check digits of ISO 13616; a mistyped one with many digits counts, too.

    >>> is_iban("gb82 west 1234 5698 7654 32"), is_iban("hm01 v2ab cd3e fg4h")
    (True, False)
    """
    code = re.sub(r"[ \-]", "", match)
    number = "".join(str(int(char, 36)) for char in code[4:] + code[:4])
    return int(number) % 97 == 1 or len(digits_of(match)) >= 15


def is_ipv4(match: str) -> bool:
    """Numbers below 256, one above 99: "1.2.3.4" and "10.0.19.1" are versions.

    >>> is_ipv4("203.0.113.7"), is_ipv4("1.2.3.4"), is_ipv4("300.1.1.1")
    (True, False, False)
    """
    return 99 < max(map(int, match.split("."))) < 256


def is_ipv6(match: str) -> bool:
    """Eight groups, or fewer with a gap; "10:30:45" is a time.

    >>> is_ipv6("2001:db8::1"), is_ipv6("10:30:45"), is_ipv6("1::2")
    (True, False, False)
    """
    return match.count(":") == 7 or ("::" in match and any(len(group) > 2 for group in match.split(":")))


def is_handle(match: str) -> bool:
    """Many digits, or letters with a digit or an underscore among them: no word, and no number of things.

    >>> is_handle("12345678"), is_handle("jo_doe"), is_handle("support"), is_handle("100")
    (True, True, False, False)
    """
    return len(digits_of(match)) >= 5 or bool(re.search(r"[a-z]", match) and re.search(r"[0-9_]", match))
