"""All rules as one judge: the spike, the surge, and the thresholds of a rules file.

Rules:
- Each rule's detector judges the same observations and keeps a state of its own. Where the spike detector
  alone remembers anything, the state is its bytes.
- The statistical rules share the false-alarm budget evenly. An incident can raise both, so together they make
  fewer false incidents than the budget allows, not more.
- A rules file may ask more of some products, or mute a rule. What is muted goes on learning, and what fires
  when it is muted goes on until it resolves; only nothing new fires.
- After a recount the states follow what subscribers know (``alert_ids``, ``follow``), whatever the rule.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar

import msgspec

from stream.core import spike_state, surge, threshold
from stream.core.complaints import Complaints
from stream.core.damping import Damping
from stream.core.events import CHANNELS
from stream.core.priors import DEFAULT
from stream.core.spike import SpikeDetector
from stream.core.surge import SurgeDetector
from stream.core.threshold import ThresholdDetector

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from stream.core.background import Background
    from stream.core.events import Alert, Channel, Quote
    from stream.core.priors import Priors
    from stream.core.rules import Builtin, Minimums, Rules
    from stream.core.spike import Observation, SpikeRule
    from stream.core.surge import SurgeRule

MUTED = 1_000_000_000
"""Negatives that no excursion reaches."""
VARIANTS = 256
"""Of a statistical rule, for products of which a rules file asks different things."""
_SEVERAL = b"\x03"

Rule = TypeVar("Rule", "SpikeRule", "SurgeRule")


Detector: TypeAlias = SpikeDetector | SurgeDetector


class _States(NamedTuple):
    """A product's state on a channel, by rule."""

    spike: bytes | None = None
    surge: bytes | None = None
    thresholds: bytes | None = None


_decode = msgspec.msgpack.Decoder(_States).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(states: _States) -> bytes:
    """States as bytes; those of the spike detector alone as they are."""
    if states.surge is None and states.thresholds is None and states.spike is not None:
        return states.spike
    return _SEVERAL + _encode(states)


def unpack(packed: bytes | None) -> _States:
    """The inverse of ``pack``; nothing is remembered of a product never seen.

    Raises:
        ValueError: the bytes are damaged.
    """
    if packed is None:
        return _States()
    if packed[:1] != _SEVERAL:
        return _States(spike=packed)
    try:
        return _decode(memoryview(packed)[1:])
    except msgspec.MsgspecError as error:
        raise ValueError(f"the detectors' state is damaged: {error}") from error


class Detection:
    """Judges the events of one product and channel after another under all rules.

    Args:
        spike: has the negative share risen?
        surge: has the number of negatives risen?
        rules: a rules file: thresholds, and exceptions from the two.
        model_version: named in alerts.
        background: what customers write anyway.
        priors: what baselines begin with, and how the hours of a week differ.
    """

    def __init__(
        self,
        spike: SpikeRule,
        surge: SurgeRule,
        rules: Rules,
        model_version: str,
        *,
        background: Background,
        priors: Priors = DEFAULT,
    ) -> None:
        self._rules = rules
        self._thresholds = ThresholdDetector(rules.thresholds, model_version, spike.historic_after_ms)

        def spike_detector(
            _channel: Channel, min_events: int | None, min_negatives: int | None
        ) -> SpikeDetector:
            changed = _changed(spike, min_events=min_events, min_negatives=min_negatives)
            return SpikeDetector(changed, model_version, background, priors)

        def surge_detector(
            channel: Channel, _min_events: int | None, min_negatives: int | None
        ) -> SurgeDetector:
            changed = _changed(surge, min_negatives=min_negatives)
            return SurgeDetector(changed, model_version, priors.profile(channel))

        self._detector_for: dict[Builtin, Callable[[Channel, int | None, int | None], Detector]] = {
            "spike": lru_cache(VARIANTS)(spike_detector),
            "surge": lru_cache(VARIANTS)(surge_detector),
        }
        self._alike = {
            (name, channel): detector_for(channel, *_least(rules.minimums(name, "", channel, None)))
            for name, detector_for in self._detector_for.items()
            for channel in CHANNELS
        }
        """The detectors of all products, where the rules file makes no exception."""

    def judge(
        self, product_id: str, channel: Channel, state: bytes | None, observations: Sequence[Observation]
    ) -> tuple[bytes, list[Alert]]:
        """The new state, and the transitions of all rules: rule by rule, each in order.

        Raises:
            ValueError: ``state`` is not one this version wrote.
        """
        before = unpack(state)
        spike, of_spike = self._judged("spike", product_id, channel, before.spike, observations)
        surge, of_surge = self._judged("surge", product_id, channel, before.surge, observations)
        thresholds, of_thresholds = self._thresholds.judge(
            product_id, channel, before.thresholds, observations
        )
        return pack(_States(spike, surge, thresholds)), [*of_spike, *of_surge, *of_thresholds]

    def _judged(
        self,
        name: Builtin,
        product_id: str,
        channel: Channel,
        state: bytes | None,
        observations: Sequence[Observation],
    ) -> tuple[bytes | None, list[Alert]]:
        if not self._rules.overrides:
            return self._alike[name, channel].judge(product_id, channel, state, observations)
        transitions: list[Alert] = []
        for category, some in groupby(observations, key=lambda seen: seen.category):
            minimums = self._rules.minimums(name, product_id, channel, category)
            detector = self._detector_for[name](channel, *_least(minimums))
            state, more = detector.judge(product_id, channel, state, list(some))
            transitions += more
        return state, transitions


def _least(minimums: Minimums) -> tuple[int | None, int | None]:
    """Least events and negatives."""
    return (minimums.min_events, minimums.min_negatives) if minimums.enabled else (None, MUTED)


def _changed(rule: Rule, **minimums: int | None) -> Rule:
    return msgspec.structs.replace(
        rule, **{name: value for name, value in minimums.items() if value is not None}
    )


class KnownAlert(Protocol):
    """What a rule's state remembers of the alert that fires, or may come to."""

    alert_id: bytes
    """Empty where there is none."""
    told: int
    """Sequences of it given out before a recount."""

    @property
    def given_out(self) -> int:
        """Transitions of it given out since; none before it fires."""
        ...


class _Opened(NamedTuple):
    """A product's state on a channel, unpacked."""

    spike: spike_state.State | None
    surge: surge.State | None
    thresholds: dict[str, threshold.RuleState]

    @classmethod
    def of(cls, packed: bytes | None) -> _Opened:
        states = unpack(packed)
        return cls(
            None if states.spike is None else spike_state.unpack(states.spike),
            None if states.surge is None else surge.unpack(states.surge),
            threshold.unpack(states.thresholds),
        )

    def alerts(self) -> list[KnownAlert]:
        incidents = [each.incident for each in self.thresholds.values()]
        known: list[KnownAlert | None] = [self.spike, self.surge, *incidents]
        return [each for each in known if each is not None and each.alert_id]

    def packed(self) -> bytes:
        return pack(
            _States(
                None if self.spike is None else spike_state.pack(self.spike),
                None if self.surge is None else surge.pack(self.surge),
                threshold.pack(self.thresholds),
            )
        )


def alert_ids(packed: bytes | None) -> dict[str, bool]:
    """Ids of the alerts that a state knows, and whether each fires; the others may come to."""
    return {each.alert_id.hex(): each.given_out > 0 for each in _Opened.of(packed).alerts()}


def follow(packed: bytes, sequences: Mapping[str, int]) -> bytes:
    """The state whose next transitions follow what subscribers know already.

    Args:
        packed: a state.
        sequences: the highest sequence that was told, by alert id.
    """
    opened = _Opened.of(packed)
    for each in opened.alerts():
        known = sequences.get(each.alert_id.hex())
        if known is not None:
            # What a firing alert has given out itself, they know; the next one follows.
            each.told = known - each.given_out
    return opened.packed()


def without_author(packed: bytes, author: int | None, events: Collection[str]) -> bytes | None:
    """The state without what it holds of a customer; None where it holds nothing.

    The author's hash goes, and with it all quotes, sentences, phrases and texts' hashes of the same rule:
    they do not say whose they are. What has been counted and judged stays, and so does an alert that fires.

    Args:
        packed: a state.
        author: ``stream.core.damping.author_hash``; None where it is not known.
        events: ids of the author's events.
    """
    opened = _Opened.of(packed)
    found = False
    if opened.spike is not None and _concerns(
        opened.spike.damping.authors, opened.spike.quotes, author, events
    ):
        opened.spike.damping = _without(opened.spike.damping, author)
        opened.spike.quotes = []
        if opened.spike.complaints is not None:
            opened.spike.complaints = Complaints(number=opened.spike.complaints.number)
        found = True
    if opened.surge is not None and _concerns(
        opened.surge.heard.authors, opened.surge.quotes, author, events
    ):
        opened.surge.heard = _without(opened.surge.heard, author)
        opened.surge.quotes = []
        found = True
    for rule in opened.thresholds.values():
        evidence = rule.evidence
        if evidence is not None and _concerns(evidence.authors, evidence.quotes, author, events):
            evidence.authors = [each for each in evidence.authors if each != author]
            evidence.quotes = []
            found = True
    return opened.packed() if found else None


def _concerns(
    authors: Collection[int], quotes: Collection[Quote], author: int | None, events: Collection[str]
) -> bool:
    return author in authors or any(quote.event_id in events for quote in quotes)


def _without(damping: Damping, author: int | None) -> Damping:
    return Damping([each for each in damping.authors if each != author])
