from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.vocabulary import complaints, shares, tones, written
from stream.core.background import FLOOR, NOTHING_KNOWN, TEN_THOUSAND, ln, parse
from stream.errors import UsageError
from stream.vocabulary import FILE, background


@given(st.floats(1e-300, 1e300))
def test_the_logarithm_is_right_to_the_last_digits(x: float) -> None:
    assert ln(x) == pytest.approx(math.log(x), rel=2e-15, abs=2e-16)


def test_the_logarithm_has_these_bits_on_every_machine() -> None:
    assert [ln(x).hex() for x in (2.0, 10.0, 0.0015)] == BITS


BITS = ["0x1.62e42fefa39efp-1", "0x1.26bb1bbb55515p+1", "-0x1.a02585ac4061bp+2"]


def test_an_unknown_phrase_has_the_floor() -> None:
    assert NOTHING_KNOWN.share("leak") == FLOOR / TEN_THOUSAND
    assert NOTHING_KNOWN.rarity("leak") == ln(TEN_THOUSAND / FLOOR)


def test_a_wrong_line_is_named() -> None:
    with pytest.raises(UsageError, match="Line 2 of the background vocabulary is 'leak 20'"):
        parse("version\t1\nleak 20\n")


def test_what_is_written_is_read() -> None:
    assert parse(written({"leak": (20, 90), "not work": (501, 93)}, "v")) == (
        "v",
        {"not work": 501, "leak": 20},
        {"not work": 93, "leak": 90},
    )


def test_a_phrase_of_one_trade_is_not_ordinary() -> None:
    hotels = ["the lobby smells", "loud lobby"] * 12
    phones = ["dead screen", "the screen smells"] * 12
    assert shares([*hotels, *phones]) == {"smell": 5_000}


def test_neighbouring_sentences_make_a_complaint() -> None:
    assert complaints(["a" * 30, "b" * 30, "c" * 80, "left over"], 50) == [
        "a" * 30 + " " + "b" * 30,
        "c" * 80,
    ]


def test_tones_are_of_equally_many_texts() -> None:
    assert tones(["it leaks"] * 9, ["great"] * 19) == {"leak": 95, "great": 10}


def test_the_shipped_table_knows_praise_from_blame() -> None:
    table = background()
    assert table.version == "1"
    assert table.is_common("not work")
    assert not table.is_common("leak")
    assert table.blame(["not work"]) > 1 > table.blame(["great"])
    assert table.blame(["质量 差"]) > 1 > table.blame(["不错"])


def test_the_shipped_table_is_small_and_names_its_sources() -> None:
    text = FILE.read_text("utf-8")
    assert FILE.stat().st_size < 50_000
    assert [line for line in text.splitlines() if line.startswith("#")][-1].endswith("SnowNLP: MIT")
    assert all(share > FLOOR for share in background().shares.values())
