from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from stream.cli.main import command_line
from stream.errors import UsageError


def run(*arguments: str, stdin: str | bytes = "") -> tuple[int, str, str]:
    """Exit code, standard output and standard error, with the constant scorer (P(positive) 0.9)."""
    found = CliRunner().invoke(command_line(), ["score", "--scorer", "constant", *arguments], input=stdin)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


def test_json_lines_are_answered_in_order_with_their_line_numbers() -> None:
    lines = "".join(json.dumps({"text": f"text {number}"}) + "\n" for number in range(1200))
    code, out, err = run("--jsonl", stdin=lines)
    assert (code, err) == (0, "")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["line"] for row in rows] == list(range(1, 1201))
    assert rows[0] == {
        "line": 1,
        "label": "positive",
        "probabilities": {"negative": 0.1, "neutral": 0.0, "positive": 0.9},
        "sentiment": 0.8,
        "model_version": "constant",
    }


def test_a_bad_line_is_named_and_the_others_go_on() -> None:
    lines = ['{"text":"a"}', "nope", "", '{"title":5}', '{"text":"  "}', "[" * 5000, '{"text":"b"}']
    code, out, err = run("--jsonl", stdin="\n".join(lines))
    assert code == 1
    assert [json.loads(line)["line"] for line in out.splitlines()] == [1, 7]
    assert [line.split(":")[0] for line in err.splitlines()] == ["line 2", "line 4", "line 5", "line 6"]
    assert "not an object with a `text`" in err


def test_bytes_that_are_not_utf_8_cost_one_line() -> None:
    code, out, err = run("--jsonl", stdin=b'{"text":"\xff"}\n{"text":"fine"}\n')
    assert code == 1
    assert [json.loads(line)["line"] for line in out.splitlines()] == [2]
    assert err.startswith("line 1: not JSON")


def test_an_absurdly_long_text_is_refused_by_number() -> None:
    code, _, err = run("--jsonl", stdin=json.dumps({"text": "a" * 30_000}))
    assert code == 1
    assert err == "line 1: 30,000 characters are more than the 20,000 accepted\n"


def test_arguments_make_a_table_and_a_text_cannot_style_the_terminal() -> None:
    code, out, _ = run("[red]bold[/red]\x1b[31m\x07")
    assert code == 0
    assert "[red]bold[/red]" in out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert "+0.800" in out


def test_json_for_arguments_is_one_object_a_text() -> None:
    _, out, _ = run("--json", "a", "b")
    assert [json.loads(line)["label"] for line in out.splitlines()] == ["positive", "positive"]


@pytest.mark.parametrize("arguments", [(), ("--jsonl", "text")])
def test_texts_come_from_one_place(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"Give texts as arguments, or --jsonl"):
        run(*arguments)


def test_an_empty_argument_is_refused_by_number() -> None:
    with pytest.raises(UsageError, match=r"Text 2 is empty"):
        run("fine", " ")
