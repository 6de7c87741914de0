"""Recipes: a TOML file with a table for each command, which reproduces a run.

    [prepare]
    files = ["reviews.csv"]
    text = "text"
    label = "label"

    [train]
    base = "bert-base-uncased"
    batch_size = 32

Rules:
- A table's keys are its command's options, with underscores; the options of a command are one frozen struct.
- What is given on the command line wins over the file; what is in neither has the struct's default.
- A key that is no option is refused, and so is a file without the command's table: a misspelled one would
  silently train something else.
- Relative paths are relative to the folder the command runs in, as on the command line.
"""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

Options = TypeVar("Options", bound=msgspec.Struct)


def options(kind: type[Options], recipe: Path | None, table: str, **given: Any) -> Options:
    """Options of one command: the recipe's table, overridden by what is given.

    Args:
        kind: the command's options, a struct with defaults.
        recipe: TOML file, or None.
        table: name of the command's table in it.
        given: from the command line; None stands for not given.

    Raises:
        UsageError: the file cannot be read, or has what is no option of the command or is no value of it.
    """
    stated = _table(recipe, table) if recipe else {}
    known = {field.name for field in msgspec.structs.fields(kind)}
    for key in stated:
        if key not in known:
            raise UsageError(
                f"{recipe}, table [{table}]: no option {key!r}; there are {', '.join(sorted(known))}."
            )
    stated |= {key: value for key, value in given.items() if value is not None}
    try:
        return msgspec.convert(stated, kind)
    except msgspec.ValidationError as error:
        where = f"{recipe}, table [{table}]" if recipe else f"The options of {table}"
        raise UsageError(f"{where}: {_named(str(error))}.") from None


PLACE = re.compile(r"(.*) - at `\$\.(\w+).*`")


def _named(said: str) -> str:
    """What msgspec says of a value, with the option's name before it.

    >>> _named("Expected `int` >= 1 - at `$.batch_size`")
    'batch_size: expected `int` >= 1'
    """
    found = PLACE.fullmatch(said)
    return f"{found[2]}: {found[1][:1].lower()}{found[1][1:]}" if found else said


def _table(recipe: Path, table: str) -> dict[str, Any]:
    try:
        stated = tomllib.loads(recipe.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"There is no recipe {recipe}.") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The recipe {recipe} cannot be read: {error}.") from None
    if table not in stated:
        tables = ", ".join(f"[{name}]" for name in stated) or "none"
        raise UsageError(f"{recipe} has no table [{table}]; there are {tables}.")
    found = stated[table]
    if not isinstance(found, dict):
        raise UsageError(f"{recipe}: {table!r} is a value; wanted a table [{table}].")
    return found
