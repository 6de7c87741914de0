from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.sentences import MOST_WIDTH, read, sentences, width


def texts(line: str) -> list[str]:
    return [sentence.text for sentence in sentences(line)]


@pytest.mark.parametrize(
    ("line", "split"),
    [
        ("It died. Why? No idea!", ["It died.", "Why?", "No idea!"]),
        ('He said "it works." It does not.', ['He said "it works."', "It does not."]),
        ("Version 2.5 broke it.", ["Version 2.5 broke it."]),
        ("用了三天。坏了！客服不理？", ["用了三天。", "坏了！", "客服不理？"]),  # noqa: RUF001
        ("质量差 不推荐", ["质量差", "不推荐"]),
        ("iPhone 很慢", ["iPhone 很慢"]),
        ("", []),
    ],
)
def test_sentences_end_at_their_marks(line: str, split: list[str]) -> None:
    assert texts(line) == split


def test_a_long_sentence_is_cut_between_clauses() -> None:
    first, second = "the pump leaks " * 8, "the lid is loose " * 5
    assert texts(f"{first.strip()}, {second.strip()}.") == [f"{first.strip()},…", f"…{second.strip()}."]


def test_a_word_without_end_is_cut_where_it_must_be() -> None:
    pieces = texts("x" * 400)
    assert [width(piece) for piece in pieces] == [158, 160, 90]
    assert "".join(pieces).replace("…", "") == "x" * 400


def test_what_says_nothing_is_not_shown() -> None:
    assert not read("Do not buy this!!").can_be_shown
    assert not read("Leaks.").can_be_shown
    assert read("The lid leaks.").can_be_shown
    assert read("盖子漏水了").can_be_shown


@given(st.text(alphabet=st.sampled_from("ab .!?,;-好坏了。，！ …\u0301😡\U0001d400"), max_size=1_000))  # noqa: RUF001
def test_nothing_is_lost_and_nothing_is_too_long(line: str) -> None:
    found = texts(line)
    assert "".join(found).replace(" ", "").replace("…", "") == line.replace(" ", "").replace("…", "")
    for piece in found:
        assert width(piece) <= MOST_WIDTH
        assert len(piece.encode()) <= 256
