"""Ours against the contestants at equal false-alarm rate, cell by cell.

Rules:
- A cell is a usual share, a rise (by what the odds are multiplied), what is known of the usual share (so many
  events, or all) and how many events follow the rise before it is over: fewer stand for a smaller product.
  Its figure is the mean delay, a miss counting as all those events.
- Ours runs by its budget. Its false alarms are then measured on streams that do not change, and every
  contestant is tuned to as many on the same streams. This is done twice. *Fleet*: one threshold for all, over
  the first 2,000 events of products of every usual share, as a shop would that has one budget. *Cell*: a
  threshold for each usual share and history, over as many events as were learned (at least 50). The latter
  tells the contestants the usual share, which ours has to learn.
- *Equal* means equal over what a contestant is tuned to. Tuned to the fleet, it raises its false alarms where
  its statistic is widest, up to twenty times the budget at one usual share and none at another: each one's
  rate in the very cell stands beside its delay.
- The *oracle* is no contestant, but a bound: the CUSUM that is told the usual share and the very rise that
  comes, tuned as the contestants are. Where it is not the quickest, nothing can be asked of ours.
- Common random numbers: in each cell all judge the same streams.
- The minimum of negatives is one here: that rule stands beside the detector, and no contestant has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
import numpy as np

from stream.bench.detectors import adwin
from stream.bench.detectors.charts import Streams, charts, cusum
from stream.bench.detectors.exact import times_odds
from stream.bench.detectors.streams import first_firing, judged, knowing, rule
from stream.bench.detectors.tuning import Extremes, Threshold, alarmed, delays, extremes, tuned
from stream.core.spike import SpikeDetector

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    Delays = npt.NDArray[np.float64]
    Name = tuple[str, str]

RUN_LENGTH = 1e4
"""Short enough for a hundred false alarms at each usual share and history."""
USUAL = (0.02, 0.05, 0.12, 0.2, 0.35)
ODDS = (2.0, 2.5, 4.0, 8.0)
LEARNED = (20, 50, 200, 1_000, None)
"""Events seen before the rise; None: all are told the usual share, and see 1,000 events to get going."""
VOLUMES = (20, 50, 200, 1_000)
LIFE, YOUNGEST = 2_000, 20
"""Events of a product of the fleet, and how many it has had when it is judged first."""
RUNNING_START = 1_000
STATIONARY_EVENTS = 1_000_000
"""Judged for false alarms at each usual share and history: 100 alarms are allowed."""
ADWIN_EVENTS = 200_000
LEAST_ALARMS = 5
"""Contestants are tuned to no fewer: where ours has fewer the comparison favours them."""

Tuning = Literal["fleet", "cell"]


class Contest(msgspec.Struct, frozen=True, kw_only=True):
    """One contestant in one cell."""

    family: str
    setting: str
    tuning: Tuning
    mean: float
    """Mean delay in events."""
    behind: float
    """Mean of its delay less ours, on the same streams."""
    error: float
    """Standard error of ``behind``."""
    behind_oracle: float
    """Mean of its delay less that of the oracle tuned likewise, on the same streams."""
    error_oracle: float
    """Standard error of ``behind_oracle``."""
    false_alarm_rate: float
    """In this cell, by event, to the first alarm of a stream."""


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """Everyone in one cell."""

    usual: float | None
    """None: the mean over all."""
    odds: float
    risen: float
    learned: int | None
    events: int
    """Events from the rise to its end."""
    false_alarm_rate: float
    """Of ours in this cell, by event, to the first alarm of a stream."""
    ours: float
    oracle: dict[Tuning, float]
    """Mean delay in events of the CUSUM that knows the usual share and the rise."""
    contests: list[Contest]


class Stationary(NamedTuple):
    """Streams in which nothing changes, and what everyone makes of them."""

    streams: Streams
    alarmed: npt.NDArray[np.bool_]
    """Ours, of the streams on which it was not firing when judging began."""
    charts: dict[Name, Extremes]
    oracles: dict[float, Extremes]
    """By the odds of the rise that they know."""


class Tuned(NamedTuple):
    """Every contestant's threshold for one false-alarm rate."""

    charts: dict[Name, Threshold]
    oracles: dict[float, Threshold]
    deltas: adwin.Deltas | None
    """ADWIN's; None leaves it out."""


class Ground(NamedTuple):
    """What is tuned in a cell of a usual share and a history, and where its false alarms are counted."""

    here: Stationary
    tunings: dict[Tuning, Tuned]
    spent: dict[tuple[Tuning, Name], float]
    """Each contestant's false alarms here, by event."""


def ours(known: float | None) -> SpikeDetector:
    """The detector under its budget, told the usual share or not."""
    under = rule(RUN_LENGTH, least_negatives=1)
    return SpikeDetector(under if known is None else knowing(under, known), "bench")


def states_of_ours(streams: Streams) -> list[bytes | None]:
    """The state of each stream when judging begins; None where the alert is firing."""
    detector = ours(streams.known)
    told: list[bytes | None] = []
    for labels in streams.labels:
        firing = False
        for after, alerts in judged(detector, None, labels[: streams.learned]):
            state = after
            firing = alerts[-1].state == "firing" if alerts else firing
        told.append(None if firing else state)
    return told


def delays_of_ours(streams: Streams, states: Sequence[bytes | None]) -> Delays:
    """Events until the alert in each stream, infinite where it does not come, NaN where it fired before."""
    detector = ours(streams.known)
    told = []
    for labels, state in zip(streams.labels, states, strict=True):
        rest = labels[streams.learned :]
        told.append(
            np.nan if state is None else first_firing(detector, state, rest, streams.learned) or np.inf
        )
    return np.array(told)


def stationary(usual: float, learned: int, judged_events: int, known: float | None, total: int) -> Stationary:
    """Streams of ``total`` judged events in all, drawn with a fixed seed."""
    rng = np.random.default_rng(7)
    labels = rng.random((max(1, total // judged_events), learned + judged_events)) < usual
    streams = Streams(labels, learned, known)
    delayed = delays_of_ours(streams, states_of_ours(streams))
    return Stationary(
        streams=streams,
        alarmed=np.isfinite(delayed[~np.isnan(delayed)]),
        charts={name: extremes(statistic) for name, statistic in charts(streams)},
        oracles={odds: extremes(cusum(streams, usual, times_odds(usual, odds))) for odds in ODDS},
    )


def fewer(streams: Streams, events: int) -> Streams:
    """The first of them, as many as make up ``events``."""
    return Streams(streams.labels[: events // streams.labels.shape[1] + 1], streams.learned, streams.known)


def all_tuned(on: Sequence[Stationary], adwin_events: int) -> Tuned:
    """Tunes all to as many false alarms as ours has on all these streams together."""
    alarmed = np.concatenate([each.alarmed for each in on])
    rate = max(int(alarmed.sum()), LEAST_ALARMS) / alarmed.size
    few = [fewer(each.streams, adwin_events) for each in on]
    return Tuned(
        {name: tuned([each.charts[name] for each in on], rate) for name in on[0].charts},
        {odds: tuned([each.oracles[odds] for each in on], rate) for odds in on[0].oracles},
        adwin.tuned_deltas(few, rate) if adwin_events else None,
    )


ADWIN: Name = ("ADWIN", "delta tuned")


def ground(here: Stationary, fleet: Tuned, adwin_events: int) -> Ground:
    """Tunes all to the cell, too, and counts what each tuning spends there."""
    tunings: dict[Tuning, Tuned] = {"fleet": fleet, "cell": all_tuned([here], adwin_events)}
    spent: dict[tuple[Tuning, Name], float] = {}
    for tuning, at in tunings.items():
        for name, threshold in at.charts.items():
            spent[tuning, name] = alarmed(here.charts[name], threshold) / here.streams.seen.size
        if at.deltas:
            few = [fewer(here.streams, adwin_events)]
            strict, loose, toss = at.deltas
            rate = toss * adwin.rate_of(few, loose) + (1 - toss) * adwin.rate_of(few, strict)
            spent[tuning, ADWIN] = rate / here.streams.seen.size
    return Ground(here, tunings, spent)


def rise(usual: float, odds: float, learned: int, known: float | None, tries: int) -> Streams:
    """Streams whose share rises after ``learned`` events, drawn with a fixed seed."""
    rng = np.random.default_rng(8)
    past = rng.random((tries, learned)) < usual
    future = rng.random((tries, max(VOLUMES))) < times_odds(usual, odds)
    return Streams(np.concatenate((past, future), axis=1), learned, known)


def _mean_and_error(of: Delays) -> tuple[float, float]:
    judged = of[~np.isnan(of)]
    return float(judged.mean()), float(judged.std(ddof=1) / np.sqrt(judged.size))


def contests(
    streams: Streams, delayed: Delays, oracles: dict[Tuning, list[Delays]], on: Ground, adwins: int
) -> list[list[Contest]]:
    """Everyone at each volume.

    Args:
        streams: with a rise.
        delayed: of ours.
        oracles: delays of the oracle of each tuning at each volume.
        on: thresholds.
        adwins: streams that ADWIN gets.
    """
    told: list[list[Contest]] = [[] for _ in VOLUMES]
    statistics = dict(charts(streams))
    few = Streams(streams.labels[:adwins], streams.learned, streams.known)
    for tuning, at in on.tunings.items():
        theirs = {name: delays(statistic, at.charts[name], VOLUMES) for name, statistic in statistics.items()}
        if at.deltas:
            strict, loose = (adwin.first_rises(few, delta) for delta in at.deltas[:2])
            toss = at.deltas.toss
            theirs[ADWIN] = [
                toss * np.minimum(loose, most) + (1 - toss) * np.minimum(strict, most) for most in VOLUMES
            ]
        for name, by_volume in theirs.items():
            for entered, most, each, best in zip(told, VOLUMES, by_volume, oracles[tuning], strict=True):
                behind, error = _mean_and_error(each - np.minimum(delayed, most)[: each.size])
                behind_oracle, error_oracle = _mean_and_error(each - best[: each.size])
                entered.append(
                    Contest(
                        family=name[0],
                        setting=name[1],
                        tuning=tuning,
                        mean=float(np.nanmean(each)),
                        behind=behind,
                        error=error,
                        behind_oracle=behind_oracle,
                        error_oracle=error_oracle,
                        false_alarm_rate=on.spent[tuning, name],
                    )
                )
    return told


def cells_of(usual: float, learned: int | None, on: Ground, tries: int, adwin_events: int) -> Iterator[Cell]:
    """Every rise and volume at one usual share and history."""
    states = None
    for odds in ODDS:
        known = usual if learned is None else None
        risen = times_odds(usual, odds)
        streams = rise(usual, odds, learned or RUNNING_START, known, tries)
        # Every rise has the same past.
        states = states or states_of_ours(streams)
        delayed = delays_of_ours(streams, states)
        statistic = cusum(streams, usual, risen)
        oracles = {tuning: delays(statistic, at.oracles[odds], VOLUMES) for tuning, at in on.tunings.items()}
        adwins = adwin_events // streams.labels.shape[1] + 1
        entered = contests(streams, delayed, oracles, on, adwins)
        for number, (most, each) in enumerate(zip(VOLUMES, entered, strict=True)):
            yield Cell(
                usual=usual,
                odds=odds,
                risen=risen,
                learned=learned,
                events=most,
                false_alarm_rate=float(on.here.alarmed.mean() / on.here.streams.seen.size),
                ours=float(np.nanmean(np.minimum(delayed, most))),
                oracle={tuning: float(np.nanmean(told[number])) for tuning, told in oracles.items()},
                contests=each,
            )


def grid(
    tries: int = 1_000, total: int = STATIONARY_EVENTS, adwin_events: int = ADWIN_EVENTS
) -> Iterator[Cell]:
    """Every cell.

    Args:
        tries: streams with each rise.
        total: events judged for false alarms at each usual share and history.
        adwin_events: events that ADWIN, which is slow, gets of them. Without river it gets none.
    """
    adwin_events = adwin_events if adwin.is_installed() else 0
    lives = [stationary(usual, YOUNGEST, LIFE - YOUNGEST, None, total) for usual in USUAL]
    for learned in LEARNED:
        if learned is None:
            grounds = [stationary(usual, RUNNING_START, RUNNING_START, usual, total) for usual in USUAL]
        else:
            grounds = [stationary(usual, learned, max(learned, 50), None, total) for usual in USUAL]
        fleet = all_tuned(grounds if learned is None else lives, adwin_events)
        for usual, here in zip(USUAL, grounds, strict=True):
            yield from cells_of(usual, learned, ground(here, fleet, adwin_events), tries, adwin_events)
