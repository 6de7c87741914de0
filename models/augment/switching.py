"""Chinese and English in one text, as people write who live with both.

Rules:
- A word gives way to its translation (``words.toml``), or a sentence follows one of the other language that
  says the same; neither changes what is said.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from typing import TYPE_CHECKING

from models.augment.constructions import FOLDER

if TYPE_CHECKING:
    from random import Random

MOST_SWITCHED = 2
"""Words of a text."""


@cache
def dictionary() -> dict[str, str]:
    """English for each Chinese word."""
    words: dict[str, str] = tomllib.loads((FOLDER / "words.toml").read_text("utf-8"))["words"]
    return words


@cache
def _reverse() -> dict[str, str]:
    return {english: chinese for chinese, english in dictionary().items() if english.isascii()}


def switched(text: str, language: str, rng: Random) -> str | None:
    """A text with one or two words in the other language; None where it has none that is known."""
    words = dictionary() if language == "zh" else _reverse()
    found = [word for word in words if (word in text if language == "zh" else _has(word, text))]
    if not found:
        return None
    rng.shuffle(found)
    for word in found[: rng.randint(1, MOST_SWITCHED)]:
        if language == "zh":
            text = text.replace(word, words[word], 1)
        else:
            text = re.sub(rf"\b{re.escape(word)}\b", words[word], text, count=1, flags=re.IGNORECASE)
    return text


def _has(word: str, text: str) -> bool:
    return re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) is not None
