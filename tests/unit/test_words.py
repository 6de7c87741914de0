from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.words import LONGEST_TERM, MOST_TERMS, stem, terms


def phrases(text: str) -> list[str]:
    return [term.text for term in terms(text)]


def keys(text: str) -> set[str]:
    return {term.key for term in terms(text)}


@pytest.mark.parametrize(
    "text",
    [
        "does not charge",
        "Doesn't charge",
        "won\u2019t charge",
        "never charged",
        "doesnt charge",
        "didn t charge",
    ],
)
def test_all_negations_are_one(text: str) -> None:
    assert keys(text) == {"not charg", "charg"}


@pytest.mark.parametrize("text", ["不能充电", "无法充电", "没有充电", "不充电"])
def test_all_chinese_negations_are_one(text: str) -> None:
    assert keys(text) == {"不 充电", "充电"}


def test_stop_words_neither_begin_nor_end_a_phrase() -> None:
    assert phrases("it came out of the box with a crack") == ["box", "box with a crack", "crack"]


def test_articles_and_intensifiers_are_shown_and_not_counted() -> None:
    assert phrases("hold a very weak charge")[:3] == ["hold", "hold a very weak", "hold a very weak charge"]
    assert "hold weak" in keys("hold a very weak charge")
    assert keys("屏幕很模糊") == keys("屏幕非常模糊")


def test_verdicts_alone_are_no_phrase() -> None:
    assert phrases("Terrible product. Waste of money. Don't buy! 垃圾, 差评") == []


def test_phrases_do_not_cross_punctuation_or_emoji() -> None:
    assert phrases("pump, motor 😡 lid") == ["pump", "motor", "lid"]


def test_chinese_runs_parted_by_a_space_are_clauses() -> None:
    assert phrases("屏幕 漏光") == ["屏幕", "漏光"]


def test_models_and_numbers_stay_whole() -> None:
    assert phrases("WH-1000XM4 died") == ["WH-1000XM4", "WH-1000XM4 died", "died"]
    assert phrases("broke in 2 weeks") == ["broke", "broke in 2", "2 weeks", "weeks"]
    assert phrases("iPhone15屏幕") == ["iPhone15", "iPhone15屏幕", "屏幕"]


def test_a_number_alone_is_no_phrase() -> None:
    assert phrases("12 34 56") == []


def test_a_mask_is_no_phrase() -> None:
    assert phrases("call [phone] or [email]") == ["call"]


def test_a_phrase_is_given_once() -> None:
    assert phrases("leaks. Leaking! LEAKED?") == ["leaks"]


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("bugs", "bug"),
        ("dies", "die"),
        ("need", "need"),
        ("thing", "thing"),
        ("x100s", "x100s"),
        ("naïve", "naïve"),
    ],
)
def test_stems(word: str, stemmed: str) -> None:
    assert stem(word) == stemmed


@given(st.text(max_size=300))
def test_any_text_has_bounded_phrases_that_stand_in_it(text: str) -> None:
    found = terms(text)
    assert len(found) <= MOST_TERMS
    assert len({term.key for term in found}) == len(found)
    for term in found:
        assert term.text in text
        assert len(term.text.encode("utf-8", "surrogatepass")) <= LONGEST_TERM
        assert len(term.key.encode("utf-8", "surrogatepass")) <= LONGEST_TERM
