from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.calibrate import (
    CalibrateOptions,
    calibrate,
    fit_neutral_band,
    fit_threshold,
    probability,
    warning,
)
from models.classifier import softmax
from models.examples import Example
from models.metrics import Measure, Rows
from models.temperature import cross_entropy, fit_temperature
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")


class Told:
    """A classifier that gives the logits it was told, by a text's number."""

    name, temperature, neutral_band = "told", 1.0, 0.0

    def __init__(self, rows: np.ndarray) -> None:
        self._rows = rows
        self.labels = TWO if rows.shape[1] == 2 else THREE

    def logits(self, texts: Sequence[str]) -> np.ndarray:
        return self._rows[[int(text) for text in texts]]


def held_out(logits: np.ndarray, temperature: float, language: str = "en", first: int = 0) -> list[Example]:
    """Samples whose truth is drawn from the logits' probabilities at ``temperature``."""
    rng = np.random.default_rng(5)
    truth = [rng.choice(logits.shape[1], p=row) for row in softmax(logits, temperature)]
    columns = np.eye(logits.shape[1])
    return [
        Example(text=str(first + at), target=tuple(columns[column].tolist()), language=language)
        for at, column in enumerate(truth)
    ]


def spread(n: int, labels: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, labels)).astype(np.float32)


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
    best = cross_entropy(logits, positive, fitted)
    assert best <= cross_entropy(logits, positive, fitted * 1.01)
    assert best <= cross_entropy(logits, positive, fitted / 1.01)


def measured(p_positive: np.ndarray, positive: np.ndarray) -> dict[str, float]:
    rows = Rows(np.stack([1 - p_positive, p_positive], 1), positive.astype(int), TWO)
    return {name: float(value[0]) for name, value in Measure(rows)(np.ones((1, len(positive)))).items()}


def test_calibration_lowers_the_calibration_error_and_keeps_every_label() -> None:
    logits, positive = drawn(3.0)
    raw = measured(probability(logits, 1.0), positive)
    calibrated = measured(probability(logits, fit_temperature(logits, positive)), positive)
    assert raw["ece"] > 0.1
    assert calibrated["ece"] < 0.02
    assert raw["accuracy"] == calibrated["accuracy"]


def test_the_neutral_band_takes_no_more_than_its_share() -> None:
    p_positive = np.random.default_rng(0).random(1000)
    band = fit_neutral_band(p_positive, share=0.05)
    assert (np.abs(2 * p_positive - 1) < band).sum() == pytest.approx(50, abs=1)


@pytest.mark.parametrize("labels", [2, 3])
def test_calibration_lowers_the_error_of_two_and_three_labels(labels: int) -> None:
    logits = spread(800, labels)
    found = calibrate(Told(logits), held_out(logits, 2.5), CalibrateOptions())
    assert found.temperature == pytest.approx(2.5, rel=0.2)
    change = found.slices["all"].figures
    assert change["ece"].before.value > 0.1
    assert change["ece"].after.value < 0.06
    assert change["accuracy"].before.value == change["accuracy"].after.value
    assert (found.neutral_band > 0) is (labels == 2)
    assert found.shift == 0


def test_every_language_weighs_the_same_and_is_reported() -> None:
    logits = spread(1100, 2)
    samples = held_out(logits[:1000], 4.0, "zh") + held_out(logits[1000:], 1.0, "en", first=1000)
    found = calibrate(Told(logits), samples, CalibrateOptions())
    assert {name: each.rows for name, each in found.slices.items()} == {"all": 1100, "en": 100, "zh": 1000}
    assert found.slices["zh"].temperature == pytest.approx(4.0, rel=0.3)
    # Ten times as many Chinese samples do not make it Chinese's temperature.
    logs = np.log([found.slices["en"].temperature, found.temperature, found.slices["zh"].temperature])
    assert logs[0] + 0.2 < logs[1] < logs[2] - 0.2


def test_a_few_samples_are_no_language_of_their_own() -> None:
    logits = spread(110, 2)
    samples = held_out(logits[:100], 1.0) + held_out(logits[100:], 1.0, "fr", first=100)
    assert calibrate(Told(logits), samples, CalibrateOptions()).slices.keys() == {"all", "en"}


def test_a_threshold_becomes_a_shift_that_puts_it_at_one_half() -> None:
    logits = spread(800, 2)
    samples = held_out(logits - np.array([0, 2], np.float32), 1.0)
    found = calibrate(Told(logits), samples, CalibrateOptions(threshold="macro_f1"))
    assert found.shift == pytest.approx(-2, abs=0.8)
    change = found.slices["all"].figures
    assert change["macro_f1"].after.value > change["macro_f1"].before.value + 0.02
    assert change["ece"].after.value < 0.06


def test_the_best_threshold_is_the_one_that_trying_all_finds() -> None:
    rng = np.random.default_rng(0)
    p_positive = rng.random(60)
    positive = rng.random(60) < p_positive**2
    best = fit_threshold(p_positive, positive)

    def score(threshold: float) -> float:
        said = np.where(p_positive > threshold, 1.0, 0.0)
        return measured(said, positive)["macro_f1"]

    # Half-way between any two neighbours there is no better one.
    between = np.convolve(np.sort(p_positive), [0.5, 0.5], "valid")
    assert score(best) == pytest.approx(max(score(each) for each in between))


def test_a_label_without_samples_is_named() -> None:
    logits = spread(40, 3)
    samples = [Example(text=str(at), target=(1.0, 0.0, 0.0)) for at in range(40)]
    with pytest.raises(UsageError, match=r"split validation has none of neutral, positive"):
        calibrate(Told(logits), samples, CalibrateOptions())


def test_three_labels_have_no_threshold() -> None:
    logits = spread(100, 3)
    with pytest.raises(UsageError, match=r"threshold is of two labels"):
        calibrate(Told(logits), held_out(logits, 1.0), CalibrateOptions(threshold="macro_f1"))


def test_cross_entropy_of_two_labels_is_the_likelihood_of_their_margin() -> None:
    logits, positive = drawn(1.3, n=50)
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64) / 1.3
    expected = np.logaddexp(0, np.where(positive, -margin, margin)).mean()
    assert cross_entropy(logits, positive, 1.3) == pytest.approx(expected)
    assert cross_entropy(logits, positive.astype(np.int64), 1.3) == pytest.approx(expected)


def test_no_samples_are_refused() -> None:
    with pytest.raises(UsageError, match=r"The split validation has no samples; take another"):
        calibrate(Told(spread(4, 2)), [], CalibrateOptions())


def test_a_temperature_at_its_bound_is_warned_of() -> None:
    logits = np.array([[0.3, 0.0], [0.0, 0.3]])
    always = fit_temperature(logits, np.array([0, 1]))
    never = fit_temperature(logits, np.array([1, 0]))
    assert "always right" in warning(round(always, 4))
    assert "no better than chance" in warning(round(never, 4))
    assert not warning(1.0)
