from __future__ import annotations

import gzip
import zipfile
from typing import TYPE_CHECKING

import pytest

from models import corpora
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

VADER = """\
1_1\t3.2\tI love this camera.
1_2\t0.1\tIt has a lens.
1_3\t2.0\tThe pictures are great.
2_1\t-3.0\tThis player is terrible.
"""
UCI = "Great phone, works well.\t1\nBroke in a week.\t0\nI love this camera !\t1\n"
SEMEVAL = """\
The $T$ is great but slow .
screen
1
The $T$ is great but slow .
screen
0
Bad $T$ .
keyboard
-1
"""
LIU = """\
* header, no review yet
##not a sentence of a review
[t]My first router
router[+3], setup[+2][u]##I love it .
##It is blue .
wifi[-2]##The wifi drops &amp; it did n't come back .
[t]
signal[-1]##Weak signal .
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The four sets in miniature, in their own formats."""
    for name, content in (
        (corpora.FILES["vader"][0], VADER),
        (corpora.FILES["uci"][0], UCI),
        (corpora.FILES["semeval"][0], SEMEVAL),
        (corpora.FILES["semeval"][1], ""),
    ):
        (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    with zipfile.ZipFile(tmp_path / corpora.FILES["liu"][0], "w") as archive:
        archive.writestr("reviews/README.txt", "[t]\nx[+1]##not data\n")
        archive.writestr("reviews/router.txt", LIU)
    return tmp_path


def test_every_set_is_read_with_its_sentiment_and_review(folder: Path) -> None:
    assert [(each.text, each.sentiment, each.group) for each in corpora.read_sentences(folder)] == [
        ("I love this camera.", 0.8, "vader:1"),
        ("It has a lens.", 0.025, "vader:1"),
        ("The pictures are great.", 0.5, "vader:1"),
        ("This player is terrible.", -0.75, "vader:2"),
        ("Great phone, works well.", 1.0, "uci:0"),
        ("Broke in a week.", -1.0, "uci:1"),
        ("The screen is great but slow.", 0.5, "semeval:The screen is great but slow."),
        ("Bad keyboard.", -1.0, "semeval:Bad keyboard."),
        ("My first router", None, "liu:reviews/router.txt:1"),
        ("I love it.", 1.0, "liu:reviews/router.txt:1"),
        ("It is blue.", None, "liu:reviews/router.txt:1"),
        ("The wifi drops & it didn't come back.", -2 / 3, "liu:reviews/router.txt:1"),
        ("Weak signal.", -1 / 3, "liu:reviews/router.txt:2"),
    ]


def test_a_missing_set_is_named(folder: Path) -> None:
    (folder / corpora.FILES["uci"][0]).unlink()
    with pytest.raises(UsageError, match=r"uci_amazon_cells_labelled.txt.gz is not in"):
        corpora.read_sentences(folder)


@pytest.mark.parametrize("source", ["uci", "liu"])
def test_a_broken_file_is_named(folder: Path, source: str) -> None:
    file = folder / corpora.FILES[source][0]
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(UsageError, match=rf"{file.name} is a broken"):
        corpora.read_sentences(folder)


def test_a_sentence_without_an_opinion_is_no_sample_of_its_own(folder: Path) -> None:
    texts = [sample.text for sample in corpora.samples(corpora.read_sentences(folder))]
    assert "It has a lens." not in texts
    assert "My first router" not in texts


def test_a_whole_review_is_a_sample_with_its_sentences_together(folder: Path) -> None:
    made = {sample.text: sample for sample in corpora.samples(corpora.read_sentences(folder))}
    whole = made["I love this camera. It has a lens. The pictures are great."]
    assert whole.target > 0.95
    assert whole.group == "vader:1"


def test_targets_are_soft_and_never_certain(folder: Path) -> None:
    targets = [sample.target for sample in corpora.samples(corpora.read_sentences(folder))]
    assert all(0 < target < 1 for target in targets)
    assert corpora._target(-0.3) == pytest.approx(1 - corpora._target(0.3))


def test_the_same_seed_draws_the_same_runs(folder: Path) -> None:
    sentences = corpora.read_sentences(folder)
    assert corpora.samples(sentences, seed=1) == corpora.samples(sentences, seed=1)
