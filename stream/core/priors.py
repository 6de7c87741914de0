"""What is learned across products: the prior that a product's baseline begins with, in versioned snapshots.

Rules:
- A prior is a beta: its mean is a share of negatives, its weight is told in events. It is that of the
  product's category; where the snapshot lacks the category, that of the channel's fleet; where it lacks the
  channel, the built-in one.
- A snapshot never changes: its version is made from its content and checked when it is read. So the same log
  and the same snapshot give the same alerts, whatever another worker has seen meanwhile.
- A beta is fitted by Kleinman's moments (1973, JASA 68:46-54). Nothing is fitted to fewer than ten products,
  and each level is drawn towards the one above it, the more the fewer products it has.
- A weight stays within bounds: a surer prior would take a product of a new kind for an incident and be slow
  to learn better, a vaguer one would teach nothing.
- Of a channel the snapshot may also hold its week: how busy each hour of a week is (``stream.core.profile``).
- Sums are ``math.fsum``, which does not see their order, and what is fitted is rounded: the same products
  give the same priors in whatever order they are read.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec

from stream.core.events import Channel  # noqa: TC001  # msgspec reads the annotation
from stream.core.profile import HOURS, Profile, flat

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from stream.core.spike_state import State

LEAST_PRODUCTS = 10
"""Fewer say little about how products differ: the spread of ten shares is known within a half of itself."""
LEAST_EVENTS_OF_PRODUCT = 5.0
"""A product with fewer is left out: its share is a multiple of a quarter, whatever its kind."""
LEAST_EVENTS, MOST_EVENTS = 5.0, 100.0
"""Bounds of a prior's weight. A hundred events of a product's own count as much as the surest prior."""
LEAST_SHARE, MOST_SHARE = 0.01, 0.95
"""Bounds of a prior's share. Under a share of zero any complaint would be a proof."""
ITERATIONS = 100
"""Of the moments; they settle within ten or so, and where they do not, the last ones are as good as any."""
VERSION_CHARS = 12


Weight = Annotated[float, msgspec.Meta(gt=0)]


class Prior(msgspec.Struct, frozen=True):
    """A beta distribution of the share of negatives.

    >>> Prior(0.15, 10.0, 0).alpha, Prior(0.15, 10.0, 0).beta
    (1.5, 8.5)
    """

    share: Annotated[float, msgspec.Meta(gt=0, lt=1)]
    """Its mean."""
    events: Annotated[float, msgspec.Meta(gt=0)]
    """Its weight: as sure as so many events."""
    products: Annotated[int, msgspec.Meta(ge=0)]
    """How many it was fitted to."""

    @property
    def alpha(self) -> float:
        """Weight of negatives, events."""
        return self.share * self.events

    @property
    def beta(self) -> float:
        """Weight of what is not negative, events."""
        return (1.0 - self.share) * self.events


BUILT_IN = Prior(0.15, 10.0, 0)
"""Where nothing is learned; vaguer than fleets are. See docs/decisions/0004-spike-detector.md."""


# Without its defaults, a snapshot without a week has the version that it had before there were weeks.
class ChannelPriors(msgspec.Struct, frozen=True, omit_defaults=True):
    """The priors of one channel."""

    fleet: Prior
    """Of products whose category is unknown, or not among ``categories``."""
    categories: dict[str, Prior]
    week: Annotated[list[Weight], msgspec.Meta(max_length=HOURS)] = []
    """Weights of the hours of a week, from Monday 0:00 UTC on; empty where too little was seen of one."""


class Priors(msgspec.Struct, frozen=True):
    """A snapshot. Made by ``snapshot`` and ``read_snapshot``, which vouch for the version."""

    version: str
    """First characters of the SHA-256 of all the rest; empty where nothing is learned."""
    made_at: str
    """RFC 3339."""
    model_version: str
    """The model whose labels it was learned from: another one has other shares."""
    channels: dict[Channel, ChannelPriors]

    def of(self, channel: Channel, category: str | None) -> Prior:
        """The prior of a product of ``category`` on ``channel``.

        >>> shoes = ChannelPriors(Prior(0.2, 30.0, 90), {"shoes": Prior(0.1, 50.0, 40)})
        >>> priors = snapshot("2026-11-23T10:00:00.000Z", "en-1", {"reviews": shoes})
        >>> [priors.of("reviews", each).share for each in ("shoes", "lamps", None)]
        [0.1, 0.2, 0.2]
        >>> priors.of("chats", "shoes") == BUILT_IN
        True
        """
        learned = self.channels.get(channel)
        if learned is None:
            return BUILT_IN
        return learned.fleet if category is None else learned.categories.get(category, learned.fleet)

    def profile(self, channel: Channel) -> Profile:
        """How the hours of a week differ on ``channel``; a flat profile where nobody knows.

        >>> DEFAULT.profile("reviews").version
        'flat'
        """
        learned = self.channels.get(channel)
        return Profile(learned.week, self.version) if learned is not None and learned.week else flat()


DEFAULT = Priors("", "", "", {})
"""Nothing is learned: every product begins with the built-in prior."""


def snapshot(made_at: str, model_version: str, channels: Mapping[Channel, ChannelPriors]) -> Priors:
    """A snapshot with the version that its content has.

    Args:
        made_at: RFC 3339.
        model_version: whose labels were counted.
        channels: what was learned.
    """
    bare = Priors("", made_at, model_version, dict(channels))
    return msgspec.structs.replace(bare, version=_version(bare))


def encode_snapshot(priors: Priors) -> bytes:
    """A snapshot as JSON, for ``read_snapshot`` and for people."""
    return msgspec.json.format(msgspec.json.encode(priors, order="sorted"), indent=2) + b"\n"


def read_snapshot(raw: bytes) -> Priors:
    """The inverse of ``encode_snapshot``.

    Raises:
        ValueError: it is no snapshot, or not the one that its version was made from.

    >>> read_snapshot(b'{"version": "0123456789ab", "made_at": "", "model_version": "", "channels": {}}')
    Traceback (most recent call last):
    ValueError: its content is not what version 0123456789ab was made from
    """
    try:
        priors = msgspec.json.decode(raw, type=Priors)
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("its JSON is nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise ValueError(f"it is no snapshot of priors: {error}") from None
    if priors.version != _version(priors):
        version = priors.version[:VERSION_CHARS] or "(none)"
        raise ValueError(f"its content is not what version {version} was made from")
    if any(len(each.week) not in (0, HOURS) for each in priors.channels.values()):
        raise ValueError(f"a week in it has not {HOURS} hours")
    return priors


def _version(priors: Priors) -> str:
    rest = {name: getattr(priors, name) for name in priors.__struct_fields__ if name != "version"}
    return hashlib.sha256(msgspec.json.encode(rest, order="sorted")).hexdigest()[:VERSION_CHARS]


class Counts(NamedTuple):
    """What one product has taught on one channel. Old events count less, so these are no whole numbers."""

    negatives: float
    events: float
    category: str | None = None


def learned(state: State, began_with: Sequence[Prior]) -> tuple[float, float]:
    """What a detector's state has taken in beyond its prior: negatives and events.

    An excursion counts as long as no alert fires: it begins with a negative, so baselines alone would leave
    out more negatives than others. What fired is left out, as the detector leaves it out.

    A state does not say what it began with. Where its weight less the events seen is one prior's weight, it
    was that one; where old events have faded or an incident was left out, nobody knows, and it is taken for
    the first that is possible.

    Args:
        state: of a product on a channel.
        began_with: priors it may have begun with, the likeliest first; at least one.

    >>> from stream.core.spike_state import State
    >>> learned(State(alpha=4.5, beta=15.5, seen=12, events=2, negatives=2), [BUILT_IN])
    (5.0, 12.0)
    >>> learned(State(alpha=4.5, beta=15.5, seen=10), [Prior(0.1, 20.0, 40), BUILT_IN])
    (3.0, 10.0)
    """
    negatives, others = state.alpha, state.beta
    if state.firing is None:
        negatives += state.negatives
        others += state.events - state.negatives
    # Sums of doubles: equal but for rounding. A prior's weight is told to four digits behind the point.
    possible = [each for each in began_with if each.alpha <= negatives + 1e-6 and each.beta <= others + 1e-6]
    exact = [each for each in possible if abs(negatives + others - state.seen - each.events) < 1e-5]
    prior = (exact or possible or [*began_with])[0]
    negatives = max(0.0, negatives - prior.alpha)
    return negatives, negatives + max(0.0, others - prior.beta)


def learn(products: Iterable[Counts]) -> ChannelPriors | None:
    """The priors of a channel: of all its products, and of each category that has enough of them.

    Args:
        products: of one channel.

    Returns:
        The priors; None when there are too few products with enough events.
    """
    everything: list[Counts] = []
    by_category: dict[str, list[Counts]] = {}
    for each in products:
        everything.append(each)
        if each.category is not None:
            by_category.setdefault(each.category, []).append(each)
    fleet = fit([each[:2] for each in everything])
    if fleet is None:
        return None
    fleet = drawn_towards(BUILT_IN, fleet)
    fitted = {name: fit([each[:2] for each in some]) for name, some in sorted(by_category.items())}
    return ChannelPriors(
        fleet, {name: drawn_towards(fleet, own) for name, own in fitted.items() if own is not None}
    )


def drawn_towards(above: Prior, own: Prior) -> Prior:
    """A level's prior between the one above it and its own: half way with ``LEAST_PRODUCTS`` products.

    >>> drawn_towards(Prior(0.2, 20.0, 500), Prior(0.1, 40.0, 30))
    Prior(share=0.125, events=35.0, products=30)
    """
    trust = own.products / (own.products + LEAST_PRODUCTS)
    return _bounded(
        trust * own.share + (1.0 - trust) * above.share,
        trust * own.events + (1.0 - trust) * above.events,
        own.products,
    )


def fit(counts: Sequence[tuple[float, float]]) -> Prior | None:
    """The beta of the shares of many products, by Kleinman's moments.

    The share of a product of n events weighs ``n / (1 + r (n - 1))``: like its events where products hardly
    differ, like any other's where they differ much, so that a few large products do not speak for all. ``r``
    is the correlation of two events of one product, 1 / (weight + 1); the spread of the shares beyond that of
    coins tells it. Each follows from the other, so they are computed in turns. ``r`` is held within what the
    bounds of the weight allow, so that the share is the one that belongs to the weight returned.

    Args:
        counts: negatives and events of each product.

    Returns:
        The prior; None when fewer than ``LEAST_PRODUCTS`` products have ``LEAST_EVENTS_OF_PRODUCT`` events.

    >>> fit([(0, 10), (1, 10), (2, 10), (3, 10)] * 5)
    Prior(share=0.15, events=100.0, products=20)
    >>> fit([(0, 10), (6, 10)] * 5)
    Prior(share=0.3, events=5.0, products=10)
    >>> fit([(1, 10)] * 9 + [(1, 4)]) is None
    True
    """
    # Most products are small, and many of them alike.
    products = Counter(each for each in counts if each[1] >= LEAST_EVENTS_OF_PRODUCT)
    number = products.total()
    if number < LEAST_PRODUCTS:
        return None
    alike = [(many, negatives / events, events) for (negatives, events), many in products.items()]
    correlation = most = 1.0 / (LEAST_EVENTS + 1.0)
    least = 1.0 / (MOST_EVENTS + 1.0)
    for _ in range(ITERATIONS):
        share, found = _moments(alike, correlation)
        before, correlation = correlation, min(max(found, least), most)
        if abs(correlation - before) < 1e-9:
            break
    return _bounded(share, 1.0 / correlation - 1.0, number)


def _moments(alike: Sequence[tuple[int, float, float]], correlation: float) -> tuple[float, float]:
    """Mean share, and the correlation that the spread around it means, under the weights of ``correlation``.

    Args:
        alike: how many products, their share of negatives, their events.
        correlation: what the weights are made from.
    """
    rows = [
        (many, share, events, events / (1.0 + correlation * (events - 1.0))) for many, share, events in alike
    ]
    total = math.fsum(many * weight for many, _, _, weight in rows)
    mean = math.fsum(many * weight * share for many, share, _, weight in rows) / total
    spread = math.fsum(many * weight * (share - mean) * (share - mean) for many, share, _, weight in rows)
    of_products = math.fsum(many * weight * (1.0 - weight / total) for many, _, _, weight in rows)
    of_coins = math.fsum(many * weight / events * (1.0 - weight / total) for many, _, events, weight in rows)
    variance = mean * (1.0 - mean)
    if variance <= 0.0:
        return mean, 1.0  # all alike, and nothing to see how much by luck: the vaguest
    return mean, (spread / variance - of_coins) / (of_products - of_coins)


def _bounded(share: float, events: float, products: int) -> Prior:
    """Within the bounds, and short enough to read."""
    return Prior(
        round(min(max(share, LEAST_SHARE), MOST_SHARE), 6),
        round(min(max(events, LEAST_EVENTS), MOST_EVENTS), 4),
        products,
    )
