from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from word_counter import WordCounter

from models.compare import compare, mcnemar, paired, verdict
from models.examples import Example
from models.metrics import Figure
from stream.errors import UsageError


def examples(n_good: int, n_fine: int) -> list[Example]:
    """Positive texts that say good (known to both), and that say fine (known to one)."""
    made = [Example(text="good", target=(0.0, 1.0), source="easy")] * n_good
    return [*made, *[Example(text="fine", target=(0.0, 1.0), source="hard")] * n_fine]


A, B = WordCounter(name="a"), WordCounter(("good", "fine"), name="b")


@pytest.mark.parametrize(
    ("only_a", "only_b", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 2**5), (1, 9, 2 * (1 + 10) / 2**10), (9, 1, 2 * (1 + 10) / 2**10)],
)
def test_mcnemars_test_is_the_binomial_tail_of_fair_coins(only_a: int, only_b: int, p: float) -> None:
    assert mcnemar(only_a, only_b) == pytest.approx(p)


def test_pairs_are_counted() -> None:
    right_a, right_b = np.array([True, True, True, False]), np.array([True, False, False, False])
    found = paired(right_a, right_b)
    assert (found.both, found.only_a, found.only_b, found.neither) == (1, 2, 0, 1)


def test_a_better_model_is_said_to_be_better_and_where() -> None:
    found = compare(A, B, examples(80, 20), name="a set", draws=400)
    assert (found.pair.both, found.pair.only_a, found.pair.only_b) == (80, 0, 20)
    difference = found.differences["accuracy"]
    assert difference.value == pytest.approx(0.2)
    # Twenty of a hundred draws: the interval is that of a binomial share.
    assert difference.interval == pytest.approx((0.12, 0.28), abs=0.02)
    assert [(each.value, each.difference, each.clear) for each in found.slices if each.kind == "source"] == [
        ("easy", 0.0, False),
        ("hard", 1.0, True),
    ]
    assert found.verdict.startswith(
        "b is better than a on these 100 texts: its accuracy is 20.0 points higher (1"
    )


def test_the_order_of_the_two_turns_the_sign_and_not_the_verdict() -> None:
    there, back = compare(A, B, examples(80, 20), draws=100), compare(B, A, examples(80, 20), draws=100)
    assert back.differences["accuracy"].value == -there.differences["accuracy"].value
    assert back.verdict == there.verdict


def test_a_model_beside_itself_cannot_be_told_apart() -> None:
    found = compare(A, A, examples(5, 5), draws=100)
    assert found.pair.p == 1
    assert found.differences["accuracy"].interval == (0, 0)
    assert "cannot be told apart" in found.verdict


def test_a_small_difference_is_not_called_one() -> None:
    pair = paired(np.array([True] * 3 + [False] * 2), np.array([True] * 2 + [False] + [True] * 2))
    assert verdict("a", "b", pair, Figure("accuracy", 0.2, (-0.4, 0.6))) == (
        "a and b cannot be told apart on these 5 texts: the second's accuracy less the first's is "
        "+20.0 points (-40.0 to +60.0; McNemar p = 1.0000)."
    )


def test_models_of_other_labels_are_refused() -> None:
    three = WordCounter(labels=("negative", "neutral", "positive"))
    with pytest.raises(UsageError, match=r"prepare the set with the model's labels"):
        compare(A, three, examples(2, 2))
