from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner
from word_counter import WordCounter

from models import classifier
from models.behaviour.run import TOLERANCE, _Said, behave, passes
from models.behaviour.suite import Case, Suite, cases, changed, languages, read_suite
from stream.cli.main import command_line
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

SUITES = {language: read_suite(language) for language in languages()}
KINDS = [(suite, kind) for suite in SUITES.values() for kind in suite.gates]

SMALL = """
language = "xx"
[gates]
"polarity" = 0.75
"direction" = 1.0
[lexicon]
thing = ["pen", "cup"]
good = ["good", "good good"]
[[test]]
kind = "polarity"
name = "praise"
expect = "positive"
templates = ["The {thing} is {good}.", "{Good} {thing}!", "Fine {thing}."]
[[test]]
kind = "direction"
name = "complaint"
direction = "not higher"
append = [" bad {thing}", " bad"]
templates = ["The {thing} is good."]
"""


@pytest.fixture
def small(tmp_path: Path) -> Suite:
    (tmp_path / "xx.toml").write_text(SMALL)
    return read_suite("xx", tmp_path)


def test_templates_take_turns_and_every_slot_is_filled(small: Suite) -> None:
    made = [case.texts[0] for case in cases(small, small.test[0])]
    assert len(made) == len(set(made)) == 4 + 4 + 2
    assert {"The pen is good.", "Good good cup!", "Fine pen."} <= set(made)
    assert [text[:4] for text in made[:3]].count("Fine") == 1


def test_cases_are_the_same_every_time(small: Suite) -> None:
    assert cases(small, small.test[0]) == cases(small, small.test[0])


def test_an_addition_takes_its_words_from_the_same_draw(small: Suite) -> None:
    made = {case.texts for case in cases(small, small.test[1])}
    assert ("The pen is good.", "The pen is good. bad pen") in made
    assert len(made) == 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ('{thing} is {good}."', r"the lexicon has no 'thingy'"),
        ('"polarity" = 0.75', r"the kind 'polarity' has no gate"),
        ('expect = "positive"', r"unknown field `expected`"),
    ],
)
def test_a_wrong_suite_is_named(tmp_path: Path, wrong: str, said: str) -> None:
    changes = {
        '{thing} is {good}."': '{thingy} is {good}."',
        '"polarity" = 0.75': "",
        'expect = "positive"': 'expected = "positive"',
    }
    (tmp_path / "xx.toml").write_text(SMALL.replace(wrong, changes[wrong]))
    with pytest.raises(UsageError, match=said):
        read_suite("xx", tmp_path)


def test_a_language_without_a_suite_is_named() -> None:
    with pytest.raises(UsageError, match=r"no behavioural suite of 'tlh'; there are en, zh"):
        read_suite("tlh")


@pytest.mark.parametrize(("suite", "kind"), KINDS, ids=lambda each: getattr(each, "language", each))
def test_every_kind_has_enough_cases_and_none_with_an_empty_slot(suite: Suite, kind: str) -> None:
    made = [case for test in suite.test if test.kind == kind for case in cases(suite, test)]
    assert len(made) >= 60
    assert len(set(made)) == len(made)
    assert not [text for case in made for text in case.texts if "{" in text or "  " in text]


@pytest.mark.parametrize("language", languages())
def test_gates_of_what_the_release_demands_are_as_demanded(language: str) -> None:
    gates = SUITES[language].gates
    assert gates["plain polarity"] >= 0.95
    assert gates["negation"] >= 0.85


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("upper case", "GREAT, IT WORKS."),
        ("lower case", "great, it works."),
        ("no punctuation", "Great it works"),
    ],
)
def test_changes_leave_the_words(change: str, expected: str) -> None:
    assert changed("Great, it works.", change) == expected  # type: ignore[arg-type]


def test_a_slip_of_the_fingers_stays_inside_one_word() -> None:
    text = "It works perfectly"
    swapped, lost = changed(text, "swapped letters"), changed(text, "lost letter")
    assert sorted(swapped) == sorted(text)
    assert swapped != text
    assert len(lost) == len(text) - 1
    for word in (*swapped.split(), *lost.split()):
        assert {word[0], word[-1]} <= set("Itwsperfy")
    assert changed(text, "lost letter") == lost


def test_a_mistyped_word_comes_from_the_suites_list() -> None:
    assert changed("质量很好", "mistyped word", {"质量": "质亮"}) == "质亮很好"
    assert changed("很好", "mistyped word", {"质量": "质亮"}) == "很好"


@pytest.mark.parametrize(
    ("must", "scores", "passed"),
    [
        ("not higher", (0.5, 0.5 + TOLERANCE / 2), True),
        ("not higher", (0.5, 0.5 + 2 * TOLERANCE), False),
        ("not lower", (0.5, 0.5 - TOLERANCE / 2), True),
        ("not lower", (0.5, 0.5 - 2 * TOLERANCE), False),
        ("rising", (0.1, 0.5, 0.9), True),
        ("rising", (0.1, 0.9, 0.5), False),
        ("same", (0.4, 0.1), True),
        ("same", (0.4, 0.6), False),
        ("label", (0.9,), False),
    ],
)
def test_a_case_passes_when_what_must_hold_holds(must: str, scores: tuple[float, ...], passed: bool) -> None:
    case = Case(tuple("abc"[: len(scores)]), must, "negative")  # type: ignore[arg-type]
    said = [_Said("positive" if score > 0.5 else "negative", score) for score in scores]
    assert passes(case, said) is passed


def test_pass_rates_and_failures_are_counted_by_kind() -> None:
    found = behave(WordCounter(("love", "good", "excellent"), ("hate", "terrible")), ["en"])
    plain = next(kind for kind in found.kinds if kind.kind == "plain polarity")
    assert plain.cases == 120
    assert plain.passed == sum(test.passed for test in plain.tests) < 120
    assert not plain.ok
    assert not found.ok
    praise = plain.tests[0]
    assert len(praise.failures) == 10
    assert {failure.wanted for failure in praise.failures} == {"positive"}
    casing = next(kind for kind in found.kinds if kind.kind == "casing")
    assert casing.tests[1].passed > casing.tests[0].passed  # it knows no capitals


def test_three_labels_score_with_half_of_neutral() -> None:
    three = WordCounter(("good",), ("bad",), labels=("negative", "neutral", "positive"))
    assert {kind.language for kind in behave(three, ["zh"]).kinds} == {"zh"}


def run(*arguments: str) -> tuple[int, str]:
    found = CliRunner().invoke(command_line(), ["behave", *arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout


def test_the_command_reads_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "open_classifier", lambda path: WordCounter(name=path.name))
    (tmp_path / "recipe.toml").write_text('[behave]\nmodel = "m"\nlanguage = ["zh"]\n')
    code, out = run("--recipe", str(tmp_path / "recipe.toml"), "--json")
    assert code == 1
    found = json.loads(out)
    assert found["model"] == "m"
    assert {kind["language"] for kind in found["kinds"]} == {"zh"}


def test_the_command_fails_when_a_gate_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "open_classifier", lambda path: WordCounter())
    code, out = run("model", "--language", "zh", "--json")
    assert code == 1
    found = json.loads(out)
    assert found["ok"] is False
    assert {kind["kind"] for kind in found["kinds"]} == set(SUITES["zh"].gates)
    code, out = run("model", "--language", "en", "--examples", "1")
    assert code == 1
    assert "FAILS" in out
    assert "wanted positive" in out
