"""The one cleaning of text, for training and for serving: a model is asked about what it learned from.

Rules:
- What a customer could see stays: words, case, punctuation, emoji with their joiners, ``<3``, a book's title
  in angle brackets. What the way here left in the text goes: control and zero-width characters, HTML tags
  and entities, runs of white space. What is left is in Unicode's composed form (NFC).
- No stop words are removed and nothing is lower-cased: "not" and "but" decide a review, and a tokenizer
  that wants lower case does that itself.
- Cleaning twice is cleaning once. Escapes within escapes are undone a few levels deep; what still looks like
  an escape or a tag then, nobody wrote by accident, and it is spelled with full-width signs.
- Text is hostile: the time is linear in its length.
- Serving cleans every event, so a text that needs nothing is found out by a few scans in C.
"""

from __future__ import annotations

import re
from html import unescape
from html.entities import html5
from unicodedata import is_normalized, normalize

PASSES = 4
"""Levels of escaping that are undone. Shops' exports have one or two (``&amp;quot;``)."""

# Controls that are no white space; soft hyphen; zero-width and direction marks; lone surrogates; tags.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]+"
)

# ZERO WIDTH JOINER and NON-JOINER mean something between two of these: emoji and their modifiers, and the
# letters of the scripts from Arabic to Khmer. Elsewhere they are leftovers.
_JOINED = "\u0600-\u109f\u1780-\u17ff\u2190-\u2bff\ufe0f\U0001f000-\U0001faff"
_LOOSE_JOINER = re.compile(f"(?<![{_JOINED}])[\u200c\u200d]|[\u200c\u200d](?![{_JOINED}])")

# Names without their semicolon are read only where they are whole words: `?a=1&copy=2` is no copyright sign.
_ENTITY = re.compile(
    r"&(?:#[0-9]{1,7};|#[xX][0-9a-fA-F]{1,6};|[A-Za-z][A-Za-z0-9]{1,31};|(?:quot|amp|nbsp)(?![\w=;]))"
)

_BLOCK = (
    r"br|p|div|hr|li|ul|ol|dl|dt|dd|table|tbody|thead|tr|td|th|h[1-6]|blockquote|pre|center|img|input|iframe"
)
_INLINE = r"b|i|u|s|a|em|strong|span|font|small|big|sub|sup|strike|del|ins|tt|code|mark|abbr|cite|label"
_TAG = re.compile(
    # With attributes only if one has a value: "a <b and c> d" is arithmetic. Possessive, so never quadratic.
    rf"</?(?:(?P<block>{_BLOCK})|{_INLINE})(?:\s*/?>|\s[^<>=]*+=[^<>]*+>)",
    re.IGNORECASE,
)


def clean(text: str) -> str:
    r"""Text without the traces of the way it came.

    >>> clean(" Great!<br />It&#39;s \u200bthe <b>best</b>\n\n kettle &amp; cheap ")
    "Great! It's the best kettle & cheap"
    >>> clean("AT&T <3"), clean("<神奇校车>很好"), clean("cafe\u0301") == "caf\u00e9"
    ('AT&T <3', '<神奇校车>很好', True)
    """
    # Line breaks and double spaces are in a third of all reviews; a regex takes ten times as long.
    if "\n" in text:
        text = text.replace("\n", " ")
    while "  " in text:
        text = text.replace("  ", " ")
    text = text.strip()
    if _is_clean(text):
        return text
    for _ in range(PASSES):
        before, text = text, _once(text)
        if text == before or _is_clean(text):
            return text
    # _once last of all would undo another level; the signs that begin one are no longer there.
    return _ENTITY.sub(_full_width, _TAG.sub(_full_width, text))


_UNSUSPECTED = bytes(code for code in range(0x20, 0x7F) if chr(code) not in "&<")


def _is_clean(text: str) -> bool:
    """Whether a text of single spaces needs nothing more; not every such text is known for it."""
    if text.isascii():  # a third of what isprintable takes
        return not text.encode().translate(None, _UNSUSPECTED)
    # Printable: no controls, no zero-width characters, no white space but the plain one.
    return text.isprintable() and "&" not in text and "<" not in text and is_normalized("NFC", text)


def _once(text: str) -> str:
    if not text.isprintable():
        text = _INVISIBLE.sub("", text)
        if "\u200d" in text or "\u200c" in text:
            text = _LOOSE_JOINER.sub("", text)
    if "<" in text:
        text = _TAG.sub(_space_of_tag, text)
    if "&" in text:
        text = _ENTITY.sub(_meant, text)
    return normalize("NFC", " ".join(text.split()))


def _space_of_tag(tag: re.Match[str]) -> str:
    return " " if tag["block"] else ""


def _meant(entity: re.Match[str]) -> str:
    found = entity[0]
    if found[1] == "#":
        return unescape(found)
    return html5.get(found[1:].rstrip(";") + ";", found)


def _full_width(found: re.Match[str]) -> str:
    return ("＆" if found[0][0] == "&" else "＜") + found[0][1:]  # noqa: RUF001
