"""When has the negative share of a product risen? Quickest detection under a false-alarm budget.

Rules:
- ``judge`` is a pure function of rule, model version, state and observations, and does not see how the
  observations were split into calls. So the same log gives the same alerts, whatever the batching, the
  number of workers or the crashes.
- Each channel of a product is judged apart: a chat's base rate is not a review's, and one (product, channel)
  lives in one partition, which gives its observations one order.
- The detector weighs the likelihood ratio of "the share has risen" to "it is what it was". A CUSUM (Page
  1954) says where to look: it is reset where the ratio falls to one, the run of events since the last reset
  is the *excursion*, and its first event is the onset told. What is held against the threshold is the sum of
  the ratios over *every* onset within the excursion (Shiryaev 1961, Roberts 1966): bad luck before a rise
  would dilute the ratio of the first onset alone, and a young product has no time to wait for a reset.
- The share of before is not known: "it is what it was" is a beta-binomial, the posterior of the baseline,
  learned from the product's own events over a prior. How far it has risen is not known either: the evidence
  is the mean of two likelihood ratios, of a rise of the ordinary size and of a steep one, by weight. Each
  event multiplies each by the ratio of the two predictions of it. With much behind the baseline this is as
  with a known share; with little, the excursion itself moves what the baseline predicts, so a young product
  is slower, not noisier: under the prior the ratio is a martingale, and false alarms keep the budget on the
  average of a fleet.
- An excursion's counts join the baseline when the evidence is reset, and are dropped from it when the alert
  fires. The baseline is frozen while an alert fires. It weighs at most ``memory_events``: slow forgetting.
- Every event belongs to one product, so a fleet's false alarms per event are one in ``run_length`` events
  whatever the number of products. ``stream.core.run_length`` computes run lengths exactly.
- An alert resolves on events alone, by a second CUSUM the other way round; silence resolves nothing. The
  share at which it begins to resolve lies below the one at which it began to fire: hovering does not flap.
- What has been so for a week and for 1,000 events is no incident any more: it resolves as the new normal, and
  the baseline is what the share has been since the onset.
- Of one author, and from the time that something is in the air also of one text, an excursion counts two
  negatives (``stream.core.damping``): ten posts of one person are not a trend.
- A firing alert that gets worse is told again, as critical; it does not get better but by resolving.
- Only +, -, *, / and sqrt on doubles decide anything: the same bits on every machine.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stream.core.background import NOTHING_KNOWN
from stream.core.complaints import Complaints
from stream.core.damping import admits, author_hash, text_hash
from stream.core.events import Alert, Channel, Resolution, alert_id, rfc3339
from stream.core.phrases import top_phrases
from stream.core.priors import BUILT_IN, DEFAULT
from stream.core.quotes import keep_quote
from stream.core.spike_state import MAX_COUNT, Firing, State, pack, unpack
from stream.core.summary import summary
from stream.core.usual import pack as pack_usual
from stream.core.usual import unpack as unpack_usual
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.background import Background
    from stream.core.priors import Priors

Z95 = 1.959963984540054
USUAL_SAMPLE = 8
"""Of so many ordinary complaints one is remembered: reading it costs ten times what judging it does."""

LEARNED = 0.95
"""Of the threshold that is right for a known baseline: with it fleets of five kinds that learn theirs keep
between 0.7 and 1.3 of the budget (`bench detector`)."""

HOVERS_AT = 5.0
"""What the sum of evidence is in an ordinary excursion, about."""

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
    prior_share: float = BUILT_IN.share
    prior_events: float = BUILT_IN.events
    """The prior weighs as much as this many events: vaguer than fleets are, so that a fleet unlike the prior
    keeps the budget, too. See docs/decisions/0004-spike-detector.md."""
    memory_events: float = 2_000.0
    """Most a baseline weighs; beyond it, old events fade."""
    risen_odds: float = 2.5
    steep_odds: float = 8.0
    steep_weight: float = 0.15
    """Of the steep alternative; the ordinary one has the rest. A young product's baseline learns an excursion
    faster than the ordinary alternative can contradict it; the steep one is in time. More would slow ordinary
    rises down: see docs/decisions/0004-spike-detector.md."""
    share_floor: float = 0.05
    """Keeps a rise worth telling apart from zero: 1% negative to 3% wakes nobody."""
    patience_events: float = 200.0
    """An excursion longer than this and than the baseline's weight says more about the baseline."""
    recovered_evidence: float = 100.0
    """Likelihood ratio for "back" that resolves."""
    recent_events: float = 32.0
    """Memory of the share whose highest value is an alert's peak."""
    critical_share: float = 0.5
    """Critical: the share is above this with 97.5% confidence, and the baseline is below it."""
    settled_events: int = 1_000
    settled_after_ms: int = 7 * 86_400_000
    """What has lasted for so many events and so long is the new normal."""
    max_quotes: int = 5
    max_complaints: int = 200
    """Whose phrases are counted: enough to say what an incident is about, and a flood costs no more."""
    usual_after_events: int = 50
    """From here on a product remembers what is complained about anyway."""


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
    """The sum of likelihood ratios at which to alarm, for a baseline of ``share``.

    A run length is its threshold over a factor that depends on the share alone (an excursion alarms with a
    probability like 1/threshold). The polynomial, in the root of the share, is fitted to simulations for the
    rule's default alternatives, within 5% from 0.5% to 90%, and brought down to what learned baselines need.

    >>> round(threshold(0.12, 1_000_000.0))
    283265
    """
    root = math.sqrt(min(max(share, 0.005), 0.95))
    factor = -0.0033 + root * (1.2397 + root * (-1.3193 + root * 0.73))
    return LEARNED * factor * run_length


class Hypotheses(NamedTuple):
    """What an excursion is judged by: the baseline it began with, and what rises would look like."""

    alpha: float
    beta: float
    risen: float
    """Share after a rise of the ordinary size."""
    steep: float
    """Share after a steep one."""
    threshold: float
    """Sum of likelihood ratios at which to alarm."""
    patience: float
    """Events after which the excursion is given up."""


def hypotheses(rule: SpikeRule, alpha: float, beta: float) -> Hypotheses:
    """Against a baseline of Beta(``alpha``, ``beta``)."""
    weight = alpha + beta
    share = alpha / weight
    return Hypotheses(
        alpha,
        beta,
        risen_share(share, rule.risen_odds, rule.share_floor),
        risen_share(share, rule.steep_odds, rule.share_floor),
        threshold(share, rule.run_length),
        max(rule.patience_events, weight),
    )


def factors(event_is_negative: bool, before: Hypotheses, events: int, negatives: int) -> tuple[float, float]:
    """By what the next event multiplies the likelihood ratios of the ordinary and the steep rise.

    Args:
        event_is_negative: of the next event.
        before: the excursion's hypotheses.
        events: of the excursion so far.
        negatives: of those.

    >>> rule = rule_from(1.0, 1e6, 20, 8, 0)
    >>> [round(each, 2) for each in factors(True, hypotheses(rule, 12.0, 88.0), 0, 0)]  # 0.329, 0.611 / 0.12
    [2.74, 5.09]
    """
    alpha, beta, risen, steep, _, _ = before
    if event_is_negative:
        same = (alpha + negatives) / (alpha + beta + events)
        return risen / same, steep / same
    same = (beta + (events - negatives)) / (alpha + beta + events)
    return (1.0 - risen) / same, (1.0 - steep) / same


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


class SpikeDetector:
    """Judges the events of one product and channel after another under one rule.

    Args:
        rule: what to alarm at.
        model_version: named in alerts.
        background: what customers write anyway, to tell what they complain of now from it.
        priors: what baselines begin with, by channel and category; where it says nothing, the rule does.
    """

    def __init__(
        self,
        rule: SpikeRule,
        model_version: str,
        background: Background = NOTHING_KNOWN,
        priors: Priors = DEFAULT,
    ) -> None:
        self.rule = rule
        self.model_version = model_version
        self._background = background
        self._priors = priors

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
        category = observations[0].category if observations else None
        now = unpack(state) if state is not None else State(*self._prior_of(channel, category))
        transitions: list[Alert] = []
        against = hypotheses(self.rule, now.alpha, now.beta) if now.events else None
        memory = self.rule.memory_events
        for seen in observations:
            now.seen += now.seen < MAX_COUNT
            if now.firing is not None:
                transitions += self._while_firing(product_id, channel, now, now.firing, seen)
                against = against if now.events else None
            elif against is not None or seen.negative:
                against = against or self._begin(product_id, channel, now, seen)
                if seen.negative and not self._is_admitted(now, against, seen):
                    continue
                self._climb(now, against, seen)
                if now.evidence + now.steep <= 1.0 or now.events >= against.patience:
                    self._learn(now, channel, seen)
                    against = None
                elif self._is_spike(now, against):
                    now.firing = self._fire(now, seen)
                    transitions.append(self._fired(product_id, channel, now, now.firing, seen))
            else:
                # At rest and not negative: most events of most products end here.
                now.beta += 1.0
                if now.alpha + now.beta > memory:
                    self._forget(now, channel, seen)
        return pack(now), transitions

    def _begin(self, product_id: str, channel: Channel, now: State, seen: Observation) -> Hypotheses:
        """Begins an excursion."""
        now.evidence, now.steep = 1.0 - self.rule.steep_weight, self.rule.steep_weight
        now.onset_ms = seen.arrival_ms
        now.alert_id = alert_id(product_id, channel, self.rule.name, seen.arrival_ms, seen.event_id)
        return hypotheses(self.rule, now.alpha, now.beta)

    def _climb(self, now: State, against: Hypotheses, seen: Observation) -> None:
        risen, steep = factors(seen.negative, against, now.events, now.negatives)
        now.evidence *= risen
        now.steep *= steep
        weight = self.rule.steep_weight
        now.summed = (now.summed + 1.0 - weight) * risen
        now.steep_summed = (now.steep_summed + weight) * steep
        now.events += 1
        if seen.negative:
            now.negatives += 1
            if _is_in_the_air(now, against):
                self._gather(now, seen)
            elif now.seen >= self.rule.usual_after_events and _is_sampled(seen):
                usual = unpack_usual(now.usual or None)
                usual.add(seen.text, self._background)
                now.usual = pack_usual(usual)

    def _is_admitted(self, now: State, against: Hypotheses, complaint: Observation) -> bool:
        # A text's hash is dear, and copies are no matter while little is proved.
        text = text_hash(complaint.text) if _is_in_the_air(now, against) else None
        return admits(now.damping, author_hash(complaint.author_id), text)

    def _gather(self, now: State, complaint: Observation) -> None:
        keep_quote(now.quotes, complaint, self.rule.max_quotes)
        if now.complaints is None:
            now.complaints = Complaints()
        if now.complaints.number < self.rule.max_complaints:
            now.complaints.add(complaint.text, self._background)

    def _learn(self, now: State, channel: Channel, seen: Observation) -> None:
        """The excursion came to nothing: its events are the product's ordinary life."""
        now.alpha += now.negatives
        now.beta += now.events - now.negatives
        if now.alpha + now.beta > self.rule.memory_events:
            self._forget(now, channel, seen)
        now.rest()

    def _prior_of(self, channel: Channel, category: str | None) -> tuple[float, float]:
        if channel in self._priors.channels:
            prior = self._priors.of(channel, category)
            return prior.alpha, prior.beta
        share, events = self.rule.prior_share, self.rule.prior_events
        return share * events, (1.0 - share) * events

    def _forget(self, now: State, channel: Channel, seen: Observation) -> None:
        """Shrinks what was learned, not the prior: at a share of zero any complaint would be a proof.

        Another snapshot's prior, or another category's, only moves the baseline a little towards itself.
        """
        alpha, beta = self._prior_of(channel, seen.category)
        kept = (self.rule.memory_events - alpha - beta) / (now.alpha + now.beta - alpha - beta)
        now.alpha = alpha + (now.alpha - alpha) * kept
        now.beta = beta + (now.beta - beta) * kept

    def _is_spike(self, now: State, against: Hypotheses) -> bool:
        return (
            now.summed + now.steep_summed >= against.threshold
            and now.negatives >= self.rule.min_negatives
            and now.seen >= self.rule.min_events
        )

    def _fire(self, now: State, seen: Observation) -> Firing:
        share = now.negatives / now.events
        weight = min(float(now.events), self.rule.recent_events)
        return Firing(
            severity="critical" if self._is_critical(now) else "warning",
            historic=seen.arrival_ms - seen.event_ms > self.rule.historic_after_ms,
            recovery=1.0,
            back_events=0,
            back_negatives=0,
            recent_events=weight,
            recent_negatives=share * weight,
            peak_share=share,
        )

    def _is_critical(self, now: State) -> bool:
        """Most customers surely complain, and did not before."""
        critical = self.rule.critical_share
        if now.negatives <= critical * now.events or now.alpha / (now.alpha + now.beta) >= critical:
            return False
        return wilson(now.negatives, now.events)[0] > critical

    def _while_firing(
        self, product_id: str, channel: Channel, now: State, firing: Firing, seen: Observation
    ) -> list[Alert]:
        """Takes in one event of a firing alert: it ends, or gets worse, or goes on."""
        if seen.negative and not admits(now.damping, author_hash(seen.author_id), text_hash(seen.text)):
            return []
        if self._has_recovered(now, firing, seen):
            ended = self._resolved(product_id, channel, now, firing, seen, "recovered")
            now.rest()
            return [ended]
        if self._has_settled(now, seen):
            ended = self._resolved(product_id, channel, now, firing, seen, "new_normal")
            self._adopt(now, channel, seen)
            return [ended]
        if firing.severity == "warning" and self._is_critical(now):
            firing.severity = "critical"
            firing.transitions += 1
            return [self._fired(product_id, channel, now, firing, seen)]
        return []

    def _has_settled(self, now: State, seen: Observation) -> bool:
        lasted_ms = seen.arrival_ms - now.onset_ms
        return now.events >= self.rule.settled_events and lasted_ms >= self.rule.settled_after_ms

    def _adopt(self, now: State, channel: Channel, seen: Observation) -> None:
        """What has been since the onset is what is usual."""
        now.alpha, now.beta = self._prior_of(channel, seen.category)
        now.alpha += now.negatives
        now.beta += now.events - now.negatives
        if now.alpha + now.beta > self.rule.memory_events:
            self._forget(now, channel, seen)
        now.rest()

    def _has_recovered(self, now: State, firing: Firing, seen: Observation) -> bool:
        """Takes in one event of a firing alert."""
        back, risen = self._recovery_shares(now, firing)
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
            self._gather(now, seen)
        return firing.recovery >= self.rule.recovered_evidence

    def _recovery_shares(self, now: State, firing: Firing) -> tuple[float, float]:
        """The shares that mean "back" and "still risen".

        Back is a standard deviation of grace above the baseline. Still risen is halfway from there to the
        incident's own share: a high incident is over soon, a low one that hovers does not flap. Its own share
        is that of before the events that speak for "back": they would draw the two together, and an alert on
        a young product would hardly ever resolve.
        """
        weight = now.alpha + now.beta
        share = now.alpha / weight
        back = min(share + math.sqrt(share * (1.0 - share) / (weight + 1.0)), (1.0 + share) / 2.0)
        own = (now.negatives - firing.back_negatives) / (now.events - firing.back_events)
        halfway = (back + own) / 2.0
        return back, max(halfway, back + self.rule.share_floor * (1.0 - back))

    def _fired(
        self, product_id: str, channel: Channel, now: State, firing: Firing, seen: Observation
    ) -> Alert:
        since_onset = (now.negatives, now.events)
        return self._alert(product_id, channel, now, firing, seen, since_onset, None)

    def _resolved(
        self,
        product_id: str,
        channel: Channel,
        now: State,
        firing: Firing,
        seen: Observation,
        resolution: Resolution,
    ) -> Alert:
        firing.transitions += 1
        back = (firing.back_negatives, firing.back_events)
        current = back if resolution == "recovered" else (firing.recent_negatives, firing.recent_events)
        return self._alert(product_id, channel, now, firing, seen, current, resolution)

    def _alert(
        self,
        product_id: str,
        channel: Channel,
        now: State,
        firing: Firing,
        seen: Observation,
        current: tuple[float, float],
        resolution: Resolution | None,
    ) -> Alert:
        weight = now.alpha + now.beta
        usual = unpack_usual(now.usual or None)
        return Alert(
            id=now.alert_id.hex(),
            sequence=now.told + firing.transitions,
            state="firing" if resolution is None else "resolved",
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
            distinct_authors=now.damping.distinct_authors,
            quotes=list(now.quotes),
            peak_share=firing.peak_share,
            # Producers may set record timestamps, and clocks step back.
            duration_s=max(0, seen.arrival_ms - now.onset_ms) / 1000.0,
            model_version=self.model_version,
            historic=firing.historic,
            resolution=resolution,
            category=seen.category,
            phrases=top_phrases(now.complaints, usual, self._background) if now.complaints else [],
            summary=summary(now.complaints, self._background) if now.complaints else [],
            vocabulary=self._background.version,
            priors=self._priors.version,
        )


def _is_in_the_air(now: State, against: Hypotheses) -> bool:
    """The evidence is a third of the way, in logarithms, from what it hovers at to the threshold."""
    evidence = (now.summed + now.steep_summed) / HOVERS_AT
    return evidence * evidence * evidence >= against.threshold / HOVERS_AT


def _is_sampled(complaint: Observation) -> bool:
    return zlib.crc32(complaint.event_id.encode("utf-8", "surrogatepass")) % USUAL_SAMPLE == 0
