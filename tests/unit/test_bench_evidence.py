"""Evidence by label and by probability: what a text weighs, and what a CUSUM of it makes."""

from __future__ import annotations

import numpy as np
import pytest

from stream.bench.evidence import WAYS, Scores, threshold_for, weights_of
from stream.errors import UsageError

SCORES = Scores(np.array([0.9, 0.9, 0.8, 0.2]), np.array([0.1, 0.1, 0.1, 0.6]))


def test_a_label_weighs_what_the_models_mistakes_leave_of_the_rise() -> None:
    """Three of four negatives are called so and one of four others: 4 and 2 in 6, with one more of each."""
    label = weights_of(SCORES, 0.2, 0.5)["label"]
    before, after = 0.2 * 4 / 6 + 0.8 * 2 / 6, 0.5
    called, not_called = np.log(after / before), np.log((1 - after) / (1 - before))
    assert label.negative.tolist() == pytest.approx([called, called, called, not_called])
    assert label.positive.tolist() == pytest.approx([not_called, not_called, not_called, called])


def test_a_probability_weighs_more_the_surer_it_is_and_nothing_where_it_says_nothing() -> None:
    weights = weights_of(SCORES, 0.2, 0.6)
    assert list(weights) == list(WAYS)
    probability = weights["probability"]
    assert probability.negative[0] > probability.negative[2] > 0.0 > probability.negative[3]
    even = weights_of(Scores(np.array([0.5]), np.array([0.5])), 0.2, 0.6)["probability"]
    assert even.negative[0] == pytest.approx(0.0)


def test_the_threshold_lies_between_the_peaks_that_make_an_alarm_and_those_that_make_none() -> None:
    """Four excursions in twelve events, with peaks of 3, 2, 1 and 1: two alarms are one in six events."""
    rises = np.array([[3, -9, 2, -9, 1, -9], [1, -9, -1, -1, -1, -1]], np.float32).T
    assert threshold_for(rises, 6.0) == 1.5
    with pytest.raises(UsageError, match="beyond what 12 simulated events can show"):
        threshold_for(rises, 1_000.0)
