"""What ships passes the behavioural gates of its languages: a gate that fails is no release."""

from __future__ import annotations

import pytest

pytest.importorskip("scipy")

from models.behaviour.run import behave
from models.behaviour.suite import languages
from models.classifier import open_classifier
from stream import bundle
from stream.settings import SHIPPED_BUNDLE


@pytest.mark.slow
def test_the_shipped_bundle_passes_every_gate() -> None:
    stated = bundle.load_manifest(SHIPPED_BUNDLE).languages
    assert set(stated) >= set(languages())
    found = behave(open_classifier(SHIPPED_BUNDLE), languages())
    assert {(kind.language, kind.kind): kind.rate for kind in found.kinds if not kind.ok} == {}
