"""What ships passes the behavioural gates of its languages."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from models.behaviour.run import behave
from models.behaviour.suite import languages
from models.classifier import open_classifier
from stream import bundle
from stream.settings import SHIPPED_BUNDLE


@pytest.mark.slow
def test_the_shipped_bundle_passes_every_gate_of_its_languages() -> None:
    stated = bundle.load_manifest(SHIPPED_BUNDLE).languages
    tested = [language for language in languages() if language in stated]
    assert tested
    found = behave(open_classifier(SHIPPED_BUNDLE), tested)
    failed = [
        f"{kind.language}, {kind.kind}: {kind.rate:.3f} < {kind.gate}" for kind in found.kinds if not kind.ok
    ]
    assert found.ok, failed
