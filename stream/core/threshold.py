"""Plain threshold rules: is the share, or the number, of negatives in a window above a line?

Rules:
- ``judge`` is a pure function of rules, model version, state and observations, and does not see how the
  observations were split into calls, as ``stream.core.spike``. What one rule does depends on its own lines in
  the file alone, not on the rules beside it.
- The only time is the arrival of the events that a rule takes, made monotone: brokers' clocks step back. One
  more than a day back says that it was wrong before, and the window begins anew.
- A window is twelfths, cut at fixed times: at least the window, at most a twelfth more, as those of
  ``stream.core.buckets``.
- *Pending* from the first event at which the condition holds, which is the onset; *firing* from the first
  event at which it has held for ``for``. An event at which it does not hold ends what is pending, and so does
  silence as long as the window.
- *Resolved* at the first event at which it has been over for ``keep_firing_for``: the share, or the count, is
  below its resolving line, or fewer than half of ``min_events`` are left. Only an event resolves: silence
  shows nothing, the event after it does.
- A rule is known by name, window and category. What is remembered of one that the file no longer has, or has
  otherwise, is dropped at the product's next event; what fired is resolved then.
- Only +, -, *, / on doubles decide anything: the same bits on every machine.

What an alert of a threshold rule says:
- ``events`` and ``negatives``: those in the window at the onset, and all since. The current share is the
  window's.
- The baseline: what had left the window before the onset, over the spike detector's prior. It decides nothing
  here; it says what is usual. What leaves the window while the rule fires is not learned.
- ``false_alarm_run_length``: 0. A line drawn by hand keeps no budget.
- Quotes and authors: gathered since the rule came within three quarters of its lines, at most a window before
  the onset.
"""

from __future__ import annotations

import zlib
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from stream.core.buckets import DAY_MS
from stream.core.damping import author_hash
from stream.core.events import Alert, Channel, Quote, alert_id, rfc3339
from stream.core.priors import BUILT_IN
from stream.core.quotes import keep_quote
from stream.core.spike import wilson

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stream.core.rules import ThresholdRule
    from stream.core.spike import Observation

TWELFTHS = 12
MOST_STEP_BACK_MS = DAY_MS
NEAR = 0.75
"""Of its lines, where a rule begins to gather quotes: half would have products near it quote all day."""
MAX_QUOTES = 5
MAX_AUTHORS = 32
MOST_PAST_EVENTS = 2_000
"""Most events a baseline weighs; with more, all it knows is halved."""
PRODUCTS_REMEMBERED = 65_536
"""Products whose rules are not looked up anew: some 200 bytes each."""


class Condition(NamedTuple):
    """When a rule holds, and when it is over."""

    share: float | None
    negatives: int | None
    min_events: int
    over_share: float | None
    over_negatives: int | None

    @classmethod
    def of(cls, rule: ThresholdRule) -> Condition:
        """A rule's, with what it does not say filled in."""
        return cls(rule.share, rule.negatives, rule.least_events, rule.over_share, rule.over_negatives)

    def holds(self, events: int, negatives: int) -> bool:
        """Whether so many events of a window, one at least, make the rule fire.

        >>> [Condition(0.4, None, 20, 0.3, None).holds(*counts) for counts in ((20, 8), (20, 7), (19, 19))]
        [True, False, False]
        """
        return (
            events >= self.min_events
            and (self.share is None or negatives / events >= self.share)
            and (self.negatives is None or negatives >= self.negatives)
        )

    def is_over(self, events: int, negatives: int) -> bool:
        """Whether they show that it is over; between this and ``holds`` nothing changes.

        >>> [Condition(0.4, None, 20, 0.3, None).is_over(*counts) for counts in ((20, 6), (20, 5), (9, 9))]
        [False, True, True]
        """
        return (
            2 * events < self.min_events
            or (self.over_share is not None and negatives / events < self.over_share)
            or (self.over_negatives is not None and negatives < self.over_negatives)
        )

    def is_near(self, events: int, negatives: int) -> bool:
        """Whether the complaints are worth keeping for quotes."""
        return (
            events >= NEAR * self.min_events
            and (self.share is None or negatives / events >= NEAR * self.share)
            and (self.negatives is None or negatives >= NEAR * self.negatives)
        )


class _Rule(NamedTuple):
    """A rule, made ready."""

    name: str
    mark: int
    category: str | None
    severity: Literal["warning", "critical"]
    condition: Condition
    window_ms: int
    twelfth_ms: int
    for_ms: int
    keep_firing_ms: int


class Evidence(msgspec.Struct, array_like=True):
    """The complaints that an alert would quote."""

    since_ms: int
    authors: list[int] = []
    """CRC-32, distinct."""
    quotes: list[Quote] = []


class Incident(msgspec.Struct, array_like=True):
    """From the onset on: pending, then firing."""

    onset_ms: int
    alert_id: bytes
    events: int
    """In the window at the onset, and all since."""
    negatives: int
    peak_share: float
    severity: Literal["warning", "critical"] | None = None
    """None while it is pending."""
    historic: bool = False
    over_since_ms: int | None = None
    told: int = 0
    """Sequences given out of this id before a recount; see ``stream.core.spike_state.State``."""

    @property
    def given_out(self) -> int:
        """Transitions of ``alert_id`` given out since."""
        return 1 if self.severity else 0


class RuleState(msgspec.Struct, array_like=True):
    """What one rule remembers of one product on one channel."""

    name: str
    mark: int
    """Tells a rule from another of its name: see ``_mark``."""
    latest_ms: int
    counts: list[int]
    """Events and negatives of each twelfth, the newest first; empty ones at the end are left out."""
    past_events: int = 0
    """Baseline: what has left the window."""
    past_negatives: int = 0
    evidence: Evidence | None = None
    incident: Incident | None = None


_VERSION = b"\x01"
_decode = msgspec.msgpack.Decoder(list[RuleState]).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(states: Mapping[str, RuleState]) -> bytes | None:
    """States by name as bytes: some 40 and the name for each at rest. None where there are none."""
    if not states:
        return None
    return _VERSION + _encode([states[name] for name in sorted(states)])


def unpack(packed: bytes | None) -> dict[str, RuleState]:
    """The inverse of ``pack``; nothing is remembered of a product never seen.

    Raises:
        ValueError: the bytes are not a state of this version.
    """
    if not packed:
        return {}
    if packed[:1] != _VERSION:
        raise ValueError(
            f"the threshold rules' state is of unknown kind {packed[0]}; was it written by a newer worker?"
        )
    try:
        return {state.name: state for state in _decode(memoryview(packed)[1:])}
    except msgspec.MsgspecError as error:
        raise ValueError(f"the threshold rules' state is damaged: {error}") from error


class ThresholdDetector:
    """Judges the events of one product and channel after another under the rules that are about them.

    Args:
        rules: of a rules file.
        model_version: named in alerts.
        historic_after_ms: an alert on an event that arrived later than this after its time is historic.
    """

    def __init__(self, rules: Sequence[ThresholdRule], model_version: str, historic_after_ms: int) -> None:
        self._scoped = [(rule, _ready(rule)) for rule in rules]
        self._model_version = model_version
        self._historic_after_ms = historic_after_ms
        self._about = lru_cache(PRODUCTS_REMEMBERED)(self._look_up)

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
            The new state, None where no rule remembers anything, and the alerts' transitions, in order.

        Raises:
            ValueError: ``state`` is not one this version wrote.
        """
        # Without a rule nothing is remembered of any product, not even that.
        rules = self._about(product_id, channel) if self._scoped else ()
        if not observations or not (rules or state):
            return state, []
        states = unpack(state)
        transitions = []
        for gone in _gone(states, rules):
            del states[gone.name]
            if gone.incident is not None and gone.incident.severity is not None:
                transitions.append(
                    self._alert(product_id, channel, gone, gone.incident, observations[0], "resolved")
                )
        for seen in observations:
            for rule in rules:
                if rule.category is not None and rule.category != seen.category:
                    continue
                now = states.get(rule.name)
                if now is None:
                    now = states[rule.name] = RuleState(rule.name, rule.mark, seen.arrival_ms, [])
                changed = self._take(rule, now, product_id, channel, seen)
                if changed is not None:
                    transitions.append(changed)
        return pack(states), transitions

    def _look_up(self, product_id: str, channel: Channel) -> tuple[_Rule, ...]:
        return tuple(ready for rule, ready in self._scoped if rule.covers(product_id, channel))

    def _take(
        self, rule: _Rule, now: RuleState, product_id: str, channel: Channel, seen: Observation
    ) -> Alert | None:
        """One event to one rule; the transition it causes."""
        _slide(rule, now, seen.arrival_ms)
        now.counts[0] += 1
        now.counts[1] += seen.negative
        events, negatives = sum(now.counts[::2]), sum(now.counts[1::2])
        _gather(rule, now, seen, events, negatives)
        incident = now.incident
        if incident is not None:
            incident.events += 1
            incident.negatives += seen.negative
            if events >= rule.condition.min_events:
                incident.peak_share = max(incident.peak_share, negatives / events)
            if incident.severity is not None:
                if not _has_ended(rule, incident, now.latest_ms, events, negatives):
                    return None
                resolved = self._alert(product_id, channel, now, incident, seen, "resolved")
                now.incident = now.evidence = None
                return resolved
        if not rule.condition.holds(events, negatives):
            now.incident = None
            return None
        if incident is None:
            named = alert_id(product_id, channel, rule.name, seen.arrival_ms, seen.event_id)
            incident = Incident(now.latest_ms, named, events, negatives, negatives / events)
            now.incident = incident
        if now.latest_ms - incident.onset_ms < rule.for_ms:
            return None
        incident.severity = rule.severity
        incident.historic = seen.arrival_ms - seen.event_ms > self._historic_after_ms
        return self._alert(product_id, channel, now, incident, seen, "firing")

    def _alert(
        self,
        product_id: str,
        channel: Channel,
        now: RuleState,
        incident: Incident,
        seen: Observation,
        state: Literal["firing", "resolved"],
    ) -> Alert:
        events, negatives = sum(now.counts[::2]), sum(now.counts[1::2])
        usual = (BUILT_IN.alpha + now.past_negatives, BUILT_IN.events + now.past_events)
        evidence = now.evidence or Evidence(now.latest_ms)
        assert incident.severity is not None
        return Alert(
            id=incident.alert_id.hex(),
            sequence=incident.told + (1 if state == "firing" else 2),
            state=state,
            rule=now.name,
            severity=incident.severity,
            product_id=product_id,
            channel=channel,
            at=rfc3339(seen.arrival_ms),
            onset=rfc3339(incident.onset_ms),
            events=incident.events,
            negatives=incident.negatives,
            current_share=negatives / events,
            current_interval=wilson(negatives, events),
            baseline_share=usual[0] / usual[1],
            baseline_interval=wilson(*usual),
            baseline_events=usual[1],
            false_alarm_run_length=0.0,
            distinct_authors=len(evidence.authors),
            quotes=list(evidence.quotes),
            peak_share=incident.peak_share,
            # Clocks step back.
            duration_s=max(0, seen.arrival_ms - incident.onset_ms) / 1000.0,
            model_version=self._model_version,
            historic=incident.historic,
            category=seen.category,
        )


def _ready(rule: ThresholdRule) -> _Rule:
    window_ms = rule.window_ms
    return _Rule(
        name=rule.name,
        mark=_mark(window_ms, rule.category),
        category=rule.category,
        severity=rule.severity,
        condition=Condition.of(rule),
        window_ms=window_ms,
        twelfth_ms=-(-window_ms // TWELFTHS),
        for_ms=rule.for_ms,
        keep_firing_ms=rule.keep_firing_ms,
    )


def _mark(window_ms: int, category: str | None) -> int:
    """What makes a rule another one: its counts would mean something else, or no event of its scope came."""
    return zlib.crc32(f"{window_ms} {category or ''}".encode("utf-8", "surrogatepass"))


def _gone(states: Mapping[str, RuleState], rules: Sequence[_Rule]) -> list[RuleState]:
    marks = {rule.name: rule.mark for rule in rules}
    return [state for state in states.values() if marks.get(state.name) != state.mark]


def _slide(rule: _Rule, now: RuleState, arrival_ms: int) -> None:
    """Moves the window to an arrival, learns what leaves it, and makes room for an event."""
    incident = now.incident
    if arrival_ms < now.latest_ms - MOST_STEP_BACK_MS:
        now.latest_ms, now.counts = arrival_ms, []
        if incident is not None:
            incident.over_since_ms = None
    at_ms = max(arrival_ms, now.latest_ms)
    passed = at_ms // rule.twelfth_ms - now.latest_ms // rule.twelfth_ms
    now.latest_ms = at_ms
    if passed:
        # A twelfth is in the window while it ends after the window begins: twelve whole ones and the newest.
        kept = 2 * max(0, TWELFTHS + 1 - passed)
        if incident is None or incident.severity is None:
            _learn(now, now.counts[kept:])
        del now.counts[kept:]
        while now.counts and not now.counts[-2]:
            del now.counts[-2:]
        if now.counts:
            now.counts[:0] = [0, 0] * passed
    if not now.counts:
        now.counts = [0, 0]
        if incident is not None and incident.severity is None:
            now.incident = None


def _learn(now: RuleState, left: list[int]) -> None:
    now.past_events += sum(left[::2])
    now.past_negatives += sum(left[1::2])
    while now.past_events > MOST_PAST_EVENTS:
        now.past_events //= 2
        now.past_negatives //= 2


def _gather(rule: _Rule, now: RuleState, seen: Observation, events: int, negatives: int) -> None:
    """Keeps a complaint for an alert that fires or may soon."""
    if now.incident is None:
        if not rule.condition.is_near(events, negatives):
            now.evidence = None
            return
        if now.evidence is not None and now.latest_ms - now.evidence.since_ms > rule.window_ms:
            now.evidence = None
    if now.evidence is None:
        now.evidence = Evidence(now.latest_ms)
    if not seen.negative:
        return
    author = author_hash(seen.author_id)
    if author is not None and author not in now.evidence.authors:
        now.evidence.authors = [*now.evidence.authors, author][:MAX_AUTHORS]
    keep_quote(now.evidence.quotes, seen, MAX_QUOTES)


def _has_ended(rule: _Rule, incident: Incident, at_ms: int, events: int, negatives: int) -> bool:
    """Whether an event shows that a firing alert has been over for long enough."""
    if not rule.condition.is_over(events, negatives):
        incident.over_since_ms = None
        return False
    if incident.over_since_ms is None:
        incident.over_since_ms = at_ms
    return at_ms - incident.over_since_ms >= rule.keep_firing_ms
