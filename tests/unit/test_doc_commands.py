"""Every command in the docs exists, with every option that is written; new pages are found by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.doc_commands import ROOT, blocks, commands, complaints, pages

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_the_page_exists_with_its_options(page: Path) -> None:
    assert [f"line {each.line}: {wrong}" for each in blocks(page) for wrong in complaints(each.text)] == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("reviewpulse wroker &", "there is no command wroker"),
        ("reviewpulse bundle promot DIR", "there is no command bundle promot"),
        ("reviewpulse top --windows 1h", "No such option: --windows"),
        ("FOO=1 reviewpulse worker --provider tpu > log 2>&1", "tpu is none of auto, cpu, cuda"),
        ("reviewpulse counters a b", "too many arguments: b"),
        ("cat x | reviewpulse ingest - --tipic reviews", "No such option: --tipic"),
        ("echo $(reviewpulse alert)", "there is no command alert"),
        ("until reviewpulse nothing; do sleep 1; done", "there is no command nothing"),
        ("make everything", "make has no everything"),
        ("python -m tests.nothing", "there is no module tests.nothing"),
        ("python docs/examples/nothing.py", "there is no docs/examples/nothing.py"),
        ("frobnicate", "frobnicate is no program"),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(text: str, wrong: str) -> None:
    (found,) = complaints(text)
    assert wrong in found


def test_a_shell_text_is_taken_apart() -> None:
    text = """
cat <<'END' > x.toml
reviewpulse nonsense
END
set -a; . ./local.env; set +a   # a comment
A=1 reviewpulse top \\
    --window "1 h" | jq . && B=$(reviewpulse alerts --json) > y
"""
    assert list(commands(text)) == [
        ["cat"],
        ["set", "-a"],
        [".", "./local.env"],
        ["set", "+a"],
        ["reviewpulse", "alerts", "--json"],
        ["reviewpulse", "top", "--window", "1 h"],
        ["jq", "."],
    ]
