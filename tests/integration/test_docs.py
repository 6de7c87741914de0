"""The tutorials, run as they are written; of each other page with commands, why it is not run.

Rules:
- What cannot be run is in ``NOT_RUN`` with the reason. Every command of every page, also of pages that are in
  neither table, is held against the command line in ``tests/unit/test_doc_commands.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from tests.doc_commands import ROOT, blocks, pages

if TYPE_CHECKING:
    from pathlib import Path

INSTALLS = "pip install -e"
"""Begins the lines of a block that is not run: the tests' own environment is what it makes."""

NOT_RUN = {
    "README.md": "make demo and make test are run by CI itself; the others need a fleet's history, or run on",
    "docs/backtest.md": "a history and its scores are the reader's; tutorial-own-data.md runs a backtest",
    "docs/export.md": "needs a fleet's counters; run by test_dump.py and test_digest.py",
    "docs/fault-matrix.md": "takes ten minutes; it is the tests",
    "docs/hot-swap.md": "needs two bundles and live texts; run by test_hot_swap.py",
    "docs/http-api.md": "needs a public host for one half; the other is run by test_web_server.py",
    "docs/notify.md": "needs real receivers; run against ours by test_notify.py",
    "docs/rules.md": "run by test_rules_command.py, and by tutorial-own-data.md",
    "docs/simulation.md": "it is the tests",
    "docs/soak.md": "takes an hour",
    "docs/training/adapt.md": "takes hours; run with a tiny model by test_training_commands.py",
    "docs/training/behaviour.md": "takes minutes; run by test_behaviour.py",
    "docs/training/calibrate-and-trim.md": "needs trained models; run by test_calibrate_command.py",
    "docs/training/distil.md": "takes hours; run with a tiny model by test_training_commands.py",
    "docs/training/evaluate.md": "needs a trained model; tutorial-own-model.md evaluates one",
    "docs/training/prepare.md": "the files are the reader's; tutorial-own-model.md prepares one",
    "docs/training/train.md": "takes hours; tutorial-own-model.md trains a toy",
}
"""Pages with commands that are looked up, not run, and why."""

RUN = {"docs/tutorial-first-alert.md", "docs/tutorial-own-data.md", "docs/tutorial-own-model.md"}

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader stands: a folder with the docs, and ``reviewpulse`` and ``python`` to be called."""
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    programs = tmp_path / ".bin"
    programs.mkdir()
    for name, command in (
        ("reviewpulse", f"{sys.executable} -m stream.cli.main"),
        ("python", sys.executable),
    ):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path


def follow(page: str, folder: Path) -> str:
    """Runs all blocks of a page in one shell, as a reader would; gives what was printed.

    What it leaves running is ended with it.
    """
    text = "\n".join(
        each.text
        for each in blocks(ROOT / page)
        if not any(INSTALLS in line for line in each.text.splitlines())
    )
    environment = os.environ | {
        "PATH": f"{folder / '.bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REVIEWPULSE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            said, _ = shell.communicate(timeout=280)
        finally:
            log = folder / "worker.log"
            kept = log.read_text()[-3_000:] if log.exists() else ""
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    assert shell.returncode == 0, f"{said[-5_000:]}\n{kept}"
    assert "Traceback" not in said, said
    return said


def test_the_first_alert_fires_and_somebody_looks_after_it(clean_environment: None, folder: Path) -> None:
    said = follow("docs/tutorial-first-alert.md", folder)
    assert "* REVIEWPULSE_EXPECTED_EVENTS_PER_DAY  environment  1000.0" in said
    assert "kettle" in said
    assert "the handle" in said  # what the complaints are about
    assert "recall is running" in said


def test_your_own_data_is_judged_and_then_counted(clean_environment: None, folder: Path) -> None:
    said = follow("docs/tutorial-own-data.md", folder)
    assert "blender" in said
    assert "five_bad_in_a_week" in said
    assert "<svg" in (folder / "backtest.html").read_text()


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash")
def test_your_own_model_is_trained_and_promoted(clean_environment: None, folder: Path) -> None:
    for package in ("torch", "transformers", "onnx"):
        pytest.importorskip(package)
    follow("docs/tutorial-own-model.md", folder)
    manifest = json.loads((folder / "bundle" / "manifest.json").read_text())
    assert manifest["labels"] == ["negative", "positive"]


def test_each_page_with_commands_of_these_is_run_or_says_why_not() -> None:
    known = {str(page.relative_to(ROOT)) for page in pages() if blocks(page)}
    assert RUN | set(NOT_RUN) <= known, "a page is gone, or has no commands any more"
