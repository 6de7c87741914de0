"""The tutorials, run as they are written; of each other page with commands, why it is not run.

Rules:
- What cannot be run is in ``NOT_RUN`` with the reason. Every command of every page, also of pages that are in
  neither table, is held against the command line in ``tests/unit/test_doc_commands.py``.
"""

from __future__ import annotations

import gzip
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
    from collections.abc import Iterator
    from pathlib import Path

NOT_RUN = {
    "deploy/config/README.md": "needs containers; signed bundles are made and asked for by test_signature.py",
    "docs/backtest.md": "a history and its scores are the reader's; tutorial-own-data.md runs a backtest",
    "docs/export.md": "needs a fleet's counters; run by test_dump.py and test_digest.py",
    "docs/fault-matrix.md": "takes ten minutes; it is the tests",
    "docs/hot-swap.md": "needs two bundles and live texts; run by test_hot_swap.py",
    "docs/http-api.md": "needs a public host for one half; the other is run by test_web_server.py",
    "docs/notify.md": "needs real receivers; run against ours by test_notify.py",
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

RUN = {
    "README.md",
    "docs/rules.md",
    "docs/tutorial-first-alert.md",
    "docs/tutorial-own-data.md",
    "docs/tutorial-own-model.md",
}

LEFT_OUT = {
    "pip install -e": "the tests' own environment is what it makes",
    "python3 -m venv": "likewise",
    "make observe": "containers",
    "reviewpulse drill": "run by test_drill.py; all of it takes ten minutes and needs Prometheus",
    "make demo": "run by test_demo.py, and for a minute",
    "make test": "it is the tests",
    "reviewpulse ack 9f2c61b0a4d3e877": "an alert of somebody else's; the first tutorial acknowledges one",
    "reviewpulse notify --config": "wants receivers and their secrets; run by test_notify.py",
    "reviewpulse rebuild --bundle": "half an hour with the shipped model; run by test_rebuild.py",
    "reviewpulse rebuild --replay": "likewise",
    "reviewpulse reshard": "wants the workers stopped; run by test_reshard.py",
}
"""Beginnings of lines that are not run on the pages that are, and why."""

ENDLESS = ("reviewpulse alerts --follow", "reviewpulse web")
"""Beginnings of lines that run until they are interrupted, as they are here after some seconds."""


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a busy machine trains slowly


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


def runnable(text: str) -> Iterator[str]:
    """The lines of a block that are run, those without an end with one."""
    for line in text.splitlines():
        if line.startswith(ENDLESS):
            command = line.partition("#")[0].strip()
            yield f"timeout --signal=INT 12 {command} || case $? in 124|130) ;; *) exit 1;; esac"
        elif not line.startswith(tuple(LEFT_OUT)):
            yield line


def follow(page: str, folder: Path) -> str:
    """Runs all blocks of a page in one shell, as a reader would; gives what was printed.

    What it leaves running is ended with it.
    """
    text = "\n".join(line for each in blocks(ROOT / page) for line in runnable(each.text))
    environment = os.environ | {
        "PATH": f"{folder / '.bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "REVIEWPULSE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "REVIEWPULSE_WEB_PORT": "0",  # 8000 may be somebody's
        "BROWSER": "true",  # the program of this name
    }
    printed = folder / "printed"  # a file: what runs on would keep a pipe open
    with printed.open("w") as out, subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment,
        stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            shell.wait(timeout=800)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    said = printed.read_text()
    log = folder / "worker.log"
    kept = log.read_text()[-3_000:] if log.exists() else ""
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


def test_the_readme_works_piece_by_piece(clean_environment: None, folder: Path) -> None:
    history = [
        {"event_id": f"r{n}", "product_id": "B00004TZTZ", "text": "It works." if n % 5 else "It broke.",
         "event_time": f"2026-11-{1 + n // 24:02}T{n % 24:02}:00:00Z"}
        for n in range(40)
    ]  # fmt: skip
    lines = "\n".join(map(json.dumps, history))
    (folder / "events.jsonl").write_text(lines)
    (folder / "history.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "rules.toml").write_bytes((ROOT / "docs" / "rules.toml").read_bytes())
    said = follow("README.md", folder)
    assert "The page is at http://127.0.0.1:" in said
    assert (folder / "report.html").exists()


def test_the_commands_about_rules_work(clean_environment: None, folder: Path) -> None:
    (folder / "rules.toml").write_bytes((ROOT / "docs" / "rules.toml").read_bytes())
    follow("docs/rules.md", folder)
    assert json.loads((folder / "rules.schema.json").read_text())["$defs"]


def test_what_is_left_out_is_on_a_page() -> None:
    lines = [line for page in RUN for each in blocks(ROOT / page) for line in each.text.splitlines()]
    assert [each for each in LEFT_OUT if not any(line.startswith(each) for line in lines)] == []


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
