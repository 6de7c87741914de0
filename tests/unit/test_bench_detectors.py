from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from stream.bench.detectors import tables
from stream.bench.detectors.adwin import first_rises, rate_of, tuned_deltas
from stream.bench.detectors.charts import PRIOR, Streams, charts, cusum, ewma, excess, page_hinkley
from stream.bench.detectors.delays import delay
from stream.bench.detectors.exact import (
    Cusum,
    exact_cusum,
    excursion,
    least_events,
    mean_events,
    median_events,
)
from stream.bench.detectors.fleets import fleet, poisson_interval, stationary, volumes
from stream.bench.detectors.grid import Cell, Contest
from stream.bench.detectors.report import Report
from stream.bench.detectors.streams import first_firing, number_of, observations, rule
from stream.bench.detectors.tuning import Extremes, Threshold, delays, extremes, first_passage, tuned
from stream.bench.detectors.verdicts import best_settings, of_oracle, summary, together, verdict
from stream.core.events import Alert
from stream.core.spike import SpikeDetector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.core.spike import Observation

ALARM = SpikeDetector(rule(200.0), "m1").judge(
    "p", "reviews", None, observations(np.array([False] * 60 + [True] * 40))
)[1][0]


def labels(text: str) -> np.ndarray:
    return np.array([[each == "n" for each in line] for line in text.split()])


class Scripted:
    """A detector that fires and resolves at given events."""

    def __init__(self, script: dict[int, str]) -> None:
        self.script = script

    def judge(
        self, product: str, channel: str, state: bytes | None, told: Sequence[Observation]
    ) -> tuple[bytes, list[Alert]]:
        alerts = []
        for each in told:
            number = int(each.event_id[1:])
            if number in self.script:
                fields = {name: getattr(ALARM, name) for name in ALARM.__struct_fields__}
                at = {"at": f"{np.datetime64(each.arrival_ms, 'ms')}Z", "state": self.script[number]}
                alerts.append(Alert(**fields | at))
        return b"", alerts


# Fleets


def test_volumes_are_zipf_and_add_up() -> None:
    counts = volumes(10_000, 1_000_000, np.random.default_rng(3))
    assert counts.sum() == 1_000_000
    assert counts[0] / counts[9] == pytest.approx(10.0, rel=0.05)


def test_poisson_interval_is_the_exact_one_to_a_hundredth() -> None:
    # Garwood's, from tables of the chi-squared distribution.
    assert poisson_interval(100) == pytest.approx((81.36, 121.63), abs=0.01)
    assert poisson_interval(0) == pytest.approx((0.0, 3.69), abs=0.03)


def test_a_false_alarm_is_a_transition_to_firing_and_takes_its_events_out_of_the_budget() -> None:
    detector = Scripted({10: "firing", 15: "firing", 20: "resolved", 50: "firing"})
    product = stationary(detector, np.zeros(60, dtype=bool))  # type: ignore[arg-type]
    # Events 11 to 20 and 51 to 59; the escalation at 15 is no alarm of its own.
    assert (product.alarms, product.firing_events) == (2, 10 + 9)


def test_a_fleet_is_the_same_each_time_and_counts_what_it_says() -> None:
    found = fleet(300.0, (3.0, 17.0), 20_000)
    assert found == fleet(300.0, (3.0, 17.0), 20_000)
    assert found.of_budget == pytest.approx(found.false_alarms * 300.0 / (20_000 - found.firing_events))
    assert found.of_budget_all_events == found.false_alarms * 300.0 / 20_000
    assert 0 < found.products_alarmed <= found.false_alarms


def test_an_alert_tells_which_event_raised_it() -> None:
    negative = np.array([False] * 40 + [True] * 40)
    detector = SpikeDetector(rule(200.0), "m1")
    at_once = detector.judge("p", "reviews", None, observations(negative))[1][0]
    for batch in (7, 64):
        assert first_firing(detector, None, negative, 0, batch) == number_of(at_once) + 1
    assert number_of(at_once) > 40


# The exact CUSUM


def test_two_negatives_in_a_row_take_six_events_of_a_fair_coin() -> None:
    # A negative is worth log 1.5, the other log 0.5, which always resets.
    pair = Cusum(0.5, 0.75, 0.8)
    assert mean_events(pair, 0.5) == pytest.approx(6.0)
    # Of 16 sequences of four, eight hold two in a row.
    assert median_events(pair, 0.5) == 4


def test_an_excursion_ends_one_way_or_the_other() -> None:
    alarms, resets = excursion(exact_cusum(0.12, 0.35, 5e3), 0.12)
    assert alarms.sum() + resets.sum() == pytest.approx(1.0)
    assert resets[0] == 0.88


def test_the_exact_cusum_has_the_run_length_and_the_delays_of_the_decision_record() -> None:
    cusum = exact_cusum(0.12, 0.35, 3.8e4)
    assert mean_events(cusum, 0.12) == pytest.approx(3.8e4, rel=0.03)
    assert mean_events(cusum, 0.35) == pytest.approx(42.9, abs=0.05)
    assert mean_events(cusum, 0.5) == pytest.approx(21.3, abs=0.05)


def test_a_delay_is_told_as_a_multiple_of_the_exact_one() -> None:
    found = delay(5e3, 0.12, 8.0, None, tries=20, least_negatives=8)
    assert found.mean_ratio == found.mean / found.exact_mean
    assert found.clairvoyant_mean < found.exact_mean
    assert found.missed == 0.0


def test_an_exact_cusum_that_waits_for_negatives_is_no_quicker_until_its_threshold_is_lowered() -> None:
    # Two negatives in a row alarm, and the other always resets; with a minimum of three it takes three.
    pair = Cusum(0.5, 0.9, 1.0)
    triple = Cusum(0.5, 0.9, 1.0, least_negatives=3)
    assert [mean_events(each, 0.5) for each in (pair, triple)] == pytest.approx([6.0, 14.0])
    plain, waits = exact_cusum(0.02, 0.14, 3.8e4), exact_cusum(0.02, 0.14, 3.8e4, 8)
    assert waits.threshold < plain.threshold
    assert mean_events(waits, 0.02) == pytest.approx(3.8e4, rel=0.03)


def test_two_samples_prove_more_the_more_was_learned_and_never_as_much_as_a_known_share() -> None:
    after = [least_events(0.12, 0.353, learned, 42.2) / 42.2 for learned in (200, 1_000, 1_000_000)]
    assert after == pytest.approx([1.41, 1.06, 1.00], abs=0.01)
    # 200 events at 0.05 cannot tell it from a long-lived 0.116, however many of those there are.
    assert least_events(0.05, 0.116, 200, 241.5) == np.inf
    assert delay(5e3, 0.12, 8.0, 200, tries=2, least_negatives=8).possible_ratio == pytest.approx(
        1.14, abs=0.01
    )
    assert delay(5e3, 0.12, 8.0, None, tries=2, least_negatives=8).possible_ratio is None


def test_at_a_small_share_the_minimum_of_negatives_and_not_the_detector_is_what_takes_longer() -> None:
    found = delay(3.8e4, 0.02, 8.0, None, tries=200, least_negatives=8)
    assert found.mean_ratio > 1.25
    assert found.least_ratio == found.mean / found.least_mean
    assert found.least_ratio == pytest.approx(1.0, abs=0.08)


def test_told_the_base_rate_the_detector_fires_within_twenty_events_as_the_exact_one_does() -> None:
    found = delay(3.8e4, 0.12, 8.0, None, tries=200, least_negatives=8)
    assert found.exact_mean == pytest.approx(20.5, abs=0.05)
    assert found.median < 20
    assert found.mean_ratio == pytest.approx(0.975, abs=0.06)


# Contestants


def test_a_window_counts_its_negatives_above_what_was_usual_before_it() -> None:
    streams = Streams(labels("onoooonn"), learned=6, known=None)
    usual = streams.baseline(2)
    # Before the windows: 1 of 4, 1 of 5, 1 of 6.
    assert usual[0] == pytest.approx([(PRIOR[0] + 1) / (10 + seen) for seen in (4, 5, 6)])
    assert excess(streams, 2, usual)[0] == pytest.approx([0, 1, 2] - 2 * usual[0])


def test_a_young_window_is_half_of_the_past() -> None:
    streams = Streams(labels("oonnnn"), learned=4, known=0.25)
    assert streams.window_start(50).tolist() == [2, 3, 3]
    assert excess(streams, 50, streams.baseline(50))[0].tolist() == [2 - 0.5, 2 - 0.5, 3 - 0.75]


def test_an_ewma_moves_by_its_weight() -> None:
    streams = Streams(labels("nno"), learned=1, known=0.2)
    deviation = np.sqrt(0.2 * 0.8 * 0.5 / 1.5)
    assert ewma(streams, 0.5)[0] == pytest.approx(np.array([0.4, 0.6, 0.2]) / deviation)


def test_every_contestant_sees_the_rise_and_none_the_future() -> None:
    rng = np.random.default_rng(1)
    told = rng.random((50, 400)) < 0.1
    risen = told.copy()
    risen[:, 300:] = True
    for (name, before), (_, after) in zip(
        charts(Streams(told, 100, None)), charts(Streams(risen, 100, None)), strict=True
    ):
        assert np.array_equal(before[:, :201], after[:, :201]), name
        assert (after[:, 201:].max(axis=1) > before.max(axis=1)).mean() > 0.9, name


@pytest.mark.parametrize("drift", [0.005, 0.1])
@pytest.mark.parametrize("threshold", [2.0, 6.0])
def test_page_hinkley_is_rivers(drift: float, threshold: float) -> None:
    river = pytest.importorskip("river.drift", reason="river is a contestant, not a dependency")
    rng = np.random.default_rng(2)
    told = rng.random((20, 500)) < np.where(np.arange(500) < 250, 0.1, 0.4)
    events = first_passage(page_hinkley(Streams(told, 0, None), drift), threshold)
    for stream, expected in zip(told.tolist(), events, strict=True):
        theirs = river.PageHinkley(delta=drift, threshold=threshold, mode="up")
        found = np.inf
        for number, negative in enumerate(stream, 1):
            theirs.update(int(negative))
            if theirs.drift_detected:
                found = number
                break
        assert found == expected


def test_adwin_tells_rises_and_no_falls() -> None:
    pytest.importorskip("river.drift", reason="river is a contestant, not a dependency")
    rises = first_rises(Streams(labels("o" * 200 + "n" * 200 + " " + "n" * 200 + "o" * 200), 100, None), 0.01)
    assert 100 < rises[0] < 150
    assert rises[1] == np.inf


def test_adwin_is_tuned_to_the_rate_by_tossing_between_two_deltas() -> None:
    pytest.importorskip("river.drift", reason="river is a contestant, not a dependency")
    stationary = [Streams(np.random.default_rng(4).random((60, 300)) < 0.2, 50, None)]
    strict, loose, toss = tuned_deltas(stationary, 0.3)
    assert loose == 2 * strict
    assert rate_of(stationary, strict) < 0.3 <= rate_of(stationary, loose)
    tossed = toss * rate_of(stationary, loose) + (1 - toss) * rate_of(stationary, strict)
    assert tossed == pytest.approx(0.3)


# Tuning


def test_a_stream_beyond_the_threshold_before_it_is_judged_counts_for_nothing() -> None:
    statistic = np.array([[0.0, 5.0], [5.0, 5.0], [0.0, 1.0]])
    assert extremes(statistic).start.tolist() == [0.0, 5.0, 0.0]
    assert extremes(statistic).highest.tolist() == [5.0, 5.0, 1.0]
    # One of the two that are left.
    threshold = tuned([extremes(statistic)], 0.5)
    assert threshold.high == 5.0
    assert threshold.toss == 0.0
    assert delays(statistic, threshold, [9])[0].tolist() == pytest.approx([1.0, np.nan, 9.0], nan_ok=True)


def test_a_coarse_statistic_meets_the_rate_by_tossing_between_two_thresholds() -> None:
    coarse = Extremes(np.zeros(10), np.array([1.0] * 6 + [2.0] * 4))
    # At 2 or above four of ten, at 1 or above all ten: 0.7 is halfway.
    assert tuned([coarse], 0.7) == Threshold(1.0, 2.0, pytest.approx(0.5))
    # An even toss between 2 events and 4; of 3 events, between 2 and a miss.
    rising = np.array([[0.0, 0.0, 1.0, 1.0, 2.0]])
    assert [each.tolist() for each in delays(rising, Threshold(1.0, 2.0, 0.5), [50, 3])] == [[3.0], [2.5]]


# Verdicts


def cell(ours: float, usual: float = 0.1, spent: float = 1e-4, **means: float) -> Cell:
    contests = [
        Contest(
            family=name.split("_")[0],
            setting=name.split("_")[1],
            tuning="fleet",
            mean=mean,
            behind=mean - ours,
            error=0.5,
            behind_oracle=mean - 9.0,
            error_oracle=0.5,
            false_alarm_rate=spent,
        )
        for name, mean in means.items()
    ]
    return Cell(
        usual=usual,
        odds=4.0,
        risen=0.3,
        learned=200,
        events=50,
        false_alarm_rate=1e-4,
        ours=ours,
        oracle={"fleet": 9.0},
        contests=contests,
    )


def test_ours_is_quickest_only_beyond_the_noise() -> None:
    outcomes = [verdict(each, each.contests).outcome for each in (cell(10, a_x=12), cell(10, a_x=10.9))]
    assert outcomes == ["quickest", "level"]
    lost = cell(10, a_x=12, b_x=8)
    assert (verdict(lost, lost.contests).outcome, verdict(lost, lost.contests).by) == ("slower", "b x")


def test_hindsight_lets_a_family_change_its_setting_from_cell_to_cell() -> None:
    cells = [cell(10, a_x=5, a_y=40), cell(10, a_x=20, a_y=5), cell(10, a_x=20, a_y=40)]
    assert best_settings(cells, "fleet") == {("a", "x")}
    single, hindsight = summary(cells, "fleet", "one setting"), summary(cells, "fleet", "hindsight")
    assert [len(single.slower), len(hindsight.slower)] == [1, 2]
    assert [(duel.family, duel.slower) for duel in hindsight.duels] == [("a", pytest.approx(2 / 3))]
    assert (single.quickest, hindsight.quickest) == (pytest.approx(2 / 3), pytest.approx(1 / 3))


def test_the_oracle_is_held_against_the_same_others() -> None:
    lost = cell(10, a_x=8)
    assert verdict(lost, lost.contests).outcome == "slower"
    level = of_oracle(cell(10, a_x=9.5), "fleet")
    assert (level.ours, verdict(level, level.contests).outcome) == (9.0, "level")
    assert summary([lost, cell(10, a_x=11)], "fleet", "one setting", "oracle").quickest == 0.5


def test_together_the_usual_shares_are_one_cell_of_means() -> None:
    apart = [cell(10, 0.1, a_x=6), cell(30, 0.3, a_x=44)]
    assert [verdict(each, each.contests).outcome for each in apart] == ["slower", "quickest"]
    (one,) = together(apart)
    assert (one.usual, one.ours, one.contests[0].mean) == (None, 20.0, 25.0)
    assert one.contests[0].error == pytest.approx(np.sqrt(0.5**2 + 0.5**2) / 2)
    assert summary(apart, "fleet", "one setting", as_one=True).quickest == 1.0


def test_who_is_quicker_by_more_false_alarms_is_told_apart() -> None:
    cells = [cell(10, spent=1e-4, a_x=5), cell(10, spent=3e-4, a_x=5)]
    found = summary(cells, "fleet", "one setting")
    assert (len(found.slower), found.slower_to_as_frugal) == (2, 0.5)
    assert [each.their_false_alarms for each in found.slower] == [1e-4, 3e-4]


def test_the_oracle_is_the_exact_cusum() -> None:
    reference = Cusum(0.12, 0.35, 4.0)
    rng = np.random.default_rng(3)
    streams = Streams(rng.random((2_000, 800)) < 0.35, 0, None)
    events = first_passage(cusum(streams, 0.12, 0.35), 4.0)
    assert events.mean() == pytest.approx(mean_events(reference, 0.35), rel=0.05)


def test_the_report_names_every_cell_that_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [cell(10, a_x=5), cell(10, a_x=20)]
    tables.show(Report(cells=cells, summaries=[summary(cells, "fleet", "one setting")], without_adwin=True))
    told = capsys.readouterr().out
    assert "50.0%" in told
    assert "10.0     5.0  a x" in told
    assert "river is not installed" in told
