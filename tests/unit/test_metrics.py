from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

sk = pytest.importorskip("sklearn.metrics")

from models.curves import confusion, curves, reliability  # noqa: E402
from models.examples import Example  # noqa: E402
from models.metrics import Measure, Rows, figures, resamples, wilson  # noqa: E402
from models.slices import has_negation, length, slices  # noqa: E402

if TYPE_CHECKING:
    from numpy.typing import NDArray

TWO, THREE = ("negative", "positive"), ("negative", "neutral", "positive")


def drawn(labels: tuple[str, ...], n: int = 400, seed: int = 0, neutral_band: float = 0.0) -> Rows:
    """Rows of a fair model, with many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(labels), n)
    logits = rng.normal(0, 1, (n, len(labels))).round(1)
    logits[np.arange(n), truth] += 1.2
    shares = np.exp(logits)
    return Rows(shares / shares.sum(axis=1, keepdims=True), truth, labels, neutral_band)


def by_scikit_learn(
    probabilities: NDArray[np.float64], truth: NDArray[np.int64], labels: tuple[str, ...]
) -> dict[str, float]:
    said = probabilities.argmax(axis=1)
    columns = range(len(labels))
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, said, labels=columns, zero_division=0
    )
    found = {
        "accuracy": sk.accuracy_score(truth, said),
        "macro_f1": sk.f1_score(truth, said, average="macro"),
        "mcc": sk.matthews_corrcoef(truth, said),
        "log_loss": sk.log_loss(truth, probabilities, labels=columns),
    }
    for at, label in enumerate(labels):
        found |= {f"precision.{label}": precision[at], f"recall.{label}": recall[at], f"f1.{label}": f1[at]}
        found[f"roc_auc.{label}"] = sk.roc_auc_score(truth == at, probabilities[:, at])
        found[f"average_precision.{label}"] = sk.average_precision_score(truth == at, probabilities[:, at])
    return found


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_figures_are_scikit_learns(labels: tuple[str, ...]) -> None:
    rows = drawn(labels)
    found = figures(rows, draws=20)
    for name, value in by_scikit_learn(rows.probabilities, rows.truth, labels).items():
        assert found[name].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("labels", [TWO, THREE])
def test_a_draw_has_the_figures_of_its_rows_repeated(labels: tuple[str, ...]) -> None:
    rows = drawn(labels, n=200)
    [weights] = resamples(200, 5, seed=3)
    found = Measure(rows)(weights)
    for draw in range(5):
        repeated = np.repeat(np.arange(200), weights[draw].astype(int))
        expected = by_scikit_learn(rows.probabilities[repeated], rows.truth[repeated], labels)
        for name, value in expected.items():
            assert found[name][draw] == pytest.approx(value, abs=1e-12), name


def test_the_calibration_error_is_the_gap_of_each_bin_by_its_rows() -> None:
    # Bin 11 (0.733 to 0.8): confidence 0.75, half are right. Bin 13: confidence 0.9, all are right.
    p_positive = np.array([0.75, 0.75, 0.9, 0.1])
    rows = Rows(np.stack([1 - p_positive, p_positive], axis=1), np.array([1, 0, 1, 0]), TWO)
    assert figures(rows, draws=5)["ece"].value == pytest.approx(0.25 / 2 + 0.1 / 2)
    low, high = reliability(rows)
    assert (low.rows, low.confidence, low.accuracy) == (2, 0.75, 0.5)
    assert (high.rows, high.confidence, high.accuracy) == (2, pytest.approx(0.9), 1.0)
    assert low.low < 0.75 < low.high


def test_the_neutral_band_divides_rows_into_decided_and_not() -> None:
    p_positive = np.array([0.55, 0.95, 0.05, 0.05])
    rows = Rows(np.stack([1 - p_positive, p_positive], axis=1), np.array([0, 1, 0, 1]), TWO, 0.2)
    found = figures(rows, draws=5)
    assert found["decided"].value == 0.75
    assert found["decided_accuracy"].value == pytest.approx(2 / 3)


def test_what_one_class_does_not_define_is_left_out() -> None:
    rows = Rows(np.array([[0.2, 0.8], [0.6, 0.4]]), np.array([1, 1]), TWO)
    found = figures(rows, draws=5)
    assert found["accuracy"].value == 0.5
    assert "roc_auc" not in found
    assert curves(rows) == ()


def test_intervals_hold_the_value_and_narrow_with_the_root_of_the_rows() -> None:
    widths = []
    for n in (200, 5000):
        found = figures(drawn(TWO, n=n), draws=500)["accuracy"]
        low, high = found.interval
        assert low < found.value < high
        widths.append(high - low)
    assert 3.5 < widths[0] / widths[1] < 7


def test_the_accuracys_interval_is_that_of_a_share() -> None:
    rows = drawn(TWO, n=2000)
    found = figures(rows, draws=1000)["accuracy"]
    assert found.interval == pytest.approx(wilson(round(found.value * 2000), 2000), abs=0.004)


def test_the_same_seed_draws_the_same_rows_however_draws_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resamples(30, 50, seed=4)))
    monkeypatch.setattr("models.metrics.CHUNK", 100)
    np.testing.assert_array_equal(np.concatenate(list(resamples(30, 50, seed=4))), whole)
    assert (whole.sum(axis=1) == 30).all()
    assert (np.concatenate(list(resamples(30, 50, seed=5))) != whole).any()


def test_confusion_has_the_truth_in_its_rows() -> None:
    rows = Rows(np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9]]), np.array([0, 1, 1]), TWO)
    assert confusion(rows) == ((1, 0), (1, 1))


def test_curves_run_from_corner_to_corner_and_stay_short() -> None:
    [_, positive] = curves(drawn(TWO, n=5000))
    assert positive.roc[0] == (0, 0)
    assert positive.roc[-1] == (1, 1)
    assert positive.precision_recall[0][0] == 0
    assert positive.precision_recall[-1] == (1, pytest.approx(positive.share, abs=1e-5))
    assert len(positive.roc) <= 200


# --- slices -----------------------------------------------------------------------------------------------


def example(text: str, **known: object) -> Example:
    return Example(text=text, target=(0.0, 1.0), **known)  # type: ignore[arg-type]


def test_slices_hold_the_rows_that_share_a_value() -> None:
    examples = [
        example("good", language="en", stars=5),
        example("not good at all, it broke twice", language="en", stars=1),
        example("不好", language="zh"),
    ]
    found = {(each.kind, each.value): each for each in slices(examples, np.array([True, True, False]))}
    assert [(*key, each.rows) for key, each in found.items()] == [
        ("language", "en", 2),
        ("language", "zh", 1),
        ("length", "1-5", 2),
        ("length", "6-20", 1),
        ("negation", "with", 2),
        ("negation", "without", 1),
        ("stars", "1", 1),
        ("stars", "5", 1),
    ]
    assert found["length", "1-5"].accuracy == 0.5
    assert found["language", "en"].interval == wilson(2, 2)


def test_a_slice_is_worse_only_when_chance_would_hardly_make_it_so() -> None:
    examples = [example("fine", source="a")] * 500 + [example("fine", source="b")] * 500
    right = np.ones(1000, bool)
    right[:50] = False  # 0.95 on the whole, 0.9 of a
    assert [each.worse for each in slices(examples, right)] == [True, False]
    right[:20] = True  # 0.94 of 500 where 0.97 is right on the whole is bad luck of 1 in 4,000
    right[20:35] = True  # and 0.97 where it is 0.985 of 1 in 100
    assert [each.worse for each in slices(examples, right)] == [False, False]


@pytest.mark.parametrize(
    ("text", "negates"),
    [
        ("It didn't work", True),
        ("It didn\u2019t work", True),
        ("dont buy", True),
        ("Nothing to add", True),
        ("A notable knot", False),
        ("没有想象的好", True),
        ("非常好,特别满意,不错", False),
        ("不错是不错,但不值", True),
    ],
)
def test_negating_words_are_found(text: str, negates: bool) -> None:
    assert has_negation(text) is negates


def test_length_counts_words_and_characters_of_unspaced_scripts() -> None:
    assert length("") == 0
    assert length("It's 5 stars!") == 3
    assert length("这个battery太差了") == 6
