"""The README says what is so: its table of settings, its links, its commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from stream.cli.main import command_line
from stream.settings import markdown_table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_table_of_settings_is_the_settings_own() -> None:
    assert markdown_table() in README, "put what `python -m stream.settings` prints into the README"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_every_command_is_in_a_table_and_every_one_in_a_table_exists() -> None:
    group = typer.main.get_command(command_line())
    commands = set(group.commands)  # type: ignore[attr-defined]
    tables = README[README.index("| command | does |") : README.index("Exit codes:")]
    named = {
        name.split()[0]
        for row in re.findall(r"^\| (`.*?) \|", tables, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert named == commands


def test_the_python_example_is_python_and_names_what_there_is() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    compile(example, "README", "exec")
    imported = re.search(r"from stream.client import (.*)", example)
    assert imported
    namespace: dict[str, object] = {}
    exec(imported.group(0), namespace)  # noqa: S102 - our own README
