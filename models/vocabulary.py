"""``python -m models.vocabulary --data DIR``: counts anew how often customers use a phrase anyway.

Rules:
- Counted on the sets that shipped weights may be trained on, and on nothing else: their licences allow it.
- The sets are about a few trades (hotels, cameras), and a phrase of one trade is not ordinary. So the texts
  are cut into ``BLOCKS`` blocks in the files' order, which goes by trade, and the half of the blocks that use
  a phrase most is left out.
- A phrase is ordinary if it is so in all texts, or in the negative ones.
- Its tone is the share of negative ones among the texts that have it.
- The sets hold sentences: neighbours are put together until they have the length of a complaint.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from models.corpora import SOURCES, examples, read_sentences
from models.writing import write_whole
from stream.core.background import FLOOR, TEN_THOUSAND
from stream.core.words import clauses, terms, tone_words
from stream.vocabulary import FILE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ENGLISH_CHARS, CHINESE_CHARS = 200, 60
"""Of a complaint put together from sentences; the evaluation sets' have medians of 180 and 530, and of 31."""

LEAST_SENTIMENT = 0.125
"""In [-1, 1]: sentences nearer to zero are neither praise nor blame."""

BLOCKS = 12
"""Smaller ones would hold too few complaints for a share of a hundredth."""

REMARKS = "".join(
    f"# {line}\n"
    for line in (
        "Share of complaints that have a phrase anyway, in ten-thousandths; chance in percent that a text",
        "with it is negative; the phrase, as stream.core.words keys it. Written by models.vocabulary from:",
        *(f"{what}: {licence}" for what, licence in SOURCES.values()),
    )
)


def complaints(texts: Iterable[str], chars: int) -> list[str]:
    """Neighbouring texts put together until they have ``chars`` characters; a longer one is one.

    >>> complaints(["It broke.", "Twice.", "No sound at all."], 12)
    ['It broke. Twice.', 'No sound at all.']
    """
    made: list[str] = []
    run: list[str] = []
    for text in texts:
        run.append(text)
        if sum(map(len, run)) >= chars:
            made.append(" ".join(run))
            run = []
    return made


def shares(texts: Sequence[str]) -> Counter[str]:
    """Share of the texts that have a phrase, in ten-thousandths, in the half of the blocks that use it least.

    >>> shares(["camera broke"] * 6 + ["phone broke"] * 6)
    Counter({'brok': 10000})
    """
    size = -(-len(texts) // BLOCKS)
    blocks = [texts[start : start + size] for start in range(0, len(texts), size)]
    found: dict[str, list[float]] = {}
    for block in blocks:
        counts = Counter(key for text in block for key in phrases(text))
        for key, count in counts.items():
            found.setdefault(key, []).append(count / len(block))
    half = len(blocks) // 2
    least: Counter[str] = Counter()
    for key, of_blocks in found.items():
        absent = len(blocks) - len(of_blocks)
        least[key] = round(TEN_THOUSAND * sum(sorted(of_blocks)[: max(0, half - absent)]) / half)
    return +least


def phrases(text: str) -> set[str]:
    """What is counted of a text: its phrases, and the words that tell praise from blame."""
    return {term.key for term in terms(text)} | set(tone_words(clauses(text)))


def tones(negative: Sequence[str], positive: Sequence[str]) -> dict[str, int]:
    """Chance in percent that a text with a phrase is negative, were there as many of both kinds.

    >>> tones(["it broke", "it broke again"], ["great", "good"])["brok"]
    75
    """
    in_negative = Counter(key for text in negative for key in phrases(text))
    in_positive = Counter(key for text in positive for key in phrases(text))
    found = {}
    for key in in_negative | in_positive:
        # As if seen once more in texts of both kinds: few are no proof.
        with_negative = (in_negative[key] + 1) / max(len(negative), 1)
        with_positive = (in_positive[key] + 1) / max(len(positive), 1)
        found[key] = round(100 * with_negative / (with_negative + with_positive))
    return found


def table(folder: Path) -> dict[str, tuple[int, int]]:
    """Share and tone of every phrase whose share is large enough to be kept.

    Args:
        folder: of the sets.

    Raises:
        UsageError: a set is missing.
    """
    english = [(each.text, each.sentiment or 0.0) for each in read_sentences(folder)]
    chinese = [(each.text, 1.0 - 2.0 * each.target[0]) for each in examples(folder, ("zh",))]
    made: dict[str, tuple[int, int]] = {}
    for of_language, chars in ((english, ENGLISH_CHARS), (chinese, CHINESE_CHARS)):
        negative = [text for text, sentiment in of_language if sentiment <= -LEAST_SENTIMENT]
        positive = [text for text, sentiment in of_language if sentiment >= LEAST_SENTIMENT]
        tone_of = tones(negative, positive)
        of_all = shares(complaints([text for text, _ in of_language], chars))
        for key, share in (of_all | shares(complaints(negative, chars))).items():
            if share > FLOOR:
                made[key] = share, tone_of.get(key, 50)
    return made


def written(rows: dict[str, tuple[int, int]], version: str) -> str:
    r"""The table as its file holds it, the most ordinary phrases first.

    >>> written({"leak": (20, 90), "not work": (500, 95)}, "2")
    'version\t2\n500\t95\tnot work\n20\t90\tleak\n'
    """
    ordered = sorted((-share, key, tone) for key, (share, tone) in rows.items())
    lines = [f"{-share}\t{tone}\t{key}" for share, key, tone in ordered]
    return "\n".join((f"version\t{version}", *lines, ""))


def main() -> None:
    """Writes the shipped table anew."""
    parser = argparse.ArgumentParser(prog="python -m models.vocabulary", description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sets")
    parser.add_argument("--version", required=True, help="name of the new table")
    options = parser.parse_args()
    write_whole(FILE, (REMARKS + written(table(options.data), options.version)).encode())


if __name__ == "__main__":
    main()
