"""From a rules file's text to its rules, or to everything that is wrong with it.

Rules:
- A wrong file is refused whole, and every mistake is named at once: line, key, what is wrong, what to write.
  Only where the text is no TOML is the first mistake the only one: beyond it, nothing is sure.
- An unknown key is a mistake. A misspelled one would silently alert somebody else about something else.
- What a value may be is said by the structs of ``stream.core.rules`` alone.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec.inspect import Metadata, StructType, UnionType, type_info

from stream.core.rules import (
    BUILTIN_NAMES,
    VERSION,
    Knobs,
    Override,
    Problem,
    Rules,
    RulesError,
    RulesFile,
    ThresholdRule,
    duration_ms,
)
from stream.core.toml_lines import Path, line_at, lines_of, statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = TypeVar("Kind", bound=msgspec.Struct)
TableKind = TypeVar("TableKind", ThresholdRule, Override)

DURATIONS = {"window": ("1m", "7d"), "for": ("0s", "24h"), "keep_firing_for": ("0s", "7d")}
"""Shortest and longest: counters go back 7 days, too."""

SYNTAX_REMEDIES = {
    "Cannot overwrite": "a key stands once in its table, and a table [like this] once: remove one",
    "Cannot declare": "write a table [like this] once; only [[threshold]] and [[override]] repeat",
    "Invalid value": 'put text between double quotes, as in window = "1h"; true, false and numbers have none',
    "Unterminated string": "end the text with a double quote",
    "Illegal character": 'end the text with its quote on the same line, as in window = "1h"',
    'Expected "\'"': "end the text with a single quote, on the same line",
    "Unclosed array": "end it with ]",
    "Expected ']": "end the table's name with ] or, where it began with [[, with ]]",
    "Expected '=' after": "write key = value",
    "Invalid initial character": "write key = value, the key of a-z and _",
    "Invalid statement": "write key = value, or a table's name between brackets, or # and a comment",
    "Expected newline": "write one key = value a line, text between double quotes, a share as 0.4, not 40%",
    "Unescaped": "write \\\\ for a backslash",
}
"""What to do about what the TOML parser says, by how that begins."""

WORDY_DURATION = re.compile(
    r"\s*(\d{1,6})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?)\s*", re.IGNORECASE | re.ASCII
)


def parse_rules(text: str, where: str) -> Rules:
    """The rules of a file.

    Args:
        text: what stands in it.
        where: its name, for what is said of it.

    Raises:
        RulesError: it is wrong; every mistake is named.

    >>> parse_rules("version = 1", "rules.toml").thresholds
    ()
    """
    try:
        stated = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulesError([_no_toml(text, where, error)]) from None
    reading = _Reading(where, lines_of(text))
    rules = reading.file(stated)
    if rules is None:
        raise RulesError(sorted(reading.problems, key=lambda problem: problem.line))
    return rules


def _no_toml(text: str, where: str, error: tomllib.TOMLDecodeError) -> Problem:
    said, _, place = str(error).removesuffix(")").rpartition(" (at ")
    found = re.match(r"line (\d+)", place)
    if found is None and said.startswith("Invalid value"):
        remedy = "write a value, and end with ] what began with ["
    else:
        remedy = next(
            (remedy for beginning, remedy in SYNTAX_REMEDIES.items() if said.startswith(beginning)),
            "see https://toml.io for how TOML is written",
        )
    # "at end of document": the statement that never ends, or the last one, tells more.
    line = int(found[1]) if found else list(statements(text.rstrip()))[-1][0]
    return Problem(where, line, "", f"this is no TOML: {said[:1].lower()}{said[1:]}", remedy)


class _Table(NamedTuple):
    """One table of the file and what is right in it."""

    path: Path
    name: str
    """What complaints call it."""
    stated: Mapping[str, Any]
    right: dict[str, Any]
    """Of ``stated``, what its struct takes."""


class _Reading:
    """One reading of a file; gathers what is wrong with it."""

    def __init__(self, where: str, lines: dict[Path, int]) -> None:
        self.problems: list[Problem] = []
        self._where = where
        self._lines = lines

    def file(self, stated: dict[str, Any]) -> Rules | None:
        """The rules, or None where there are problems."""
        version = stated.get("version")
        if type(version) is int and version != VERSION:
            # Of another version nothing else can be said.
            wrong = f"this Reviewpulse reads version {VERSION}, not {version}"
            self._add(
                ("version",), "version", wrong, f"write version = {VERSION}, or use the Reviewpulse it is for"
            )
            return None
        self._version(stated)
        self._known(RulesFile, stated, (), "the file")
        knobs = [self._knobs(stated, name) for name in BUILTIN_NAMES]
        thresholds = self._tables(ThresholdRule, stated, "threshold")
        overrides = self._tables(Override, stated, "override")
        self._names(thresholds)
        for table in thresholds:
            self._durations(table)
            self._conditions(table)
        for table in overrides:
            self._purpose(table)
        if self.problems:
            return None
        spike, surge = (msgspec.convert(table.right, Knobs) for table in knobs)
        return Rules(
            spike=spike,
            surge=surge,
            thresholds=tuple(msgspec.convert(table.right, ThresholdRule) for table in thresholds),
            overrides=tuple(msgspec.convert(table.right, Override) for table in overrides),
            where=self._where,
            lines=self._lines,
        )

    def _add(self, path: Path, key: str, wrong: str, remedy: str) -> None:
        self.problems.append(Problem(self._where, line_at(self._lines, path), key, wrong, remedy))

    def _version(self, stated: Mapping[str, Any]) -> None:
        remedy = f"write version = {VERSION} at the top"
        if "version" not in stated:
            self._add((), "version", "it is missing", remedy)
        elif type(stated["version"]) is not int:
            self._add(("version",), "version", f"{_shown(stated['version'])} is not a version", remedy)

    def _known(self, kind: type[msgspec.Struct], stated: Mapping[str, Any], path: Path, table: str) -> None:
        """Names the keys that ``kind`` does not have."""
        known = [field.encode_name for field in msgspec.structs.fields(kind)]
        for key in stated:
            if key not in known:
                named = key if re.fullmatch(r"[\w-]{1,60}", key, re.ASCII) else _shown(key)
                self._add(
                    (*path, key), f"{named} in {table}", "there is no such key", _meant(key, known, kind)
                )

    def _knobs(self, stated: Mapping[str, Any], name: str) -> _Table:
        table = stated.get(name, {})
        if isinstance(table, dict):
            return self._read(Knobs, table, (name,), f"[{name}]")
        wrong = "it stands once" if isinstance(table, list) else f"{_shown(table)} is not a table"
        self._add((name,), f"[{name}]", wrong, f"write [{name}] between single brackets, its keys below")
        return _Table((name,), f"[{name}]", {}, {})

    def _tables(self, kind: type[TableKind], stated: Mapping[str, Any], name: str) -> list[_Table]:
        tables = stated.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            wrong = "it is a single table" if isinstance(tables, dict) else f"{_shown(tables)} is not a table"
            remedy = f"write [[{name}]] between double brackets, its keys below; any number of times"
            self._add((name,), f"[[{name}]]", wrong, remedy)
            return []
        return [
            self._read(kind, table, (name, place), _called(name, place, table))
            for place, table in enumerate(tables)
        ]

    def _read(self, kind: type[Kind], stated: dict[str, Any], path: Path, name: str) -> _Table:
        """Looks at each key by itself."""
        self._known(kind, stated, path, name)
        right = {}
        for field in msgspec.structs.fields(kind):
            key = field.encode_name
            if key in stated:
                try:
                    right[key] = msgspec.convert(stated[key], field.type)
                except msgspec.ValidationError:
                    wanted = WANTED[kind][key]
                    wrong = f"{_shown(stated[key])} is not {wanted.what}"
                    self._add(
                        (*path, key), f"{key} in {name}", wrong, _remedy(key, stated[key], field.type, wanted)
                    )
            elif field.required:
                wanted = WANTED[kind][key]
                self._add(path, f"{key} in {name}", "it is missing", f"write {key} = {wanted.example}")
        return _Table(path, name, stated, right)

    def _names(self, tables: list[_Table]) -> None:
        """Each rule's name is its own: alerts are told apart by it."""
        lines: dict[str, int] = {}
        for table in tables:
            name, path = table.right.get("name"), (*table.path, "name")
            if name in BUILTIN_NAMES.values():
                self._add(
                    path, f"name in {table.name}", "a built-in rule is called so", "choose another name"
                )
            elif name in lines:
                wrong = f"the rule on line {lines[name]} is called so, too"
                self._add(path, f"name in {table.name}", wrong, "give each rule a name of its own")
            elif name is not None:
                lines[name] = line_at(self._lines, path)

    def _durations(self, table: _Table) -> None:
        for key, (least, most) in DURATIONS.items():
            if key not in table.right:
                continue
            said, path, name = table.right[key], (*table.path, key), f"{key} in {table.name}"
            if duration_ms(said) < duration_ms(least):
                self._add(path, name, f"{said} is less than {least}", f'write {key} = "{least}", or more')
            elif duration_ms(said) > duration_ms(most):
                self._add(path, name, f"{said} is more than {most}", f'write {key} = "{most}", or less')

    def _conditions(self, table: _Table) -> None:
        """What fires a threshold rule, and what resolves it, go together."""
        if "share" not in table.stated and "negatives" not in table.stated:
            remedy = "write share = 0.4, or negatives = 20, or both"
            self._add(
                table.path, table.name, "it has neither share nor negatives, so nothing fires it", remedy
            )
        for key in ("share", "negatives"):
            ends = f"resolve_{key}"
            path, name = (*table.path, ends), f"{ends} in {table.name}"
            if ends in table.stated and key not in table.stated:
                self._add(path, name, f"the rule has no {key}", f"remove it, or write {key}")
            elif key in table.right and table.right.get(ends, 0) > table.right[key]:
                wrong = f"{table.right[ends]} is more than the {key} {table.right[key]} that fires it"
                self._add(path, name, wrong, f"write less than {table.right[key]}, so that it does not flap")

    def _purpose(self, table: _Table) -> None:
        """An override is about some products, and changes something."""
        if not any(key in table.stated for key in ("product", "pattern", "category", "channel")):
            remedy = (
                "write product, pattern, category or channel; what is for all stands in [spike] and [surge]"
            )
            self._add(table.path, table.name, "it does not say for which products", remedy)
        if not any(key in table.stated for key in ("enabled", "min_events", "min_negatives")):
            remedy = "write enabled = false, min_events or min_negatives"
            self._add(table.path, table.name, "it changes nothing", remedy)


class _Wanted(NamedTuple):
    """What a key takes."""

    what: str
    example: str
    """As TOML."""


def _wanted(kind: type[msgspec.Struct]) -> dict[str, _Wanted]:
    info = type_info(kind)
    assert isinstance(info, StructType)
    found = {}
    for field in info.fields:
        for meta in _metadata(field.type):
            if meta.extra is not None:
                found[field.encode_name] = _Wanted(meta.extra["wanted"], meta.extra["write"])
    return found


def _metadata(of: msgspec.inspect.Type) -> Iterator[Metadata]:
    if isinstance(of, Metadata):
        yield of
        yield from _metadata(of.type)
    elif isinstance(of, UnionType):
        for each in of.types:
            yield from _metadata(each)


KINDS: tuple[type[msgspec.Struct], ...] = (Knobs, ThresholdRule, Override)
TABLES = {Knobs: "[spike] and [surge]", ThresholdRule: "[[threshold]]", Override: "[[override]]"}
WANTED = {kind: _wanted(kind) for kind in KINDS}


def _called(table: str, place: int, stated: Mapping[str, Any]) -> str:
    """What a table of an array is called in complaints: by its name where it has one.

    >>> _called("threshold", 1, {"name": "many"}), _called("override", 1, {})
    ('[[threshold]] many', '[[override]] number 2')
    """
    name = stated.get("name")
    is_name = isinstance(name, str) and re.fullmatch(r"[\w-]{1,64}", name, re.ASCII)
    return f"[[{table}]] {name if is_name else f'number {place + 1}'}"


def _shown(value: Any) -> str:
    """A value as it stands in the file, cut to what is worth reading.

    >>> _shown("40%"), _shown(True), _shown([1]), _shown(0.5)
    ('"40%"', 'true', 'an array', '0.5')
    """
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _meant(key: str, known: list[str], kind: type[msgspec.Struct]) -> str:
    """What to do about a key that its table does not know."""
    near = difflib.get_close_matches(key.lower(), known, 1, 0.6)
    elsewhere = [TABLES[each] for each in KINDS if each is not kind and key in WANTED[each]]
    if elsewhere and not difflib.get_close_matches(key, near, 1, 0.75):
        return f"it belongs in {' or '.join(elsewhere)}"
    return f"write {near[0]}, if that is meant" if near else f"there are {', '.join(known)}"


def _remedy(key: str, value: Any, kind: Any, wanted: _Wanted) -> str:
    """What to write instead of a value that a key does not take."""
    if isinstance(value, str) and (bare := _unquoted(value)) is not None and _fits(bare, kind):
        return f"write {key} = {_shown(bare)}, without quotes"
    if key.endswith("share"):
        number = value if type(value) in (int, float) else _percent(value)
        if number is not None and 1 < number <= 100:
            return f"write {key} = {number / 100:g} for {number:g}%"
    if isinstance(value, float) and value.is_integer() and _fits(int(value), kind):
        return f"write {key} = {int(value)}, without a point"
    if key in DURATIONS and isinstance(value, str) and (found := WORDY_DURATION.fullmatch(value)):
        return f'write {key} = "{found[1]}{found[2][0].lower()}"'
    return f"write {key} = {wanted.example}" + ("" if " or " in wanted.example else ", for example")


def _unquoted(text: str) -> Any:
    """The value that a text would be without its quotes, if any."""
    if "\n" in text:
        return None
    try:
        return tomllib.loads(f"bare = {text}")["bare"]
    except tomllib.TOMLDecodeError:
        return None


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _percent(value: Any) -> float | None:
    """The number of a text such as ``40%``."""
    found = (
        re.fullmatch(r"\s*(\d{1,3}(?:\.\d{1,9})?)\s*%\s*", value, re.ASCII)
        if isinstance(value, str)
        else None
    )
    return float(found[1]) if found else None
