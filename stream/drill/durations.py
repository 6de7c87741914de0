"""Rule files in which a minute lasts as long as one says: what takes hours on call takes minutes in a drill.

Rules:
- Ranges, offsets and ``for`` are scaled, and the thresholds of lag in seconds with them. Nothing else is:
  shares, counts, and the seconds by which a clock is wrong stay what they are.
- It is done to the text, so that what Prometheus reads is the deployed file but for these numbers.
"""

from __future__ import annotations

import re

UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}

_RANGE = re.compile(r"\[(?P<number>\d+)(?P<unit>[smhd])\]")
_OFFSET = re.compile(r"(?<= offset )(?P<number>\d+)(?P<unit>[smhd])\b")
_FOR = re.compile(r"(?<=\bfor: )(?P<number>\d+)(?P<unit>[smhd])$", re.MULTILINE)
_LAG = re.compile(r"(?P<before>lag_seconds:max > )(?P<number>\d+)\b")


def scaled(text: str, minute_s: float) -> str:
    r"""A rule file's text with a minute of ``minute_s`` seconds.

    >>> scaled("expr: rate(x[5m] offset 1h) > 300", minute_s=1)
    'expr: rate(x[5000ms] offset 60000ms) > 300'
    >>> print(scaled("expr: reviewpulse:lag_seconds:max > 300\nfor: 5m", minute_s=1))
    expr: reviewpulse:lag_seconds:max > 5
    for: 5000ms
    """
    factor = minute_s / 60

    def duration(found: re.Match[str]) -> str:
        return f"{round(int(found['number']) * UNIT_S[found['unit']] * factor * 1000)}ms"

    text = _RANGE.sub(lambda found: f"[{duration(found)}]", text)
    text = _OFFSET.sub(duration, text)
    text = _FOR.sub(duration, text)
    return _LAG.sub(lambda found: f"{found['before']}{int(found['number']) * factor:g}", text)
