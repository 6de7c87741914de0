"""A scored part of a window to the atomic steps that record it: tally, judge, and what goes out beside them.

Rules:
- One step per shard, each with the offset it builds on. Only what lies beyond that offset is in it: after a
  crash between two shards, the one that is ahead gets nothing twice.
- Dead letters and skipped lines are counted on shard 0.
- Whether an event is a duplicate is decided here, in the order of the log; most duplicates were found before
  they were scored. A text that failed is not remembered: sent again, it has its chance.
- Pure but for the clock that scores are stamped with; it runs off the event loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import msgspec
import numpy as np

from stream.core.decode import DeadLetter, Decoded, Event
from stream.core.events import LABELS, Score, rfc3339
from stream.core.seen import fingerprints, packed_by_segment
from stream.core.segments import segments_out_of_reach
from stream.core.spike import Observation
from stream.core.tally import ProductTally, tally
from stream.store.contract import Apply, ProductApply, log_partition
from stream.store.layout import shard_of

if TYPE_CHECKING:
    from collections.abc import Container, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from faust.types import TP
    from numpy.typing import NDArray

    from stream.core.events import Alert, Channel
    from stream.core.seen import Seen
    from stream.scorer.isolate import Scored


class Detector(Protocol):
    """What the pipeline needs of ``stream.core.spike.SpikeDetector``."""

    def judge(
        self, product_id: str, channel: Channel, state: bytes | None, observations: Sequence[Observation]
    ) -> tuple[bytes, list[Alert]]:
        """The new state of a product's detector, and the alert transitions these events cause."""
        ...


@dataclass
class Part:
    """A window's records of one partition."""

    tp: TP
    epoch: int
    channel: Channel
    records: list[ConsumerRecord]
    events: list[Event]
    """What is to be scored."""
    dead: list[DeadLetter]
    skipped: list[int]
    """Offsets of lines skipped by rule."""
    first_row: int
    """Where its events begin in the window."""
    fingerprints: NDArray[np.uint64] | None
    """What each event is remembered by; None when nobody asks for duplicates."""
    duplicates: list[Event]
    """Events that were counted before: not among ``events``, and never scored."""
    log: str
    """The log its records are from; see ``stream.runs.Run``."""

    @classmethod
    def of(
        cls,
        tp: TP,
        epoch: int,
        channel: Channel,
        records: list[ConsumerRecord],
        decoded: Decoded,
        seen: Seen | None,
        first_row: int,
        log: str,
    ) -> Part:
        """A part of what was decoded, without the events that ``seen`` knows already."""
        events, duplicates, prints = decoded.events, [], None
        if seen is not None:
            prints = fingerprints(events)
            known = seen.known(_offsets(events), prints)
            if known.any():
                duplicates = [event for event, again in zip(events, known, strict=True) if again]
                events = [event for event, again in zip(events, known, strict=True) if not again]
                prints = prints[~known]
        dead, skipped = decoded.dead, decoded.skipped
        return cls(tp, epoch, channel, records, events, dead, skipped, first_row, prints, duplicates, log)

    @property
    def rows(self) -> slice:
        """Where its events are in the window."""
        return slice(self.first_row, self.first_row + len(self.events))

    @property
    def name(self) -> str:
        """The partition as the store knows it."""
        return log_partition(f"{self.tp.topic}:{self.tp.partition}", self.log)

    @property
    def last_offset(self) -> int:
        """Offset the store has when this part is applied."""
        return int(self.records[-1].offset)


class Refused(NamedTuple):
    """A dead letter on its way out."""

    record: ConsumerRecord
    stage: str
    reason: str
    is_ahead: bool = False
    """See ``DeadLetter``."""


class Timing(NamedTuple):
    """When and how long a window was scored."""

    scored_at_ms: float
    score_ms: float


class Basis(NamedTuple):
    """What a part's steps build on: all that came before it in its partition."""

    applied: tuple[int, ...]
    """Highest offset by shard."""
    states: Mapping[str, bytes | None]
    """Detector states of the part's products."""
    seen: Seen | None
    """What the partition remembers; judging brings it up to date. None counts every event."""
    generation: int = 0
    """Of the counters that all this is of."""
    model: str = ""
    """The version that scored what came before it, as far as this worker has had it noted."""
    erased: tuple[int, ...] = ()
    """The marks of erasures before any of it was read, by shard; empty where there was none."""


class Transition(NamedTuple):
    """What happens to an alert, for whoever counts or follows it."""

    alert: Alert
    events: Sequence[Event]
    """Of its product, that were judged together."""

    @property
    def cause(self) -> Event:
        """The event that caused it: the last that reached Kafka in the millisecond that the alert says."""
        at = self.alert.at
        of_then = (each for each in reversed(self.events) if rfc3339(each.arrival_ms) == at)
        return next(of_then, self.events[-1])


NO_LABELS: NDArray[np.int8] = np.zeros(0, np.int8)


class Judged(NamedTuple):
    """A part, ready to be applied."""

    part: Part
    steps: list[Apply]
    dead: list[Refused]
    states: dict[str, bytes]
    scores: list[Score]
    events: Sequence[Event] = ()
    """What the steps count."""
    labels: NDArray[np.int8] = NO_LABELS
    """Index into ``LABELS`` of each."""
    transitions: Sequence[Transition] = ()
    """What happens to alerts."""


class Judge:
    """Makes steps of parts.

    Args:
        detector: the judge of spikes.
        model_version: names the model in scores.
        late_after_ms: from when on an event is late.
        with_scores: whether scores are to be published.
    """

    def __init__(
        self,
        *,
        detector: Detector,
        model_version: str,
        late_after_ms: float,
        with_scores: bool,
    ) -> None:
        self._detector = detector
        self._model_version = model_version
        self._late_after_ms = late_after_ms
        self._with_scores = with_scores

    def judge(self, part: Part, scored: Scored, basis: Basis, timing: Timing) -> Judged:
        """The steps that record a part.

        Args:
            part: decoded.
            scored: results of its whole window.
            basis: what is known up to this part.
            timing: of its window, for scores.
        """
        fresh = _Fresh.of(part, scored, basis)
        products = tally(fresh.events, fresh.labels, fresh.sentiments, self._late_after_ms)
        new_states: dict[str, bytes] = {}
        alerts: dict[str, list[bytes]] = {}
        happened: list[Transition] = []
        for product_id, product in products.items():
            observations = [fresh.observation(row) for row in product.rows]
            state, transitions = self._detector.judge(
                product_id, part.channel, basis.states.get(product_id), observations
            )
            new_states[product_id] = state
            if transitions:
                alerts[product_id] = [msgspec.json.encode(alert) for alert in transitions]
                of_product = [fresh.events[row] for row in product.rows]
                happened += [Transition(alert, of_product) for alert in transitions]
        steps = []
        for shard, base in enumerate(basis.applied):
            if base < part.last_offset:
                here = {
                    product_id: product
                    for product_id, product in products.items()
                    if shard_of(product_id, len(basis.applied)) == shard
                }
                step = _step(part, basis, shard, fresh, here, new_states, alerts)
                is_news = shard == 0 and self._model_version != basis.model
                steps.append(step._replace(model=self._model_version) if is_news else step)
        scores = self._scores(part, fresh, timing) if self._with_scores else []
        return Judged(
            part, steps, fresh.dead, new_states, scores, fresh.events, fresh.label_numbers, happened
        )

    def _scores(self, part: Part, fresh: _Fresh, timing: Timing) -> list[Score]:
        return [
            Score(
                event_id=event.event_id,
                product_id=event.product_id,
                channel=part.channel,
                label=LABELS[fresh.labels[row]],
                probabilities=dict(zip(LABELS, fresh.probabilities[row].tolist(), strict=True)),
                sentiment=fresh.sentiments[row] / 1000,
                model_version=self._model_version,
                event_time=rfc3339(event.event_ms),
                queue_ms=timing.scored_at_ms - event.arrival_ms,
                score_ms=timing.score_ms,
            )
            for row, event in enumerate(fresh.events)
        ]


def _step(
    part: Part,
    basis: Basis,
    shard: int,
    fresh: _Fresh,
    products: Mapping[str, ProductTally],
    states: Mapping[str, bytes],
    alerts: Mapping[str, list[bytes]],
) -> Apply:
    """A part's step on one shard; ``products`` are those of the shard."""
    applied, seen = basis.applied, basis.seen
    outcomes = {
        "counted": sum(len(product.rows) for product in products.values()),
        "late": sum(product.late for product in products.values()),
        "dead": len(fresh.dead) if shard == 0 else 0,
        "skipped": fresh.skipped if shard == 0 else 0,
        "duplicate": sum(shard_of(event.product_id, len(applied)) == shard for event in fresh.duplicates),
    }
    return Apply(
        shard=shard,
        partition=part.name,
        base=applied[shard],
        last=part.last_offset,
        channel=part.channel,
        arrival_ms=max((event.arrival_ms for event in fresh.events), default=0),
        ledger={f"{part.channel}:{name}": number for name, number in outcomes.items() if number},
        products=[
            ProductApply(
                product_id,
                product.late,
                product.first_event_ms,
                product.last_event_ms,
                states[product_id],
                list(product.spans.items()),
            )
            for product_id, product in products.items()
        ],
        transitions=[alert for product_id in products for alert in alerts.get(product_id, ())],
        seen=fresh.remembered(products, part.last_offset, seen.kept) if seen else [],
        forgotten=segments_out_of_reach(applied[shard], part.last_offset, seen.kept) if seen else [],
        generation=basis.generation,
        erased=basis.erased[shard] if basis.erased else 0,
    )


@dataclass
class _Fresh:
    """The events of a part that the store does not have yet, with their scores."""

    events: list[Event]
    label_numbers: NDArray[np.int8]
    labels: list[int]
    """The same, as Python's numbers."""
    sentiments: list[int]
    p_negative: list[float]
    probabilities: np.ndarray[Any, np.dtype[np.float32]]
    dead: list[Refused]
    skipped: int
    duplicates: list[Event]
    """Events that were counted before."""
    fingerprints: NDArray[np.uint64] | None

    @classmethod
    def of(cls, part: Part, scored: Scored, basis: Basis) -> _Fresh:
        events, prints = part.events, part.fingerprints
        probabilities, labels = scored.probabilities[part.rows], scored.labels[part.rows]
        first, stop = part.rows.start, part.rows.stop
        failed = {row - first: why for row, why in scored.failed.items() if first <= row < stop}
        rows, duplicates = _to_count(part, failed, basis.applied, basis.seen)
        if len(rows) < len(events):
            events = [events[row] for row in rows]
            probabilities, labels = probabilities[rows], labels[rows]
            prints = prints[rows] if prints is not None else None
        return cls(
            events=events,
            label_numbers=labels,
            labels=labels.tolist(),
            sentiments=np.rint((probabilities[:, 2] - probabilities[:, 0]) * 1000).astype(int).tolist(),
            p_negative=probabilities[:, 0].tolist(),
            probabilities=probabilities,
            dead=_refused(part, failed, basis.applied),
            skipped=sum(offset > basis.applied[0] for offset in part.skipped),
            duplicates=duplicates,
            fingerprints=prints,
        )

    def remembered(self, products: Container[str], last: int, kept: int) -> list[tuple[int, bytes]]:
        """Fingerprints of these products' events, to be stored; see ``packed_by_segment``."""
        if self.fingerprints is None:
            return []
        rows = [row for row, event in enumerate(self.events) if event.product_id in products]
        offsets = _offsets([self.events[row] for row in rows])
        return packed_by_segment(offsets, self.fingerprints[rows], last, kept)

    def observation(self, row: int) -> Observation:
        event = self.events[row]
        return Observation(
            event.event_id,
            event.arrival_ms,
            event.event_ms,
            self.labels[row] == 0,
            self.p_negative[row],
            event.author_id,
            event.text,
            event.category,
        )


def _to_count(
    part: Part,
    failed: Mapping[int, str],
    applied: Sequence[int],
    seen: Seen | None,
) -> tuple[list[int], list[Event]]:
    """Rows of the part's events that are to be counted, and the events that were counted before."""
    events = part.events
    rows = list(range(len(events)))
    if failed or max(applied) >= part.records[0].offset:
        # After a crash between two shards, or with failed texts, not all of it is to be counted.
        rows = [
            row
            for row, event in enumerate(events)
            if row not in failed and event.offset > applied[shard_of(event.product_id, len(applied))]
        ]
    if seen is None or part.fingerprints is None:
        return rows, []
    admitted = seen.admit(_offsets([events[row] for row in rows]), part.fingerprints[rows])
    duplicates = [
        event for event in part.duplicates if event.offset > applied[shard_of(event.product_id, len(applied))]
    ]
    if not admitted.all():
        duplicates += [events[row] for row, new in zip(rows, admitted, strict=True) if not new]
        rows = [row for row, new in zip(rows, admitted, strict=True) if new]
    return rows, duplicates


def _refused(part: Part, failed: Mapping[int, str], applied: Sequence[int]) -> list[Refused]:
    """The part's dead letters that are not in the ledger yet."""
    dead = part.dead + [DeadLetter(part.events[row].offset, "score", why) for row, why in failed.items()]
    record_at = {record.offset: record for record in part.records} if dead else {}
    return [
        Refused(record_at[letter.offset], letter.stage, letter.reason, letter.is_ahead)
        for letter in dead
        if letter.offset > applied[0]
    ]


def _offsets(events: Sequence[Event]) -> NDArray[np.int64]:
    return np.array([event.offset for event in events], np.int64)
