"""Labelled reviews as teams have them to a prepared set: mapped, cleaned, without repetitions, split.

Rules:
- Nothing disappears in silence: what is left out is counted under its reason.
- Nothing leaks: units (product, author) are in one split alone, and a text that nearly repeats one of an
  earlier split goes.
- Every split has every class, or it is an error: nothing can be learned or measured of one that is not there.
- The same files and options give the same set, byte for byte.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from models import corpora, evaluation_sets
from models.augment.constructions import LANGUAGES
from models.augment.texts import SOURCES as MADE
from models.augment.texts import Kind, augmented
from models.drafts import (
    REASONS,
    Draft,
    Report,
    as_text,
    drafts_of,
    nearly_the_same,
    wanted_columns,
    without_repetitions,
)
from models.duplicates import fingerprint
from models.examples import SPLITS, Example, PreparedSet, Split, check_no_leak
from models.labels import Class  # noqa: TC001  # msgspec reads the annotation
from models.split import by_hash, by_time, order_of
from models.tables import Dialect, Row, read_table
from stream.bundle import LABEL_SETS, sha256
from stream.core.events import MAX_TEXT_CHARS, Label, rfc3339
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Share = Annotated[float, msgspec.Meta(ge=0, le=0.5)]


class PrepareOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of ``reviewpulse prepare``: the table ``[prepare]`` of a recipe."""

    files: tuple[str, ...] = ()
    corpora: Literal["", "ship", "ship-en", "ship-zh"] = ""
    """The sets that shipped weights may be trained on, in ``data``, instead of files."""
    evaluation: Literal["", "blitzer", "online_shopping", "beauty", "instruments", "pesticide"] = ""
    """A set that may only be evaluated on, in ``data``, instead of files; all of it is the test split."""
    data: str = ""
    """Folder of those sets."""
    augment: tuple[Kind, ...] = ()
    """Which texts the training split gets besides, made of its own."""
    out: str = "prepared"

    text: str = "text"
    title: str = ""
    label: str = ""
    """``label`` where neither this nor ``stars`` is given."""
    stars: str = ""
    group: str = ""
    author: str = ""
    time: str = ""
    language: str = ""
    category: str = ""
    default_language: str = ""
    encoding: str = "utf-8"
    delimiter: str = ""

    classes: Literal[2, 3] = 2
    """A set of two leaves neutral texts out."""
    labels: dict[str, Class] = {}
    """Class of each label that has no well-known name."""
    most_negative_stars: float = 2
    least_positive_stars: float = 4
    unknown_labels: Literal["error", "drop"] = "error"
    least_chars: Annotated[int, msgspec.Meta(ge=1)] = 1
    """One emoji, or 好, is a review."""
    most_chars: Annotated[int, msgspec.Meta(ge=1)] = MAX_TEXT_CHARS
    """Serving refuses longer ones."""
    duplicates: Literal["near", "exact"] = "near"
    """Which repetitions within a split are dropped."""
    similarity: Annotated[float, msgspec.Meta(gt=0.5, le=1)] = 0.8
    """Overlap of character n-grams from which two texts are nearly the same."""

    split: Literal["auto", "group", "author", "time", "text"] = "auto"
    """``auto``: by group where a column for it is given, else by author, else by text."""
    validation: Share = 0.1
    test: Share = 0.1


def prepare(options: PrepareOptions) -> PreparedSet:
    """The prepared set of files, or of one of the sets that have a reader of their own.

    Raises:
        UsageError: something is wrong with a file, a column, a label, or what is left is no set to train on.
    """
    sources = [bool(options.files), bool(options.corpora), bool(options.evaluation)]
    if sum(sources) != 1:
        raise UsageError("Name what to prepare: files, or --corpora, or --evaluation; one of the three.")
    if options.validation + options.test >= 1:
        raise UsageError("The validation and test shares leave nothing to train on.")
    if options.most_negative_stars >= options.least_positive_stars:
        raise UsageError(
            f"--most-negative-stars {options.most_negative_stars:g} must be below --least-positive-stars, "
            f"{options.least_positive_stars:g}: a rating cannot be both."
        )
    if options.augment and options.evaluation:
        raise UsageError("--augment makes training texts, and a set to evaluate on has none; leave it out.")
    if options.files:
        prepared = _of_files(options)
    else:
        if not Path(options.data).is_dir() or not options.data:
            raise UsageError(f"There is no folder {options.data!r}; name the folder of the sets with --data.")
        prepared = _of_corpora(options) if options.corpora else _of_evaluation_set(options)
    return _with_made_texts(prepared, options) if options.augment else prepared


def _of_files(options: PrepareOptions) -> PreparedSet:
    labels = LABEL_SETS[options.classes - 2]
    report = Report()
    columns, dialect = wanted_columns(options), Dialect(options.encoding, options.delimiter)
    rows = [row for file in options.files for row in read_table(Path(file), columns, dialect)]
    drafts = without_repetitions(list(drafts_of(rows, labels, options, report)), options, report)
    _refuse_missing_class(Counter(draft.label for draft in drafts), labels, "After cleaning", report)
    placed = _placed(drafts, options, report)
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for draft, split in placed:
        splits[split].append(_example(draft, labels, options))
    prepared = PreparedSet(
        labels=labels,
        splits=splits,
        description=_description(options, splits, labels)
        | {
            "files": [_checksum(Path(file), rows) for file in options.files],
            "rows": len(rows),
            "dropped": report.as_json(),
        },
    )
    _refuse_poor_splits(prepared, options, report)
    return prepared


# --- splits -------------------------------------------------------------------------------------------------


def _placed(drafts: list[Draft], options: PrepareOptions, report: Report) -> list[tuple[Draft, Split]]:
    """Every draft with its split, without those that would leak."""
    shares = {"validation": options.validation, "test": options.test}
    # Where near-duplicates were dropped, each text is its own first.
    first = nearly_the_same(drafts, options) if options.duplicates == "exact" else list(range(len(drafts)))
    if options.split == "time":
        splits = by_time([draft.moment or 0 for draft in drafts], **shares)
    else:
        splits = [
            by_hash(draft.unit or fingerprint(drafts[first[at]].text), **shares)
            for at, draft in enumerate(drafts)
        ]
    earliest: dict[int, int] = {}
    for at, split in enumerate(splits):
        earliest[first[at]] = min(order_of(split), earliest.get(first[at], len(SPLITS)))
    placed = []
    for at, (draft, split) in enumerate(zip(drafts, splits, strict=True)):
        if order_of(split) > earliest[first[at]]:
            report.leave_out("leak", draft.row, draft.text)
        else:
            placed.append((draft, split))
    return placed


def _example(draft: Draft, labels: Sequence[Label], options: PrepareOptions) -> Example:
    values = draft.row.values
    return Example(
        text=draft.text,
        target=tuple(float(label == draft.label) for label in labels),
        group=draft.unit,
        source=Path(draft.row.file).name,
        language=as_text(values.get(options.language)).strip() or options.default_language,
        category=as_text(values.get(options.category)).strip(),
        stars=draft.stars,
        at=None if draft.moment is None else rfc3339(draft.moment),
    )


# --- sets with a reader of their own ------------------------------------------------------------------------


def _of_corpora(options: PrepareOptions) -> PreparedSet:
    languages = {"ship-en": ("en",), "ship-zh": ("zh",)}.get(options.corpora, ("en", "zh"))
    labels = LABEL_SETS[0]
    made = corpora.examples(Path(options.data), languages)
    splits: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for example in made:
        split = by_hash(example.group, validation=options.validation, test=options.test)
        splits[split].append(example)
    rows = Counter(example.source for example in splits["train"])
    files = [name for source in rows for name in corpora.FILES[source]]
    prepared = PreparedSet(
        labels=labels,
        splits=splits,
        description=_description(options, splits, labels)
        | {
            "files": [_checksum(Path(options.data) / name) for name in files],
            "sources": [
                {"name": corpora.SOURCES[source][0], "licence": corpora.SOURCES[source][1], "rows": count}
                for source, count in rows.items()
            ],
        },
    )
    check_no_leak(splits)
    return prepared


def _of_evaluation_set(options: PrepareOptions) -> PreparedSet:
    labels = LABEL_SETS[0]
    made = evaluation_sets.examples(options.evaluation, Path(options.data))
    splits: dict[Split, list[Example]] = {"train": [], "validation": [], "test": made}
    file = evaluation_sets.FILES[options.evaluation]
    return PreparedSet(
        labels=labels,
        splits=splits,
        description=_description(options, splits, labels)
        | {"files": [_checksum(Path(options.data) / file)], "evaluation_only": True},
    )


def _with_made_texts(prepared: PreparedSet, options: PrepareOptions) -> PreparedSet:
    """The set with more training texts, made of those it has."""
    held_out = [*prepared["validation"], *prepared["test"]]
    made = augmented(prepared["train"], held_out, kinds=options.augment)
    if not made:
        raise UsageError(
            f"--augment makes texts of {' and '.join(LANGUAGES)} ones, and no training text says it is one; "
            "name their column with --language, or their language with --default-language."
        )
    rows = Counter(example.source for example in made)
    licence = "as the texts they are made of"
    stated = [{"name": MADE[source], "licence": licence, "rows": count} for source, count in rows.items()]
    splits = {**prepared.splits, "train": [*prepared["train"], *made]}
    description = {**prepared.description, **_description(options, splits, prepared.labels), "made": stated}
    if "sources" in description:
        description["sources"] = [*description["sources"], *stated]
    return PreparedSet(labels=prepared.labels, splits=splits, description=description)


# --- what the set is ----------------------------------------------------------------------------------------


def _description(
    options: PrepareOptions, splits: Mapping[Split, Sequence[Example]], labels: Sequence[Label]
) -> dict[str, Any]:
    return {
        "options": msgspec.to_builtins(options),
        "splits": {
            split: {
                "examples": len(examples),
                "labels": _label_counts(examples, labels),
                "languages": dict(Counter(example.language or "unknown" for example in examples)),
                "groups": len({example.group for example in examples if example.group}),
            }
            for split, examples in splits.items()
        },
    }


def _label_counts(examples: Sequence[Example], labels: Sequence[Label]) -> dict[str, int]:
    likeliest = Counter(example.target.index(max(example.target)) for example in examples)
    return {label: likeliest[at] for at, label in enumerate(labels)}


def _checksum(file: Path, rows: Sequence[Row] | None = None) -> dict[str, Any]:
    stated: dict[str, Any] = {"file": str(file), "sha256": sha256(file)}
    if rows is not None:
        stated["rows"] = sum(row.file == str(file) for row in rows)
    return stated


def _refuse_missing_class(
    counts: Mapping[str, int], labels: Sequence[Label], where: str, report: Report
) -> None:
    missing = [label for label in labels if not counts.get(label)]
    if not missing:
        return
    there = ", ".join(f"{count:,} {label}" for label, count in counts.items() if count) or "none at all"
    dropped = ", ".join(f"{count:,} {REASONS[reason]}" for reason, count in report.counts.most_common(4))
    raise UsageError(
        f"{where} there is no {' and no '.join(missing)} text ({there}): nothing can be learned or measured "
        f"of a class that is not there.{f' Left out: {dropped}.' if dropped else ''}"
        f"{' A set without neutral texts is prepared with --classes 2.' if missing == ['neutral'] else ''}"
    )


def _refuse_poor_splits(prepared: PreparedSet, options: PrepareOptions, report: Report) -> None:
    """Looks for leaks, and for splits that lack a class."""
    check_no_leak(prepared.splits)
    shares = {"train": 1.0, "validation": options.validation, "test": options.test}
    for split in SPLITS:
        if shares[split]:
            counts = _label_counts(prepared[split], prepared.labels)
            share = (
                "" if split == "train" else f" (share {shares[split]:g}; change it with --{split}, 0: none)"
            )
            _refuse_missing_class(counts, prepared.labels, f"In the {split} split{share}", report)
