"""What of a day is worth telling, by category.

Rules:
- A product went badly or well when the interval of its negative share lies wholly above or below what it was
  in the days before: a few events prove nothing, and one bad review of one is no news.
- What leads is ordered by the lower end of its interval (``stream.client.counts``).
- Of many, the first few are told, and how many more there are.
"""

from __future__ import annotations

from functools import partial
from operator import eq
from typing import TYPE_CHECKING, NamedTuple

from stream.client.counts import wilson_lower
from stream.digest.read import Tally, changed_ms, fired_ms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from stream.core.events import Alert
    from stream.digest.period import Period
    from stream.digest.read import Material, Product

LEAST_EVENTS = 5
"""Of a product in the period, for it to be told of at all."""
LEAST_BEFORE = 10
"""Of a product in the days before, to be compared with them."""
MOST_PRODUCTS = 5
"""In each list."""
MOST_ALERTS = 40
"""On a page; the rest is counted."""


class Told(NamedTuple):
    """An alert on the page."""

    alert: Alert
    is_on: bool
    """Whether it fired at the end of the period."""
    onset_ms: int
    ended_ms: int | None
    """When it resolved; None while it fires."""
    lasted_ms: int
    """From its onset to its end, or to the end of the period."""


class Some(NamedTuple):
    """The first of a list of products, and how many more there are."""

    products: Sequence[Product]
    more: int = 0


class Digest(NamedTuple):
    """One category's day, or the whole fleet's."""

    category: str | None
    """None for products that state none, and for the fleet."""
    now: Tally
    before: Tally
    products: int
    alerts: Sequence[Told]
    more_alerts: int
    firing: int
    recovered: int
    """Alerts that ended in the period because the share came back."""
    worse: Some
    better: Some
    worst: Some
    """By negative share."""
    praised: Some
    """By positive share."""

    @property
    def fired(self) -> int:
        """Alerts of the period."""
        return len(self.alerts) + self.more_alerts

    @property
    def change(self) -> float | None:
        """Of the negative share against the days before; None where either had no event."""
        if self.now.share is None or self.before.share is None:
            return None
        return self.now.share - self.before.share


def by_category(material: Material) -> list[Digest]:
    """A digest for each category: those with alerts first, then by negatives; without a category last."""
    names = {each.category for each in material.products} | {category for category, _ in material.alerts}
    digests = [_digest(name, material, partial(eq, name)) for name in names]
    return sorted(
        digests,
        key=lambda each: (
            each.category is None,
            -each.firing,
            -each.fired,
            -each.now.negative,
            each.category or "",
        ),
    )


def whole(material: Material) -> Digest:
    """The fleet's digest."""
    return _digest(None, material, lambda _: True)


def _digest(name: str | None, material: Material, takes: Callable[[str | None], bool]) -> Digest:
    products = [each for each in material.products if takes(each.category)]
    told = sorted(
        (_told(alert, material.period) for category, alert in material.alerts if takes(category)),
        key=lambda each: (
            not each.is_on,
            each.alert.historic,
            each.alert.severity != "critical",
            -each.onset_ms,
            each.alert.id,
        ),
    )
    enough = [each for each in products if each.now.events >= LEAST_EVENTS]
    compared = [each for each in enough if each.before.events >= LEAST_BEFORE]
    return Digest(
        category=name,
        now=_sum(each.now for each in products),
        before=_sum(each.before for each in products),
        products=len(products),
        alerts=told[:MOST_ALERTS],
        more_alerts=max(0, len(told) - MOST_ALERTS),
        firing=sum(each.is_on for each in told),
        recovered=sum(not each.is_on and each.alert.resolution == "recovered" for each in told),
        worse=_first(compared, _rise),
        better=_first(compared, _fall),
        worst=_first(enough, lambda each: wilson_lower(each.now.negative, each.now.events)),
        praised=_first(
            [each for each in enough if each.now.positive > each.now.events / 2],
            lambda each: wilson_lower(each.now.positive, each.now.events),
        ),
    )


def _told(alert: Alert, period: Period) -> Told:
    onset_ms, at_ms = fired_ms(alert), changed_ms(alert)
    is_on = alert.state == "firing" or at_ms >= period.end_ms
    ended_ms = at_ms if alert.state == "resolved" else None
    return Told(alert, is_on, onset_ms, ended_ms, (ended_ms or period.end_ms) - onset_ms)


def _rise(product: Product) -> float:
    """How far the share surely rose; none of it, nor less, where that is not sure."""
    return wilson_lower(product.now.negative, product.now.events) - (product.before.share or 0.0)


def _fall(product: Product) -> float:
    """How far the share surely fell, likewise."""
    # 1 - lower end of the others' share is the upper end of the negatives'.
    others = product.now.events - product.now.negative
    return (product.before.share or 0.0) - (1 - wilson_lower(others, product.now.events))


def _first(products: Sequence[Product], merit: Callable[[Product], float]) -> Some:
    ranked = sorted((-merit(each), each.product_id, each) for each in products)
    found = [each for merit_below, _, each in ranked if merit_below < 0]
    return Some(found[:MOST_PRODUCTS], max(0, len(found) - MOST_PRODUCTS))


def _sum(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for each in tallies:
        whole = whole.plus(each)
    return whole
