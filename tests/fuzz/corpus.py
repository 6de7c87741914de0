"""The inputs that fuzzing begins with: valid ones, and each that once broke something."""

from __future__ import annotations

from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
TINY = HERE / "bundle"
OF_BUNDLE = {"manifest": "manifest.json", "tokenizer": "tokenizer.json", "model": "model.onnx"}
"""Targets whose first example is a file of the tiny bundle."""


def corpus(target: str) -> dict[str, bytes]:
    """By name: what there is for a target, in a fixed order."""
    found = {"bundle": (TINY / OF_BUNDLE[target]).read_bytes()} if target in OF_BUNDLE else {}
    folder = CORPUS / target
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return found | {each.name: each.read_bytes() for each in files}
