"""Rows of a table to drafts of examples: mapped, cleaned, without repetitions; what is left out is counted.

Rules:
- A text is what serving would score: title and text, joined and cleaned by ``scored_text``; no more is done
  to it. No stop words are removed: BERT reads sentences, and "not", "but" and "no" decide a review.
- Whatever is left out is counted under its reason, with the first rows of each.
- Of repetitions the first stays. A text that two labels claim goes, unless nearly all its copies agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from models.duplicates import fingerprint, first_alike
from models.labels import Class, class_of_stars, classes_of, label_name, refuse_unknown
from stream.core.events import Label, scored_text
from stream.errors import UsageError
from stream.replay import parse_rating, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from models.prepare import PrepareOptions
    from models.tables import Row

EXAMPLES_NAMED = 3
"""Rows shown of each reason."""

QUOTE_CHARS = 80

AGREEMENT = 0.9
"""Share of a text's copies that must have one label for it to be believed: of a thousand times "Good", a few
come with one star by mistake."""

REASONS = {
    "empty": "no text",
    "short": "shorter than least_chars",
    "long": "longer than most_chars",
    "unlabelled": "no label",
    "unknown": "a label without a class",
    "mapped": "left out by the mapping of labels",
    "neutral": "neutral, and the set has two classes",
    "conflict": "the same text with another label",
    "duplicate": "the same text again",
    "near_duplicate": "nearly the same text again",
    "timeless": "no time that can be read, and the split is by time",
    "leak": "nearly the text of an earlier split",
}
"""Why a row is left out, in the order it is looked at."""


class Draft(NamedTuple):
    """A row on its way to an example."""

    row: Row
    text: str
    label: Label
    stars: float | None
    unit: str
    moment: int | None


class Left(NamedTuple):
    """A row that was left out."""

    file: str
    line: int
    text: str


class Report:
    """What was left out, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.named: dict[str, list[Left]] = defaultdict(list)

    def leave_out(self, reason: str, row: Row, text: str) -> None:
        """Counts a row; the first of each reason are kept to be shown."""
        self.counts[reason] += 1
        if len(self.named[reason]) < EXAMPLES_NAMED:
            self.named[reason].append(Left(Path(row.file).name, row.line, text[:QUOTE_CHARS]))

    def as_json(self) -> dict[str, Any]:
        """Count and examples of each reason."""
        return {
            reason: {
                "count": self.counts[reason],
                "meaning": meaning,
                "examples": [left._asdict() for left in self.named[reason]],
            }
            for reason, meaning in REASONS.items()
            if self.counts[reason]
        }


def wanted_columns(options: PrepareOptions) -> dict[str, str]:
    """Each column's name, by its option.

    Raises:
        UsageError: a column that the options need has no name.
    """
    names = {
        option: getattr(options, option)
        for option in ("text", "title", "label", "stars", "group", "author", "time", "language", "category")
    }
    if not names["label"] and not names["stars"]:
        names["label"] = "label"
    if not names["text"]:
        raise UsageError("Name the column of the texts with --text.")
    if options.split in {"group", "author", "time"} and not names[options.split]:
        raise UsageError(f"To split by {options.split}, name its column with --{options.split}.")
    return {option: name for option, name in names.items() if name}


def drafts_of(
    rows: Sequence[Row], labels: Sequence[Label], options: PrepareOptions, report: Report
) -> Iterator[Draft]:
    """Rows that have a text and a label of the set.

    Raises:
        UsageError: a label has no class.
    """
    columns = wanted_columns(options)
    classes = _classes(rows, columns, options)
    by = unit_column(options)
    for row in rows:
        title, raw = (as_text(row.values.get(name)) for name in (options.title, options.text))
        text = scored_text(title, raw)
        stars = _stars(row.values.get(options.stars)) if options.stars else None
        moment = _moment(row.values.get(options.time)) if options.time else None
        found = _class_of(row, stars, columns, classes, options)
        label = next((each for each in labels if each == found), None)
        reason = _unfit(text, options)
        if reason is None and label is None:
            reason = {"drop": "mapped"}.get(found, found)
        if reason is None and options.split == "time" and moment is None:
            reason = "timeless"
        if reason is None and label is not None:
            unit = as_text(row.values.get(by)).strip() if by else ""
            yield Draft(row, text, label, stars, unit, moment)
        else:
            report.leave_out(reason or "unlabelled", row, text)


def _classes(rows: Sequence[Row], columns: Mapping[str, str], options: PrepareOptions) -> dict[str, Class]:
    """Class of each label in the files."""
    if "label" not in columns:
        return {}
    names = Counter(label_name(row.values.get(columns["label"])) for row in rows)
    del names[""]
    classes = classes_of(names, options.labels)
    unknown = Counter({name: count for name, count in names.items() if name not in classes})
    if unknown and options.unknown_labels == "error":
        refuse_unknown(unknown, f"{', '.join(options.files)}, column {columns['label']!r}")
    return classes


def _class_of(
    row: Row,
    stars: float | None,
    columns: Mapping[str, str],
    classes: Mapping[str, Class],
    options: PrepareOptions,
) -> Class | Literal["unlabelled", "unknown"]:
    if "label" in columns:
        name = label_name(row.values.get(columns["label"]))
        return classes.get(name, "unknown") if name else "unlabelled"
    if stars is None:
        return "unlabelled"
    return class_of_stars(
        stars, most_negative=options.most_negative_stars, least_positive=options.least_positive_stars
    )


def _unfit(text: str, options: PrepareOptions) -> str | None:
    if not text:
        return "empty"
    if len(text) < options.least_chars:
        return "short"
    return "long" if len(text) > options.most_chars else None


def as_text(value: Any) -> str:
    """A cell's text; "" for none."""
    return "" if value is None or value != value else str(value)  # noqa: PLR0124  # NaN


def _stars(value: Any) -> float | None:
    try:
        stars = parse_rating(value)
    except ValueError:
        return None
    return stars if stars == stars else None  # noqa: PLR0124  # NaN


def _moment(value: Any) -> int | None:
    try:
        return parse_time(value.isoformat() if isinstance(value, date) else value)
    except ValueError:
        return None


def unit_column(options: PrepareOptions) -> str:
    """Column of what must be in one split alone; "" where it is the text itself, or the time decides."""
    if options.split == "auto":
        return options.group or options.author
    column: str = "" if options.split in {"time", "text"} else getattr(options, options.split)
    return column


def without_repetitions(drafts: Sequence[Draft], options: PrepareOptions, report: Report) -> list[Draft]:
    """Each text once, under the label its copies agree on."""
    claims: dict[str, Counter[Label]] = defaultdict(Counter)
    for draft in drafts:
        claims[fingerprint(draft.text)][draft.label] += 1
    seen: set[str] = set()
    kept = []
    for draft in drafts:
        key = fingerprint(draft.text)
        if claims[key][draft.label] < AGREEMENT * claims[key].total():
            report.leave_out("conflict", draft.row, draft.text)
        elif key in seen:
            report.leave_out("duplicate", draft.row, draft.text)
        else:
            seen.add(key)
            kept.append(draft)
    if options.duplicates == "exact":
        return kept
    first = nearly_the_same(kept, options)
    for at, draft in enumerate(kept):
        if first[at] != at:
            report.leave_out("near_duplicate", draft.row, draft.text)
    return [draft for at, draft in enumerate(kept) if first[at] == at]


def nearly_the_same(drafts: Sequence[Draft], options: PrepareOptions) -> list[int]:
    """For each draft, the index of the first one of its label that it nearly repeats, or its own."""
    texts = [fingerprint(draft.text) for draft in drafts]
    return first_alike(texts, [draft.label for draft in drafts], options.similarity)
