"""Real complaints in real streams, at a recorded moment: ``reviewpulse bench incidents``.

Rules:
- The streams are public review histories; a rating of 1 or 2 stars is negative, so no figure here has a
  model's mistakes in it.
- An incident is synthetic: ``size`` negative reviews of *other* products of the same data set and category,
  at moments drawn evenly from ``days`` days after the onset. Their event ids say ``synthetic``.
- The onset is drawn among a product's events after its first ``LEAST_BEFORE``, at a moment of that event's
  day. Products with fewer than ``LEAST_EVENTS`` events get none.
- Everything is drawn with a fixed seed, and each budget judges the same streams.
- Nobody labelled the real streams: an alert outside the incidents counts as a false alarm, though some are
  of real trouble. So the alarms of the untouched streams are given beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from stream.backtest.labels import by_stars, observed
from stream.backtest.read import read_countable
from stream.backtest.run import RuleSet, detector_of, transitions_of
from stream.core.backtest import DAY_MS, Spread, Window, days_between, incidents_of, matched, spread
from stream.core.decode import Limits
from stream.core.spike import wilson
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.random import Generator

    from stream.core.backtest import Found, Incident
    from stream.core.spike import Observation
    from stream.record import Detector
    from stream.replay import Format
    from stream.settings import Settings

LEAST_EVENTS = 40
LEAST_BEFORE = 30
"""The detector itself waits for 20 events; a younger product is another question."""

SEGMENTS_KEPT = 1
ALL = "all"


class DataSet(NamedTuple):
    """A file of reviews and how it is read."""

    name: str
    file: str
    format: Format
    columns: tuple[str, ...] = ()


DATA_SETS = (
    DataSet("All Beauty", "amazon2018_All_Beauty_5.json.gz", "amazon"),
    DataSet("Musical Instruments", "amazon2014_Musical_Instruments_first5050.csv.gz", "amazon"),
    DataSet(
        "Pesticides",
        "amazon_pesticide_10181.csv.gz",
        "csv",
        (
            "event_time=review_date",
            "text=review_content",
            "rating=review_rating",
            "author_id=review_author_name",
            "category=class_id",
        ),
    ),
)


class Streams(NamedTuple):
    """A data set, read."""

    name: str
    by_product: dict[str, list[Observation]]
    days: float
    """Of history."""
    eligible: list[str]
    """Products with enough history for an incident."""

    @property
    def events(self) -> int:
        """Of all products."""
        return sum(map(len, self.by_product.values()))


class Injected(NamedTuple):
    """A product's stream with an incident in it."""

    observations: list[Observation]
    window: Window
    share: float
    """Of negatives in the window."""


class _Judge(NamedTuple):
    """A budget, and its alerts on the streams as they are."""

    run_length: float
    detector: Detector
    untouched: list[list[Incident]]
    """By data set."""


class _Try(NamedTuple):
    """What a detector made of a data set's incidents."""

    streams: Streams
    untouched_alarms: int
    injected: list[Injected]
    found: list[Found]
    firing_already: int
    """Missed because an alert was up when they began."""
    false_alarms: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the table."""

    data_set: str
    size: int
    run_length: float
    incidents: int
    share: float
    """Of negatives in an incident's window, its mean."""
    found: int
    recall: float
    recall_interval: tuple[float, float]
    firing_already: int
    delay_events: Spread | None
    delay_s: Spread | None
    false_alarms_per_day: float
    untouched_alarms_per_day: float
    budget_per_day: float
    """False alarms that the run length allows at these events a day."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Of a data set."""

    name: str
    events: int
    products: int
    eligible: int
    days: float
    negative_share: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The whole bench. The incidents are synthetic."""

    seed: int
    draws: int
    incident_days: float
    data_sets: list[Facts]
    rows: list[Row]


def run(
    data: Path,
    settings: Settings,
    *,
    run_lengths: Sequence[float],
    sizes: Sequence[int],
    incident_days: float,
    draws: int,
    seed: int,
    rules: Path | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> Report:
    """Injects, judges and counts.

    Args:
        data: folder of ``DATA_SETS``.
        settings: minimums of events and negatives.
        run_lengths: budgets, as events between two false alarms.
        sizes: extra negatives of an incident.
        incident_days: over how long they come.
        draws: incidents of each size that every eligible product gets, one at a time.
        seed: of all that is drawn.
        rules: a rules file; None judges by the settings alone.
        on_step: called with what is being done.

    Raises:
        UsageError: a data set is missing, or the rules file cannot be used.
    """
    all_streams = read_streams(data)
    judges = [_judge(all_streams, settings, run_length, rules) for run_length in run_lengths]
    cells: dict[tuple[float, int], list[Row]] = {}
    for size in sizes:
        injected = [
            [
                each
                for draw in range(draws)
                for each in inject_all(streams, size, incident_days, (seed, size, draw))
            ]
            for streams in all_streams
        ]
        for judge in judges:
            on_step(f"{size} negatives, one false alarm in {judge.run_length:,.0f} events")
            tries = [
                _try(judge, *each, draws) for each in zip(all_streams, judge.untouched, injected, strict=True)
            ]
            rows = [_row(each.streams.name, size, judge.run_length, draws, [each]) for each in tries]
            cells[judge.run_length, size] = [*rows, _row(ALL, size, judge.run_length, draws, tries)]
    return Report(
        seed=seed,
        draws=draws,
        incident_days=incident_days,
        data_sets=[_facts(each) for each in all_streams],
        rows=[row for run_length in run_lengths for size in sizes for row in cells[run_length, size]],
    )


def _judge(
    all_streams: Sequence[Streams], settings: Settings, run_length: float, rules: Path | None
) -> _Judge:
    given = {"false_alarms_per_day": 1.0, "expected_events_per_day": run_length}
    detector = detector_of(RuleSet("bench", rules, given), settings, "stars")
    untouched = [incidents_of(transitions_of(detector, "reviews", each.by_product)) for each in all_streams]
    return _Judge(run_length, detector, untouched)


def read_streams(data: Path) -> list[Streams]:
    """The data sets.

    Raises:
        UsageError: one is missing or cannot be read.
    """
    missing = [each.file for each in DATA_SETS if not (data / each.file).is_file()]
    if missing:
        raise UsageError(f"{data} lacks {', '.join(missing)}; name the folder that has them with --data.")
    return [_streams(data, each) for each in DATA_SETS]


def _streams(data: Path, data_set: DataSet) -> Streams:
    file = str(data / data_set.file)
    countable = read_countable(
        file, data_set.format, "reviews", data_set.columns, Limits(), segments_kept=SEGMENTS_KEPT
    )
    by_product = observed(countable, by_stars(countable))
    arrivals_ms = [each.arrival_ms for observations in by_product.values() for each in observations]
    return Streams(
        data_set.name,
        by_product,
        days_between(min(arrivals_ms), max(arrivals_ms)),
        sorted(name for name, observations in by_product.items() if len(observations) >= LEAST_EVENTS),
    )


def inject_all(streams: Streams, size: int, days: float, seed: Sequence[int]) -> list[Injected]:
    """One incident in each eligible product, each drawn with a seed of its own."""
    negatives: dict[str | None, list[tuple[str, Observation]]] = {}
    for product_id, observations in streams.by_product.items():
        for each in observations:
            if each.negative:
                negatives.setdefault(each.category, []).append((product_id, each))
    injected = []
    for at, product_id in enumerate(streams.eligible):
        observations = streams.by_product[product_id]
        of_category = negatives.get(observations[0].category, [])
        donors = [each for other, each in of_category if other != product_id]
        rng = np.random.default_rng([*seed, at])
        injected.append(inject(product_id, observations, donors, size, days, rng))
    return injected


def inject(
    product_id: str,
    observations: Sequence[Observation],
    donors: Sequence[Observation],
    size: int,
    days: float,
    rng: Generator,
) -> Injected:
    """Puts an incident into a product's stream.

    Args:
        product_id: whose stream it is.
        observations: in order, more than ``LEAST_BEFORE``.
        donors: negatives of other products; none is used twice while they last.
        size: negatives to put in.
        days: from the onset on, in which they come.
        rng: draws the onset, the moments and the donors.
    """
    at = int(rng.integers(LEAST_BEFORE, len(observations)))
    onset_ms = observations[at].arrival_ms + int(rng.integers(DAY_MS))
    end_ms = onset_ms + round(days * DAY_MS)
    moments_ms = rng.integers(onset_ms, end_ms, size, endpoint=True).tolist()
    chosen = rng.choice(len(donors), size, replace=size > len(donors)).tolist()
    synthetic = [
        msgspec.structs.replace(
            donors[donor], event_id=f"synthetic-{number}", arrival_ms=moment_ms, event_ms=moment_ms
        )
        for number, (donor, moment_ms) in enumerate(zip(chosen, moments_ms, strict=True))
    ]
    merged = sorted([*observations, *synthetic], key=lambda each: each.arrival_ms)
    inside = [each.negative for each in merged if onset_ms <= each.arrival_ms <= end_ms]
    window = Window(product_id, "reviews", onset_ms, end_ms)
    return Injected(merged, window, sum(inside) / len(inside))


def _try(
    judge: _Judge, streams: Streams, untouched: Sequence[Incident], injected: list[Injected], draws: int
) -> _Try:
    """Judges every stream with an incident; the streams without one alarm as they did untouched."""
    eligible = set(streams.eligible)
    false_alarms = draws * sum(each.product_id not in eligible for each in untouched)
    found: list[Found] = []
    firing_already = 0
    for observations, window, _ in injected:
        by_product: Mapping[str, Sequence[Observation]] = {window.product_id: observations}
        incidents = incidents_of(transitions_of(judge.detector, "reviews", by_product))
        arrivals_ms = {window.product_id: [each.arrival_ms for each in observations]}
        matching = matched(incidents, [window], arrivals_ms)
        found += matching.windows
        false_alarms += len(matching.false_alarms)
        missed = matching.windows[0].incident is None
        firing_already += missed and any(_is_up(each, window.start_ms) for each in incidents)
    return _Try(streams, len(untouched), injected, found, firing_already, false_alarms)


def _is_up(incident: Incident, moment_ms: int) -> bool:
    ended = incident.resolved_ms is not None and incident.resolved_ms < moment_ms
    return incident.fired_ms < moment_ms and not ended


def _row(name: str, size: int, run_length: float, draws: int, tries: Sequence[_Try]) -> Row:
    all_found = [found for each in tries for found in each.found]
    found = [each for each in all_found if each.incident is not None]
    shares = [injection.share for each in tries for injection in each.injected]
    days = sum(each.streams.days for each in tries)
    return Row(
        data_set=name,
        size=size,
        run_length=run_length,
        incidents=len(all_found),
        share=sum(shares) / len(shares),
        found=len(found),
        recall=len(found) / len(all_found),
        recall_interval=wilson(len(found), len(all_found)),
        firing_already=sum(each.firing_already for each in tries),
        delay_events=spread([each.delay_events for each in found if each.delay_events is not None]),
        delay_s=spread([each.delay_ms / 1000 for each in found if each.delay_ms is not None]),
        false_alarms_per_day=sum(each.false_alarms for each in tries) / (draws * days),
        untouched_alarms_per_day=sum(each.untouched_alarms for each in tries) / days,
        budget_per_day=sum(each.streams.events for each in tries) / run_length / days,
    )


def _facts(streams: Streams) -> Facts:
    negatives = sum(each.negative for observations in streams.by_product.values() for each in observations)
    return Facts(
        name=streams.name,
        events=streams.events,
        products=len(streams.by_product),
        eligible=len(streams.eligible),
        days=streams.days,
        negative_share=negatives / streams.events,
    )
