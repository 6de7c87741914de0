from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "stream.cli.main", "demo", "--headless"]
PAGE = "the live page is at "


def processes() -> dict[int, int]:
    """Parent of every process that is not a zombie."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if state != "Z":
                parents[int(folder.name)] = int(parent)
    return parents


def descendants(pid: int) -> set[int]:
    parents = processes()
    found, layer = set[int](), {pid}
    while layer:
        layer = {child for child, parent in parents.items() if parent in layer}
        found |= layer
    return found


def until_gone(pids: set[int], timeout_s: float = 20.0) -> set[int]:
    """What is left of ``pids``: nothing, or what outlives the timeout."""
    deadline = time.monotonic() + timeout_s
    while (left := pids & processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def lasting_children(pid: int) -> set[int]:
    """Broker, Valkey, worker, page; not the `file` or `uname` that Python's `platform` runs at times."""
    deadline = time.monotonic() + 20.0
    while len(found := descendants(pid)) != 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(found) == 4
    return found


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A demo whose servers, worker and page are up."""
    process = subprocess.Popen(
        COMMAND, stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(tmp_path)}
    )
    assert process.stderr is not None
    with process:
        seen = next((line for line in process.stderr if PAGE in line), None)
        assert seen, f"the demo ended with {process.wait()}"
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_neither_process_nor_file(
    demo: subprocess.Popen[str], signum: signal.Signals, tmp_path: Path
) -> None:
    children = lasting_children(demo.pid)
    demo.send_signal(signum)
    demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert until_gone(children) == set()
    assert [each for each in tmp_path.iterdir() if each.name.startswith("reviewpulse-")] == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ties the children to the demo there alone")
def test_a_killed_demo_leaves_no_process(demo: subprocess.Popen[str]) -> None:
    children = lasting_children(demo.pid)
    demo.kill()
    demo.communicate(timeout=60)
    assert until_gone(children) == set()


def test_without_a_bundle_the_demo_says_so_and_starts_nothing(tmp_path: Path) -> None:
    ended = subprocess.run(
        [*COMMAND, "--bundle", str(tmp_path / "none")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "none" in ended.stderr
    assert "Kafka" not in ended.stderr


@pytest.mark.slow
def test_a_whole_demo_finds_the_bad_batch_and_reconciles() -> None:
    ended = subprocess.run(
        [*COMMAND, "--duration", "60", "--json"], capture_output=True, text=True, timeout=280, check=False
    )
    report = json.loads(ended.stdout)
    assert report["problems"] == []
    assert ended.returncode == 0
    assert report["ok"] is True
    assert report["products_exact"] == report["products"] == 36
    assert {alert["product_id"] for alert in report["alerts"]} == {"power-1"}
    assert {"firing", "resolved"} <= {alert["state"] for alert in report["alerts"]}
    for channel in report["channels"]:
        meant = channel["meant"]
        assert channel["sent"] == sum(meant.values())
        assert {name: channel[name] for name in meant} == meant
        assert meant["dead"] > 0
