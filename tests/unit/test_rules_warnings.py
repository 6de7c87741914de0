"""What a right rules file cannot do, and that it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from told_files import told_files

from stream.core.rules_parse import parse_rules
from stream.core.rules_warnings import warnings

PER_DAY = 1_000_000.0
WARNED = told_files(Path(__file__).with_name("warned_rules.txt"))


def warned(text: str, per_day: float | None = PER_DAY) -> list[str]:
    return [str(each) for each in warnings(parse_rules(text, "rules.toml"), per_day)]


@pytest.mark.parametrize(("text", "said"), WARNED.values(), ids=WARNED)
def test_what_cannot_be_meant_is_warned_about_and_nothing_else(text: str, said: list[str]) -> None:
    assert warned(text) == [f"rules.toml:{each}" for each in said]


def test_there_are_files_with_warnings_and_files_without() -> None:
    counts = [len(said) for _, said in WARNED.values()]
    assert sum(count == 0 for count in counts) >= 15
    assert sum(count == 1 for count in counts) >= 20


def test_without_a_stated_rate_no_number_is_out_of_reach() -> None:
    text, said = WARNED["more negatives than the fleet has events"]
    assert said
    assert warned(text, None) == []
