"""From a language's TOML file to cases: texts, and what must hold between their scores.

A file has ``language``, ``[gates]`` (least pass rate of each kind), ``[lexicon]`` (words for the slots) and
``[[test]]`` tables. ``{good}`` in a template is any word of ``good``; ``{Good}`` the same, capitalised.
A test has ``kind``, ``name``, ``templates``, and one of

    expect = "negative" | "positive"     minimum functionality: the label that must be said
    sequences = [[...], ...]             in place of templates: texts from worse to better
    change = "upper case" | ...          invariance: the label must stay the same after a change of the text,
    append, prepend = ["...", ...]       ... with any of these added,
    swap = { slot, plain }               ... with the slot's words in place of a plain one
    direction = "not higher"|"not lower" with append: where the score may not go

Rules:
- Cases are the same every time: combinations are drawn with a seed that is the test's own name.
- Templates share a test's cases evenly, however many words their slots have.
"""

from __future__ import annotations

import re
import tomllib
from itertools import product, zip_longest
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from stream.core.events import Label  # noqa: TC001  # msgspec reads the annotation
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent
CASES = 60
"""Of each test; a kind has one to six tests."""

SLOT = re.compile(r"\{(\w+)\}")

Change = Literal[
    "swapped letters", "lost letter", "mistyped word", "no punctuation", "upper case", "lower case"
]


class Swap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A slot whose words take the place of a plain one."""

    slot: str
    plain: str


class Test(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is tested; see the module."""

    kind: str
    name: str
    templates: tuple[str, ...] = ()
    sequences: tuple[tuple[str, ...], ...] = ()
    expect: Label | None = None
    change: Change | None = None
    append: tuple[str, ...] = ()
    prepend: tuple[str, ...] = ()
    swap: Swap | None = None
    direction: Literal["not higher", "not lower"] | None = None
    cases: int = CASES
    """How many; a test that stands for rarer language has fewer."""


class Suite(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tests of one language."""

    language: str
    gates: dict[str, float]
    """Least pass rate of each kind."""
    lexicon: dict[str, tuple[str, ...]]
    test: tuple[Test, ...]
    typos: dict[str, str] = msgspec.field(default_factory=dict)
    """Words as they are mistyped."""


class Case(NamedTuple):
    """Texts, and what must hold of them.

    - ``label``: the one text has the label ``expect``.
    - ``rising``: no text scores lower than the one before.
    - ``same``: both have the same label.
    - ``not higher``, ``not lower``: the second's score beside the first's.
    """

    texts: tuple[str, ...]
    must: Literal["label", "rising", "same", "not higher", "not lower"]
    expect: Label | None = None


def languages() -> list[str]:
    """Languages that there is a suite of."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read_suite(language: str, folder: Path = FOLDER) -> Suite:
    """The suite of a language.

    Raises:
        UsageError: there is none, or its file is wrong.
    """
    file = folder / f"{language}.toml"
    try:
        suite = msgspec.convert(tomllib.loads(file.read_text("utf-8")), Suite)
    except FileNotFoundError:
        raise UsageError(
            f"There is no behavioural suite of {language!r}; there are {', '.join(languages())}."
        ) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise UsageError(f"{file}: {error}.") from None
    for test in suite.test:
        if test.kind not in suite.gates:
            raise UsageError(f"{file}: the kind {test.kind!r} has no gate.")
        in_sequences = (text for each in test.sequences for text in each)
        for template in (*test.templates, *in_sequences, *test.append, *test.prepend):
            _check_slots(template, suite, file)
    return suite


def _check_slots(template: str, suite: Suite, file: Path) -> None:
    for slot in SLOT.findall(template):
        if slot not in suite.lexicon and slot.lower() not in suite.lexicon:
            raise UsageError(f"{file}: the lexicon has no {slot!r}, which {template!r} asks for.")


def cases(suite: Suite, test: Test) -> list[Case]:
    """Cases of one of a suite's tests, the same every time; fewer than it asks for where words are few."""
    sources = test.sequences or tuple((template,) for template in test.templates)
    made = [_filled(suite, test, each) for each in sources]
    dealt = (case for row in zip_longest(*made) for case in row if case)
    return list(dict.fromkeys(dealt))[: test.cases]


def _filled(suite: Suite, test: Test, texts: tuple[str, ...]) -> Iterator[Case]:
    """Cases of one template or sequence: every combination of its words and additions, shuffled."""
    additions = test.append or test.prepend or ("",)
    slots = list(dict.fromkeys(slot for text in (*texts, *additions) for slot in SLOT.findall(text)))
    words = [suite.lexicon.get(slot) or tuple(map(_capital, suite.lexicon[slot.lower()])) for slot in slots]
    combinations = list(product(additions, *words))
    Random(f"{suite.language}/{test.name}/{texts[0]}").shuffle(combinations)
    for addition, *chosen in combinations:
        values = dict(zip(slots, chosen, strict=True))
        case = _case(suite, test, [_fill(text, values) for text in texts], _fill(addition, values))
        if test.swap:
            plain = _fill(texts[0], values | {test.swap.slot: test.swap.plain})
            case = case._replace(texts=(plain, *case.texts))
        if len(set(case.texts)) == len(case.texts):  # a change that changes nothing tests nothing
            yield case


def _case(suite: Suite, test: Test, texts: list[str], addition: str) -> Case:
    text = texts[0]
    if test.sequences:
        return Case(tuple(texts), "rising")
    if test.expect:
        return Case((text,), "label", test.expect)
    if test.swap:
        return Case((text,), "same")
    if test.change:
        return Case((text, changed(text, test.change, suite.typos)), "same")
    return Case((text, addition + text if test.prepend else text + addition), test.direction or "same")


def _fill(template: str, values: dict[str, str]) -> str:
    return SLOT.sub(lambda match: values[match.group(1)], template)


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


PUNCTUATION = re.compile(r"\s*[,.!?;:\u3001\u3002\uff01\uff0c\uff1a\uff1b\uff1f]\s*")
LONG_WORD = re.compile(r"[A-Za-z]{5,}")


def changed(text: str, change: Change, typos: dict[str, str] | None = None) -> str:
    """A text after a change that a reader would not mind; the same text gives the same.

    >>> changed("Great, it works.", "no punctuation"), changed("It works", "upper case")
    ('Great it works', 'IT WORKS')
    """
    if change == "upper case":
        return text.upper()
    if change == "lower case":
        return text.lower()
    if change == "no punctuation":
        return PUNCTUATION.sub(" ", text).strip()
    if change == "mistyped word":
        return _mistyped(text, typos or {})
    return _slip(text, lost=change == "lost letter")


def _mistyped(text: str, typos: dict[str, str]) -> str:
    found = [word for word in typos if word in text]
    if not found:
        return text
    word = Random(text).choice(found)
    return text.replace(word, typos[word], 1)


def _slip(text: str, *, lost: bool) -> str:
    """One long word without one of its inner letters, or with two of them swapped."""
    rng = Random(text)
    words = list(LONG_WORD.finditer(text))
    if not words:
        return text
    word = rng.choice(words)
    at = word.start() + rng.randint(1, len(word.group()) - 3)  # neither the first letter nor the last
    return text[:at] + text[at + 1 :] if lost else text[:at] + text[at + 1] + text[at] + text[at + 2 :]
