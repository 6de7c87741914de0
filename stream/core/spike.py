"""When has the negative share of a product risen? Quickest detection under a false-alarm budget.

Rules:
- ``judge`` is a pure function of rule, model version, state and observations, and does not see how the
  observations were split into calls. So the same log gives the same alerts, whatever the batching, the
  number of workers or the crashes.
- Each channel of a product is judged apart: a chat's base rate is not a review's, and one (product, channel)
  lives in one partition, which gives its observations one order.
- The detector is a CUSUM (Page 1954; quickest by Lorden 1971, Moustakides 1986) on the likelihood ratio of
  "the share has risen" to "it is what it was", reset where the ratio falls to one. The run of events since
  the last reset is the *excursion*; its first event is the onset.
- Neither share is known, so each hypothesis is a beta-binomial. "It is what it was" is the posterior of the
  baseline, learned from the product's own events over a prior. "It has risen" is a beta around
  ``risen_share`` of it, as sure as ``alternative_events`` events. Each event multiplies the evidence by
  the ratio of the two predictions of it. With much behind the baseline this is the classical CUSUM; with
  little, the excursion itself moves what the baseline predicts, so a young product is slower, not noisier:
  under the prior the ratio is a martingale, and false alarms keep the budget on the average of a fleet.
- An excursion's counts join the baseline when the evidence is reset, and are dropped from it when the alert
  fires. The baseline is frozen while an alert fires. It weighs at most ``memory_events``: slow forgetting.
- Every event belongs to one product, so a fleet's false alarms per event are one in ``run_length`` events
  whatever the number of products. ``stream.core.run_length`` computes run lengths exactly.
- An alert resolves on events alone, by a second CUSUM the other way round; silence resolves nothing. The
  share at which it begins to resolve lies below the one at which it began to fire: hovering does not flap.
- Only +, -, *, / and sqrt on doubles decide anything: the same bits on every machine.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from stream.core.events import Alert, Channel, Quote, rfc3339
from stream.core.quotes import keep_quote
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

Z95 = 1.959963984540054
MAX_COUNT = 65_535
"""Counts of a resting state are 16 bits; ``seen`` stops there, an excursion ends long before."""

LEAST_RUN_LENGTH = 200.0
"""A shorter run length would put the threshold below what ten reviews can reach by luck."""


class Observation(msgspec.Struct, frozen=True, gc=False):
    """One scored event of one product on one channel. Comes in offset order."""

    event_id: str
    arrival_ms: int
    """Timestamp of the Kafka record."""
    event_ms: int
    negative: bool
    p_negative: float
    author_id: str | None
    text: str
    category: str | None = None


class SpikeRule(msgspec.Struct, frozen=True, kw_only=True):
    """Everything tunable. Made by ``rule_from``."""

    name: str = "negative_share"
    run_length: float
    """Events between two false alarms: what the budget leaves."""
    min_events: int
    """Events a product has had before it can alert."""
    min_negatives: int
    """Negatives since the onset before it can alert."""
    historic_after_ms: int
    """An alert on an event that arrived later than this after its time is marked historic."""
    prior_share: float = 0.15
    prior_events: float = 10.0
    """The prior weighs as much as this many events: vaguer than fleets are, so that a fleet unlike the prior
    keeps the budget, too. See docs/decisions/0004-spike-detector.md."""
    memory_events: float = 2_000.0
    """Most a baseline weighs; beyond it, old events fade."""
    risen_odds: float = 2.5
    share_floor: float = 0.05
    """Keeps a rise worth telling apart from zero: 1% negative to 3% wakes nobody."""
    alternative_events: float = 100.0
    """How sure the alternative is of its share. Fewer adapt sooner to other rises, but in a long excursion
    such an alternative forgets what it stood for: see docs/decisions/0004-spike-detector.md."""
    patience_events: float = 200.0
    """An excursion longer than this and than the baseline's weight says more about the baseline."""
    recovered_evidence: float = 100.0
    """Likelihood ratio for "back" that resolves."""
    recent_events: float = 32.0
    """Memory of the share whose highest value is an alert's peak."""
    critical_share: float = 0.5
    """Critical: the share is above this with 97.5% confidence, and the baseline is below it."""
    max_quotes: int = 5
    max_authors: int = 32


def rule_from(
    false_alarms_per_day: float,
    expected_events_per_day: float,
    min_events: int,
    min_negatives: int,
    historic_after_ms: int,
) -> SpikeRule:
    """The rule that keeps the fleet's false-alarm budget.

    Raises:
        UsageError: a minimum is beyond what a state can count.

    >>> rule_from(1.0, 1_000_000.0, 20, 8, 86_400_000).run_length
    1000000.0
    """
    if min_events > MAX_COUNT:
        raise UsageError(f"alert_min_events is {min_events}; choose at most {MAX_COUNT}")
    if min_negatives > 1_000:
        raise UsageError(f"alert_min_negatives is {min_negatives}; choose at most 1000")
    return SpikeRule(
        run_length=max(LEAST_RUN_LENGTH, expected_events_per_day / false_alarms_per_day),
        min_events=min_events,
        min_negatives=min_negatives,
        historic_after_ms=historic_after_ms,
        patience_events=max(200.0, 8.0 * min_negatives),
    )


def risen_share(share: float, odds_ratio: float, floor: float) -> float:
    """The share whose odds are ``odds_ratio`` times those of ``share`` lifted by ``floor``; below one.

    >>> round(risen_share(0.12, 2.5, 0.05), 3), round(risen_share(0.0, 2.5, 0.05), 3)
    (0.329, 0.116)
    """
    lifted = floor + (1.0 - floor) * share
    return odds_ratio * lifted / (1.0 - lifted + odds_ratio * lifted)


def threshold(share: float, run_length: float) -> float:
    """The likelihood ratio at which to alarm, for a baseline of ``share``.

    A CUSUM's run length is its threshold over a factor that depends on the share alone (Wald's identity: an
    excursion alarms with probability 1/threshold less the overshoot). The quartic is fitted to
    ``stream.core.run_length`` for the rule's default alternative, within 7% from 1% to 95%.

    >>> round(threshold(0.12, 1_000_000.0))
    69375
    """
    p = min(max(share, 0.005), 0.95)
    return run_length * (0.0420 + p * (0.3027 + p * (-0.6870 + p * (0.5737 - p * 0.2291))))


class Hypotheses(NamedTuple):
    """The two betas of an excursion: what the baseline says, and what a rise would look like."""

    alpha: float
    beta: float
    risen_alpha: float
    risen_beta: float
    threshold: float
    """Likelihood ratio at which to alarm."""
    patience: float
    """Events after which the excursion is given up."""


def hypotheses(rule: SpikeRule, alpha: float, beta: float) -> Hypotheses:
    """Against a baseline of Beta(``alpha``, ``beta``)."""
    weight = alpha + beta
    share = alpha / weight
    risen = risen_share(share, rule.risen_odds, rule.share_floor)
    sureness = rule.alternative_events
    return Hypotheses(
        alpha,
        beta,
        risen * sureness,
        (1.0 - risen) * sureness,
        threshold(share, rule.run_length),
        max(rule.patience_events, weight),
    )


def evidence_of(event_is_negative: bool, before: Hypotheses, events: int, negatives: int) -> float:
    """The factor by which the next event changes the evidence of an excursion.

    Args:
        event_is_negative: of the next event.
        before: the excursion's hypotheses.
        events: of the excursion so far.
        negatives: of those.

    >>> rule = rule_from(1.0, 1e6, 20, 8, 0)
    >>> round(evidence_of(True, hypotheses(rule, 12.0, 88.0), 0, 0), 2)   # 0.329 / 0.12
    2.74
    """
    alpha, beta, risen_alpha, risen_beta, _, _ = before
    if event_is_negative:
        risen, same = risen_alpha + negatives, alpha + negatives
    else:
        positives = events - negatives
        risen, same = risen_beta + positives, beta + positives
    return risen * (alpha + beta + events) / (same * (risen_alpha + risen_beta + events))


def wilson(negatives: float, events: float) -> tuple[float, float]:
    """95% Wilson interval of a share.

    >>> [round(bound, 3) for bound in wilson(6, 10)]
    [0.313, 0.832]
    """
    share = negatives / events
    z2 = Z95 * Z95 / events
    centre = (share + z2 / 2.0) / (1.0 + z2)
    half = Z95 / (1.0 + z2) * math.sqrt(share * (1.0 - share) / events + z2 / (4.0 * events))
    return max(0.0, centre - half), min(1.0, centre + half)


class Firing(msgspec.Struct, array_like=True):
    """What is remembered of a firing alert beyond its excursion."""

    severity: Literal["warning", "critical"]
    historic: bool
    recovery: float
    """Likelihood ratio of "back" to "still risen", at least one."""
    back_events: int
    """Since ``recovery`` was last one."""
    back_negatives: int
    recent_events: float
    recent_negatives: float
    peak_share: float


class State(msgspec.Struct, array_like=True):
    """What a (product, channel) carries from call to call."""

    alpha: float
    """Baseline: weight of negatives, prior included."""
    beta: float
    seen: int = 0
    events: int = 0
    """Since the onset; zero at rest."""
    negatives: int = 0
    evidence: float = 1.0
    """Likelihood ratio of the excursion."""
    onset_ms: int = 0
    alert_id: bytes = b""
    authors: list[int] = []
    """CRC-32 of the authors of the excursion's negatives, distinct, up to ``max_authors``."""
    quotes: list[Quote] = []
    """Gathered once the evidence is a third of the way to the threshold, in logarithms."""
    firing: Firing | None = None
    told: int = 0
    """Sequences of ``alert_id`` given out before those of this excursion. Only a recount makes it other than
    zero (``stream.core.reconcile``): what was told of an alert cannot be taken back, only followed."""


_REST = struct.Struct("<BddH")
_EXCURSION = struct.Struct("<BddHHHdq8s")
_RICH = b"\x02"
_decode_rich = msgspec.msgpack.Decoder(State).decode
_encode_rich = msgspec.msgpack.Encoder().encode


def pack(state: State) -> bytes:
    """State as bytes: 19 at rest, 47 and 4 an author in an excursion, MessagePack once there are quotes."""
    if state.events == 0:
        return _REST.pack(0, state.alpha, state.beta, state.seen)
    if state.firing is not None or state.quotes or state.told:
        return _RICH + _encode_rich(state)
    packed = _EXCURSION.pack(
        1,
        state.alpha,
        state.beta,
        state.seen,
        state.events,
        state.negatives,
        state.evidence,
        state.onset_ms,
        state.alert_id,
    )
    return packed + struct.pack(f"<{len(state.authors)}I", *state.authors) if state.authors else packed


def unpack(packed: bytes) -> State:
    """The inverse of ``pack``.

    Raises:
        ValueError: the bytes are not a state of this version.
    """
    kind = packed[0] if packed else -1
    try:
        if kind == 0:
            _, alpha, beta, seen = _REST.unpack(packed)
            return State(alpha, beta, seen)
        if kind == 1:
            _, alpha, beta, seen, events, negatives, evidence, onset_ms, alert_id = _EXCURSION.unpack_from(
                packed
            )
            authors = struct.unpack_from(f"<{(len(packed) - _EXCURSION.size) // 4}I", packed, _EXCURSION.size)
            return State(alpha, beta, seen, events, negatives, evidence, onset_ms, alert_id, list(authors))
        if kind == 2:
            return _decode_rich(memoryview(packed)[1:])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"the spike detector's state is damaged: {error}") from error
    raise ValueError(
        f"the spike detector's state is of unknown kind {kind}; was it written by a newer worker?"
    )


class SpikeDetector:
    """Judges the events of one product and channel after another under one rule."""

    def __init__(self, rule: SpikeRule, model_version: str) -> None:
        self.rule = rule
        self.model_version = model_version
        self._prior = (
            rule.prior_share * rule.prior_events,
            (1.0 - rule.prior_share) * rule.prior_events,
        )

    def judge(
        self, product_id: str, channel: Channel, state: bytes | None, observations: Sequence[Observation]
    ) -> tuple[bytes, list[Alert]]:
        """Takes in ``observations`` and says what changed.

        Args:
            product_id: whose events they are.
            channel: where they came from.
            state: what the call before returned; None for a product never seen.
            observations: scored events in offset order.

        Returns:
            The new state and the alerts' transitions, in order.

        Raises:
            ValueError: ``state`` is not one this version wrote.
        """
        now = unpack(state) if state is not None else State(*self._prior)
        transitions: list[Alert] = []
        against = hypotheses(self.rule, now.alpha, now.beta) if now.events else None
        memory = self.rule.memory_events
        for seen in observations:
            if now.seen < MAX_COUNT:
                now.seen += 1
            if now.firing is not None:
                if self._has_recovered(now, now.firing, seen):
                    transitions.append(self._resolved(product_id, channel, now, now.firing, seen))
                    _rest(now)
                    against = None
            elif against is not None or seen.negative:
                if against is None:
                    against = hypotheses(self.rule, now.alpha, now.beta)
                    now.onset_ms = seen.arrival_ms
                    now.alert_id = self._alert_id(product_id, channel, seen)
                self._climb(now, against, seen)
                if now.evidence <= 1.0 or now.events >= against.patience:
                    self._learn(now)
                    against = None
                elif self._is_spike(now, against):
                    now.firing = self._fire(now, seen)
                    transitions.append(self._fired(product_id, channel, now, now.firing, seen))
            else:
                # At rest and not negative: most events of most products end here.
                now.beta += 1.0
                if now.alpha + now.beta > memory:
                    self._forget(now)
        return pack(now), transitions

    def _alert_id(self, product_id: str, channel: Channel, onset: Observation) -> bytes:
        name = f"{product_id}\0{channel}\0{self.rule.name}\0{onset.arrival_ms}\0{onset.event_id}"
        return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8]

    def _climb(self, now: State, against: Hypotheses, seen: Observation) -> None:
        now.evidence *= evidence_of(seen.negative, against, now.events, now.negatives)
        now.events += 1
        if seen.negative:
            now.negatives += 1
            self._remember(
                now, seen, worth_quoting=now.evidence * now.evidence * now.evidence >= against.threshold
            )

    def _remember(self, now: State, complaint: Observation, *, worth_quoting: bool) -> None:
        if complaint.author_id is not None and len(now.authors) < self.rule.max_authors:
            author = zlib.crc32(complaint.author_id.encode("utf-8", "surrogatepass"))
            if author not in now.authors:
                now.authors.append(author)
        if worth_quoting:
            keep_quote(now.quotes, complaint, self.rule.max_quotes)

    def _learn(self, now: State) -> None:
        """The excursion came to nothing: its events are the product's ordinary life."""
        now.alpha += now.negatives
        now.beta += now.events - now.negatives
        if now.alpha + now.beta > self.rule.memory_events:
            self._forget(now)
        _rest(now)

    def _forget(self, now: State) -> None:
        """Shrinks what was learned, not the prior: at a share of zero any complaint would be a proof."""
        prior = self.rule.prior_events
        kept = (self.rule.memory_events - prior) / (now.alpha + now.beta - prior)
        now.alpha = self._prior[0] + (now.alpha - self._prior[0]) * kept
        now.beta = self._prior[1] + (now.beta - self._prior[1]) * kept

    def _is_spike(self, now: State, against: Hypotheses) -> bool:
        return (
            now.evidence >= against.threshold
            and now.negatives >= self.rule.min_negatives
            and now.seen >= self.rule.min_events
        )

    def _fire(self, now: State, seen: Observation) -> Firing:
        share = now.negatives / now.events
        weight = min(float(now.events), self.rule.recent_events)
        usually_below = now.alpha / (now.alpha + now.beta) < self.rule.critical_share
        surely_above = wilson(now.negatives, now.events)[0] > self.rule.critical_share
        return Firing(
            severity="critical" if surely_above and usually_below else "warning",
            historic=seen.arrival_ms - seen.event_ms > self.rule.historic_after_ms,
            recovery=1.0,
            back_events=0,
            back_negatives=0,
            recent_events=weight,
            recent_negatives=share * weight,
            peak_share=share,
        )

    def _has_recovered(self, now: State, firing: Firing, seen: Observation) -> bool:
        """Takes in one event of a firing alert."""
        back, risen = self._recovery_shares(now)
        factor = back / risen if seen.negative else (1.0 - back) / (1.0 - risen)
        firing.recovery *= factor
        firing.back_events += 1
        firing.back_negatives += seen.negative
        if firing.recovery <= 1.0:
            firing.recovery, firing.back_events, firing.back_negatives = 1.0, 0, 0
        now.events += 1
        kept = 1.0 - 1.0 / self.rule.recent_events
        firing.recent_events = firing.recent_events * kept + 1.0
        firing.recent_negatives = firing.recent_negatives * kept + seen.negative
        firing.peak_share = max(firing.peak_share, firing.recent_negatives / firing.recent_events)
        if seen.negative:
            now.negatives += 1
            self._remember(now, seen, worth_quoting=True)
        return firing.recovery >= self.rule.recovered_evidence

    def _recovery_shares(self, now: State) -> tuple[float, float]:
        """The shares that mean "back" and "still risen".

        Back is a standard deviation of grace above the baseline. Still risen is halfway from there to the
        incident's own share: a high incident is over soon, a low one that hovers does not flap.
        """
        weight = now.alpha + now.beta
        share = now.alpha / weight
        back = min(share + math.sqrt(share * (1.0 - share) / (weight + 1.0)), (1.0 + share) / 2.0)
        halfway = (back + now.negatives / now.events) / 2.0
        return back, max(halfway, back + self.rule.share_floor * (1.0 - back))

    def _fired(
        self, product_id: str, channel: Channel, now: State, firing: Firing, seen: Observation
    ) -> Alert:
        return self._alert(product_id, channel, now, firing, seen, (now.negatives, now.events), "firing")

    def _resolved(
        self, product_id: str, channel: Channel, now: State, firing: Firing, seen: Observation
    ) -> Alert:
        back = (firing.back_negatives, firing.back_events)
        return self._alert(product_id, channel, now, firing, seen, back, "resolved")

    def _alert(
        self,
        product_id: str,
        channel: Channel,
        now: State,
        firing: Firing,
        seen: Observation,
        current: tuple[float, float],
        state: Literal["firing", "resolved"],
    ) -> Alert:
        weight = now.alpha + now.beta
        return Alert(
            id=now.alert_id.hex(),
            sequence=now.told + (1 if state == "firing" else 2),
            state=state,
            rule=self.rule.name,
            severity=firing.severity,
            product_id=product_id,
            channel=channel,
            at=rfc3339(seen.arrival_ms),
            onset=rfc3339(now.onset_ms),
            events=now.events,
            negatives=now.negatives,
            current_share=current[0] / current[1],
            current_interval=wilson(*current),
            baseline_share=now.alpha / weight,
            # Wilson's needs no quantile function and holds 88% (bare prior) to 95% of the beta itself.
            baseline_interval=wilson(now.alpha, weight),
            baseline_events=weight,
            false_alarm_run_length=self.rule.run_length,
            distinct_authors=len(now.authors),
            quotes=list(now.quotes),
            peak_share=firing.peak_share,
            # Producers may set record timestamps, and clocks step back.
            duration_s=max(0, seen.arrival_ms - now.onset_ms) / 1000.0,
            model_version=self.model_version,
            historic=firing.historic,
        )


def _rest(now: State) -> None:
    now.events = now.negatives = 0
    now.evidence = 1.0
    now.authors = []
    now.quotes = []
    now.firing = None
    now.told = 0
