"""Where the keys of a TOML text stand."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import toml_lines
from stream.core.toml_lines import line_at, lines_of


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", {}),
        ("# nothing\n\n", {}),
        ("a = 1\n# why\n\nb = 2", {("a",): 1, ("b",): 4}),
        ("[x]\r\na = 1\r\n", {("x",): 1, ("x", "a"): 2}),
        ('a = [\n  1,\n]\nb = "[x]"', {("a",): 1, ("a", 0): 1, ("b",): 4}),
        ('a = """\n[[x]]\nb = 1\n"""\nb = 1', {("a",): 1, ("b",): 5}),
        ("  [ x . 'y z' ] # [w]\na = 1", {("x",): 1, ("x", "y z"): 1, ("x", "y z", "a"): 2}),
        ("a.b = 1\na.c = 2", {("a",): 1, ("a", "b"): 1, ("a", "c"): 2}),
        ("a = {b = 1}", {("a",): 1, ("a", "b"): 1}),
        (
            "[[t]]\na = 1\n[[t]]\n[t.u]\na = 1",
            {
                ("t",): 1,
                ("t", 0): 1,
                ("t", 0, "a"): 2,
                ("t", 1): 3,
                ("t", 1, "u"): 4,
                ("t", 1, "u", "a"): 5,
            },
        ),
        (
            "[[t]]\n[[t.u]]\n[[t.u]]\na = 1\n[[t]]\n[[t.u]]",
            {
                ("t",): 1,
                ("t", 0): 1,
                ("t", 0, "u"): 2,
                ("t", 0, "u", 0): 2,
                ("t", 0, "u", 1): 3,
                ("t", 0, "u", 1, "a"): 4,
                ("t", 1): 5,
                ("t", 1, "u"): 6,
                ("t", 1, "u", 0): 6,
            },
        ),
    ],
)
def test_every_key_has_the_line_of_its_statement(text: str, lines: dict[Any, int]) -> None:
    assert lines_of(text) == lines


def test_a_text_that_breaks_has_lines_up_to_there() -> None:
    assert lines_of("a = 1\nb = \nc = 2") == {("a",): 1}


def test_what_is_missing_is_looked_for_where_it_would_stand() -> None:
    lines = lines_of("version = 1\n[[t]]\na = 1")
    assert line_at(lines, ("t", 0, "name")) == 2
    assert line_at(lines, ("nothing", 3)) == 1


values = st.sampled_from(["1", '"x"', "[\n1,\n2]", "'''\n[a]\nb = 1\n'''", "{c = [{d = 1}]}", '"""a\n\n"""'])
noise = st.sampled_from(["", "# [x]", "   ", "# a = 1"])


@given(st.data())
def test_a_key_stands_on_the_line_it_was_written_on(data: st.DataObject) -> None:
    written: dict[tuple[str | int, ...], int] = {}
    text = ""
    path: tuple[str | int, ...] = ()
    tables = 0
    for number in range(data.draw(st.integers(1, 8))):
        text += "".join(f"{line}\n" for line in data.draw(st.lists(noise, max_size=2)))
        if data.draw(st.booleans()):
            path, tables = ("t", tables), tables + 1
            written[path] = text.count("\n") + 1
            text += "[[t]]\n"
        written[*path, f"k{number}"] = text.count("\n") + 1
        text += f"k{number} = {data.draw(values)}  # end\n"
    tomllib.loads(text)
    found = lines_of(text)
    assert {path: found[path] for path in written} == written


def test_a_list_of_thousands_of_lines_is_parsed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = 0
    loads = tomllib.loads

    def counted(text: str) -> dict[str, Any]:
        nonlocal tries
        tries += 1
        return loads(text)

    monkeypatch.setattr(toml_lines.tomllib, "loads", counted)
    text = "product = [\n" + '  "B00004TZTZ",\n' * 5_000 + "]\nname = 1\n"
    assert [line for line, _ in toml_lines.statements(text)] == [1, 5_003, 5_004]
    assert tries == 4
