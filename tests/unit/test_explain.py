from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from stream.cli.main import command_line
from stream.cli.score import _coloured
from stream.core.explain import MOST_SPANS, Span, contributions, log_odds, occluded, spans
from stream.errors import UsageError
from stream.scorer.explain import explained


class CountsWords:
    """Positive by the word "good", negative by "坏"; each shifts the log-odds by one."""

    version = "counts"
    provider = "none"

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts: list[str]) -> CountsWords:
        self.texts = texts
        return self

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(text) for text in self.texts], np.int32)

    def score(self, encoded: CountsWords, rows: np.ndarray) -> np.ndarray:
        odds = np.array([self.texts[row].count("good") - self.texts[row].count("坏") for row in rows], float)
        positive = 1 / (1 + np.exp(-odds))
        return np.stack([1 - positive, 0 * positive, positive], axis=1).astype(np.float32)


def words(text: str) -> list[str]:
    return [text[start:stop] for start, stop in spans(text)]


def test_english_words_are_found_by_spaces() -> None:
    assert words(" It's  good,\nreally. ") == ["It's", "good,", "really."]


def test_chinese_words_are_segmented_and_its_punctuation_is_none() -> None:
    assert words("质量很差\uff0c不推荐iPhone。") == ["质量", "很差", "不", "推荐", "iPhone。"]


def test_a_mark_that_stands_alone_is_a_word() -> None:
    assert words("bad !!! 😡") == ["bad", "!!!", "😡"]


@given(st.text(max_size=300))
def test_spans_are_in_order_apart_and_never_empty(text: str) -> None:
    found = spans(text)
    assert all(start < stop for start, stop in found)
    assert all(one.stop <= other.start for one, other in pairwise(found))
    assert all(text[start:stop].strip() for start, stop in found)


def test_a_text_of_many_words_is_scored_a_bounded_number_of_times() -> None:
    found = spans("word " * 4001)
    assert len(found) <= MOST_SPANS
    assert (found[0].start, found[-1].stop) == (0, 4001 * 5 - 1)


def test_each_text_lacks_one_span() -> None:
    assert occluded("a b c", [Span(0, 1), Span(2, 3), Span(4, 5)]) == [" b c", "a  c", "a b "]


def test_a_contribution_is_what_the_log_odds_lose() -> None:
    found = explained(CountsWords(), "good phone 坏 good", token_budget=64)
    assert [round(each.log_odds, 4) for each in found.contributions] == [1.0, 0.0, -1.0, 1.0]


def test_certain_probabilities_have_finite_log_odds() -> None:
    assert np.isfinite(log_odds(np.array([[0, 0, 1], [1, 0, 0]], np.float32))).all()


def test_a_text_of_no_words_has_no_contributions() -> None:
    assert contributions([], np.array([0.1, 0, 0.9], np.float32), np.empty((0, 3), np.float32)) == []


def run(*arguments: str) -> str:
    found = CliRunner().invoke(command_line(), ["score", "--scorer", "constant", "--explain", *arguments])
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.stdout


def test_json_names_each_word_with_its_place() -> None:
    [line] = run("--json", "good \x1b[31m坏").splitlines()
    row = json.loads(line)
    assert row["label"] == "positive"
    assert row["words"] == [
        {"text": "good", "start": 0, "stop": 4, "log_odds": 0.0},
        {"text": "\x1b[31m", "start": 5, "stop": 10, "log_odds": 0.0},
        {"text": "坏", "start": 10, "stop": 11, "log_odds": 0.0},
    ]


def test_a_hostile_text_cannot_command_the_terminal() -> None:
    out = run("[red]bold[/red] \x1b]0;title\x07 \u202eevil \x9b31m")
    assert "[red]bold[/red]" in out
    assert not {"\x1b", "\x07", "\u202e", "\x9b"} & set(out)


def test_stronger_words_are_bolder_and_colour_says_what_they_speak_for() -> None:
    text = "fine awful ok"
    shown = _coloured(text, explained_as(text, [0.2, -1.0, 0.05]))
    assert shown.plain == text
    assert [(text[span.start : span.end], str(span.style)) for span in shown.spans] == [
        ("fine", "green"),
        ("awful", "bold red"),
    ]


def explained_as(text: str, log_odds_of: list[float]) -> list:
    whole = np.array([0.5, 0, 0.5], np.float32)
    without = np.array([[1, 0, np.exp(-each)] for each in log_odds_of], np.float64)
    without /= without.sum(axis=1, keepdims=True)
    return contributions(spans(text), whole, without.astype(np.float32))


def test_lines_from_a_pipe_are_not_explained() -> None:
    with pytest.raises(UsageError, match="--explain takes texts as arguments"):
        CliRunner().invoke(
            command_line(), ["score", "--jsonl", "--explain"], input="{}", catch_exceptions=False
        )
