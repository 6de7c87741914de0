"""Reads a TOML file into structs, or into everything that is wrong with it; for files that people write.

Rules:
- A wrong file is refused whole, and every mistake is named at once: line, key, what is wrong, what to write.
  Only where the text is no TOML is the first mistake the only one: beyond it, nothing is sure.
- An unknown key is a mistake: a misspelled one would silently do something else.
- What a value may be is said by the structs alone: a field's ``Meta`` has its bounds, and in ``extra`` what
  it is called (``wanted``) and an example of it (``write``).
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import msgspec
from msgspec.inspect import Metadata, StructType, UnionType, type_info

from stream.core.toml_lines import Path, line_at, statements

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Kind = TypeVar("Kind", bound=msgspec.Struct)

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


def meta(wanted: str, write: str, **bounds: Any) -> msgspec.Meta:
    """Bounds of a value, what it is called when it is not kept, and what could stand there, as TOML."""
    return msgspec.Meta(extra={"wanted": wanted, "write": write}, **bounds)


def says(description: str) -> msgspec.Meta:
    """What a key is for."""
    return msgspec.Meta(description=description)


class Problem(msgspec.Struct, frozen=True):
    """Something to be mended in the file."""

    where: str
    """The file."""
    line: int
    key: str
    """Key and table, or the table; empty where the text is no TOML."""
    wrong: str
    remedy: str

    def __str__(self) -> str:
        key = f"{self.key}: " if self.key else ""
        return f"{self.where}:{self.line}: {key}{self.wrong}; {self.remedy}."


def no_toml(text: str, where: str, error: tomllib.TOMLDecodeError) -> Problem:
    """What is wrong with a text that the TOML parser refuses, at ``error``."""
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


def too_much(where: str, error: ValueError | RecursionError) -> Problem:
    """What is wrong with a text that is TOML, and beyond what the parser can hold."""
    if isinstance(error, RecursionError):
        return Problem(where, 1, "", "its arrays are nested too deeply", "close what [ and { open")
    return Problem(where, 1, "", "a number in it has thousands of digits", "write a shorter one")


class Table(NamedTuple):
    """One table of the file and what is right in it."""

    path: Path
    name: str
    """What complaints call it."""
    stated: Mapping[str, Any]
    right: dict[str, Any]
    """Of ``stated``, what its struct takes."""
    kind: type[msgspec.Struct]


class Wanted(NamedTuple):
    """What a key takes."""

    what: str
    example: str
    """As TOML."""


def wanted_of(kind: type[msgspec.Struct]) -> dict[str, Wanted]:
    """What each key of a table takes."""
    info = type_info(kind)
    assert isinstance(info, StructType)
    found = {}
    for field in info.fields:
        for meta in _metadata(field.type):
            if meta.extra is not None:  # the outermost; below it are the parts of a union
                found[field.encode_name] = Wanted(meta.extra["wanted"], meta.extra["write"])
                break
    return found


def _metadata(of: msgspec.inspect.Type) -> Iterator[Metadata]:
    if isinstance(of, Metadata):
        yield of
        yield from _metadata(of.type)
    elif isinstance(of, UnionType):
        for each in of.types:
            yield from _metadata(each)


class Reading:
    """One reading of a file; gathers what is wrong with it.

    Args:
        where: the file's name.
        lines: from ``lines_of``.
        tables: each struct that a table of the file is read into, with what the table is called.
    """

    def __init__(
        self, where: str, lines: dict[Path, int], tables: Mapping[type[msgspec.Struct], str]
    ) -> None:
        self.problems: list[Problem] = []
        self._where = where
        self._lines = lines
        self._table_names = tables
        self._wanted = {kind: wanted_of(kind) for kind in tables}

    def add(self, path: Path, key: str, wrong: str, remedy: str) -> None:
        """Notes a mistake."""
        self.problems.append(Problem(self._where, line_at(self._lines, path), key, wrong, remedy))

    def is_version(self, stated: Mapping[str, Any], version: int) -> bool:
        """Whether the file is of this version, or says none; of another nothing else can be said."""
        stands = stated.get("version")
        if type(stands) is int and stands != version:
            wrong = f"this Reviewpulse reads version {version}, not {stands}"
            remedy = f"write version = {version}, or use the Reviewpulse it is for"
            self.add(("version",), "version", wrong, remedy)
            return False
        remedy = f"write version = {version} at the top"
        if "version" not in stated:
            self.add((), "version", "it is missing", remedy)
        elif type(stands) is not int:
            self.add(("version",), "version", f"{shown(stands)} is not a version", remedy)
        return True

    def known(self, kind: type[msgspec.Struct], stated: Mapping[str, Any], path: Path, table: str) -> None:
        """Names the keys that ``kind`` does not have."""
        known = [field.encode_name for field in msgspec.structs.fields(kind)]
        for key in stated:
            if key not in known:
                named = key if re.fullmatch(r"[\w-]{1,60}", key, re.ASCII) else shown(key)
                self.add(
                    (*path, key), f"{named} in {table}", "there is no such key", self._meant(key, known, kind)
                )

    def tables(self, kind: type[Kind], stated: Mapping[str, Any], name: str) -> list[Table]:
        """Each table of an array of tables."""
        tables = stated.get(name, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            wrong = "it is a single table" if isinstance(tables, dict) else f"{shown(tables)} is not a table"
            remedy = f"write [[{name}]] between double brackets, its keys below; any number of times"
            self.add((name,), f"[[{name}]]", wrong, remedy)
            return []
        return [
            self.read(kind, table, (name, place), called(name, place, table))
            for place, table in enumerate(tables)
        ]

    def read(self, kind: type[Kind], stated: dict[str, Any], path: Path, name: str) -> Table:
        """Looks at each key by itself."""
        self.known(kind, stated, path, name)
        right = {}
        for field in msgspec.structs.fields(kind):
            key = field.encode_name
            if key in stated:
                try:
                    right[key] = msgspec.convert(stated[key], field.type)
                except msgspec.ValidationError:
                    self._add_wrong((*path, key), name, stated[key], field.type, self._wanted[kind][key])
            elif field.required:
                wanted = self._wanted[kind][key]
                self.add(path, f"{key} in {name}", "it is missing", f"write {key} = {wanted.example}")
        return Table(path, name, stated, right, kind)

    def is_secret(self, path: Path) -> bool:
        """Whether a value may be a secret, so that it is not repeated. Here none is."""
        del path
        return False

    def _add_wrong(self, path: Path, table: str, value: Any, kind: Any, wanted: Wanted) -> None:
        key = str(path[-1])
        secret = self.is_secret(path)
        stands = "what stands there" if secret else _shown_whole(value)
        remedy = f"write {key} = {wanted.example}" if secret else _remedy(key, value, kind, wanted)
        self.add(path, f"{key} in {table}", f"{stands} is not {wanted.what}", remedy)

    def _meant(self, key: str, known: list[str], kind: type[msgspec.Struct]) -> str:
        """What to do about a key that its table does not know."""
        near = difflib.get_close_matches(key.lower(), known, 1, 0.6)
        elsewhere = [
            name for each, name in self._table_names.items() if each is not kind and key in self._wanted[each]
        ]
        if elsewhere and not difflib.get_close_matches(key, near, 1, 0.75):
            return f"it belongs in {' or '.join(dict.fromkeys(elsewhere))}"
        return f"write {near[0]}, if that is meant" if near else f"there are {', '.join(known)}"


def called(table: str, place: int, stated: Mapping[str, Any]) -> str:
    """What a table of an array is called in complaints: by its name where it has one.

    >>> called("threshold", 1, {"name": "many"}), called("override", 1, {})
    ('[[threshold]] many', '[[override]] number 2')
    """
    name = stated.get("name")
    is_name = isinstance(name, str) and re.fullmatch(r"[\w-]{1,64}", name, re.ASCII)
    return f"[[{table}]] {name if is_name else f'number {place + 1}'}"


def shown(value: Any) -> str:
    """A value as it stands in the file, cut to what is worth reading.

    >>> shown("40%"), shown(True), shown([1]), shown(0.5)
    ('"40%"', 'true', 'an array', '0.5')
    """
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    text = json.dumps(value) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _shown_whole(value: Any) -> str:
    """As ``shown``, but an array of texts with what is in it: one of them is wrong."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        text = json.dumps(value)
        return text if len(text) <= 60 else "an array"
    return shown(value)


def _remedy(key: str, value: Any, kind: Any, wanted: Wanted) -> str:
    """What to write instead of a value that a key does not take."""
    if isinstance(value, str) and (bare := _unquoted(value)) is not None and fits(bare, kind):
        return f"write {key} = {shown(bare)}, without quotes"
    if key.endswith("share"):
        number = value if type(value) in (int, float) else _percent(value)
        if number is not None and 1 < number <= 100:
            return f"write {key} = {number / 100:g} for {number:g}%"
    if isinstance(value, float) and value.is_integer() and fits(int(value), kind):
        return f"write {key} = {int(value)}, without a point"
    if (
        wanted.what.startswith("a duration")
        and isinstance(value, str)
        and (found := WORDY_DURATION.fullmatch(value))
    ):
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


def fits(value: Any, kind: Any) -> bool:
    """Whether a key of this type takes the value."""
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
