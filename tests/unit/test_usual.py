from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.background import NOTHING_KNOWN, Background
from stream.core.usual import Usual, pack, unpack

LEAK, BOX = "The lid leaks.", "Ugly box."


def usual_of(*texts: str) -> Usual:
    usual = Usual()
    for text in texts:
        usual.add(text, NOTHING_KNOWN)
    return usual


def test_a_usual_word_is_known_by_its_share() -> None:
    usual = usual_of(*[LEAK] * 30, *[BOX] * 70)
    assert usual.share("leak", NOTHING_KNOWN) == 0.3
    assert usual.share("box", NOTHING_KNOWN) == 0.7
    assert usual.share("motor", NOTHING_KNOWN) == 0.0


def test_a_phrase_is_as_usual_as_its_least_usual_word() -> None:
    usual = usual_of(*[LEAK] * 30, *[BOX] * 70)
    assert usual.share("box leak", NOTHING_KNOWN) == 0.3
    assert usual.share("motor leak", NOTHING_KNOWN) == 0.0


def test_negations_and_stop_words_do_not_make_a_phrase_usual() -> None:
    assert usual_of(*["It does not work"] * 50).share("not charg", NOTHING_KNOWN) == 0.0


def test_a_common_word_is_left_to_the_background() -> None:
    background = Background("test", {"leak": 1_000}, {})
    usual = Usual()
    usual.add(LEAK, background)
    assert usual.share("leak", background) == 0.0
    assert usual.share("lid leak", background) == 1.0


def test_what_words_hit_by_chance_is_taken_off() -> None:
    """Every bucket is hit by some of 2,000 words, so a word that was never there has hits, too."""
    usual = usual_of(*[" ".join(f"w{number * 16 + place}x" for place in range(16)) for number in range(125)])
    assert usual.share("unheard", NOTHING_KNOWN) < 0.05


def test_old_complaints_fade() -> None:
    usual = usual_of(*[LEAK] * 255)
    assert usual.complaints == 255
    usual.add(BOX, NOTHING_KNOWN)
    assert usual.complaints == 128
    assert usual.share("leak", NOTHING_KNOWN) == 127 / 128


def test_a_complaint_without_words_counts() -> None:
    assert usual_of("!!!", "").complaints == 2


@given(st.lists(st.text(max_size=80), max_size=20), st.integers(0, 20))
def test_packing_between_complaints_changes_nothing(texts: list[str], cut: int) -> None:
    usual = unpack(pack(usual_of(*texts[:cut])))
    for text in texts[cut:]:
        usual.add(text, NOTHING_KNOWN)
    assert pack(usual) == pack(usual_of(*texts))
    assert len(pack(usual)) == 128


def test_an_unknown_product_has_an_empty_sketch() -> None:
    assert unpack(None) == Usual()
    assert unpack(None).share("leak", NOTHING_KNOWN) == 0.0


def test_bytes_of_another_version_are_refused() -> None:
    with pytest.raises(ValueError, match="has 64 bytes, not 128"):
        unpack(bytes(64))
