"""The rules file: what it may say, and what is said of a wrong one."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import jsonschema
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from told_files import told_files

import stream.core.rules_parse as parsing
from stream.core.rules import (
    Knobs,
    Minimums,
    Override,
    Rules,
    RulesError,
    RulesFile,
    ThresholdRule,
    json_schema,
)
from stream.core.rules_parse import parse_rules
from stream.core.rules_warnings import warnings
from stream.core.scope import Scope, matches
from stream.core.toml_reading import fits, wanted_of
from stream.errors import UsageError
from stream.rules import MOST_BYTES, load_rules, read_rules
from stream.settings import load

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = (DOCS / "rules.toml").read_text("utf-8")

RULE = '[[threshold]]\nname = "many"\nwindow = "1h"\nshare = 0.4\n'


def complaints(text: str) -> list[str]:
    """What is said of a wrong file, a complaint each."""
    with pytest.raises(RulesError) as refused:
        parse_rules(text, "rules.toml")
    assert refused.value.exit_code == 2
    head, *said = str(refused.value).split("\n  ")
    count = "a mistake" if len(said) == 1 else f"{len(said)} mistakes"
    assert head == f"The rules file rules.toml has {count}:"
    assert said == [str(problem) for problem in refused.value.problems]
    return said


def rule(**fields: object) -> ThresholdRule:
    return msgspec.convert({"name": "many", "window": "1h", "share": 0.4, **fields}, ThresholdRule)


# Right files


def test_a_file_becomes_its_rules() -> None:
    rules = parse_rules(
        """
version = 1
[spike]
false_alarms_per_day = 2
[surge]
enabled = false
[[threshold]]
name = "many"
window = "1h"
share = 1
for = "10m"
channel = "chats"
[[override]]
pattern = "B00*"
enabled = false
""",
        "rules.toml",
    )
    assert rules.spike == Knobs(false_alarms_per_day=2.0)
    assert rules.surge == Knobs(enabled=False)
    assert rules.thresholds == (
        ThresholdRule(name="many", window="1h", share=1.0, for_="10m", channel="chats"),
    )
    assert rules.overrides == (Override(pattern="B00*", enabled=False),)
    assert rules.where == "rules.toml"
    assert rules.lines["threshold", 0, "for"] == 11


def test_a_file_without_rules_says_nothing() -> None:
    found = parse_rules("version = 1", "rules.toml")
    assert (found.spike, found.surge, found.thresholds, found.overrides) == (Knobs(), Knobs(), (), ())


def test_what_a_rule_does_not_say_has_a_default() -> None:
    by_share, by_count = rule(), rule(share=None, negatives=10)
    assert (by_share.least_events, by_share.over_share, by_share.over_negatives) == (20, 0.3, None)
    assert (by_count.least_events, by_count.over_share, by_count.over_negatives) == (1, None, 8)
    assert (by_share.for_ms, by_share.keep_firing_ms, by_share.window_ms) == (0, 0, 3_600_000)
    stated = rule(negatives=10, min_events=50, resolve_share=0.1, resolve_negatives=2)
    assert (stated.least_events, stated.over_share, stated.over_negatives) == (50, 0.1, 2)


@pytest.mark.parametrize(
    ("share", "events", "needed"), [(0.4, 20, 8), (0.07, 100, 7), (0.29, 100, 29), (0.01, 20, 1), (1.0, 3, 3)]
)
def test_the_fewest_negatives_are_those_that_make_the_share(share: float, events: int, needed: int) -> None:
    assert rule(share=share, min_events=events).needed_negatives == needed
    assert needed / events >= share > (needed - 1) / events


def test_later_exceptions_win_key_by_key() -> None:
    rules = Rules(
        spike=Knobs(min_events=30),
        overrides=(
            Override(pattern="B*", enabled=False, min_negatives=4),
            Override(product="B1", enabled=True),
            Override(category="toys", rule="spike", min_events=99),
        ),
    )
    assert rules.minimums("spike", "A1", "reviews", None) == Minimums(True, 30, None)
    assert rules.minimums("spike", "B2", "chats", None) == Minimums(False, 30, 4)
    assert rules.minimums("spike", "B1", "chats", "toys") == Minimums(True, 99, 4)
    assert rules.minimums("surge", "B1", "chats", "toys") == Minimums(True, None, 4)


# Scopes


@pytest.mark.parametrize(
    ("pattern", "text", "fits"),
    [
        ("", "", True),
        ("*", "", True),
        ("a*a", "a", False),
        ("a*a", "aa", True),
        ("a*b*c", "aXbYbZc", True),
        ("a*b*c", "acb", False),
        ("*ab*ab*", "abab", True),
        ("*ab*ab*", "aabb", False),
        ("**x**", "wxy", True),
        ("a.c", "abc", False),
        ("茶*", "茶壶", True),
    ],
)
def test_a_star_stands_for_any_characters(pattern: str, text: str, fits: bool) -> None:
    assert matches(pattern, text) is fits


def matches_by_definition(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(matches_by_definition(pattern[1:], text[cut:]) for cut in range(len(text) + 1))
    return bool(text) and text[0] == pattern[0] and matches_by_definition(pattern[1:], text[1:])


@given(st.text("ab*", max_size=7), st.text("ab", max_size=9))
def test_patterns_match_as_their_definition_says(pattern: str, text: str) -> None:
    assert matches(pattern, text) is matches_by_definition(pattern, text)


def test_no_pattern_is_slow() -> None:
    # A regular expression of these backtracks for longer than the universe is old; the time limit ends it.
    assert not matches("*a" * 128, "a" * 127 + "b" * 129)
    assert not matches("*".join("ab" * 60) + "*c", "ab" * 128)


def test_all_that_a_scope_says_must_fit() -> None:
    scope = Scope(product="B1", pattern="B*", category="toys", channel="chats")
    assert scope.covers("B1", "chats")
    assert not scope.covers("B1", "reviews")
    assert not scope.covers("B2", "chats")
    assert scope.takes("toys")
    assert not scope.takes("Toys")


# Wrong files

TOP = "version = 1\n"


WRONG = told_files(Path(__file__).with_name("wrong_rules.txt"))


@pytest.mark.parametrize(("text", "said"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_refused_with_line_key_and_remedy(text: str, said: list[str]) -> None:
    assert complaints(text) == [f"rules.toml:{each}" for each in said]


def test_there_are_enough_wrong_files_to_mean_something() -> None:
    assert len(WRONG) >= 40


def test_every_mistake_is_named_at_once_in_the_order_of_the_file() -> None:
    said = complaints(
        TOP
        + "[surge]\nenabled = 3\n"
        + RULE.replace("0.4", "4.5").replace("1h", "1 h")
        + 'resolve_negatives = 3\n[[override]]\nchannel = "x"\n[spike]\nmin_event = 2\n'
    )
    assert [each.partition(" in ")[0].partition(": it changes")[0] for each in said] == [
        "rules.toml:3: enabled",
        "rules.toml:6: window",
        "rules.toml:7: share",
        "rules.toml:8: resolve_negatives",
        "rules.toml:9: [[override]] number 1",
        "rules.toml:10: channel",
        "rules.toml:12: min_event",
    ]


def test_every_key_says_what_it_takes_and_an_example_that_it_takes() -> None:
    for kind in parsing.TABLES:
        for field in msgspec.structs.fields(kind):
            wanted = wanted_of(kind)[field.encode_name]
            for example in wanted.example.split(" or "):
                assert fits(tomllib.loads(f"x = {example}")["x"], field.type), (kind, field.name)


def lines_named(text: str) -> list[int]:
    """The lines that are complained of; none where the file is right."""
    try:
        parse_rules(text, "rules.toml")
    except RulesError as refused:
        return [problem.line for problem in refused.problems] or [0]
    return []


@settings(max_examples=50, deadline=None)
@given(st.text("[]{}=\"'.,#\n ax1é", max_size=40))
def test_no_text_gets_more_than_a_refusal(text: str) -> None:
    assert all(1 <= line <= text.count("\n") + 2 for line in lines_named(TOP + text))


mangled = st.lists(st.tuples(st.integers(0, len(EXAMPLE) - 1), st.sampled_from('="[]{}.,#\n1a')), max_size=4)


@settings(max_examples=50, deadline=None)
@given(mangled)
def test_no_damage_to_a_right_file_gets_more_than_a_refusal(damage: list[tuple[int, str]]) -> None:
    text = list(EXAMPLE)
    for place, character in damage:
        text[place] = character
    lines = "".join(text).count("\n") + 1
    assert all(1 <= line <= lines for line in lines_named("".join(text)))


# The example, the schema, the page


def test_the_example_is_right_and_has_no_warning() -> None:
    rules = parse_rules(EXAMPLE, "rules.toml")
    assert warnings(rules, 1_000_000.0) == []
    assert [each.name for each in rules.thresholds] == ["mostly-negative", "kettles-on-fire", "launch"]


def test_the_example_and_the_page_have_every_key() -> None:
    stated = tomllib.loads(EXAMPLE)
    page = (DOCS / "rules.md").read_text("utf-8")
    tables: dict[type[msgspec.Struct], set[str]] = {
        Knobs: {*stated["spike"]} & {*stated["surge"]},
        ThresholdRule: {key for table in stated["threshold"] for key in table},
        Override: {key for table in stated["override"] for key in table},
    }
    for kind, given_keys in tables.items():
        keys = {field.encode_name for field in msgspec.structs.fields(kind)}
        assert given_keys == keys
        assert {key for key in keys if f"`{key}`" not in page} == set()


def test_the_schema_takes_what_the_parser_takes() -> None:
    schema = json_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(tomllib.loads(EXAMPLE))
    assert "null" not in json.dumps(schema)
    assert msgspec.convert(tomllib.loads(EXAMPLE), RulesFile).version == 1
    for text in (RULE.replace("0.4", "40"), RULE + "colour = 1", '[[threshold]]\nname = "x"'):
        assert not validator.is_valid(tomllib.loads(TOP + text))
        complaints(TOP + text)


# Reading


def test_without_a_setting_there_are_no_rules() -> None:
    assert load_rules(load()) == Rules()


def test_the_setting_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (TOP + RULE).replace("\n", "\r\n").encode())
    monkeypatch.setenv("REVIEWPULSE_RULES", str(path))
    found = load_rules(load())
    assert [each.name for each in found.thresholds] == ["many"]
    assert found.lines["threshold", 0, "share"] == 5


def test_a_file_that_cannot_be_read_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no rules file .*gone.toml; name one that is there\."):
        read_rules(tmp_path / "gone.toml")
    with pytest.raises(UsageError, match="cannot be read: Is a directory; name another"):
        read_rules(tmp_path)
    large = tmp_path / "large"
    large.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(UsageError, match="is larger than 1,048,576 bytes; name another, or cut it"):
        read_rules(large)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(TOP.encode() + b'# \xe9\nname = "x"')
    with pytest.raises(RulesError, match=r"latin.toml:2: byte 0xe9 is not UTF-8; save the file as UTF-8\."):
        read_rules(latin)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ("[" * 3_000, "its arrays are nested too deeply"),
        ("9" * 5_000, "a number in it has thousands of digits"),
    ],
)
def test_what_the_toml_parser_cannot_hold_is_a_mistake(value: str, wrong: str) -> None:
    with pytest.raises(RulesError, match=wrong):
        parse_rules(f"version = 1\nx = {value}", "rules.toml")
