"""TF-IDF and logistic regression: what a model has to beat to be worth its time.

Rules:
- Fitted on the train split alone; the strength of its regularisation is the one with the least log loss on
  the validation split, so that the baseline is a fair one.
- Words and pairs of words where a script has spaces, runs of 1 to 3 characters where it has not (Chinese,
  Japanese); a text in both has features of both.
- Nothing is stored: fitting takes seconds, and a fitted scikit-learn object could only be pickled.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from models.examples import classes
from models.slices import CJK
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from models.examples import Example, PreparedSet
    from stream.core.events import Label

STRENGTHS = (1.0, 4.0, 16.0)
"""Inverse regularisation tried; rows of TF-IDF have length one, and sentiment wants more than 1 for them."""

WORD = re.compile(rf"[^\W_{CJK}]+(?:['\u2019][^\W_{CJK}]+)*|[!?]")
UNSPACED = re.compile(rf"[{CJK}]+")
NEVER = -30.0
"""Logit of a label that the train split does not have."""


def terms(text: str) -> Iterator[str]:
    """The features of a text.

    >>> list(terms("Not good 不好"))
    ['not', 'good', 'not good', '不', '好', '不好']
    """
    words = WORD.findall(text.lower())
    yield from words
    yield from (f"{first} {second}" for first, second in pairwise(words))
    for run in UNSPACED.findall(text):
        for size in (1, 2, 3):
            yield from (run[at : at + size] for at in range(len(run) - size + 1))


class Baseline:
    """TF-IDF and logistic regression as a ``Classifier``; made by ``fit``."""

    name = "TF-IDF + logistic regression"
    temperature = 1.0
    neutral_band = 0.0

    def __init__(self, labels: tuple[Label, ...], vectorizer: Any, regression: Any) -> None:
        self.labels = labels
        self._vectorizer, self._regression = vectorizer, regression

    def logits(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Log-odds of each label, float32 (n, labels)."""
        if not texts:
            return np.empty((0, len(self.labels)), np.float32)
        said = self._regression.decision_function(self._vectorizer.transform(texts))
        columns = np.stack([-said / 2, said / 2], axis=1) if said.ndim == 1 else said
        logits = np.full((len(columns), len(self.labels)), NEVER, np.float32)
        logits[:, self._regression.classes_] = columns
        return logits


def can_learn(prepared: PreparedSet) -> bool:
    """Whether the train split has texts of two labels."""
    return len(np.unique(classes(prepared["train"]) if prepared["train"] else [])) > 1


def fit(prepared: PreparedSet, *, seed: int = 0) -> Baseline:
    """A baseline of the train split of a prepared set.

    Raises:
        UsageError: the split is empty or has one class only.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    examples = prepared["train"]
    truth = classes(examples) if examples else np.empty(0, np.int64)
    if len(np.unique(truth)) < 2:
        found = f"has only {prepared.labels[truth[0]]!r}" if len(truth) else "is empty"
        raise UsageError(f"A baseline needs texts of two labels to learn from, and the train split {found}.")
    vectorizer = TfidfVectorizer(analyzer=_listed, min_df=2 if len(examples) >= 500 else 1, sublinear_tf=True)
    features = vectorizer.fit_transform([example.text for example in examples])
    fitted = []
    for strength in STRENGTHS if prepared["validation"] else STRENGTHS[1:2]:
        regression = LogisticRegression(C=strength, max_iter=300, random_state=seed)
        regression.fit(features, truth)
        fitted.append(Baseline(prepared.labels, vectorizer, regression))
    return min(fitted, key=lambda each: _loss(each, prepared["validation"])) if len(fitted) > 1 else fitted[0]


def _listed(text: str) -> list[str]:
    return list(terms(text))


def _loss(baseline: Baseline, examples: Sequence[Example]) -> float:
    from models.classifier import probabilities

    said = probabilities(baseline, [example.text for example in examples])
    at_truth = said[np.arange(len(said)), classes(examples)]
    return float(-np.log(np.maximum(at_truth, 1e-12)).mean())
