"""Runs behavioural tests on a classifier: pass rates by kind and language, gates, examples of failures.

Rules:
- A text's label is its likeliest one; the neutral band plays no part.
- Its score is P(positive), plus half of P(neutral) where there is one.
- A score that moves the wrong way by no more than ``TOLERANCE`` has stayed where it was.
- A kind passes its gate when its share of passed cases, over all its tests, is at least the gate.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from models.behaviour.suite import Case, cases, read_suite
from models.classifier import probabilities
from models.metrics import wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from models.behaviour.suite import Suite
    from models.classifier import Classifier
    from stream.core.events import Label

TOLERANCE = 0.05
FAILURES = 10
"""Failing cases of each test that a report lists."""


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A case that did not pass."""

    texts: tuple[str, ...]
    scores: tuple[float, ...]
    wanted: str


class TestResult(msgspec.Struct, frozen=True, kw_only=True):
    """One test of a kind."""

    name: str
    cases: int
    passed: int
    failures: tuple[Failure, ...]
    """The first few."""


class KindResult(msgspec.Struct, frozen=True, kw_only=True):
    """One kind in one language."""

    kind: str
    language: str
    cases: int
    passed: int
    rate: float
    interval: tuple[float, float]
    """95%, as if cases were drawn at random; they share templates, so it flatters."""
    gate: float
    ok: bool
    tests: tuple[TestResult, ...]


class Behaviour(msgspec.Struct, frozen=True, kw_only=True):
    """A run of the suites."""

    model: str
    ok: bool
    """Whether every kind passed its gate."""
    kinds: tuple[KindResult, ...]


class _Said(NamedTuple):
    label: Label
    score: float


def behave(classifier: Classifier, languages: Sequence[str]) -> Behaviour:
    """Runs the suites of some languages.

    Raises:
        UsageError: a language has no suite.
    """
    suites = [read_suite(language) for language in languages]
    made = {
        (suite.language, test.name, test.kind): cases(suite, test) for suite in suites for test in suite.test
    }
    texts = sorted({text for each in made.values() for case in each for text in case.texts})
    said = dict(zip(texts, _say(classifier, texts), strict=True))
    kinds = tuple(
        _kind(suite, kind, made, said)
        for suite in suites
        for kind in dict.fromkeys(test.kind for test in suite.test)
    )
    return Behaviour(model=classifier.name, ok=all(kind.ok for kind in kinds), kinds=kinds)


def _say(classifier: Classifier, texts: Sequence[str]) -> list[_Said]:
    shares: NDArray[np.float64] = probabilities(classifier, texts)
    score = shares[:, -1] + (shares[:, 1] / 2 if len(classifier.labels) == 3 else 0)
    return [
        _Said(classifier.labels[at], float(each))
        for at, each in zip(shares.argmax(axis=1), score, strict=True)
    ]


def _kind(
    suite: Suite, kind: str, made: dict[tuple[str, str, str], list[Case]], said: dict[str, _Said]
) -> KindResult:
    tests = []
    for test in suite.test:
        if test.kind == kind:
            of_test = made[suite.language, test.name, kind]
            failed = [case for case in of_test if not passes(case, [said[text] for text in case.texts])]
            shown = tuple(_failure(case, said) for case in failed[:FAILURES])
            tests.append(
                TestResult(
                    name=test.name, cases=len(of_test), passed=len(of_test) - len(failed), failures=shown
                )
            )
    n, passed = sum(test.cases for test in tests), sum(test.passed for test in tests)
    return KindResult(
        kind=kind,
        language=suite.language,
        cases=n,
        passed=passed,
        rate=passed / n,
        interval=wilson(passed, n),
        gate=suite.gates[kind],
        ok=passed >= suite.gates[kind] * n,
        tests=tuple(tests),
    )


def passes(case: Case, said: Sequence[_Said]) -> bool:
    """Whether what was said of a case's texts is as it must be."""
    first, last = said[0], said[-1]
    if case.must == "label":
        return first.label == case.expect
    if case.must == "same":
        return first.label == last.label
    if case.must == "not higher":
        return last.score <= first.score + TOLERANCE
    if case.must == "not lower":
        return last.score >= first.score - TOLERANCE
    return all(after.score >= before.score - TOLERANCE for before, after in pairwise(said))


WANTED = {
    "same": "the same label",
    "rising": "a rising score",
    "not higher": "a score that does not rise",
    "not lower": "a score that does not fall",
}


def _failure(case: Case, said: dict[str, _Said]) -> Failure:
    return Failure(
        texts=case.texts,
        scores=tuple(round(said[text].score, 4) for text in case.texts),
        wanted=case.expect or WANTED[case.must],
    )
