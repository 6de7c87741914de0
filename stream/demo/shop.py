"""The demo's shop: what its customers write, drawn at random from a catalogue, the same for the same seed.

Rules:
- Pure: no clock, no I/O. Times are seconds after a start the caller names.
- Every record knows what must become of it: counted, dead (it is malformed) or skipped (an agent's line). The
  demo's reconciliation holds the pipeline against that.
- Volumes follow Zipf's law: the best seller, the one that will get the bad batch, has the most events.
- Each product has a share of complaints of its own, higher in chats than in reviews, as people who are
  content rarely call. During the incident the best seller's share jumps, and more people write.
- Stars agree with the words.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from stream.core.events import rfc3339
from stream.demo import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.core.events import Channel
    from stream.demo.catalogue import Category

Mood = Literal["happy", "lukewarm", "angry"]
Fate = Literal["counted", "dead", "skipped"]
Phase = Literal["usual", "incident", "replaced"]

EVENTS_PER_S = 30.0
"""Of the live part. An old laptop's core scores three times as many of these short texts."""
HISTORY_EVENTS = 1_200
HISTORY_S = 3_000.0
"""The history's event times reach this far back: it is older than the live part, and not yet late."""

REVIEW_SHARE = 0.8
"""Of arrivals; a conversation has about three lines, so 60% of the records are reviews."""
RECORDS_AN_ARRIVAL = REVIEW_SHARE + (1.0 - REVIEW_SHARE) * 3.4

ZIPF_EXPONENT = 1.1
COMPLAINTS = (0.05, 0.12)
"""Range of the products' shares of complaints in reviews."""
CHAT_COMPLAINTS_ADDED = 0.06
LUKEWARM_SHARE = 0.04
LATE_SHARE = 0.02
MALFORMED_SHARE = 0.01

INCIDENT_COMPLAINTS = 0.7
INCIDENT_VOLUME = 1.5
"""How many times as many people write about the product while it fails, and after it was replaced."""
INCIDENT_STARTS, INCIDENT_ENDS = 0.2, 0.45
"""The incident's part of the live duration."""


class Product(NamedTuple):
    """One product of the shop."""

    product_id: str
    name: str
    category: Category
    complaints: float
    """Share of its reviews that complain."""
    weight: float
    """Share of the shop's arrivals."""


class ShopRecord(NamedTuple):
    """What a producer sends, and what must become of it."""

    at_s: float
    """When to send it, after the start."""
    channel: Channel
    product_id: str
    value: bytes
    fate: Fate
    mood: Mood | None
    """What the customer feels; None where there is nothing to score."""


class Incident(NamedTuple):
    """When the best seller's bad batch is on sale, in seconds after the start."""

    starts_s: float
    ends_s: float

    @classmethod
    def of(cls, duration_s: float) -> Incident:
        """The incident of a shop that is open for ``duration_s``.

        >>> Incident.of(100.0)
        Incident(starts_s=20.0, ends_s=45.0)
        """
        return cls(duration_s * INCIDENT_STARTS, duration_s * INCIDENT_ENDS)

    def stage(self, at_s: float) -> Phase:
        """What the best seller's customers live through at a moment.

        >>> Incident.of(100.0).stage(20.0), Incident.of(100.0).stage(50.0)
        ('incident', 'replaced')
        """
        if at_s < self.starts_s:
            return "usual"
        return "incident" if at_s < self.ends_s else "replaced"


class Shop:
    """Products and their customers.

    Args:
        seed: the same seed makes the same records.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self.products = _products(random.Random(f"products {seed}"))
        self.bad_product = self.products[0]

    def history(self, now_ms: int) -> list[ShopRecord]:
        """What was said in the hour before, oldest first: what the detector learns usual shares from.

        Args:
            now_ms: when the history ends, ms since the epoch.
        """
        writer = _Writer(random.Random(f"history {self._seed}"), now_ms - int(HISTORY_S * 1000), "h")
        arrivals = _arrivals(writer.random, HISTORY_EVENTS / HISTORY_S, HISTORY_S, lambda _: 1.0)
        return writer.write(self.products, arrivals, None, HISTORY_S)

    def live(self, start_ms: int, duration_s: float) -> list[ShopRecord]:
        """What is said from ``start_ms`` on, in the order it is sent.

        Args:
            start_ms: when the shop opens, ms since the epoch.
            duration_s: how long it is open.
        """
        incident = Incident.of(duration_s)
        extra = self.bad_product.weight * (INCIDENT_VOLUME - 1.0)
        writer = _Writer(random.Random(f"live {self._seed}"), start_ms, "l")
        arrivals = _arrivals(
            writer.random,
            EVENTS_PER_S,
            duration_s,
            lambda at_s: 1.0 + (extra if at_s >= incident.starts_s else 0.0),
        )
        return writer.write(self.products, arrivals, incident, duration_s)


def _products(rng: random.Random) -> list[Product]:
    """The catalogue's products, best seller first."""
    listed = [
        (f"{category.name}-{number}", name, category)
        for category in catalogue.CATEGORIES
        for number, name in enumerate(category.products, start=1)
    ]
    ranked = [listed[0], *rng.sample(listed[1:], len(listed) - 1)]
    weights = [rank**-ZIPF_EXPONENT for rank in range(1, len(ranked) + 1)]
    return [
        Product(*product, complaints=rng.uniform(*COMPLAINTS), weight=weight / sum(weights))
        for product, weight in zip(ranked, weights, strict=True)
    ]


def _arrivals(
    rng: random.Random, events_per_s: float, duration_s: float, factor: Callable[[float], float]
) -> Iterator[float]:
    """Times of a Poisson process whose rate is multiplied by ``factor`` of the time."""
    at_s = 0.0
    while True:
        at_s += rng.expovariate(events_per_s / RECORDS_AN_ARRIVAL * factor(at_s))
        if at_s >= duration_s:
            return
        yield at_s


class _Writer:
    """Writes the records of one part of the shop's life."""

    def __init__(self, rng: random.Random, start_ms: int, prefix: str) -> None:
        self.random = rng
        self._start_ms = start_ms
        self._prefix = prefix
        self._written = 0

    def write(
        self,
        products: list[Product],
        arrivals: Iterator[float],
        incident: Incident | None,
        duration_s: float,
    ) -> list[ShopRecord]:
        weights = [product.weight for product in products]
        writes_more = [weights[0] * INCIDENT_VOLUME, *weights[1:]]
        records: list[ShopRecord] = []
        for at_s in arrivals:
            phase = incident.stage(at_s) if incident else "usual"
            (product,) = self.random.choices(products, weights if phase == "usual" else writes_more)
            voice = _Voice(self.random, product, phase if product is products[0] else "usual")
            if self.random.random() < REVIEW_SHARE:
                records.append(self._review(at_s, voice))
            else:
                records.extend(self._conversation(at_s, voice))
        return sorted(
            (record for record in records if record.at_s < duration_s), key=lambda record: record.at_s
        )

    def _review(self, at_s: float, voice: _Voice) -> ShopRecord:
        mood = voice.mood(chat=False)
        review: dict[str, Any] = {
            **self._common(at_s, voice.product),
            "rating": voice.rating(mood),
            "text": voice.review(mood),
        }
        if title := voice.title(mood):
            review["title"] = title
        return self._record(at_s, "reviews", voice.product, review, mood)

    def _conversation(self, at_s: float, voice: _Voice) -> Iterator[ShopRecord]:
        pick, product = self.random.choice, voice.product
        opening = voice.mood(chat=True)
        closing: Mood = "angry" if opening == "angry" and self.random.random() < 0.6 else "happy"
        conversation = self._id("c")
        lines: list[tuple[str, str, Mood | None]] = [
            ("customer", voice.chat_opener(opening), opening),
            ("agent", pick(catalogue.AGENT_REPLIES).format(agent=pick(catalogue.AGENTS)), None),
            ("customer", voice.chat_closer(closing), closing),
        ]
        if self.random.random() < 0.4:
            lines.append(("agent", pick(catalogue.AGENT_GOODBYES), None))
        for role, text, mood in lines:
            line = {
                **self._common(at_s, product),
                "conversation_id": conversation,
                "role": role,
                "text": text,
            }
            yield self._record(at_s, "chats", product, line, mood)
            at_s += self.random.uniform(0.5, 3.0)

    def _common(self, at_s: float, product: Product) -> dict[str, Any]:
        # Between one and five hours late: some apps send when they are online again.
        late_s = self.random.uniform(3_700, 18_000) if self.random.random() < LATE_SHARE else 0.0
        return {
            "event_id": self._id("e"),
            "product_id": product.product_id,
            "event_time": rfc3339(self._start_ms + int((at_s - late_s) * 1000)),
            "lang": "en",
            "category": product.category.name,
            "author_id": f"customer-{self.random.randrange(20_000)}",
        }

    def _record(
        self, at_s: float, channel: Channel, product: Product, event: dict[str, Any], mood: Mood | None
    ) -> ShopRecord:
        if mood and self.random.random() < MALFORMED_SHARE:
            return ShopRecord(at_s, channel, product.product_id, _malformed(self.random, event), "dead", None)
        fate: Fate = "counted" if mood else "skipped"
        return ShopRecord(at_s, channel, product.product_id, msgspec.json.encode(event), fate, mood)

    def _id(self, kind: str) -> str:
        self._written += 1
        return f"{kind}-{self._prefix}-{self._written}"


class _Voice(NamedTuple):
    """One customer, about to write of one product."""

    random: random.Random
    product: Product
    phase: Phase

    def mood(self, *, chat: bool) -> Mood:
        share = INCIDENT_COMPLAINTS if self.phase == "incident" else self.product.complaints
        if chat:
            share += CHAT_COMPLAINTS_ADDED
        if self.random.random() < share:
            return "angry"
        return "lukewarm" if not chat and self.random.random() < LUKEWARM_SHARE else "happy"

    def rating(self, mood: Mood) -> int:
        return {
            "happy": self.random.choice((4, 5, 5)),
            "lukewarm": 3,
            "angry": self.random.choice((1, 1, 2)),
        }[mood]

    def title(self, mood: Mood) -> str | None:
        if mood == "lukewarm" or self.random.random() < 0.5:
            return None
        return self.random.choice(catalogue.PRAISE_TITLES if mood == "happy" else catalogue.BLAME_TITLES)

    def review(self, mood: Mood) -> str:
        pick = self.random.choice
        if mood == "lukewarm":
            return self._filled(pick(catalogue.LUKEWARM))
        happy = mood == "happy"
        opener = pick(catalogue.PRAISE_OPENERS if happy else catalogue.BLAME_OPENERS)
        closer = pick(catalogue.PRAISE_CLOSERS if happy else catalogue.BLAME_CLOSERS)
        clauses = self.random.sample(self._clauses(mood), self.random.choice((1, 1, 2)))
        sentences = [f"{clause[0].upper()}{clause[1:]}." for clause in clauses]
        return self._filled(" ".join(filter(None, [opener, *sentences, closer])))

    def chat_opener(self, mood: Mood) -> str:
        templates = catalogue.CHAT_ANGRY_OPENERS if mood == "angry" else catalogue.CHAT_HAPPY_OPENERS
        return self._filled(self.random.choice(templates))

    def chat_closer(self, mood: Mood) -> str:
        return self._filled(
            self.random.choice(catalogue.CHAT_STILL_ANGRY if mood == "angry" else catalogue.CHAT_THANKS)
        )

    def _clauses(self, mood: Mood) -> tuple[str, ...]:
        if self.phase == "incident" and mood == "angry":
            return catalogue.BAD_BATCH
        if mood == "angry":
            return self.product.category.blame
        if self.phase == "replaced":
            return self.product.category.praise + catalogue.REPLACED
        return self.product.category.praise

    def _filled(self, template: str) -> str:
        blame = self.random.choice(self._clauses("angry"))
        number = str(self.random.randint(2, 9))
        return template.format(
            noun=self.product.category.noun,
            blame=blame.format(n=number),
            question=self.random.choice(self.product.category.questions),
            mail=f"customer{self.random.randrange(1000)}@example.com",
            n=number,
        )


def _malformed(rng: random.Random, event: dict[str, Any]) -> bytes:
    """An event as a producer with a bug would send it."""
    encoded = msgspec.json.encode(event)
    without_text = {name: value for name, value in event.items() if name != "text"}
    return rng.choice(
        (
            encoded[:-7],
            b"\xff\xfe" + encoded,
            msgspec.json.encode(without_text),
            msgspec.json.encode({**event, "text": "   "} | ({"title": " "} if "title" in event else {})),
            msgspec.json.encode({**event, "event_time": "yesterday"}),
            msgspec.json.encode({**event, "event_id": 17}),
        )
    )
