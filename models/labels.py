"""From the labels and stars of teams' files to classes.

Rules:
- Names are compared without case and surrounding space; numbers by value, so "1", 1 and 1.0 are one label.
- A number means what the whole column makes it: 0 is negative beside 1, and neutral beside -1.
- What is not known is never guessed: it is an error that names the values, unless they are to be dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterable, Mapping

    from stream.core.events import Label

Class = Literal["negative", "neutral", "positive", "drop"]
"""A label, or that the row is to be left out."""

NAMES: dict[str, Class] = {
    **dict.fromkeys(
        ("negative", "neg", "bad", "unfavorable", "unfavourable", "false", "no", "-"), "negative"
    ),
    **dict.fromkeys(("neutral", "neu", "mixed", "none"), "neutral"),
    **dict.fromkeys(("positive", "pos", "good", "favorable", "favourable", "true", "yes", "+"), "positive"),
    **dict.fromkeys(("负面", "消极", "差评", "负"), "negative"),
    **dict.fromkeys(("中性", "中评", "中立"), "neutral"),
    **dict.fromkeys(("正面", "积极", "好评", "正"), "positive"),
}
"""Names that need no mapping."""

NUMBERS: tuple[dict[str, Class], ...] = (
    {"0": "negative", "1": "positive"},
    {"-1": "negative", "1": "positive"},
    {"-1": "negative", "0": "neutral", "1": "positive"},
    {"0": "negative", "1": "neutral", "2": "positive"},
)
"""Ways to count classes. The first that has all of a column's numbers holds for it, if the least of the way
is among them: 1 and 2 alone may be anything. 1 alone is positive (and the set lacks a class)."""

SHOWN = 12


def label_name(value: Any) -> str:
    """A label as it is compared; "" for none.

    >>> label_name(" Positive "), label_name(1.0), label_name("1.0"), label_name(True), label_name(None)
    ('positive', '1', '1', 'true', '')
    """
    if value is None or value != value:  # noqa: PLR0124  # NaN, which tables have for nothing
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    name = str(value).strip().casefold()
    try:
        number = float(name)
    except ValueError:
        return name
    return str(int(number)) if number.is_integer() else name


def classes_of(names: Iterable[str], stated: Mapping[str, Class]) -> dict[str, Class]:
    """Class of each label that is known, of a column's labels.

    Args:
        names: every row's label, as ``label_name`` gives it.
        stated: the mapping that the caller gives; it wins.

    >>> classes_of(["0", "1"], {}), classes_of(["-1", "0", "1"], {})["0"]
    ({'0': 'negative', '1': 'positive'}, 'neutral')
    """
    stated = {label_name(name): meaning for name, meaning in stated.items()}
    open_ = sorted(set(names) - set(stated) - {""})
    numbers = {name for name in open_ if name.lstrip("-").isdigit()}
    counted = next((way for way in NUMBERS if numbers <= set(way) and numbers & {next(iter(way))}), {})
    if numbers == {"1"}:
        counted = NUMBERS[0]
    known = {**NAMES, **counted, **stated}
    return {name: known[name] for name in sorted({*open_, *stated}) if name in known}


def refuse_unknown(names: Counter[str], where: str) -> None:
    """Says which labels have no class.

    Raises:
        UsageError: always; the message has each with its count, and the remedies.
    """
    shown = ", ".join(f"{name!r} ({count:,})" for name, count in names.most_common(SHOWN))
    more = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    if set(names) <= {"1", "2", "3", "4", "5"}:
        remedy = "If they are stars, name the column with --stars instead of --label; if not, say"
    else:
        remedy = "Leave those rows out with --unknown-labels drop, or say"
    first = names.most_common(1)[0][0]
    raise UsageError(
        f"{where}: no class is known for {'this label' if len(names) == 1 else 'these labels'} "
        f"(rows): {shown}{more}. {remedy} in a recipe what each means: [prepare.labels] "
        f'{_key(first)} = "negative", "neutral", "positive" or "drop".'
    )


def class_of_stars(stars: float, *, most_negative: float, least_positive: float) -> Label:
    """Class of a rating.

    >>> [class_of_stars(stars, most_negative=2, least_positive=4) for stars in (1, 3, 3.5, 4)]
    ['negative', 'neutral', 'neutral', 'positive']
    """
    if stars <= most_negative:
        return "negative"
    return "positive" if stars >= least_positive else "neutral"


def _key(name: str) -> str:
    return name if name.isascii() and name.isalnum() else f'"{name}"'
