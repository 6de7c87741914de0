from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.clean import clean
from stream.core.events import scored_text


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("", ""),
        ("It works.", "It works."),
        ("  It\tworks.\r\n\r\nReally.  ", "It works. Really."),
        ("It\u00a0works\u3000well\u2003\u2028\x85\x0b\x0c.", "It works well ."),
        ("cafe\u0301", "caf\u00e9"),
        ("\ufb01ne", "\ufb01ne"),  # a ligature is seen as it is: NFC, not NFKC
        ("It\x1bbo\x08ils\u200b\ufeff, so\u00adft \u202eright\u202c", "Itboils, soft right"),
        ("half a pair \ud83d.", "half a pair ."),
        ("Great!<br><br />Cheap<BR/>and<p class='x'>small</p>", "Great! Cheap and small"),
        ("the <b>best</b>, <i>really</i>, <a href='x?a=1&b=2'>here</a>", "the best, really, here"),
        ('<div id="video" class="a b"></div><input type="hidden" value="https://x/y.mp4">Nice', "Nice"),
        ("&quot;Nice&quot; &amp; cheap&#33; caf&eacute; &#x4E66;", '"Nice" & cheap! café 书'),
        ("&amp;quot;Nice&amp;quot; &lt;br&gt;here", '"Nice" here'),
        ("5&nbsp;&nbsp;stars", "5 stars"),
        ("a &quot b &amp c", 'a " b & c'),
        ("don&#146;t", "don\u2019t"),  # Windows-1252's apostrophe, as browsers read it
    ],
)
def test_what_the_way_left_in_the_text_goes(text: str, cleaned: str) -> None:
    assert clean(text) == cleaned


@pytest.mark.parametrize(
    "text",
    [
        "AT&T, R&D; Q&A",
        "&unknown; and a&b;",
        "http://x.example/?a=1&copy=2&lt=3&quot=4",
        "I <3 it, 3 < 5 and 7 > 6, <-- this",
        "if a <b and c> d",
        "<神奇校车>这套书不错",
        "《神奇校车》 很好!!!",
        "NOT good, but I don't care",
        "👩‍👩‍👧 ❤️‍🔥 👍🏽 🏳️‍🌈",
        "می‌خواهم",  # Persian, with its non-joiner
        "क्‍ष",
    ],
)
def test_what_the_customer_wrote_stays(text: str) -> None:
    assert clean(text) == unicodedata.normalize("NFC", text)


def test_a_joiner_that_joins_nothing_goes() -> None:
    assert clean("a\u200db \u200d👩 👩\u200d. \u200c") == "ab 👩 👩."


ESCAPES = r"&|&amp;|amp;|&lt;|lt;|&#38;|#38;|&#56;|&#0;|&#xd800;|&zwj;|&shy;|&#769;|&quot|&nbsp;"
TAGS = "<|>|<b>|</b>|<br>|b|a|=|x=1|/|;| |\n"
CHARACTERS = "\u200d|\u200c|\u200b|👩|\ufe0f|\u0301|e|\u3000|\u0338|\u0958|好|نم|\x00|\x1f"
PIECES = st.sampled_from(f"{ESCAPES}|{TAGS}|{CHARACTERS}".split("|"))


@given(st.one_of(st.text(), st.lists(PIECES, max_size=20).map("".join)))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    once = clean(text)
    assert clean(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert once == once.strip()
    assert "  " not in once
    once.encode()  # no lone surrogates


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="&<"), min_size=1))
def test_plain_text_loses_nothing_but_spaces(text: str) -> None:
    assert clean(text) == " ".join(text.split())


@pytest.mark.parametrize(
    "text",
    [
        "&" + "amp;" * 5000,
        "&#3&#56;;" * 2222,
        "<a " * 6666,
        "<a " + "=" * 20_000,
        "<a =<a ->" * 2222,
        "\u200d" * 20_000,
    ],
    ids=["nested", "nested numbers", "open tags", "equals", "open attributes", "joiners"],
)
def test_hostile_text_is_cleaned_once_and_for_all(text: str) -> None:
    once = clean(text)  # a few ms each; what is quadratic here takes minutes
    assert clean(once) == once


def test_serving_cleans_title_and_text() -> None:
    assert scored_text("Broken&nbsp;<br>", "It&#39;s\u200b  dead") == "Broken. It's dead"
    assert scored_text("\u200b", "<p></p>") == ""
