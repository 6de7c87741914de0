"""The examples in docstrings are true, in every module that has one."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import stream

ROOT = Path(stream.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("stream", *path.relative_to(ROOT).with_suffix("").parts))
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text("utf-8")
)
NEED_CONTEXT = {"stream.dead_letters": "its example stands on a letter that the reader imagines"}


def test_there_are_examples_to_try() -> None:
    assert {"stream.core.batch", "stream.core.buckets", "stream.core.events", "stream.core.tally"} <= {
        *WITH_EXAMPLES
    }


@pytest.mark.parametrize("name", [name for name in WITH_EXAMPLES if name not in NEED_CONTEXT])
def test_examples_are_true(name: str) -> None:
    failures, _ = doctest.testmod(importlib.import_module(name))
    assert not failures
