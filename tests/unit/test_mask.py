from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.mask import QUOTE_CHARS, excerpt, mask


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


@given(st.integers(10**15, 10**16 - 1), st.text("abc, ", max_size=20))
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


@pytest.mark.parametrize(
    "unit",
    ["a", "1", "1 ", "+1-", "a@", "a.", "order #", "(0", "DE12 ", "4111 ", "订单号", "a (at ", "qq__id"],
)
def test_the_work_on_hostile_text_grows_no_faster_than_its_length(unit: str) -> None:
    # A pattern of quadratic cost would take many minutes here and run into the timeout of all tests.
    text = unit * (200_000 // len(unit))
    assert isinstance(mask(text), str)
