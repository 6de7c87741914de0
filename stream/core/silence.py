"""What people say about alerts: silences, and acknowledgements.

Rules:
- A silence hides notifications, never alerts: those are detected, published and listed as ever.
- It names what it is for; all that it names must fit. One that names nothing silences nothing, unless it
  says ``everything``: a mistake must not hide what matters.
- It has an end. What still fires then is told then.
- It is one person's, with a reason, for whoever wonders why the phone was quiet.
- An acknowledgement is of one alert or incident, by id: somebody is on it. It ends with it.
- One that a newer version wrote and that says more than is known here is not understood, so not obeyed.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.core.events import Alert

LONGEST_MS = 365 * 86_400_000
"""What is to be quiet for longer is no longer worth a rule."""

UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Sentence = Annotated[str, msgspec.Meta(max_length=1_000)]


class Silence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Nobody is notified of these alerts, for a while.

    >>> silence = Silence(id="s1", start_ms=0, end_ms=7_200_000, reason="recall is out", pattern="kettle-*")
    >>> silence.is_on(7_199_999), silence.is_on(7_200_000)
    (True, False)
    """

    id: Name
    start_ms: int
    end_ms: int
    """The first moment that is not silenced."""
    reason: Sentence
    author: Sentence = ""
    product: Name | None = None
    category: Name | None = None
    pattern: Name | None = None
    """A glob of product ids: ``kettle-*``."""
    rule: Name | None = None
    everything: bool = False

    def is_on(self, now_ms: int) -> bool:
        """Whether it silences at this moment."""
        return self.start_ms <= now_ms < self.end_ms

    def covers(self, alert: Alert) -> bool:
        """Whether it is for this alert, at whatever time."""
        wanted = (self.product, self.category, self.pattern, self.rule)
        if not self.everything and wanted == (None, None, None, None):
            return False
        return (
            self.product in (None, alert.product_id)
            and self.category in (None, alert.category)
            and (self.pattern is None or fnmatchcase(alert.product_id, self.pattern))
            and self.rule in (None, alert.rule)
        )


class Acknowledgement(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """Somebody has seen an alert, and looks after it."""

    alert_id: Name
    """Or an incident's id."""
    at_ms: int
    author: Sentence = ""
    note: Sentence = ""


class Said(NamedTuple):
    """All that people have said, as of one moment."""

    silences: Sequence[Silence] = ()
    acknowledged: Mapping[str, Acknowledgement] = {}
    """By the id of the alert or incident."""

    def silence_of(self, alert: Alert, now_ms: int) -> Silence | None:
        """The silence that hides this alert now; of several, the one that ends last."""
        on = [each for each in self.silences if each.is_on(now_ms) and each.covers(alert)]
        return max(on, key=lambda each: (each.end_ms, each.id), default=None)


def duration_ms(text: str) -> int:
    """A length of time as people write it.

    Args:
        text: whole numbers with ``s``, ``m``, ``h``, ``d`` or ``w``, the larger unit first.

    Raises:
        UsageError: it is none, it is zero, or longer than a year.

    >>> duration_ms("90s"), duration_ms("2h"), duration_ms("1d12h")
    (90000, 7200000, 129600000)
    """
    parts = re.findall(r"(\d{1,9})([wdhms])", text, re.ASCII)
    units = "".join(unit for _, unit in parts)
    in_order = re.fullmatch("w?d?h?m?s?", units) is not None
    if not parts or not in_order or "".join(number + unit for number, unit in parts) != text:
        raise UsageError(f"{text!r} is no duration: write 90s, 30m, 2h, 1d12h or 1w.")
    total = sum(int(number) * UNIT_MS[unit] for number, unit in parts)
    if not 0 < total <= LONGEST_MS:
        raise UsageError(f"{text!r} is not between one second and a year (365d).")
    return total
