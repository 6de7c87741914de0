"""``make fresh`` knows the README's commands, and its terminal is one."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "deploy"))
try:
    import fresh_check
finally:
    sys.path.pop(0)

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = {
    heading: fresh_check.commands(README, heading) for heading in ("Two commands", "Try it piece by piece")
}


@pytest.fixture
def terminal(tmp_path: Path) -> fresh_check.Terminal:
    """A shell of its own."""
    made = fresh_check.Terminal(tmp_path, {"PATH": os.environ["PATH"]}, tmp_path / "log")
    yield made
    made.close()


def test_it_reads_the_readmes_own_commands() -> None:
    assert BLOCKS["Two commands"] == ["make demo", "make test"]
    assert BLOCKS["Try it piece by piece"][0] == "pip install -e '.[local]'"
    assert "reviewpulse worker &" in BLOCKS["Try it piece by piece"]


@pytest.mark.parametrize("command", [each for block in BLOCKS.values() for each in block])
def test_it_knows_every_command_of_the_readme(command: str) -> None:
    assert command.endswith("&") is (fresh_check.known(command).how == "background")


def test_a_command_it_does_not_know_is_named() -> None:
    with pytest.raises(fresh_check.FreshError, match="does not know: reviewpulse fly"):
        fresh_check.known("reviewpulse fly --high")


def test_its_reviews_are_events_as_the_schema_has_them() -> None:
    schema = json.loads((ROOT / "stream" / "schemas" / "reviews.json").read_text("utf-8"))
    events = [
        json.loads(line)
        for line in fresh_check.reviews(datetime(2026, 11, 27, 12, tzinfo=UTC)).split("\n")
        if line
    ]
    for each in events:
        jsonschema.validate(each, schema)
    assert {each["product_id"] for each in events} == {"B00004TZTZ"}
    assert len({each["event_id"] for each in events}) == len({each["text"] for each in events}) == 60


def test_the_terminal_tells_exit_codes_and_ctrl_c(terminal: fresh_check.Terminal) -> None:
    assert [terminal.run(command, 30) for command in ("true", "false", "exit_ 2>&-")] == [0, 1, 127]
    terminal.start("echo ready; sleep 600")
    terminal.wait("ready", 30)
    terminal.interrupt()
    assert terminal.code(30) == 130


def test_a_job_is_brought_back_and_ended(terminal: fresh_check.Terminal) -> None:
    assert terminal.run("sleep 600 &", 30) == 0
    terminal.start("fg %1")
    terminal.wait("sleep 600", 30)
    terminal.interrupt()
    assert terminal.code(30) == 130


def test_what_is_not_shown_is_said(terminal: fresh_check.Terminal) -> None:
    with pytest.raises(fresh_check.FreshError, match="did not show 'never' within 0 s"):
        terminal.wait("never", 0)


def test_a_process_with_the_mark_is_found_and_one_without_is_not(tmp_path: Path) -> None:
    marked = fresh_check.Terminal(
        tmp_path, {"PATH": os.environ["PATH"], fresh_check.MARK: "a1b2"}, tmp_path / "log"
    )
    try:
        assert "bash" in " ".join(fresh_check.running("a1b2").values())
        assert fresh_check.running("c3d4") == {}
    finally:
        marked.close()
    assert fresh_check.running("a1b2") == {}
