"""From a language's TOML file to sentences that deny something, with what they say in the end.

A file has ``language`` and

    [words]           words of a slot; ``{good2}`` is another draw from ``good``
    [polar.SLOT]      ``praise`` and ``complaint``: words of a slot that say one or the other
    [constructions]   ``keeps``: the sentence says what its polar words say, whatever it denies ("nobody
                      regretted it" does not, "there is nobody who did not like it" does)
                      ``turns``: it says the opposite
                      ``praise``, ``complaint``: it has no polar word and says this
    [frames]          ``keeps`` and ``turns`` around a ``{sentence}`` of others

Rules:
- A sentence's polar words all say the same.
- Each construction gives as many sentences as another, half of them of either kind.
- None is a template of the behavioural suite, which would then test what was learned by heart
  (``tests/unit/test_augment.py``).
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

FOLDER = Path(__file__).parent
LANGUAGES = ("en", "zh")

SLOT = re.compile(r"\{(\w+?)(\d?)\}")


class Polar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Words of a slot, by what they say."""

    praise: tuple[str, ...]
    complaint: tuple[str, ...]


class Constructions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Templates, by what becomes of their polar words."""

    keeps: tuple[str, ...]
    turns: tuple[str, ...]
    praise: tuple[str, ...] = ()
    complaint: tuple[str, ...] = ()


class Grammar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language's file; see the module."""

    language: str
    words: dict[str, tuple[str, ...]]
    polar: dict[str, Polar]
    constructions: Constructions
    frames: Constructions


class Said(NamedTuple):
    """A sentence, and whether it praises."""

    text: str
    praise: bool


def read_grammar(language: str) -> Grammar:
    """The file of a language."""
    text = (FOLDER / f"{language}.toml").read_text("utf-8")
    return msgspec.convert(tomllib.loads(text), Grammar)


def sentences(grammar: Grammar, per_construction: int, rng: Random) -> Iterator[Said]:
    """Sentences of every construction, that many of each; few-worded ones repeat."""
    made = grammar.constructions
    for at in range(per_construction):
        praise = at % 2 == 0
        for template in made.keeps:
            yield Said(_filled(template, grammar, rng, praise=praise), praise)
        for template in made.turns:
            yield Said(_filled(template, grammar, rng, praise=praise), not praise)
        for template in (made.praise, made.complaint)[at % 2]:
            yield Said(_filled(template, grammar, rng, praise=praise), praise)


def _filled(template: str, grammar: Grammar, rng: Random, *, praise: bool) -> str:
    chosen: dict[str, list[str]] = {}

    def word(match: re.Match[str]) -> str:
        slot = match[1]
        polar = grammar.polar.get(slot)
        words = grammar.words[slot] if polar is None else polar.praise if praise else polar.complaint
        used = chosen.setdefault(slot, [])
        used.append(rng.choice([each for each in words if each not in used]))
        return used[-1]

    return SLOT.sub(word, template)
