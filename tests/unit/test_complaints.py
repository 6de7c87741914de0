from __future__ import annotations

from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core.background import NOTHING_KNOWN, Background
from stream.core.complaints import (
    DOORS,
    MOST_BYTES,
    MOST_PHRASES,
    MOST_SENTENCES,
    Complaints,
    Counted,
    Kept,
    masked,
)
from stream.core.phrases import Phrase, top_phrases
from stream.core.summary import Said, summary
from stream.core.usual import Usual
from stream.vocabulary import background

encode = msgspec.msgpack.encode
decode = msgspec.msgpack.Decoder(Complaints).decode

CHARGE = [
    "It does not charge.",
    "Doesn't charge any more!",
    "Mine won't charge.",
    "Stopped, does not charge now.",
]
LID = ["The lid leaks.", "Tea leaks at the lid."]
ENGLISH_AND_CHINESE = [
    "Does not charge after the update. 充电很慢",
    "更新之后不能充电, 客服不理人",
    "WH-1000XM4 won't charge since the update!",
    "用了三天就不能充电了。客服态度差",
]


def complaints_of(*texts: str, ordinary: Background = NOTHING_KNOWN) -> Complaints:
    complaints = Complaints()
    for text in texts:
        complaints.add(text, ordinary)
    return complaints


def usual_of(*texts: str) -> Usual:
    usual = Usual()
    for text in texts:
        usual.add(text, NOTHING_KNOWN)
    return usual


def counts(complaints: Complaints) -> dict[str, int]:
    return {phrase.key: phrase.complaints for phrase in complaints.phrases}


def top(
    complaints: Complaints, usual: Usual | None = None, ordinary: Background = NOTHING_KNOWN
) -> list[str]:
    found = top_phrases(complaints, usual or Usual(), ordinary)
    return [f"{phrase.text} {phrase.complaints}" for phrase in found]


def test_a_phrase_is_counted_once_a_complaint_from_the_second_on() -> None:
    complaints = complaints_of("Leaks, leaks, LEAKS!", "It leaked.", "Leaking", "motor")
    assert counts(complaints) == {"leak": 3}
    assert complaints.number == 4


def test_what_everybody_says_is_not_gathered() -> None:
    ordinary = Background("test", {"lid": 300, "leak": 299}, {})
    assert counts(complaints_of(*LID, ordinary=ordinary)) == {"leak": 2}


def test_a_full_list_drops_the_least_phrase_and_of_equals_the_quietest() -> None:
    complaints = Complaints()
    for number in range(MOST_PHRASES):
        for _ in range(3 if number == 0 else 2):
            complaints.add(f"w{number}x", NOTHING_KNOWN)
    assert len(complaints.phrases) == MOST_PHRASES
    complaints.add("newcomer", NOTHING_KNOWN)
    complaints.add("newcomer", NOTHING_KNOWN)
    assert len(complaints.phrases) == MOST_PHRASES
    assert "w0x" in counts(complaints)
    assert "w1x" not in counts(complaints)
    assert complaints.phrases[-1] == Counted("newcomer", "newcomer", 2, complaints.number)


def test_a_count_is_never_too_high() -> None:
    texts = [f"leak {' '.join(f'w{number * 40 + place}x.' for place in range(40))}" for number in range(60)]
    assert counts(complaints_of(*texts))["leak"] <= 60
    assert all(
        count == 2 for key, count in counts(complaints_of(*texts, *texts[-1:])).items() if key != "leak"
    )


def test_a_phrase_forgotten_at_its_door_is_counted_later() -> None:
    """Another phrase of the same door came by in between."""
    complaints = Complaints()
    complaints.add("leak", NOTHING_KNOWN)
    complaints.doors = bytearray(2 * DOORS)
    complaints.add("leak", NOTHING_KNOWN)
    complaints.add("leak", NOTHING_KNOWN)
    assert counts(complaints) == {"leak": 2}


def test_ten_posts_of_one_text_are_one_sentence() -> None:
    complaints = complaints_of(
        *["The lid leaks all over."] * 9, "the lid LEAKS all over!!", "Motor burnt out."
    )
    assert complaints.sentences == [Kept("The lid leaks all over.", 10), Kept("Motor burnt out.", 1)]


def test_a_full_set_of_sentences_keeps_what_the_complaints_share() -> None:
    rare = [f"Something w{number}x happened w{number}y." for number in range(MOST_SENTENCES + 3)]
    complaints = complaints_of("The lid leaks.", "Tea leaks under the lid.", *rare)
    assert len(complaints.sentences) == MOST_SENTENCES
    assert Kept("The lid leaks.", 1) in complaints.sentences


def test_negations_and_phrases_they_contain_are_one_reason() -> None:
    assert top(complaints_of(*CHARGE)) == ["Doesn't charge 4"]


def test_a_longer_phrase_of_few_complaints_does_not_hide_the_shorter_one() -> None:
    texts = ["Pump leaks.", "Pump leaks!", "Pump is loud.", "Pump stalls.", "Pump is hot.", "Pump squeaks."]
    assert top(complaints_of(*texts)) == ["Pump 6", "leaks 2"]


def test_what_customers_always_complain_about_comes_last_or_not_at_all() -> None:
    incident = complaints_of(*LID * 5, *CHARGE * 2)
    assert top(incident)[0] == "leaks 10"
    assert top(incident, usual_of(*LID * 20, *["Ugly box."] * 20)) == ["Doesn't charge 8", "Stopped 2"]


def test_what_all_products_are_blamed_for_comes_after_what_is_new() -> None:
    ordinary = Background("test", {"lid": 200, "leak": 250}, {})
    incident = complaints_of(*LID * 4, *CHARGE * 2)
    assert top(incident) == ["Doesn't charge 8", "leaks 8", "lid 8", "Tea 4", "Stopped 2"]
    assert top(incident, ordinary=ordinary) == ["Doesn't charge 8", "lid 8", "leaks 8", "Tea 4", "Stopped 2"]


def test_a_phrase_of_one_complaint_in_ten_is_the_least_that_counts() -> None:
    others = [f"w{number}x" for number in range(18)]
    assert top(complaints_of(*LID, *others)) == ["leaks 2", "lid 2"]
    assert top(complaints_of(*LID, *others, "w20x")) == []


def test_phrases_carry_their_share() -> None:
    found = top_phrases(complaints_of(*CHARGE, "Nice box.", "box!"), Usual(), NOTHING_KNOWN)
    assert found == [Phrase("Doesn't charge", 4, 4 / 6), Phrase("box", 2, 2 / 6)]


def test_equals_are_in_the_order_of_their_words() -> None:
    assert top(complaints_of("zip tear seam", "seam, tear, zip")) == ["seam 2", "tear 2", "zip 2"]


def test_english_and_chinese_stand_side_by_side() -> None:
    assert top(complaints_of(*ENGLISH_AND_CHINESE)) == ["不能充电 2", "won't charge 2", "update 2", "客服 2"]


def test_no_complaints_have_no_phrases_and_no_summary() -> None:
    assert top_phrases(Complaints(), Usual(), NOTHING_KNOWN) == []
    assert summary(Complaints(), NOTHING_KNOWN) == []


def test_a_summary_says_different_things() -> None:
    incident = complaints_of(*CHARGE, *LID, "The manual is missing.")
    assert summary(incident, NOTHING_KNOWN, most=2) == [
        Said("It does not charge.", 4),
        Said("The lid leaks.", 1),
    ]


def test_praise_in_a_complaint_is_not_its_summary() -> None:
    text = "Great sound and easy to use. The charger broke after two weeks."
    assert summary(complaints_of(text, ordinary=background()), background()) == [
        Said("The charger broke after two weeks.", 1)
    ]


def test_a_sentence_tells_for_how_many_it_stands() -> None:
    assert summary(complaints_of(*["The lid leaks."] * 3), NOTHING_KNOWN) == [Said("The lid leaks.", 3)]


def test_personal_data_is_nowhere() -> None:
    text = "Refund refused, call Jo at 555-123-4567 or jo.doe@example.com, order 123-4567890-1234567."
    incident = complaints_of(text, text + " Now!", text)
    written = encode(incident).decode("utf-8", "replace")
    assert "[phone]" in written
    for secret in ("555", "4567", "jo.doe", "example.com"):
        assert secret not in written


def test_half_a_number_at_the_end_of_what_is_read_is_dropped() -> None:
    text = "x " * 494 + "call 555-123-4567 now"
    assert "555" in text[:1_000]
    assert "555" not in masked(text)


HOSTILE = {
    "a word without end": "x" * 20_000,
    "punctuation": "!?.," * 5_000,
    "right to left": "שלום " * 4_000,
    "right-to-left marks": "\u202eleak\u202c " * 2_500,
    "emoji": "😡👍🏽" * 6_000,
    "zero width": "l\u200be\u200ba\u200bk " * 2_500,
    "combining": "e" + "\u0301" * 19_999,
    "lone surrogates": "\ud800 leak \udfff" * 2_500,
    "Chinese without end": "坏" * 20_000,
    "brackets": "[" * 20_000,
    "wide letters": "".join(chr(0x1D400 + number % 50) for number in range(20_000)),
    "one-letter words": "a b " * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_read_within_bounds(text: str) -> None:
    incident = complaints_of(*[text[number:] for number in range(5)])
    assert incident.number == 5
    assert decode(encode(incident)) == incident
    assert len(encode(incident)) <= MOST_BYTES


def test_an_endless_incident_is_bounded() -> None:
    wide = "".join(chr(0x1D400 + place) for place in range(8))
    complaints = Complaints()
    for number in range(300):
        # Each twice, so that every phrase is listed; the longest phrases and sentences there can be.
        words = [
            f"{wide}{number // 2 % 7}{chr(0x1D500 + (number // 2 * 13 + place) % 250)}" for place in range(40)
        ]
        complaints.add(" ".join(words), NOTHING_KNOWN)
    assert len(complaints.phrases) == MOST_PHRASES
    assert len(encode(complaints)) <= MOST_BYTES


words = st.sampled_from(
    [
        "lid",
        "leaks",
        "charge",
        "not",
        "the",
        "box",
        "broke",
        "屏幕",
        "漏光",
        "不能",
        "充电",
        "555-123-4567",
        "😡",
        ".",
    ]
)
complaint = st.lists(words, max_size=12).map(" ".join)


@settings(max_examples=60)
@given(st.lists(complaint, max_size=30), st.lists(st.integers(0, 30), max_size=5))
def test_grouping_and_packing_change_nothing(texts: list[str], cuts: list[int]) -> None:
    at_once = complaints_of(*texts, ordinary=background())
    packed = encode(Complaints())
    edges = sorted({0, *cuts, len(texts)})
    for start, stop in pairwise(edges):
        complaints = decode(packed)
        for text in texts[start:stop]:
            complaints.add(text, background())
        packed = encode(complaints)
    assert packed == encode(at_once)
    assert summary(decode(packed), background()) == summary(at_once, background())
    assert top_phrases(decode(packed), Usual(), background()) == top_phrases(at_once, Usual(), background())


@given(st.lists(st.text(max_size=300), max_size=12))
def test_any_text_is_counted_within_bounds(texts: list[str]) -> None:
    complaints = complaints_of(*texts)
    assert complaints.number == len(texts)
    assert len(complaints.phrases) <= MOST_PHRASES
    assert len(complaints.sentences) <= MOST_SENTENCES
    assert all(2 <= phrase.complaints <= len(texts) for phrase in complaints.phrases)
    assert len(encode(complaints)) <= MOST_BYTES
