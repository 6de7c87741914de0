"""One bad text costs one event; a broken model costs none."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import DependencyError
from stream.scorer import isolate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


class Words(NamedTuple):
    texts: list[str]
    lengths: NDArray[np.int32]


class PickyScorer:
    """P(negative) is a text's length in thousandths; some texts it cannot take.

    ``encode`` raises on "unreadable", ``score`` on "poison" and, with ``device_gone``, on everything.
    """

    version = "picky"
    provider = "none"

    def __init__(self) -> None:
        self.device_gone = False
        self.tokenizer_gone = False

    def encode(self, texts: Sequence[str]) -> Words:
        if self.tokenizer_gone or any("unreadable" in text for text in texts):
            raise ValueError("cannot tokenise")
        return Words(list(texts), np.array([len(text.split()) for text in texts], np.int32))

    def score(self, encoded: Words, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        texts = [encoded.texts[row] for row in rows]
        if self.device_gone or any("poison" in text for text in texts):
            raise RuntimeError("kernel failed")
        negative = np.array([len(text) / 1000 for text in texts], np.float32)
        return np.stack([negative, np.zeros_like(negative), 1 - negative], axis=1)

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        return probabilities.argmax(axis=1).astype(np.int8)


def scored(texts: list[str], scorer: PickyScorer | None = None) -> isolate.Scored:
    scorer = scorer or PickyScorer()
    return isolate.score(scorer, texts, isolate.encode(scorer, texts), token_budget=8)


def negative_of(text: str) -> float:
    return float(np.float32(len(text) / 1000))


def test_nothing_waiting_is_nothing_scored() -> None:
    result = scored([])
    assert result.probabilities.shape == (0, 3)
    assert result.labels.shape == (0,)
    assert result.failed == {}


def test_a_window_of_dead_letters_alone_survives_a_tokenizer_that_fails() -> None:
    scorer = PickyScorer()
    scorer.tokenizer_gone = True
    assert scored([], scorer).failed == {}


def test_scores_come_back_in_the_order_of_the_texts() -> None:
    texts = ["short", "a much longer text than that", "middling text"]
    assert scored(texts).probabilities[:, 0].tolist() == [negative_of(text) for text in texts]


@pytest.mark.parametrize(
    ("culprit", "why"),
    [("poison", "RuntimeError: kernel failed"), ("unreadable", "ValueError: cannot tokenise")],
)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_text_that_fails_ends_alone(culprit: str, why: str, place: int) -> None:
    texts = ["good " * n for n in range(1, 7)]
    texts.insert(place, culprit)
    result = scored(texts)
    assert result.failed == {place: why}
    for row, text in enumerate(texts):
        if row != place:
            assert float(result.probabilities[row, 0]) == negative_of(text)


def test_a_window_of_bad_texts_alone_does_not_stop_the_stream() -> None:
    """A hostile producer's window: the model works, so the texts are to blame, however many."""
    assert set(scored(["poison"] * 6 + ["unreadable"]).failed) == set(range(7))


@pytest.mark.parametrize("texts", [["one text"], ["two", "texts"], ["good"] * 9])
def test_a_device_that_is_gone_throws_no_event_away(texts: list[str]) -> None:
    scorer = PickyScorer()
    scorer.device_gone = True
    with pytest.raises(DependencyError, match="every text: kernel failed"):
        scored(texts, scorer)


def test_a_tokenizer_that_is_gone_throws_no_event_away() -> None:
    scorer = PickyScorer()
    scorer.tokenizer_gone = True
    with pytest.raises(DependencyError, match="cannot tokenise"):
        scored(["good"] * 5, scorer)


def test_a_device_that_goes_half_way_throws_no_event_away() -> None:
    class Dying(PickyScorer):
        calls = 0

        def score(self, encoded: Words, rows: NDArray[np.intp]) -> NDArray[np.float32]:
            self.calls += 1
            self.device_gone = self.calls > 4
            return super().score(encoded, rows)

    with pytest.raises(DependencyError):
        scored(["good", "poison", "good", "good", "good", "good", "good"], Dying())


def test_a_window_is_scored_again_when_the_device_is_back() -> None:
    scorer = PickyScorer()
    texts = ["good", "poison", "better"]
    encoded = isolate.encode(scorer, texts)
    scorer.device_gone = True
    with pytest.raises(DependencyError):
        isolate.score(scorer, texts, encoded, token_budget=8)
    scorer.device_gone = False
    result = isolate.score(scorer, texts, encoded, token_budget=8)
    assert set(result.failed) == {1}
    assert float(result.probabilities[2, 0]) == negative_of("better")


@pytest.mark.parametrize("failures", range(1, 9))
def test_a_device_that_is_away_for_a_moment_blames_nobody(failures: int) -> None:
    class Hiccup(PickyScorer):
        left = failures

        def score(self, encoded: Words, rows: NDArray[np.intp]) -> NDArray[np.float32]:
            self.left -= 1
            self.device_gone = self.left >= 0
            return super().score(encoded, rows)

    texts = ["good", "better", "best"]
    try:
        result = scored(texts, Hiccup())
    except DependencyError:
        return  # it will be tried again
    assert result.failed == {}
    assert result.probabilities[:, 0].tolist() == [negative_of(text) for text in texts]


@given(st.lists(st.sampled_from(["poison", "unreadable", "fine", "rather fine", "x " * 30]), max_size=40))
def test_exactly_the_bad_texts_fail(texts: list[str]) -> None:
    result = scored(texts)
    bad = {row for row, text in enumerate(texts) if text in {"poison", "unreadable"}}
    assert set(result.failed) == bad
    for row in set(range(len(texts))) - bad:
        assert float(result.probabilities[row, 0]) == negative_of(texts[row])
