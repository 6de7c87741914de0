"""The natural logarithm, the same bits on every machine.

Rules:
- libm's ``log`` differs in its last bit between machines, and what decides an alert must not. Here only
  + - * / on doubles happen, after an exact split of the number into mantissa and exponent.
"""

from __future__ import annotations

import math

LN_2 = 0.6931471805599453
_HALF_ROOT = 0.7071067811865476


def ln(x: float) -> float:
    """Natural logarithm of a positive, finite number, within 3e-16 of it or of its value times 3e-16.

    With the mantissa m in [0.707, 1.414) and s = (m - 1)/(m + 1), ln m is 2(s + s^3/3 + s^5/5 + ...); s is at
    most 0.172, so that ten terms are enough for a double.

    >>> ln(1.0), ln(8.0) / ln(2.0), round(ln(10.0), 12)
    (0.0, 3.0, 2.302585092994)
    """
    mantissa, exponent = math.frexp(x)
    if mantissa < _HALF_ROOT:
        mantissa += mantissa
        exponent -= 1
    s = (mantissa - 1.0) / (mantissa + 1.0)
    z = s * s
    series = 1.0 / 19.0
    for odd in (17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0):
        series = 1.0 / odd + z * series
    return exponent * LN_2 + (2.0 * s + 2.0 * s * z * series)
