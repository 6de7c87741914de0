"""Reads the rules file that the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.core.rules import Rules, RulesError
from stream.core.rules_parse import parse_rules
from stream.core.toml_reading import Problem
from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings

MOST_BYTES = 1_048_576
"""Some 5,000 rules; what is larger is another file, named by mistake."""


def load_rules(settings: Settings) -> Rules:
    """The rules of the file that ``REVIEWPULSE_RULES`` names; without one, none beside the settings' own.

    Raises:
        UsageError: the file cannot be read, or is wrong; every mistake is named.
    """
    return Rules() if settings.rules is None else read_rules(settings.rules)


def read_rules(path: Path) -> Rules:
    """The rules of a file.

    Raises:
        RulesError: it is wrong; every mistake is named.
        UsageError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"There is no rules file {path}; name one that is there.") from None
    except OSError as error:
        raise UsageError(f"The rules file {path} cannot be read: {error.strerror}; name another.") from None
    if len(content) > MOST_BYTES:
        raise UsageError(
            f"The rules file {path} is larger than {MOST_BYTES:,} bytes; name another, or cut it."
        )
    try:
        text = content.decode("utf-8-sig")  # Windows' editors put a mark before the text
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = f"byte {content[error.start]:#04x} is not UTF-8"
        raise RulesError([Problem(str(path), line, "", wrong, "save the file as UTF-8")]) from None
    return parse_rules(text, str(path))
