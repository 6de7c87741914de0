from __future__ import annotations

import math
from pathlib import Path

import pytest

from stream.bench.nab import (
    FALSE_POSITIVE,
    FILES,
    PEERS,
    PUBLISHED,
    Score,
    above,
    at_budget,
    best_of_peer,
    probation,
    read_series,
    score,
    total_of,
)

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "nab"
WINDOW = [(400, 499)]


def scaled(position: float) -> float:
    return 2.0 / (1.0 + math.exp(5.0 * position)) - 1.0


# The score, by hand


def test_a_detector_that_never_detects_scores_0_and_the_perfect_one_100() -> None:
    assert score(1_000, WINDOW, []) == Score(-1.0, 1, 0, 0)
    assert score(1_000, WINDOW, []).normalised == 0.0
    assert score(1_000, WINDOW, [400]) == Score(1.0, 1, 1, 0)
    assert score(1_000, WINDOW, [400]).normalised == 100.0


def test_a_detection_counts_by_its_place_in_the_window() -> None:
    # Row 450: 50 of 100 rows are left, itself included, hence the position -0.5.
    assert score(1_000, WINDOW, [450]).raw == pytest.approx(0.84828 / 0.98661, abs=1e-5)
    # The last row is at -1/100.
    assert score(1_000, WINDOW, [499]).raw == pytest.approx(scaled(-0.01) / scaled(-1.0))


def test_only_the_first_detection_in_a_window_counts() -> None:
    assert score(1_000, WINDOW, [450, 460, 499]) == score(1_000, WINDOW, [450])


def test_a_false_positive_costs_all_before_any_window_and_little_just_behind_one() -> None:
    assert score(1_000, WINDOW, [200]).raw == pytest.approx(-1.0 - FALSE_POSITIVE)
    # Row 500 is 1 of 99 widths behind the window's right edge.
    assert score(1_000, WINDOW, [500]).raw == pytest.approx(-1.0 + FALSE_POSITIVE * scaled(1 / 99))
    assert score(1_000, WINDOW, [900]).raw == pytest.approx(-1.0 - FALSE_POSITIVE)


def test_probation_is_not_scored() -> None:
    assert probation(1_000) == 150
    assert score(1_000, WINDOW, [0, 149]).raw == -1.0
    assert score(1_000, WINDOW, [150]).false_positives == 1


def test_windows_add_up() -> None:
    two = score(2_000, [(400, 499), (800, 999)], [400, 700])
    assert two.raw == pytest.approx(1.0 - 1.0 + FALSE_POSITIVE * scaled(201 / 99))
    assert (two.windows, two.found, two.false_positives) == (2, 1, 1)
    assert total_of([two, score(1_000, WINDOW, [])]) == Score(two.raw - 1.0, 3, 1, 1)


def test_rises_within_the_hold_are_one() -> None:
    assert above([0, 3, 0, 3, 0, 0, 0, 3], 2.0, hold_bins=2) == [1, 7]
    assert above([0.0] * 9, 2.0) == []


# The real files


@pytest.mark.skipif(not FOLDER.is_dir(), reason="NAB's files are not here")
def test_at_the_default_budget_the_real_files_score_as_documented() -> None:
    series = [read_series(FOLDER, name) for name in FILES]
    scores = at_budget(series, 1.0)
    total = total_of(scores)
    assert total.normalised == pytest.approx(62.8, abs=0.1)
    assert (total.windows, total.found, total.false_positives) == (15, 12, 38)
    # 52 scored days of five streams: the budget allows 52 false alarms.
    assert total.false_positives <= sum(len(each.counts) - 750 for each in series) / 5 / 288
    published = {name: Score(sum(raw), 15, 0, 0).normalised for name, raw in PUBLISHED.items()}
    assert total.normalised > published["windowedGaussian"] > published["skyline"]
    # The published bayesChangePt finds next to nothing, as one that never detects.
    assert published["bayesChangePt"] == pytest.approx(3.2, abs=0.1)
    assert best_of_peer(series, "EWMA 0.05")[1].normalised == pytest.approx(60.7, abs=0.1)
    assert set(PEERS) == {"static quantile", "EWMA 0.05", "windowed Gaussian"}
