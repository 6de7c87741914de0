"""Run length: how many false alarms a stationary fleet raises, as a share of its budget.

Rules:
- A fleet is 10,000 products of Zipf volumes; each has a share of its own, drawn once from a beta. Nothing
  ever changes, so every alert is false. Baselines are learned from nothing.
- A product that alarms stays: its alert fires on or resolves, as in life.
- A false alarm is a transition to firing. The budget is of events that could raise one, those of products
  that are not firing: that is the run length. The rate over all events is told beside it: a false alert that
  never resolves lowers it, and is no merit.
- An unlucky product fires again and again, so false alarms come in clusters: the Poisson interval is somewhat
  too narrow. How many products they are of is told, too.
- Products do not touch each other, so each is judged to its end before the next.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from stream.bench.detectors.streams import judged, number_of, rule
from stream.core.spike import SpikeDetector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from numpy.random import Generator

PRODUCTS = 10_000
BETAS = ((3.0, 17.0), (1.0, 5.7), (2.0, 3.0), (30.0, 170.0), (0.6, 1.4))
"""Base rates: like the prior, wilder, far above it, alike, and wild and above it."""
FULL = ((5e3, 2_000_000), (5e4, 6_000_000))
"""Run lengths and events of a fleet: 400 and 120 false alarms allowed."""
QUICK = ((5e3, 400_000),)


class Product(msgspec.Struct):
    """What one stationary product's alerts came to."""

    alarms: int = 0
    firing_events: int = 0
    """Events that a firing alert took in: they could raise no other."""


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """False alarms of one stationary fleet."""

    base_rates: tuple[float, float]
    """Alpha and beta of the products' shares."""
    run_length: float
    least_negatives: int
    events: int
    firing_events: int
    false_alarms: int
    products_alarmed: int
    of_budget: float
    """False alarms by event that could raise one, times the run length; to be 0.7 to 1.3."""
    interval: tuple[float, float]
    """95%, Poisson, of ``of_budget``."""
    of_budget_all_events: float
    """The same by event of the whole fleet."""


def volumes(products: int, events: int, rng: Generator, exponent: float = 1.0) -> npt.NDArray[np.int64]:
    """Events of each product: the n-th most popular gets a share like n^-``exponent``.

    >>> volumes(3, 110_000, np.random.default_rng(1)).tolist()
    [60098, 30121, 19781]
    """
    weights = np.arange(1, products + 1) ** -exponent
    return rng.multinomial(events, weights / weights.sum())


def poisson_interval(count: int) -> tuple[float, float]:
    """95% interval of the mean behind a count (Byar's approximation; Breslow and Day 1987, p. 69).

    >>> [round(bound, 2) for bound in poisson_interval(10)]   # the exact one: 4.80 and 18.39
    [4.79, 18.39]
    """
    z = 1.959963984540054
    low = count * (1 - 1 / (9 * count) - z / (3 * math.sqrt(count))) ** 3 if count else 0.0
    more = count + 1
    return low, more * (1 - 1 / (9 * more) + z / (3 * math.sqrt(more))) ** 3


def stationary(detector: SpikeDetector, negative: npt.NDArray[np.bool_]) -> Product:
    """Judges a product of which nothing changes, from its first event to its last."""
    product, fired = Product(), None
    for _, alerts in judged(detector, None, negative):
        for alert in alerts:
            # An alert may speak again while it fires, to escalate, say: that is no second alarm.
            if alert.state == "firing" and fired is None:
                product.alarms += 1
                fired = number_of(alert)
            elif alert.state == "resolved" and fired is not None:
                product.firing_events += number_of(alert) - fired
                fired = None
    if fired is not None:
        product.firing_events += len(negative) - 1 - fired
    return product


def fleet(run_length: float, base_rates: tuple[float, float], events: int, least_negatives: int = 8) -> Fleet:
    """Judges a whole stationary fleet with a fixed seed."""
    rng = np.random.default_rng(7)
    detector = SpikeDetector(rule(run_length, least_negatives), "bench")
    shares = rng.beta(*base_rates, PRODUCTS)
    products = [
        stationary(detector, rng.random(count) < share)
        for share, count in zip(shares, volumes(PRODUCTS, events, rng), strict=True)
    ]
    alarms = sum(each.alarms for each in products)
    firing = sum(each.firing_events for each in products)
    low, high = poisson_interval(alarms)
    budget = (events - firing) / run_length
    return Fleet(
        base_rates=base_rates,
        run_length=run_length,
        least_negatives=least_negatives,
        events=events,
        firing_events=firing,
        false_alarms=alarms,
        products_alarmed=sum(each.alarms > 0 for each in products),
        of_budget=alarms / budget,
        interval=(low / budget, high / budget),
        of_budget_all_events=alarms * run_length / events,
    )


def fleets(sizes: Sequence[tuple[float, int]] = FULL, least_negatives: int = 8) -> Iterator[Fleet]:
    """Every fleet at every run length, one after another."""
    for run_length, events in sizes:
        for base_rates in BETAS:
            yield fleet(run_length, base_rates, events, least_negatives)
