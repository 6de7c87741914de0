"""Which language a text is in, guessed from its letters: enough to see that what comes in has changed.

Rules:
- A text whose letters are Chinese characters to a fifth or more is Chinese, unless it has kana (Japanese).
- One of Latin letters of which at most one in fifty is beyond ASCII is English; so is one of ASCII alone.
- All else is another language. Languages that write without accents (Malay, short Italian) pass for English;
  this is a guess about a stream, not about a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LANGUAGES = ("en", "zh", "other")
CHINESE_SHARE = 0.2
"""Model names and numbers stand in Latin letters in most Chinese reviews, and are longer."""
ACCENTED_SHARE = 0.02
"""English has next to none; German, French, Spanish and Polish have three to ten in a hundred."""

_ENGLISH, _CHINESE, _OTHER = range(3)


def languages(texts: Sequence[str]) -> NDArray[np.int8]:
    """Index into ``LANGUAGES`` of each text, shape (n,).

    >>> found = languages(["It broke.", "质量很好, iPhone 12", "Déjà cassé, très déçu", "ひどい商品"])
    >>> [LANGUAGES[each] for each in found]
    ['en', 'zh', 'other', 'other']
    """
    found = np.zeros(len(texts), np.int8)
    # Python knows of a string whether it is ASCII: nothing is looked at twice.
    strange = np.flatnonzero(~np.fromiter(map(str.isascii, texts), np.bool_, len(texts))).tolist()
    if not strange:
        return found
    lines = [f"{texts[row]}\n" for row in strange]  # none is empty
    points = np.frombuffer("".join(lines).encode("utf-32-le", "replace"), "<u4")
    starts = np.concatenate(([0], np.cumsum(np.fromiter(map(len, lines), np.intp, len(lines)))))[:-1]
    folded = points | 0x20  # A to a; harmless beyond ASCII
    latin = (folded >= ord("a")) & (folded <= ord("z"))
    accented = (points >= 0xC0) & (points < 0x250) & (points != 0xD7) & (points != 0xF7)
    han = ((points >= 0x4E00) & (points <= 0x9FFF)) | ((points >= 0x3400) & (points <= 0x4DBF))
    kana = (points >= 0x3040) & (points <= 0x30FF)
    # Other scripts' letters, emoji and general punctuation left out.
    other = (points >= 0x250) & ~han & ~((points >= 0x2000) & (points < 0x3040)) & (points < 0xFE00)
    latin_n, accented_n, han_n, kana_n, other_n = (
        np.add.reduceat(each, starts, dtype=np.int64) for each in (latin, accented, han, kana, other)
    )
    letters = np.maximum(latin_n + accented_n + han_n + other_n, 1)
    is_chinese = (han_n >= CHINESE_SHARE * letters) & (kana_n == 0)
    is_english = ~is_chinese & (accented_n + other_n + han_n <= ACCENTED_SHARE * letters)
    found[strange] = np.where(is_chinese, _CHINESE, np.where(is_english, _ENGLISH, _OTHER))
    return found
