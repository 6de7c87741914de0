"""`reviewpulse rules`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from stream.cli.main import command_line
from stream.core.rules import RulesError, json_schema
from stream.errors import UsageError

if TYPE_CHECKING:
    from typer.testing import Result

EXAMPLE = Path(__file__).parents[2] / "docs" / "rules.toml"
WARNED = 'version = 1\n[[threshold]]\nname = "many"\nwindow = "1h"\nshare = 0.0\n'
WRONG = WARNED.replace("0.0", "40")


def ran(*arguments: object) -> Result:
    return CliRunner().invoke(command_line(), ["rules", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rules.toml"


def test_a_right_file_is_read_out() -> None:
    said = ran("check", EXAMPLE)
    assert said.exit_code == 0
    rows = [" ".join(line.split()) for line in said.stdout.splitlines()]
    assert (
        "kettles-on-fire 40% negative and 25 negatives and 40 events 1h 10m below 25% negative or 10"
        " negatives 30m critical pattern KT-*, category kettles, channel reviews"
    ) in rows
    assert "launch 5 negatives 15m at once below 4 negatives at once warning product B00LAUNCH1" in rows
    assert "spike and surge not enabled pattern SAMPLE-*" in rows
    assert rows[-1] == "No warnings."


def test_warnings_are_named_and_fail_only_a_strict_check(file: Path) -> None:
    file.write_text(WARNED)
    said = ran("check", file)
    assert said.exit_code == 0
    assert f"warning: {file}:5: share in [[threshold]] many: a share of 0 always holds" in said.stderr
    assert "No warnings." not in said.stdout
    assert ran("check", file, "--strict").exit_code == 1
    assert ran("check", EXAMPLE, "--strict").exit_code == 0


def test_a_wrong_file_is_refused(file: Path) -> None:
    file.write_text(WRONG)
    refused = ran("check", file).exception
    assert isinstance(refused, RulesError)
    assert refused.exit_code == 2
    assert str(refused) == (
        f"The rules file {file} has a mistake:\n  {file}:5: share in [[threshold]] many: 40 is not a share"
        " from 0 to 1; write share = 0.4 for 40%."
    )


def test_with_json_everything_is_one_object(file: Path) -> None:
    file.write_text(WARNED)
    said = ran("check", file, "--json", "--strict")
    found = json.loads(said.stdout)
    assert said.exit_code == 1
    assert (found["file"], found["errors"]) == (str(file), [])
    assert [(each["line"], each["key"]) for each in found["warnings"]] == [(5, "share in [[threshold]] many")]
    assert found["rules"]["threshold"][0]["for"] == "0s"
    file.write_text(WRONG)
    said = ran("check", file, "--json")
    assert said.exit_code == 2
    assert json.loads(said.stdout) == {
        "file": str(file),
        "errors": [
            {
                "where": str(file),
                "line": 5,
                "key": "share in [[threshold]] many",
                "wrong": "40 is not a share from 0 to 1",
                "remedy": "write share = 0.4 for 40%",
            }
        ],
        "warnings": [],
        "rules": None,
    }


def test_without_a_file_the_settings_one_is_checked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ran("check").exception
    assert isinstance(missing, UsageError)
    assert str(missing) == "Name a rules file, or set REVIEWPULSE_RULES."
    file.write_text(WARNED)
    monkeypatch.setenv("REVIEWPULSE_RULES", str(file))
    assert json.loads(ran("check", "--json").stdout)["file"] == str(file)


def test_hostile_names_of_products_are_shown_and_not_sent(file: Path) -> None:
    file.write_text(WARNED.replace("0.0", "0.5") + 'product = "\\u001b[31m[red]"\n')
    assert "product \\x1b[31m[red]" in ran("check", file).stdout


def test_the_schema_is_printed() -> None:
    said = ran("schema")
    assert said.exit_code == 0
    assert json.loads(said.stdout) == json_schema()
