"""Sentences with and without a negation, made from others: what they say turns round with it.

Rules:
- Only short, single statements are rewritten: what a "not" does to a longer one is hard to tell.
- What is made is less sure than what it is made from: "not excellent" need not be bad.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from models.augment.constructions import Grammar

WORDS, CHARS = 16, 20
"""Of the longest statement that is rewritten: English words, Chinese characters."""

DENIAL = re.compile(
    r"\b(?:not|never|no|none|nobody|nothing|neither|nor|without|cannot|hardly|barely|few|little|only|just)\b"
    r"|n't\b|n[\u2019]t\b",
    re.IGNORECASE,
)
DENIAL_ZH = re.compile(r"[\u4e0d\u6ca1\u65e0\u975e\u672a\u522b\u52ff\u5426]")
CONTRAST = re.compile(
    r"\b(?:but|although|though|however|if|when|because|while|which|so|except|unless|too|besides|yet)\b|[?:;(]",
    re.IGNORECASE,
)
CONTRAST_ZH = re.compile(
    r"[\uff0c\u3002\uff01\uff1f\uff1b\uff1a\uff08,.!?;:(0-9]|\u4f46|\u8fc7|\u867d|\u5982\u679c|\u592a"
)

VERB = re.compile(r"\b(is|are|was|were|does|do|did|has|have|can|will|would|could)\b", re.IGNORECASE)
DENIED_VERB = re.compile(
    r"\b(is|are|was|were|does|do|did|has|have|ca|wo|would|could)(?: not\b|n[\u2019']t\b)", re.IGNORECASE
)
WHOLE_VERB = {"ca": "can", "wo": "will"}
STATEMENT = re.compile(r"(?:the|this|it|they|these|i|my|we|its|their|his|her) \w", re.IGNORECASE)


def is_statement(text: str, language: str) -> bool:
    """Whether a text can stand after "I think that", as far as its words tell.

    >>> is_statement("the screen is great.", "en"), is_statement("Great!", "en")
    (True, False)
    """
    if language == "zh":
        return 4 <= len(text) <= CHARS and not CONTRAST_ZH.search(text[:-1]) and not DENIAL_ZH.search(text)
    plain = len(text.split()) <= WORDS and STATEMENT.match(text)
    return bool(plain) and not CONTRAST.search(text) and not DENIAL.search(text)


def framed(text: str, grammar: Grammar, rng: Random, *, turned: bool) -> str:
    """A statement inside one of a grammar's frames."""
    frame = rng.choice(grammar.frames.turns if turned else grammar.frames.keeps)
    inner = text if text.startswith(("I ", "I'")) or grammar.language == "zh" else text[:1].lower() + text[1:]
    return frame.replace("{sentence}", inner)


def denied(text: str) -> str | None:
    """A short English statement with a "not" behind its verb, or without its own; None where neither can be.

    >>> denied("the screen is great."), denied("It doesn't work well.")
    ('the screen is not great.', 'It does work well.')
    """
    if len(text.split()) > WORDS or CONTRAST.search(text):
        return None
    denials, verbs = DENIAL.findall(text), list(VERB.finditer(text))
    if not denials and len(verbs) == 1 and verbs[0].start() > 0:
        if verbs[0][0].lower() in ("do", "did", "does", "has", "have"):  # mostly full verbs, unless denied
            return None
        return f"{text[: verbs[0].end()]} not{text[verbs[0].end() :]}"
    if len(denials) == 1:
        found = DENIED_VERB.search(text)
        if found:
            verb = WHOLE_VERB.get(found[1].lower(), found[1])
            return f"{text[: found.start()]}{verb}{text[found.end() :]}"
    return None
