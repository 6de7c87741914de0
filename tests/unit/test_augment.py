from __future__ import annotations

import re
from random import Random
from typing import TYPE_CHECKING

import msgspec
import pytest

from models.augment.constructions import (
    LANGUAGES,
    SLOT,
    Constructions,
    Grammar,
    Polar,
    read_grammar,
    sentences,
)
from models.augment.negation import denied, framed, is_statement
from models.augment.switching import dictionary, switched
from models.augment.texts import KINDS, SURE, augmented
from models.behaviour.suite import Suite, cases, read_suite
from models.duplicates import fingerprint
from models.examples import Example
from models.prepare import PrepareOptions, prepare
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

GRAMMARS = {language: read_grammar(language) for language in LANGUAGES}


def example(text: str, positive: float, language: str = "en", **rest: object) -> Example:
    return Example(text=text, target=(1 - positive, positive), language=language, **rest)


ENGLISH = [
    example("the screen is great.", 1.0, group="a"),
    example("The battery was awful.", 0.0, group="b"),
    example("it doesn't work well.", 0.1, group="c"),
    example("Nice phone", 0.6, group="d"),
]
CHINESE = [
    example("屏幕很清晰 质量很好。", 1.0, "zh", group="e", noise=0.05),
    example("服务太差 非常失望。", 0.0, "zh", group="f", noise=0.05),
    example("房间又小又脏", 0.0, "zh", group="g", noise=0.05),
]


# --- constructions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_every_slot_has_words_and_every_polar_one_both_kinds(grammar: Grammar) -> None:
    made = grammar.constructions
    for template in (*made.keeps, *made.turns):
        slots = {name for name, _ in SLOT.findall(template)}
        assert slots <= grammar.words.keys() | grammar.polar.keys(), template
        assert slots & grammar.polar.keys(), f"{template} has no polar word, so nothing is kept or turned"
    for template in (*made.praise, *made.complaint):
        assert {name for name, _ in SLOT.findall(template)} <= grammar.words.keys(), template
    assert not {name: one for name, one in grammar.polar.items() if set(one.praise) & set(one.complaint)}
    assert all("{sentence}" in frame for frame in (*grammar.frames.keeps, *grammar.frames.turns))


@pytest.mark.parametrize("grammar", GRAMMARS.values(), ids=GRAMMARS)
def test_as_many_sentences_praise_as_complain_in_every_construction(grammar: Grammar) -> None:
    said = list(sentences(grammar, 4, Random(1)))
    assert abs(sum(each.praise for each in said) / len(said) - 0.5) < 0.05
    assert not [each.text for each in said if "{" in each.text]
    assert said == list(sentences(grammar, 4, Random(1)))


def test_a_construction_turns_or_keeps_what_its_words_say() -> None:
    grammar = Grammar(
        language="en",
        words={"thing": ("pen",)},
        polar={"good": Polar(praise=("good", "fine"), complaint=("bad", "poor"))},
        constructions=Constructions(
            keeps=("No doubt the {thing} is {good}.",),
            turns=("The {thing} is neither {good} nor {good2}.",),
        ),
        frames=Constructions(keeps=(), turns=()),
    )
    said = {each.text: each.praise for each in sentences(grammar, 40, Random(3))}
    assert said["No doubt the pen is good."]
    assert not said["No doubt the pen is bad."]
    assert not said["The pen is neither good nor fine."]
    assert said["The pen is neither poor nor bad."]
    assert not any(text.count("good") > 1 for text in said), "a second draw is another word"


SUITES = {language: read_suite(language) for language in LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_construction_is_a_template_of_the_behavioural_suite(language: str) -> None:
    grammar, suite = GRAMMARS[language], SUITES[language]
    asked = {
        outline(text, suite) for test in suite.test for case in cases(suite, test) for text in case.texts
    }
    made = grammar.constructions
    for template in (*made.keeps, *made.turns, *made.praise, *made.complaint):
        for at in range(20):
            assert outline(drawn(grammar, template, at), suite) not in asked, template


def drawn(grammar: Grammar, template: str, seed: int) -> str:
    words = {**grammar.words, **{name: (*one.praise, *one.complaint) for name, one in grammar.polar.items()}}
    rng = Random(seed)
    return SLOT.sub(lambda slot: rng.choice(words[slot[1]]), template)


def outline(text: str, suite: Suite) -> str:
    """A sentence without the thing it is about, whatever that is."""
    things = sorted(
        (*suite.lexicon["product"], *GRAMMARS[suite.language].words["thing"], "product"),
        key=len,
        reverse=True,
    )
    return fingerprint(re.sub("|".join(map(re.escape, things)), "", text))


# --- real sentences -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The sound is great.", "The sound is not great."),
        ("It can't play music", "It can play music"),
        ("It won't charge.", "It will charge."),
        ("I was not happy with this item.", "I was happy with this item."),
        ("It isn\u2019t good.", "It is good."),
        ("Great sound.", None),  # no verb to deny
        ("It has a nice screen.", None),  # a full verb
        ("It is good but it is loud.", None),  # two statements
        ("Nobody could not like it.", None),  # two denials
        ("Is it good?", None),
    ],
)
def test_a_statement_is_denied_or_no_longer_denied(text: str, expected: str | None) -> None:
    assert denied(text) == expected


def test_only_single_statements_are_put_into_frames() -> None:
    assert is_statement("My wife loves the sound of it.", "en")
    assert not is_statement("My wife loves it, but I don't.", "en")
    assert not is_statement("Loves it.", "en")
    assert is_statement("房间很干净。", "zh")
    assert not is_statement("房间不干净。", "zh")
    assert not is_statement("房间很干净 但服务很差。", "zh")
    frame = framed("The sound is great.", GRAMMARS["en"], Random(2), turned=True)
    assert frame.endswith("the sound is great.")
    assert frame.removesuffix("the sound is great.") + "{sentence}" in GRAMMARS["en"].frames.turns


def test_words_are_switched_to_the_other_language_and_no_parts_of_words() -> None:
    assert switched("房间很脏", "zh", Random(0)) == "room很脏"
    assert switched("The room was dirty", "en", Random(0)) == "The 房间 was dirty"
    assert switched("Mushrooms", "en", Random(0)) is None
    assert switched("了", "zh", Random(0)) is None
    assert all(not word.isascii() for word in dictionary())


# --- whole sets ---------------------------------------------------------------------------------------------


def test_made_texts_keep_group_and_noise_and_turn_round_the_target() -> None:
    given = ENGLISH + CHINESE
    made = augmented(given)
    assert made == augmented(given)
    texts = {each.text: each for each in made}
    turned = texts["the screen is not great."]
    assert (turned.target, turned.group) == ((0.95, 0.05), "a")
    assert texts["it does work well."].target[1] > 0.8
    by_group = {example.group: example for example in given}
    for each in made:
        of = by_group.get(each.group)
        assert each.language in LANGUAGES
        if of is None:
            assert each.source == "negation"
        else:
            assert each.noise >= of.noise
            assert max(of.target) >= SURE
    assert {each.source for each in made} == {"negation", "switching"}
    keys = [fingerprint(each.text) for each in (*given, *made)]
    assert len(keys) == len(set(keys))


def test_what_is_held_out_is_not_made_again() -> None:
    texts = {each.text for each in augmented(ENGLISH)}
    assert "the screen is not great." in texts
    held_out = [example("The screen is NOT great", 0.0, group="z")]
    assert "the screen is not great." not in {each.text for each in augmented(ENGLISH, held_out)}


def test_texts_of_three_labels_are_turned_from_end_to_end() -> None:
    given = [each for each in ENGLISH if each.target[1] in (0.0, 1.0)]
    three = [
        Example(text=each.text, target=(each.target[0], 0.0, each.target[1]), language="en", group=each.group)
        for each in given
    ]
    made = {each.text: each.target for each in augmented(three)}
    assert made["the screen is not great."] == (0.95, 0.0, 0.05)
    assert all(len(target) == 3 and target[1] == 0 for target in made.values())


def test_prepare_adds_them_to_the_training_split_alone(tmp_path: Path) -> None:
    lines = ["text,label"]
    lines += [f"The sound number {at} is great.,positive" for at in range(40)]
    lines += [f"The handle {at} was awful.,negative" for at in range(40)]
    (tmp_path / "reviews.csv").write_text("\n".join(lines) + "\n")
    unnamed = PrepareOptions(files=(str(tmp_path / "reviews.csv"),), duplicates="exact", similarity=1.0)
    options = msgspec.structs.replace(unnamed, default_language="en")
    plain, more = prepare(options), prepare(msgspec.structs.replace(options, augment=KINDS))
    assert more["validation"] == plain["validation"]
    assert more["test"] == plain["test"]
    assert more["train"][: len(plain["train"])] == plain["train"]
    added = more["train"][len(plain["train"]) :]
    assert len(added) == sum(each["rows"] for each in more.description["made"]) > 100
    assert more.description["splits"]["train"]["examples"] == len(more["train"])
    with pytest.raises(UsageError, match="--default-language"):
        prepare(msgspec.structs.replace(unnamed, augment=KINDS))
    with pytest.raises(UsageError, match="has none; leave it out"):
        prepare(PrepareOptions(evaluation="blitzer", data=str(tmp_path), augment=KINDS))
