from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from re import _constants as opcodes  # type: ignore[attr-defined]
from re import _parser as regex_parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.mask import _FOLDS, QUOTE_CHARS, READ_CHARS, WHOLE, excerpt, mask
from stream.core.personal import SHAPES, TOKENS, Shape

HERE = Path(__file__).parent
REVIEWS = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"


def personal() -> list[tuple[str, str, list[str]]]:
    """Id, text and the parts that must vanish, of each line of the list."""
    lines = (HERE / "mask_personal.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(name, text, gone.split(" | ")) for name, text, gone in rows]


def ordinary() -> list[str]:
    lines = (HERE / "mask_ordinary.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("# ")]


def test_the_lists_hold_what_they_promise() -> None:
    assert len({name for name, _, _ in personal()}) == len({text for _, text, _ in personal()}) >= 200
    assert all(part in text for _, text, gone in personal() for part in gone)
    assert len(set(ordinary())) == len(ordinary()) >= 300


@pytest.mark.parametrize(("name", "text", "gone"), personal(), ids=[name for name, _, _ in personal()])
def test_no_personal_data_survives(name: str, text: str, gone: list[str]) -> None:
    masked = mask(text)
    assert [part for part in gone if part in masked] == []
    assert [part for part in gone if part in excerpt(text)] == []


@pytest.mark.parametrize(
    ("before", "behind"), [("The lamp is broken. ", " Never again!"), ("灯坏了。", "。太差了"), ("(", ")")]
)
def test_personal_data_is_masked_within_a_sentence(before: str, behind: str) -> None:
    survived = {
        name: part
        for name, text, gone in personal()
        # A signature is one only at the end.
        if not name.startswith(("name-regards", "name-sincerely"))
        for part in gone
        if part in mask(before + text + behind)
    }
    assert survived == {}


def test_at_most_one_percent_of_ordinary_numbers_is_changed() -> None:
    changed = [text for text in ordinary() if mask(text) != text]
    # Part numbers that begin with 0 and look like nothing but telephone numbers.
    assert changed == ["a Fender 0990818300 set costs less", "part number 010-10361"]
    assert len(changed) <= len(ordinary()) / 100


def reviews() -> dict[str, list[str]]:
    def rows(name: str) -> list[dict[str, str]]:
        with gzip.open(REVIEWS / name, "rt", encoding="utf-8") as file:
            return list(csv.DictReader(file)) if ".csv" in name else [json.loads(line) for line in file]

    return {
        "blitzer": [row["text"] for row in rows("blitzer_amazon.jsonl.gz")],
        "zh": [row["review"] for row in rows("zh_online_shopping.csv.gz")],
        "music": [row["reviewText"] for row in rows("amazon2014_Musical_Instruments_first5050.csv.gz")],
        "beauty": [row.get("reviewText", "") for row in rows("amazon2018_All_Beauty_5.json.gz")],
    }


@pytest.mark.skipif(not REVIEWS.is_dir(), reason="the shared data is not here")
def test_few_real_reviews_are_changed() -> None:
    # What is changed in them was read: nearly all of it is what people should not have written. A shape
    # that takes ordinary words for personal data shows here.
    for name, texts in reviews().items():
        changed = sum(mask(text) != text for text in texts)
        assert changed <= len(texts) / 100, name


PIECES = st.sampled_from(
    [text for _, text, _ in personal()]
    + list(TOKENS)
    + [WHOLE, " ", "", "1", "a", "@", "-", "[", "]", "号", "+"]
)


@given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=6).map("".join)))
def test_masking_twice_is_masking_once(text: str) -> None:
    masked = mask(text)
    assert mask(masked) == masked


CUTS = st.tuples(st.sampled_from([text for _, text, _ in personal()]), st.integers(0, 40), st.integers(1, 20))


@given(st.lists(CUTS, max_size=8))
def test_masking_pieces_of_personal_data_twice_is_masking_them_once(cuts: list[tuple[str, int, int]]) -> None:
    masked = mask("".join(text[start : start + length] for text, start, length in cuts))
    assert mask(masked) == masked


def test_a_token_in_a_text_stays() -> None:
    text = "wechat: [account] order [order] my name is [name] [masked]"
    assert mask(text) == text


def test_a_token_within_personal_data_hides_none_of_it() -> None:
    assert mask("http://x.io/[email]/4111111111111111") == "[link][email]/[card]"
    assert mask("jo[id]@mail.com") == "jo[id][account]"


def test_folding_keeps_every_character_in_its_place() -> None:
    every = "".join(map(chr, range(0x11_0000)))
    assert len(every.translate(_FOLDS).lower()) == len(every)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("write to jo.doe+x@example.co.uk please", "write to [email] please"),
        ("jo (at) mail (dot) com", "[email]"),
        ("邮箱是zhang@qq.com谢谢", "邮箱是[email]谢谢"),
        ("zhang@例子.com", "[email]"),
        ("see https://x.io/a?b=1 now", "see [link] now"),
        ("www.shop.example/x", "[link]"),
        ("call me 555-123-4567", "call me [phone]"),
        ("(555) 123-4567", "[phone]"),
        ("+1 (555) 123 4567", "[phone]"),
        ("+44 20 7946 0958", "[phone]"),
        ("0151 23456789", "[phone]"),
        ("电话13812345678在等", "电话[phone]在等"),
        ("138 1234 5678", "[phone]"),
        ("in 2019 4111 1111 1111 1111 was charged", "in 2019 [card] was charged"),
        ("5500005555555559", "[card]"),
        ("3782 822463 10005", "[card]"),
        ("DE89 3704 0044 0532 0130 00", "[iban]"),
        ("GB82WEST12345698765432", "[iban]"),
        ("order 123-4567890-1234567", "order [order]"),
        ("Order number: 88412345", "Order number: [order]"),
        ("订单号是20240117001234", "订单号是[order]"),
        ("11010519491231002X", "[id]"),
        ("SSN 123-45-6789", "SSN [id]"),
        ("微信号:wxid_12345", "微信号:[account]"),
        ("account of mine 9876543210", "account of mine [number]"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "on 2024-01-17 at 10:30",
        "iPhone 15 256 GB for 1,299.00",
        "WH-1000XM4 at 1920x1080 60Hz",
        "10-12 cm, 3.5 mm, size 8 1/2",
        "bought 3 in 2019 and 2020",
        "5000 mAh, 20000mAh",
        "100 000 km",
        "call 911, order of 10000 pieces, case of 24 bottles",
        "wechat support was useless",
        "look @ this",
    ],
)
def test_ordinary_numbers_stay(text: str) -> None:
    assert mask(text) == text


@given(st.text(max_size=200))
def test_any_text_becomes_one_printable_line_of_bounded_length(text: str) -> None:
    line = excerpt(text)
    assert len(line) <= QUOTE_CHARS
    assert not any(char in line for char in "\n\r\t\x00\x1b\u202e")


def test_a_cheer_is_no_number() -> None:
    assert mask("赞66666666666!") == "赞66666666666!"


@given(
    st.integers(10**15, 10**16 - 1).filter(lambda number: len(set(str(number))) > 1),
    st.text("abc, ", max_size=20),
)
def test_no_long_number_survives(number: int, around: str) -> None:
    assert str(number) not in mask(f"{around} {number} {around}")


def test_an_excerpt_ends_between_words() -> None:
    assert excerpt("the battery died after two days", 20) == "the battery died…"
    assert excerpt("电池两天就坏了", 5) == "电池两天…"


def test_an_excerpt_hides_escape_codes_and_lone_surrogates() -> None:
    assert excerpt("bad\x1b[31m \ud800thing\u202e!\x00") == "bad[31m thing!"


def test_a_number_torn_by_the_reading_limit_does_not_show() -> None:
    # Links shrink to a token, so the end of what is read would otherwise come into view.
    link = "http://x/" + "a" * 1_970
    text = f"{link} 555-123-4567 is my number"
    assert excerpt(text) == ""
    assert "555" not in excerpt(f"words before {link} 4111 1111 1111 1111")


def repeats(pattern: Any) -> list[int]:
    """How often each repetition in a parsed pattern may run, nested ones multiplied."""
    found = []
    for code, argument in pattern:
        inner = argument if isinstance(argument, (tuple, list)) else [argument]
        parts = [branch for part in inner for branch in (part if isinstance(part, list) else [part])]
        below = [n for part in parts if isinstance(part, regex_parser.SubPattern) for n in repeats(part)]
        if code in {opcodes.MAX_REPEAT, opcodes.MIN_REPEAT, opcodes.POSSESSIVE_REPEAT}:
            found.append(int(argument[1]) * max(below, default=1))
        else:
            found += below
    return found


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.token} {shape.pattern.pattern[:40]}")
def test_every_repetition_is_bounded(shape: Shape) -> None:
    # MAXREPEAT, "no bound", is 2**32 - 1. The longest bound is a link's.
    assert max(repeats(regex_parser.parse(shape.pattern.pattern)), default=0) <= READ_CHARS


def test_an_unbounded_repetition_would_be_noticed() -> None:
    assert max(repeats(regex_parser.parse(r"(?:a|(b+c){2}){3}"))) > READ_CHARS


HOSTILE = [
    *("a", "1", "1 ", "+1-", "a@", "a.", "order #", "(0", "DE12 ", "4111 ", "订单号", "a (at ", "qq__id"),
    *(
        "文",
        "村",
        "文三路",
        "区1号",
        "1栋",
        "12 Main ",
        "Aa ",
        "1 St, ",
        "my name is ",
        "a dot ",
        "http://",
        "12:",
        "[",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_the_work_on_hostile_text_grows_no_faster_than_its_length(unit: str) -> None:
    # A pattern of quadratic cost would take many minutes here and run into the timeout of all tests.
    text = unit * (200_000 // len(unit))
    assert isinstance(mask(text), str)


@pytest.mark.parametrize("unit", [*HOSTILE, *(text for _, text, _ in personal())])
def test_candidates_in_hostile_text_are_no_more_than_its_characters(
    unit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each candidate costs one search onwards; a pass may make one a character and shape, not more.
    tried: list[str] = []

    def counting(shape: Shape) -> Shape:
        def accept(match: str) -> bool:
            tried.append(match)
            return shape.accept(match)

        return shape._replace(accept=accept)

    text = (unit * READ_CHARS)[:READ_CHARS]
    counted = tuple(map(counting, SHAPES))
    monkeypatch.setattr("stream.core.mask.SHAPES", counted)
    mask(text)
    assert len(tried) <= 4 * READ_CHARS
