from __future__ import annotations

import numpy as np
import pytest

from models.calibrate import fit_neutral_band, fit_temperature, negative_log_likelihood, probability
from models.evaluate import accuracy, calibration_error, figures, macro_f1


def drawn(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose truth is drawn from their probabilities at ``temperature``."""
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 3, (n, 2)).astype(np.float32)
    return logits, rng.random(n) < probability(logits, temperature)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(temperature)) == pytest.approx(temperature, rel=0.05)


def test_the_fitted_temperature_is_better_than_its_neighbours() -> None:
    logits, positive = drawn(1.7, n=500)
    fitted = fit_temperature(logits, positive)
    best = negative_log_likelihood(logits, positive, fitted)
    assert best <= negative_log_likelihood(logits, positive, fitted * 1.01)
    assert best <= negative_log_likelihood(logits, positive, fitted / 1.01)


def test_calibration_lowers_the_calibration_error_and_keeps_every_label() -> None:
    logits, positive = drawn(3.0)
    raw, calibrated = probability(logits, 1.0), probability(logits, fit_temperature(logits, positive))
    assert calibration_error(raw, positive) > 0.1
    assert calibration_error(calibrated, positive) < 0.02
    assert accuracy(raw, positive) == accuracy(calibrated, positive)


def test_the_neutral_band_takes_no_more_than_its_share() -> None:
    p_positive = np.random.default_rng(0).random(1000)
    band = fit_neutral_band(p_positive, share=0.05)
    assert (np.abs(2 * p_positive - 1) < band).sum() == pytest.approx(50, abs=1)


def test_macro_f1_counts_the_rarer_label_as_much() -> None:
    positive = np.array([True] * 98 + [False] * 2)
    always = np.full(100, 0.9)
    assert accuracy(always, positive) == 0.98
    assert macro_f1(always, positive) == pytest.approx(0.4949, abs=1e-4)


def test_intervals_hold_the_value_and_narrow_with_rows() -> None:
    rng = np.random.default_rng(1)
    widths = []
    for n in (100, 2500):
        positive = rng.random(n) < 0.5
        p_positive = np.where(rng.random(n) < 0.85, positive, ~positive) * 0.8 + 0.1
        found = {figure.name: figure for figure in figures(p_positive, positive)}
        low, high = found["accuracy"].interval
        assert low < found["accuracy"].value < high
        widths.append(high - low)
    # The width of a share's interval falls with the root of the rows: five times for 25 times as many.
    assert 3 < widths[0] / widths[1] < 8
