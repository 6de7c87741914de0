"""More training texts: negations and mixed languages, made of the training texts and of constructions.

Rules:
- They are for the training split alone, and made of it alone. What is judged and calibrated on stays real.
- A text made of another keeps its group and the noise of its label.
- The same texts give the same ones.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from models.augment.constructions import LANGUAGES, read_grammar, sentences
from models.augment.negation import denied, framed, is_statement
from models.augment.switching import switched
from models.duplicates import fingerprint
from models.examples import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = Literal["negation", "switching"]
KINDS: tuple[Kind, ...] = get_args(Kind)

PER_CONSTRUCTION = 16
FRAMED = 700
"""Statements put into frames, of each language; half are turned round."""
SWITCHED = 500
"""Texts with words of the other language, of each language."""
JOINED = 300
"""Pairs of sentences of two languages, in each order."""

SURE = 0.8
"""Least probability of a text's label from which others are made of it."""
SURENESS = 0.95
"""Of a label that was turned round, or follows from a construction."""
UNSURE = round(1 - SURENESS, 4)
SHORT_CHARS = {"en": 120, "zh": 40}
"""Of texts that are joined or switched."""

SOURCES: dict[str, str] = {
    "negation": "Negations made of the sentences above and of constructions (models/augment)",
    "switching": "Texts of the sets above with words or sentences of the other language (models/augment)",
}


def augmented(
    examples: Sequence[Example],
    held_out: Sequence[Example] = (),
    *,
    kinds: Sequence[Kind] = KINDS,
    seed: int = 0,
) -> list[Example]:
    """Texts made of training examples; none repeats another, or one of ``examples`` or of ``held_out``."""
    rng = Random(seed)
    sure = [each for each in examples if max(each.target[0], each.target[-1]) >= SURE]
    ways = {"negation": _negations, "switching": _switched}
    made = [each for kind in KINDS if kind in kinds for each in ways[kind](sure, rng)]
    known = {fingerprint(each.text) for each in (*examples, *held_out)}
    kept = []
    for each in made:
        key = fingerprint(each.text)
        if key not in known:
            known.add(key)
            kept.append(each)
    return kept


def _negations(examples: Sequence[Example], rng: Random) -> Iterator[Example]:
    for language in LANGUAGES:
        own = [each for each in examples if each.language == language]
        if not own:
            continue
        grammar = read_grammar(language)
        for text, praise in sentences(grammar, PER_CONSTRUCTION, rng):
            sides = (UNSURE, SURENESS) if praise else (SURENESS, UNSURE)
            target = (sides[0], *(0.0 for _ in own[0].target[1:-1]), sides[1])
            yield Example(text=text, target=target, source="negation", language=language)
        statements = [each for each in own if is_statement(each.text, language)]
        rng.shuffle(statements)
        for at, each in enumerate(statements[:FRAMED]):
            turned = at % 2 == 0
            yield _made(each, framed(each.text, grammar, rng, turned=turned), "negation", turned=turned)
        for each in own if language == "en" else ():
            rewritten = denied(each.text)
            if rewritten:
                yield _made(each, rewritten, "negation", turned=True)


def _switched(examples: Sequence[Example], rng: Random) -> Iterator[Example]:
    short = {
        language: [
            each for each in examples if each.language == language and len(each.text) <= SHORT_CHARS[language]
        ]
        for language in LANGUAGES
    }
    for language, own in short.items():
        rng.shuffle(own)
        found = ((each, switched(each.text, language, rng)) for each in own)
        switchable = ((each, text) for each, text in found if text)
        for (each, text), _ in zip(switchable, range(SWITCHED), strict=False):
            yield _made(each, text, "switching", turned=False)
    for first, second in (LANGUAGES, LANGUAGES[::-1]):
        for label in (0, -1):
            sides = [[each for each in short[side] if each.target[label] >= SURE] for side in (first, second)]
            if all(sides):
                for _ in range(JOINED // 2):
                    before, after = (rng.choice(side) for side in sides)
                    noise = before.noise + after.noise - before.noise * after.noise
                    joined = f"{before.text} {after.text}"
                    yield _made(
                        msgspec.structs.replace(before, noise=noise), joined, "switching", turned=False
                    )


def _made(of: Example, text: str, source: str, *, turned: bool) -> Example:
    target = of.target
    if turned:
        pairs = zip(target, reversed(target), strict=True)
        target = tuple(round(UNSURE * before + SURENESS * after, 4) for before, after in pairs)
    return msgspec.structs.replace(of, text=text, target=target, source=source)
