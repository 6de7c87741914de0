"""From a rules file's text to its rules, or to everything that is wrong with it.

Rules:
- A wrong file is refused whole, and every mistake is named at once: line, key, what is wrong, what to write.
  Only where the text is no TOML is the first mistake the only one: beyond it, nothing is sure.
- An unknown key is a mistake. A misspelled one would silently alert somebody else about something else.
- What a value may be is said by the structs of ``stream.core.rules`` alone.
"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.rules import (
    BUILTIN_NAMES,
    VERSION,
    Knobs,
    Override,
    Rules,
    RulesError,
    RulesFile,
    ThresholdRule,
    duration_ms,
)
from stream.core.toml_lines import line_at, lines_of
from stream.core.toml_reading import Reading, Table, no_toml, shown, too_much

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.toml_lines import Path

TABLES: dict[type[msgspec.Struct], str] = {
    Knobs: "[spike] and [surge]",
    ThresholdRule: "[[threshold]]",
    Override: "[[override]]",
}

DURATIONS = {"window": ("1m", "7d"), "for": ("0s", "24h"), "keep_firing_for": ("0s", "7d")}
"""Shortest and longest: counters go back 7 days, too."""


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
        raise RulesError([no_toml(text, where, error)]) from None
    except (ValueError, RecursionError) as error:
        raise RulesError([too_much(where, error)]) from None
    reading = _Reading(where, lines_of(text))
    rules = reading.file(stated)
    if rules is None:
        raise RulesError(sorted(reading.problems, key=lambda problem: problem.line))
    return rules


class _Reading(Reading):
    """One reading of a rules file."""

    def __init__(self, where: str, lines: dict[Path, int]) -> None:
        super().__init__(where, lines, TABLES)

    def file(self, stated: dict[str, Any]) -> Rules | None:
        """The rules, or None where there are problems."""
        if not self.is_version(stated, VERSION):
            return None
        self.known(RulesFile, stated, (), "the file")
        knobs = [self._knobs(stated, name) for name in BUILTIN_NAMES]
        thresholds = self.tables(ThresholdRule, stated, "threshold")
        overrides = self.tables(Override, stated, "override")
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

    def _knobs(self, stated: Mapping[str, Any], name: str) -> Table:
        table = stated.get(name, {})
        if isinstance(table, dict):
            return self.read(Knobs, table, (name,), f"[{name}]")
        wrong = "it stands once" if isinstance(table, list) else f"{shown(table)} is not a table"
        self.add((name,), f"[{name}]", wrong, f"write [{name}] between single brackets, its keys below")
        return Table((name,), f"[{name}]", {}, {}, Knobs)

    def _names(self, tables: list[Table]) -> None:
        """Each rule's name is its own: alerts are told apart by it."""
        lines: dict[str, int] = {}
        for table in tables:
            name, path = table.right.get("name"), (*table.path, "name")
            if name in BUILTIN_NAMES.values():
                self.add(path, f"name in {table.name}", "a built-in rule is called so", "choose another name")
            elif name in lines:
                wrong = f"the rule on line {lines[name]} is called so, too"
                self.add(path, f"name in {table.name}", wrong, "give each rule a name of its own")
            elif name is not None:
                lines[name] = line_at(self._lines, path)

    def _durations(self, table: Table) -> None:
        for key, (least, most) in DURATIONS.items():
            if key not in table.right:
                continue
            said, path, name = table.right[key], (*table.path, key), f"{key} in {table.name}"
            if duration_ms(said) < duration_ms(least):
                self.add(path, name, f"{said} is less than {least}", f'write {key} = "{least}", or more')
            elif duration_ms(said) > duration_ms(most):
                self.add(path, name, f"{said} is more than {most}", f'write {key} = "{most}", or less')

    def _conditions(self, table: Table) -> None:
        """What fires a threshold rule, and what resolves it, go together."""
        if "share" not in table.stated and "negatives" not in table.stated:
            remedy = "write share = 0.4, or negatives = 20, or both"
            self.add(
                table.path, table.name, "it has neither share nor negatives, so nothing fires it", remedy
            )
        for key in ("share", "negatives"):
            ends = f"resolve_{key}"
            path, name = (*table.path, ends), f"{ends} in {table.name}"
            if ends in table.stated and key not in table.stated:
                self.add(path, name, f"the rule has no {key}", f"remove it, or write {key}")
            elif key in table.right and table.right.get(ends, 0) > table.right[key]:
                wrong = f"{table.right[ends]} is more than the {key} {table.right[key]} that fires it"
                self.add(path, name, wrong, f"write less than {table.right[key]}, so that it does not flap")

    def _purpose(self, table: Table) -> None:
        """An override is about some products, and changes something."""
        if not any(key in table.stated for key in ("product", "pattern", "category", "channel")):
            remedy = (
                "write product, pattern, category or channel; what is for all stands in [spike] and [surge]"
            )
            self.add(table.path, table.name, "it does not say for which products", remedy)
        if not any(key in table.stated for key in ("enabled", "min_events", "min_negatives")):
            remedy = "write enabled = false, min_events or min_negatives"
            self.add(table.path, table.name, "it changes nothing", remedy)
