from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.damping import (
    MOST_ALIKE,
    MOST_HELD,
    Damping,
    admits,
    author_hash,
    pack,
    text_hash,
    unpack,
)

LEAKS = "The kettle leaked all over my desk after two days, and nobody answers my mails about order {}."
TROUBLE = "烧水壶用了两天就漏水，弄得桌子上到处都是，客服一直不回复我的邮件，非常失望，订单号{}。"  # noqa: RUF001

hashes = st.lists(st.integers(0, 2**32 - 1), max_size=MOST_HELD)


def test_ten_posts_of_one_author_count_twice() -> None:
    state = Damping()
    assert sum(admits(state, author_hash("Ann"), None) for _ in range(10)) == MOST_ALIKE
    assert state.distinct_authors == 1


def test_a_text_copied_under_many_names_counts_twice() -> None:
    state = Damping()
    told = [admits(state, author_hash(f"a{n}"), text_hash(LEAKS.format(n))) for n in range(10)]
    assert told == [True, True, *[False] * 8]
    assert state.distinct_authors == 2


def test_what_is_refused_is_not_remembered() -> None:
    state = Damping([1, 1], [])
    assert not admits(state, 1, 7)
    assert state == Damping([1, 1], [])


def test_unknown_authors_of_short_texts_are_nobodys_doubles() -> None:
    state = Damping()
    assert all(admits(state, author_hash(None), text_hash("Bad.")) for _ in range(100))
    assert state == Damping()


def test_its_memory_is_bounded_and_keeps_refusing_whom_it_holds() -> None:
    state = Damping()
    assert all(admits(state, author, author) for author in range(1_000))
    assert (len(state.authors), len(state.texts)) == (MOST_HELD, MOST_HELD)
    assert len(pack(state)) == 2 + 8 * MOST_HELD
    doubled = Damping([5] * MOST_ALIKE + list(range(100, 100 + MOST_HELD - MOST_ALIKE)), [])
    assert not admits(doubled, 5, None)


@pytest.mark.parametrize("text", [LEAKS, TROUBLE])
def test_copies_with_another_number_case_or_spacing_are_alike(text: str) -> None:
    first = text_hash(text.format(1234))
    assert first is not None
    assert first == text_hash(text.format(98).upper()) == text_hash("  " + text.format("").replace(" ", "  "))


def test_other_words_for_the_same_thing_are_not_alike() -> None:
    others = [
        "Water everywhere: this kettle started leaking on its second day and support is silent.",
        "My desk is ruined because the kettle leaks, they never replied to me.",
        "Leaks after two days. I wrote to the seller four times and never got an answer.",
    ]
    assert len({text_hash(text) for text in (LEAKS.format(1), *others)}) == 4


@pytest.mark.parametrize("text", ["", "bad", "差评", "1234567890" * 30, "\ud800", "!?" * 500])
def test_texts_that_are_nobodys_own_have_no_hash(text: str) -> None:
    assert text_hash(text) is None


@given(st.text(max_size=2_000))
def test_any_text_and_author_has_a_hash_or_none(text: str) -> None:
    assert all(found is None or 0 <= found < 2**32 for found in (text_hash(text), author_hash(text)))


@given(hashes, hashes)
def test_unpack_undoes_pack(authors: list[int], texts: list[int]) -> None:
    assert unpack(pack(Damping(authors, texts))) == Damping(authors, texts)


@pytest.mark.parametrize("packed", [b"", b"\1", b"\1\0\0", pack(Damping([1], [2])) + b"\0"])
def test_damaged_bytes_are_refused(packed: bytes) -> None:
    with pytest.raises(struct.error):
        unpack(packed)
