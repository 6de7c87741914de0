"""What a silence is for, and how long."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.silence import Said, Silence, duration_ms
from stream.errors import UsageError
from tests.builders import alert

KETTLE = alert(product_id="kettle-7", category="kettles", rule="negative_share")


def silence(**fields: Any) -> Silence:
    return Silence(**{"id": "s", "start_ms": 1_000, "end_ms": 2_000, "reason": "recall", **fields})


@pytest.mark.parametrize(
    ("what", "covers"),
    [
        ({"product": "kettle-7"}, True),
        ({"product": "kettle-70"}, False),
        ({"category": "kettles"}, True),
        ({"category": "lamps"}, False),
        ({"pattern": "kettle-*"}, True),
        ({"pattern": "KETTLE-*"}, False),
        ({"pattern": "*[0-5]"}, False),
        ({"rule": "negative_share"}, True),
        ({"category": "kettles", "rule": "surge"}, False),
        ({"pattern": "kettle-*", "category": "kettles"}, True),
        ({"everything": True}, True),
        ({"everything": True, "rule": "surge"}, False),
        ({}, False),
    ],
)
def test_all_that_it_names_must_fit_and_naming_nothing_silences_nothing(
    what: dict[str, Any], covers: bool
) -> None:
    assert silence(**what).covers(KETTLE) == covers


def test_a_product_without_a_category_is_in_none() -> None:
    assert not silence(category="kettles").covers(alert(product_id="kettle-7"))


def test_it_is_on_from_its_start_to_before_its_end() -> None:
    assert [silence().is_on(ms) for ms in (999, 1_000, 1_999, 2_000)] == [False, True, True, False]


def test_of_several_the_one_that_ends_last_is_told() -> None:
    both = [silence(id="long", everything=True, end_ms=9_000), silence(id="short", product="kettle-7")]
    found = Said(both).silence_of(KETTLE, 1_500)
    assert found is not None
    assert found.id == "long"
    assert Said(both).silence_of(KETTLE, 9_000) is None


def test_one_that_says_more_than_is_known_here_is_not_understood() -> None:
    """A newer version's silence of one channel must not silence both here."""
    written = msgspec.json.encode(msgspec.to_builtins(silence(product="B1")) | {"channel": "chats"})
    with pytest.raises(msgspec.ValidationError, match="channel"):
        msgspec.json.decode(written, type=Silence)


@given(st.integers(1, 365 * 86_400))
def test_every_length_can_be_written(seconds: int) -> None:
    assert duration_ms(f"{seconds}s") == seconds * 1_000
    minutes, rest = divmod(seconds, 60)
    assert duration_ms(f"{minutes}m{rest}s") == seconds * 1_000


@pytest.mark.parametrize(
    "text", ["", "2", "h", "2 h", "-1h", "1.5h", "30m2h", "2h2h", "2H", "\uff12h", "two hours"]
)
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(UsageError, match="is no duration: write 90s, 30m, 2h"):
        duration_ms(text)


@pytest.mark.parametrize("text", ["0s", "0h0m", "366d", "999999999w"])
def test_a_silence_is_neither_of_no_length_nor_for_ever(text: str) -> None:
    with pytest.raises(UsageError, match="not between one second and a year"):
        duration_ms(text)
