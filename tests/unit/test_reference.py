"""The reference of a bundle: written at export or of one's own texts; the bundle stays the one it was."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest
from tiny_bundles import make_bundle

from stream import bundle
from stream.core.drift import LEAST_TEXTS
from stream.core.reference import Binned, Reference
from stream.errors import BundleError, UsageError
from stream.scorer.load import load_scorer
from stream.scorer.reference import reference_of, write_reference
from stream.settings import SHIPPED_BUNDLE, load

if TYPE_CHECKING:
    from pathlib import Path

TEXTS = ["good", "bad refund", "质量很好", "☃ ☃"] * 150


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


def test_an_export_keeps_what_its_texts_look_like(tiny: Path) -> None:
    made = bundle.verify(tiny).reference
    assert made is not None
    assert made.texts == "the 7 texts of its export's parity"
    for feature in ("length", "unknown", "language", "score"):
        assert sum(made.of(feature).counts) == 7


def test_a_reference_of_ones_own_changes_no_file_and_no_version(tiny: Path) -> None:
    before = bundle.verify(tiny)
    scorer = load_scorer(load(bundle=tiny))
    made = write_reference(tiny, scorer, TEXTS, "600 of mine")
    after = bundle.verify(tiny)
    assert after.reference == made == reference_of(scorer, TEXTS, "600 of mine")
    assert (after.version, after.files) == (before.version, before.files)
    assert msgspec.structs.replace(after, reference=before.reference) == before
    assert made.language.counts == (450, 150, 0)  # snowmen are no letters
    assert sum(made.unknown.counts[1:]) >= 150  # and in no vocabulary


def test_too_few_texts_are_refused(tiny: Path) -> None:
    scorer = load_scorer(load(bundle=tiny))
    with pytest.raises(UsageError, match="499 texts are too few"):
        write_reference(tiny, scorer, TEXTS[: LEAST_TEXTS - 1], "few")


def test_the_command_says_what_it_wrote_and_the_bundle_verifies(tiny: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS), "utf-8")
    command = [sys.executable, "-m", "stream.cli.main", "bundle", "reference", str(tiny), str(file), "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    said = msgspec.json.decode(ran.stdout, type=Reference)
    assert said == bundle.verify(tiny).reference
    assert said.texts == "600 of mine.jsonl"
    assert "refund" not in ran.stdout


@pytest.mark.parametrize(
    ("bounds", "counts"), [((1.0, 2.0), (1, 2)), ((2.0, 1.0), (1, 1, 1)), ((1.0,), (0, 0)), ((1.0,), (1, -1))]
)
def test_bins_that_cannot_be_are_refused(bounds: tuple[float, ...], counts: tuple[int, ...]) -> None:
    with pytest.raises((ValueError, msgspec.ValidationError)):
        msgspec.convert({"bounds": bounds, "counts": counts}, Binned)


def test_a_manifest_with_a_wrong_reference_says_so(tiny: Path, tmp_path: Path) -> None:
    stated = json.loads((tiny / bundle.MANIFEST).read_bytes())
    stated["reference"]["length"]["counts"] = [1]
    (tmp_path / bundle.MANIFEST).write_text(json.dumps(stated), "utf-8")
    with pytest.raises(BundleError, match="incomplete or wrong: there must be one more count than bounds"):
        bundle.load_manifest(tmp_path)


def test_the_shipped_bundle_has_none() -> None:
    """Its parity texts are half English, half Chinese, half complaints: no shop's stream (0017)."""
    assert bundle.load_manifest(SHIPPED_BUNDLE).reference is None
