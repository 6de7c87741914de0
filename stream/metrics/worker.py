"""What a worker shows: what its pipeline told, and what is read of its parts when somebody asks.

Rules:
- The meter keeps one number for each label there is, from the beginning: a reader in another thread never
  meets a dictionary that grows.
- What it is told of a window is counted with numpy; of single events it looks at dead letters alone, and at
  some for all of them: of a part, whose records lie side by side in the log, at ``ARRIVALS`` arrivals; of a
  window at ``GUESSED_TEXTS`` languages. To look at each would be most of what metrics cost.
- Before the worker is up there is what the watchdog says.
"""

from __future__ import annotations

import threading
import time
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from stream.core.drift import LEAST_TEXTS, Recent, stability_index
from stream.core.events import CHANNELS, LABELS
from stream.core.language import LANGUAGES, languages
from stream.core.reference import FEATURES
from stream.metrics.catalogue import BY_NAME, label
from stream.metrics.distribution import Distribution, every
from stream.metrics.meter import Meter
from stream.metrics.vitals import LoopLag
from stream.scorer.contract import unknown_tokens

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from stream.core.events import Channel
    from stream.core.reference import Reference
    from stream.core.watch import Report
    from stream.lookout import Lookout
    from stream.metrics.families import Values
    from stream.metrics.store import Trips
    from stream.pipeline import Pipeline
    from stream.publish import KafkaPublisher
    from stream.record import Judged
    from stream.runs import Run
    from stream.scorer.contract import Scorer
    from stream.scorer.isolate import Scored
    from stream.swap import Swap

OUTCOMES = ("skipped", "duplicate", "late")
CONDEMNED = {"worker": "condemned"}
"""Stages of dead letters that have another name here."""
SKEW_S = 60.0
"""The newest timestamp is of the present such span and of the one before."""

ARRIVALS = 64
GUESSED_TEXTS = 256


class Skew:
    """How far the newest timestamps were ahead of this machine's clock, lately."""

    def __init__(self) -> None:
        self._since_s = float("-inf")
        self._now: float | None = None
        self._before: float | None = None

    def note(self, timestamp_ms: float, now_s: float) -> None:
        """A record was taken.

        Args:
            timestamp_ms: its own.
            now_s: seconds since the epoch.
        """
        self._turn(now_s)
        ahead_s = timestamp_ms / 1000 - now_s
        self._now = ahead_s if self._now is None else max(self._now, ahead_s)

    @property
    def seconds(self) -> float | None:
        """The most of the last two spans; None before anything came. It stays while nothing comes."""
        return max((each for each in (self._now, self._before) if each is not None), default=None)

    def _turn(self, now_s: float) -> None:
        if now_s - self._since_s >= SKEW_S:
            self._before = self._now if now_s - self._since_s < 2 * SKEW_S else None
            self._now, self._since_s = None, now_s


class Drift:
    """The latest texts' features beside a bundle's reference."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.recent = {feature: Recent(reference.of(feature).bounds) for feature in FEATURES}

    def indices(self) -> dict[str, float]:
        """Population stability index by feature; without those of too few texts."""
        return {
            feature: stability_index(self.reference.of(feature).counts, recent.counts)
            for feature, recent in self.recent.items()
            if recent.texts >= LEAST_TEXTS
        }


class WorkerMeter(Meter):
    """Keeps what the pipeline tells."""

    def __init__(self) -> None:
        self.consumed = dict.fromkeys(CHANNELS, 0)
        self.counted = {(channel, name): 0 for channel in CHANNELS for name in LABELS}
        stages = label("reviewpulse_events_dead_total", "stage").values
        self.dead = {(channel, stage): 0 for channel in CHANNELS for stage in stages}
        self.ahead = dict.fromkeys(CHANNELS, 0)
        self.outcomes = {outcome: {str(channel): 0 for channel in CHANNELS} for outcome in OUTCOMES}
        self.transitions = dict.fromkeys(product(("firing", "resolved"), ("warning", "critical")), 0)
        self.skew = Skew()
        self.stages = {
            stage: _distribution("reviewpulse_stage_seconds")
            for stage in label("reviewpulse_stage_seconds", "stage").values
        }
        self.end_to_end_s = _distribution("reviewpulse_end_to_end_seconds")
        self.batch_texts = _distribution("reviewpulse_batch_texts")
        self._batching = threading.Lock()
        """Micro-batches are scored on several threads; all else is told on one thread each."""
        self.batch_tokens = {"useful": 0, "padded": 0}
        self.score_cpu_s = 0.0
        self.loop_lag = LoopLag()
        self.text_tokens = _distribution("reviewpulse_input_texts_tokens")
        self.tokens = 0
        self.unknown_tokens = 0
        self.languages = dict.fromkeys(LANGUAGES, 0)
        self.negative = _distribution("reviewpulse_score_negative_probability")
        self.drift: Drift | None = None
        """Of the model that the latest window is scored with."""
        self._drift_before: Drift | None = None
        """Of the model before, whose last windows may be inside yet."""

    def taken(self, channel: Channel, run: Run) -> None:
        """See ``Meter``; so below."""
        self.consumed[channel] += len(run.records)
        newest_ms = run.records[-1].timestamp
        if newest_ms >= 0:
            self.skew.note(newest_ms, time.time())

    def stage(self, stage: str, seconds: float) -> None:
        """Counts one time."""
        self.stages[stage].add(seconds)

    def encoded(self, scorer: Scorer[Any], texts: Sequence[str], encoded: Any) -> None:
        """Counts tokens and languages; of a window that could not be tokenised as a whole, nothing."""
        if isinstance(encoded, Exception) or not texts:
            return
        lengths: NDArray[np.int32] = encoded.lengths
        self.text_tokens.add_integers(lengths)
        self.tokens += int(lengths.sum())
        unknown = unknown_tokens(scorer, encoded)
        if unknown is not None:
            self.unknown_tokens += int(unknown.sum())
        stride, weights = every(len(texts), GUESSED_TEXTS)
        of_texts = languages(texts[::stride])
        numbers = np.bincount(of_texts, weights, len(LANGUAGES)).tolist()
        for name, number in zip(LANGUAGES, numbers, strict=True):
            self.languages[name] += int(number)
        drift = self._begin_drift(scorer)
        if drift is not None:
            drift.recent["length"].add(lengths.astype(np.float64))
            drift.recent["language"].add(of_texts.astype(np.float64))
            if unknown is not None:
                drift.recent["unknown"].add(unknown / np.maximum(lengths, 1))

    def scored(self, scorer: Scorer[Any], scored: Scored) -> None:
        """Counts probabilities; those of texts that failed are none."""
        negative = scored.probabilities[:, 0]
        if scored.failed:
            negative = np.delete(negative, list(scored.failed))
        if not len(negative):
            return
        self.negative.add_all(negative)
        reference = _reference(scorer)
        for drift in (self.drift, self._drift_before):
            if drift is not None and drift.reference is reference:
                drift.recent["score"].add(negative.astype(np.float64))

    def _begin_drift(self, scorer: Scorer[Any]) -> Drift | None:
        """What a window's texts are compared with: begun anew with another bundle. On the decoding thread."""
        reference = _reference(scorer)
        if self.drift is None or self.drift.reference is not reference:
            self._drift_before = self.drift
            self.drift = None if reference is None else Drift(reference)
        return self.drift

    def batch(self, lengths: NDArray[Any], cpu_s: float) -> None:
        """Counts a micro-batch."""
        if not len(lengths):
            return
        self.batch_texts.add(len(lengths))
        useful, padded = int(lengths.sum()), len(lengths) * int(lengths.max())
        with self._batching:
            self.batch_tokens["useful"] += useful
            self.batch_tokens["padded"] += padded
            self.score_cpu_s += cpu_s

    def applied(self, judged: Judged, now_ms: float) -> None:
        """Counts what became of a part's records."""
        channel = judged.part.channel
        numbers = np.bincount(judged.labels, minlength=len(LABELS)).tolist()
        for name, number in zip(LABELS, numbers, strict=True):
            self.counted[channel, name] += number
        for letter in judged.dead:
            self.dead[channel, CONDEMNED.get(letter.stage, letter.stage)] += 1
            self.ahead[channel] += letter.is_ahead
        for step in judged.steps:
            for outcome, of_channel in self.outcomes.items():
                of_channel[channel] += step.ledger.get(f"{channel}:{outcome}", 0)
        for each in judged.transitions:
            self.transitions[each.alert.state, each.alert.severity] += 1
        if judged.events:
            stride, weights = every(len(judged.events), ARRIVALS)
            arrivals_ms = np.array([event.arrival_ms for event in judged.events[::stride]], np.float64)
            self.end_to_end_s.add_sample((now_ms - arrivals_ms) / 1000, weights)

    def read(self, values: Values) -> None:
        """All that it keeps."""
        values.set_all("reviewpulse_records_consumed_total", self.consumed)
        values.set_all("reviewpulse_events_counted_total", self.counted)
        values.set_all("reviewpulse_events_dead_total", self.dead)
        values.set_all("reviewpulse_events_ahead_total", self.ahead)
        for outcome, of_channel in self.outcomes.items():
            values.set_all(f"reviewpulse_events_{outcome}_total", of_channel)
        values.set_all("reviewpulse_alert_transitions_total", self.transitions)
        skew_s = self.skew.seconds
        if skew_s is not None:
            values.set("reviewpulse_clock_skew_seconds", skew_s)
        for stage, distribution in self.stages.items():
            values.histogram("reviewpulse_stage_seconds", distribution, stage)
        values.histogram("reviewpulse_end_to_end_seconds", self.end_to_end_s)
        values.histogram("reviewpulse_batch_texts", self.batch_texts)
        values.set_all("reviewpulse_batch_tokens_total", self.batch_tokens)
        values.histogram("reviewpulse_event_loop_lag_seconds", self.loop_lag.seconds)
        values.histogram("reviewpulse_input_texts_tokens", self.text_tokens)
        values.set("reviewpulse_input_tokens_total", self.tokens)
        values.set("reviewpulse_input_unknown_tokens_total", self.unknown_tokens)
        values.set_all("reviewpulse_input_language_total", self.languages)
        values.histogram("reviewpulse_score_negative_probability", self.negative)
        if self.drift is not None:
            values.set_all("reviewpulse_input_drift", self.drift.indices())


class Parts(NamedTuple):
    """What is read of a worker."""

    app: Any
    """Faust's."""
    pipeline: Pipeline
    lookout: Lookout
    publisher: KafkaPublisher
    missing: Callable[[], int]
    """Offsets found deleted before they were counted."""
    swap: Swap | None


class WorkerReading:
    """Reads a worker.

    Args:
        report: the watchdog's latest.

    Attributes:
        meter: is told by the pipeline.
        trips: what the store's calls took.
        parts: the worker's, once it is made.
        has_redis: whether the store was opened.
    """

    def __init__(self, report: Callable[[], Report], meter: WorkerMeter, trips: Trips) -> None:
        self.meter = meter
        self.trips = trips
        self.parts: Parts | None = None
        self.has_redis = False
        self._report = report

    def read(self, values: Values) -> None:
        """All of it."""
        self.meter.read(values)
        for operation, distribution in self.trips.seconds.items():
            values.histogram("reviewpulse_redis_trip_seconds", distribution, operation)
        values.set_all("reviewpulse_redis_errors_total", self.trips.errors)
        self._read_watchdog(values)
        if self.parts is not None:
            self._read_parts(values, self.parts)

    def _read_watchdog(self, values: Values) -> None:
        report = self._report()
        checks = {check.name: check for check in (*report.live, *report.ready)}
        values.checks(checks.values())
        # Before it has joined the group nobody asks Kafka, and the watchdog takes both for well.
        has_joined = self.parts is not None and self.parts.lookout.joined
        values.set("reviewpulse_redis_up", self.has_redis and "redis" in checks and checks["redis"].ok)
        values.set("reviewpulse_kafka_up", has_joined and "kafka" in checks and checks["kafka"].ok)

    def _read_parts(self, values: Values, parts: Parts) -> None:
        now_ms = time.time() * 1000
        lags = parts.lookout.lags
        values.set("reviewpulse_partitions_assigned", len(lags))
        for tp, lag in lags.items():
            values.set("reviewpulse_partition_lag_records", lag.records, tp.topic, str(tp.partition))
            values.set("reviewpulse_partition_lag_seconds", lag.seconds(now_ms), tp.topic, str(tp.partition))
        values.set("reviewpulse_rebalances_total", parts.app.rebalancing_count)
        values.set("reviewpulse_rewinds_total", parts.pipeline.progress.rewinds)
        values.set("reviewpulse_missing_offsets_total", parts.missing())
        values.set("reviewpulse_outbox_transitions", parts.publisher.waiting)
        cpu_s = parts.pipeline.progress.cpu_s
        by_stage = {
            "decode": cpu_s["decode"],
            "score": self.meter.score_cpu_s,  # a model's micro-batches may have threads of their own
            "judge": cpu_s["judge"],
            "loop": self.meter.loop_lag.cpu_s,
        }
        values.set_all("reviewpulse_stage_cpu_seconds_total", by_stage)
        scorer, swap = parts.pipeline.scorer, parts.swap
        bundle = swap.status.bundle[:12] if swap is not None else "none"
        values.set("reviewpulse_model_info", 1, scorer.version, scorer.provider, bundle)
        if swap is not None:
            values.set_all("reviewpulse_model_swaps_total", swap.outcomes)


def _reference(scorer: Scorer[Any]) -> Reference | None:
    reference: Reference | None = getattr(scorer, "reference", None)
    return reference


def _distribution(name: str) -> Distribution:
    return Distribution(BY_NAME[name].buckets)
