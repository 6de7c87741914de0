"""What ``bench score`` scores: short chats and reviews with a long tail, half and half.

Rules:
- Real where the data folder has them: customers' turns of MultiWOZ, reviews of Blitzer's set. Without them
  they are made of words, with lengths drawn alike, and the report says so.
- A fixed seed: the same texts each time.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from stream.bench.texts import synthetic

if TYPE_CHECKING:
    from pathlib import Path

CHATS = "uss_MWOZ.txt.gz"
REVIEWS = "blitzer"


class Texts(NamedTuple):
    """Texts, and where they are from."""

    texts: list[str]
    source: str


def gather(folder: Path, count: int) -> Texts:
    """``count`` texts, real ones of ``folder`` where it has them."""
    from models import evaluation_sets
    from models.chats import read_chats

    chance = random.Random(7)
    file = evaluation_sets.FILES[REVIEWS]
    if not (folder / file).is_file() or not (folder / CHATS).is_file():
        return Texts(synthetic(count), f"SYNTHETIC: {folder} has not both {file} and {CHATS}")
    reviews = [example.text for example in evaluation_sets.examples(REVIEWS, folder)]
    chats = [turn.text for turn in read_chats(folder / CHATS)]
    half = count // 2
    texts = chance.sample(chats, min(half, len(chats))) + chance.sample(
        reviews, min(count - half, len(reviews))
    )
    chance.shuffle(texts)
    return Texts(texts, f"{file} and {CHATS}, half and half")
