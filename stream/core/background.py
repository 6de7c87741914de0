"""How customers write anyway, whatever the product: what ``models.vocabulary`` counted.

Rules:
- A share is of complaints of ordinary length, in ten-thousandths. A phrase that is not in the table is taken
  to have the share ``FLOOR``, so that nothing is surprising without end.
- A tone is the chance, in percent, that a text with the phrase is negative, were there as many of both kinds.
- A table names its version. It decides which phrases an alert names, so another table is another version.
"""

from __future__ import annotations

import math
from functools import cache, reduce
from operator import add
from typing import TYPE_CHECKING, NamedTuple

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

TEN_THOUSAND = 10_000
FLOOR = 15
"""In ten-thousandths. Lower ones cannot be known from the 3,400 English and 9,800 Chinese texts counted."""
COMMON = 300
"""A single word of this share is too ordinary to be a reason, and is not gathered."""

_LN_2 = 0.6931471805599453


class Background(NamedTuple):
    """Shares and tones by a phrase's key."""

    version: str
    shares: dict[str, int]
    tones: dict[str, int]

    def share(self, key: str) -> float:
        """Share of complaints that have the phrase anyway."""
        return self.shares.get(key, FLOOR) / TEN_THOUSAND

    def is_common(self, key: str) -> bool:
        """Whether the phrase is too ordinary to be a reason."""
        return self.shares.get(key, FLOOR) >= COMMON

    def rarity(self, key: str) -> float:
        """Inverse document frequency: 0 for what everybody says, 6.5 for what hardly anybody does."""
        return _rarity(self.shares.get(key, FLOOR))

    def blame(self, tone_words: Iterable[str]) -> float:
        r"""How much a sentence sounds like a complaint: below 1 for praise, above 1 for blame, up to 4.

        >>> parse("version\tv\n100\t90\tleak\n100\t10\tgreat\n").blame(["leak", "motor"])
        1.44
        """
        tones = [self.tones.get(word, 50) for word in tone_words]
        # As if two more words were neutral: one word alone is no tone.
        blame = 1.0 + sum(tone - 50 for tone in tones) / (50.0 * (len(tones) + 2))
        return blame * blame  # few words have a tone, so the mean stays near one


NOTHING_KNOWN = Background("none", {}, {})


def parse(table: str) -> Background:
    r"""A background from its file: ``version``, tab, name; then lines of share, tone and phrase.

    Raises:
        UsageError: a line is neither, and no remark.

    >>> parse("# A remark\nversion\tv1\n790\t91\tnot work\n")
    Background(version='v1', shares={'not work': 790}, tones={'not work': 91})
    """
    version = ""
    shares = {}
    tones = {}
    for number, line in enumerate(table.splitlines(), 1):
        match line.split("\t"):
            case [remark] if not remark or remark.startswith("#"):
                continue
            case ["version", version]:
                continue
            case [share, tone, key] if share.isdecimal() and tone.isdecimal():
                shares[key] = int(share)
                tones[key] = int(tone)
            case _:
                raise UsageError(
                    f"Line {number} of the background vocabulary is {line[:40]!r}, not a share, a tone and a "
                    "phrase with tabs between; write it anew with `python -m models.vocabulary`."
                )
    return Background(version, shares, tones)


@cache  # a few hundred shares are different
def _rarity(share: int) -> float:
    return ln(TEN_THOUSAND / share)


def total(terms: Iterable[float]) -> float:
    """Their sum, one after another: ``sum`` compensates rounding from Python 3.12 on, so its bits differ.

    >>> total([0.1] * 10)
    0.9999999999999999
    """
    return reduce(add, terms, 0.0)


def ln(x: float) -> float:
    """The natural logarithm of a positive number, from + - * / alone: the same bits on every machine.

    The C libraries' logarithms differ in their last bit, which could swap two phrases of an alert.

    >>> ln(1.0), abs(ln(10.0) - math.log(10.0)) < 1e-15, abs(ln(1e-9) - math.log(1e-9)) < 1e-14
    (0.0, True, True)
    """
    mantissa, exponent = math.frexp(x)  # exact
    if mantissa < 0.7071067811865476:
        mantissa *= 2.0
        exponent -= 1
    # ln m = 2 artanh((m - 1) / (m + 1)). The ratio is at most 0.172, so 11 terms are as exact as a double.
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    square = ratio * ratio
    series = 0.0
    for odd in range(21, 0, -2):
        series = series * square + 1.0 / odd
    return exponent * _LN_2 + 2.0 * ratio * series
