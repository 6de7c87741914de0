"""When do a product's negatives come faster than they used to? The rule ``negative_rate``.

Rules:
- A share can stay flat while ten times as many people complain; this detector knows no share, only gaps.
- ``judge`` is a pure function, and does not see how the observations were split into calls. Time is the
  records' arrival alone, made monotone; there is no clock. Each (product, channel) is judged apart.
- The evidence is ``stream.core.rate``'s: negatives and operational days since the *onset*, the first negative
  after the evidence was last at zero. It is looked at when a negative arrives; what ended in nothing joins
  the usual rate. A product's first ``min_days`` and ``WARM_UP`` negatives are learned, never judged.
- Damped (``stream.core.damping``): of one author, or of copies of one text, two negatives count.
- A record that is old when it arrives (a backfill) is no news about the rate now, whatever its label.
- The usual rate is frozen while an alert fires. It resolves when the rate is back (a CUSUM the other way
  round) and has been for ``QUIET_DAYS``. Any event of the product shows that time has passed, silence by
  itself shows nothing, and one long gap at most a part. A rate that stays for
  ``settle_days`` is the new usual.
- Only +, -, *, / and sqrt on doubles decide anything.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Literal

import msgspec

from stream.core import damping
from stream.core.damping import Damping, admits, author_hash, text_hash
from stream.core.events import Alert, Channel, Quote, RateEvidence, alert_id, rfc3339
from stream.core.logarithm import ln
from stream.core.profile import Profile, flat
from stream.core.quotes import keep_quote
from stream.core.rate import (
    Belief,
    Pace,
    RateRule,
    belief_of,
    burstiness,
    evidence_of,
    learn,
    learn_burst,
    quiet_of,
    rate_interval,
    recovery_rates,
)
from stream.core.spike import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.spike import Observation

WARM_UP = 8.0
"""Negatives that are learned before any is judged."""
RECOVERED = ln(100.0)
"""Evidence of "back" that resolves."""
LONGEST_GAP = RECOVERED / 4.0
"""What one gap may add to it: a producer that was down for a day is no proof that customers were content."""
QUIET_DAYS = 4.0 / 24.0
"""An incident that pauses for an hour is one incident."""
LEAST_DAYS = 1.0 / 1_440.0
"""A rate is told over a minute at least: records of one moment have no rate."""
MOST_EVENTS = 2**32 - 1


class SurgeRule(msgspec.Struct, frozen=True, kw_only=True):
    """Everything tunable. Made by ``surge_rule_from``."""

    name: str = "negative_rate"
    rate: RateRule
    min_negatives: int
    """Negatives since the onset, damped, before it can alert."""
    historic_after_ms: int
    """A record that arrived later than this after its event's time counts as no negative."""
    min_days: float = 3.0
    """Operational days of history before it can alert: nights and launches look like surges."""
    critical_times: float = 5.0
    """Critical: the rate is above this many times the usual one with 97.5% confidence."""
    settle_days: float = 14.0
    max_quotes: int = 5


def surge_rule_from(
    false_alarms_per_day: float, expected_negatives_per_day: float, min_negatives: int, historic_after_ms: int
) -> SurgeRule:
    """The rule that keeps the fleet's false-alarm budget.

    Every negative belongs to one product, so the fleet's false alarms per negative are one in ``run_length``
    whatever the number of products and their rates.

    >>> surge_rule_from(1.0, 150_000.0, 8, 86_400_000).rate.run_length
    150000.0
    """
    return SurgeRule(
        rate=RateRule(run_length=expected_negatives_per_day / false_alarms_per_day),
        min_negatives=min_negatives,
        historic_after_ms=historic_after_ms,
    )


class Firing(msgspec.Struct, array_like=True):
    """What is remembered of a firing alert beyond its excursion."""

    severity: Literal["warning", "critical"]
    alarm_per_day: float
    """Rate since the onset when it fired."""
    evidence: float
    peak_share: float
    quiet: float = 0.0
    """Log-likelihood ratio of "back" to "still risen", at least zero."""
    quiet_negatives: int = 0
    """Since ``quiet`` was last zero."""
    quiet_days: float = 0.0


class State(msgspec.Struct, array_like=True):
    """What a (product, channel) carries from call to call."""

    at_ms: int
    """Until when time has been accounted for."""
    pace: Pace = msgspec.field(default_factory=Pace)
    negatives: int = 0
    """Since the onset, damped; zero at rest."""
    events: int = 0
    days: float = 0.0
    onset_ms: int = 0
    alert_id: bytes = b""
    heard: Damping = msgspec.field(default_factory=Damping)
    quotes: list[Quote] = []
    """Gathered once the evidence is a third of the way to the threshold."""
    firing: Firing | None = None
    told: int = 0
    """Sequences given out of ``alert_id`` before a recount; see ``stream.core.spike_state.State``."""

    @property
    def given_out(self) -> int:
        """Transitions of ``alert_id`` given out since."""
        return 1 if self.firing else 0


_PLAIN = struct.Struct("<Bq7dIIdq8s")
_decode_rich = msgspec.msgpack.Decoder(State).decode
_encode_rich = msgspec.msgpack.Encoder().encode


def pack(state: State) -> bytes:
    """State as bytes: 99 and 4 for each author and text held, MessagePack once there are quotes."""
    if state.firing is not None or state.quotes or state.told:
        return b"\x02" + _encode_rich(state)
    plain = _PLAIN.pack(
        1,
        state.at_ms,
        *msgspec.structs.astuple(state.pace),
        state.negatives,
        state.events,
        state.days,
        state.onset_ms,
        state.alert_id,
    )
    return plain + damping.pack(state.heard)


def unpack(packed: bytes) -> State:
    """The inverse of ``pack``.

    Raises:
        ValueError: the bytes are not a state of this version.
    """
    kind = packed[0] if packed else -1
    try:
        if kind == 1:
            _, at_ms, *pace, negatives, events, days, onset_ms, alert_id = _PLAIN.unpack_from(packed)
            return State(
                at_ms,
                Pace(*pace),
                negatives,
                events,
                days,
                onset_ms,
                alert_id if negatives else b"",
                damping.unpack(packed[_PLAIN.size :]),
            )
        if kind == 2:
            return _decode_rich(memoryview(packed)[1:])
    except (struct.error, msgspec.MsgspecError) as error:
        raise ValueError(f"the surge detector's state is damaged: {error}") from error
    raise ValueError(
        f"the surge detector's state is of unknown kind {kind}; was it written by a newer worker?"
    )


class SurgeDetector:
    """Judges the events of one product and channel after another under one rule."""

    def __init__(self, rule: SurgeRule, model_version: str, profile: Profile | None = None) -> None:
        self.rule = rule
        self.model_version = model_version
        self.profile = profile or flat()

    def judge(
        self, product_id: str, channel: Channel, state: bytes | None, observations: Sequence[Observation]
    ) -> tuple[bytes | None, list[Alert]]:
        """Takes in ``observations`` and says what changed.

        Args:
            product_id: whose events they are.
            channel: where they came from.
            state: what the call before returned; None for a product never seen.
            observations: scored events in offset order.

        Returns:
            The new state (None where there was none and nothing was observed) and the alerts' transitions.

        Raises:
            ValueError: ``state`` is not one this version wrote.
        """
        if state is None and not observations:
            return None, []
        # The first observation only starts the clock.
        now = unpack(state) if state is not None else State(observations[0].arrival_ms)
        told = observations if state is not None else observations[1:]
        transitions: list[Alert] = []
        against: Belief | None = None
        for seen in told:
            complains = seen.negative and seen.arrival_ms - seen.event_ms <= self.rule.historic_after_ms
            if now.firing is not None:
                if self._is_over(now, now.firing, seen, complains=complains):
                    transitions.append(self._resolved(product_id, channel, now, now.firing, seen))
                    self._end(now, now.firing)
            elif not complains:
                # Most events of most products end here: time is accounted for when the next negative comes.
                if now.negatives == 0:
                    now.pace.others += 1.0
                else:
                    now.events = min(now.events + 1, MOST_EVENTS)
            elif now.negatives == 0:
                self._start(product_id, channel, now, seen)
            else:
                against = against or belief_of(now.pace, self.rule.rate)
                if self._climbs(product_id, channel, now, against, seen):
                    transitions.append(self._fire(product_id, channel, now, against, seen))
                if now.negatives <= 1 or now.firing is not None:
                    # The usual rate has learned; while an excursion lasts it has not.
                    against = None
        return pack(now), transitions

    def _pass_time(self, now: State, seen: Observation) -> float:
        """Operational days since time was last accounted for; clocks that step back are waited for."""
        at_ms = max(now.at_ms, seen.arrival_ms)
        days = self.profile.days(now.at_ms, at_ms)
        now.at_ms = at_ms
        return days

    def _start(self, product_id: str, channel: Channel, now: State, seen: Observation) -> None:
        """Takes in a negative at rest."""
        days = self._pass_time(now, seen)
        if now.pace.negatives < WARM_UP or now.pace.days < self.rule.min_days:
            learn(now.pace, self.rule.rate, 1.0, days)
        else:
            learn(now.pace, self.rule.rate, 0.0, days)
            self._begin(product_id, channel, now, seen)

    def _climbs(
        self, product_id: str, channel: Channel, now: State, belief: Belief, seen: Observation
    ) -> bool:
        """Takes in a negative of an excursion; whether it makes an alert."""
        days = self._pass_time(now, seen)
        now.days += days
        before = evidence_of(now.negatives, now.days, belief)
        if before <= 0.0 or now.days >= belief.patience_days:
            learn(now.pace, self.rule.rate, now.negatives, now.days, now.events - now.negatives)
            self._begin(product_id, channel, now, seen)
            return False
        now.events = min(now.events + 1, MOST_EVENTS)
        if not admits(now.heard, author_hash(seen.author_id), text_hash(seen.text)):
            return False
        now.negatives += 1
        evidence = evidence_of(now.negatives, now.days, belief)
        if 3.0 * evidence >= belief.threshold:
            keep_quote(now.quotes, seen, self.rule.max_quotes)
        return evidence >= belief.threshold and now.negatives >= self.rule.min_negatives

    def _begin(self, product_id: str, channel: Channel, now: State, seen: Observation) -> None:
        """``seen`` is the first negative of an excursion."""
        _rest(now)
        now.negatives = now.events = 1
        now.onset_ms = now.at_ms
        now.alert_id = alert_id(product_id, channel, self.rule.name, seen.arrival_ms, seen.event_id)
        admits(now.heard, author_hash(seen.author_id), text_hash(seen.text))

    def _fire(
        self, product_id: str, channel: Channel, now: State, belief: Belief, seen: Observation
    ) -> Alert:
        days = max(now.days, LEAST_DAYS)
        surely = rate_interval(now.negatives, days, belief.clump)[0]
        now.firing = Firing(
            severity="critical" if surely > self.rule.critical_times * belief.per_day else "warning",
            alarm_per_day=now.negatives / days,
            evidence=evidence_of(now.negatives, now.days, belief),
            peak_share=now.negatives / now.events,
        )
        return self._alert(product_id, channel, now, now.firing, seen, "firing", (now.negatives, days))

    def _is_over(self, now: State, firing: Firing, seen: Observation, *, complains: bool) -> bool:
        """Takes in one event of a firing alert."""
        days = self._pass_time(now, seen)
        now.days += days
        now.events = min(now.events + 1, MOST_EVENTS)
        counts = complains and admits(now.heard, author_hash(seen.author_id), text_hash(seen.text))
        if counts:
            now.negatives += 1
            keep_quote(now.quotes, seen, self.rule.max_quotes)
        firing.peak_share = max(firing.peak_share, now.negatives / now.events)
        if now.days >= self.rule.settle_days:
            return True
        belief = belief_of(now.pace, self.rule.rate)
        rates = recovery_rates(belief, firing.alarm_per_day)
        firing.quiet += min(quiet_of(0.0, days, rates, belief.clump), LONGEST_GAP)
        firing.quiet_days += days
        if counts:
            firing.quiet += quiet_of(1.0, 0.0, rates, belief.clump)
            firing.quiet_negatives += 1
        if firing.quiet <= 0.0:
            firing.quiet, firing.quiet_negatives, firing.quiet_days = 0.0, 0, 0.0
        return firing.quiet >= RECOVERED and firing.quiet_days >= QUIET_DAYS

    def _end(self, now: State, firing: Firing) -> None:
        """The incident is over, or is the product's ordinary life from now on."""
        if now.days >= self.rule.settle_days:
            now.pace = Pace(negatives=now.negatives, days=now.days, others=now.events - now.negatives)
        else:
            usual = belief_of(now.pace, self.rule.rate).per_day
            learn_burst(now.pace, self.rule.rate, firing.alarm_per_day / usual)
        _rest(now)

    def _resolved(
        self, product_id: str, channel: Channel, now: State, firing: Firing, seen: Observation
    ) -> Alert:
        current = (firing.quiet_negatives, max(firing.quiet_days, LEAST_DAYS))
        if now.days >= self.rule.settle_days:
            current = (now.negatives, now.days)
        return self._alert(product_id, channel, now, firing, seen, "resolved", current)

    def _alert(
        self,
        product_id: str,
        channel: Channel,
        now: State,
        firing: Firing,
        seen: Observation,
        state: Literal["firing", "resolved"],
        current: tuple[int, float],
    ) -> Alert:
        belief = belief_of(now.pace, self.rule.rate)
        known = now.pace.negatives + now.pace.others
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
            current_share=now.negatives / now.events,
            current_interval=wilson(now.negatives, now.events),
            baseline_share=now.pace.negatives / known,
            baseline_interval=wilson(now.pace.negatives, known),
            baseline_events=known,
            false_alarm_run_length=self.rule.rate.run_length,
            distinct_authors=now.heard.distinct_authors,
            quotes=list(now.quotes),
            peak_share=firing.peak_share,
            duration_s=max(0, now.at_ms - now.onset_ms) / 1000.0,
            model_version=self.model_version,
            category=seen.category,
            rate=self._rate(now.pace, belief, firing, current),
        )

    def _rate(self, pace: Pace, belief: Belief, firing: Firing, current: tuple[int, float]) -> RateEvidence:
        negatives, days = current
        return RateEvidence(
            per_day=negatives / days,
            per_day_interval=rate_interval(negatives, days, belief.clump),
            usual_per_day=pace.negatives / pace.days,
            usual_interval=rate_interval(pace.negatives, pace.days, belief.clump),
            burstiness=burstiness(pace, self.rule.rate),
            evidence=firing.evidence,
            threshold=belief.threshold,
            profile=self.profile.version,
        )


def _rest(now: State) -> None:
    now.negatives = now.events = 0
    now.days = 0.0
    now.alert_id = b""
    now.onset_ms = 0
    now.heard = Damping()
    now.quotes = []
    now.firing = None
    now.told = 0
