"""A prepared set: the folder that `reviewpulse prepare` leaves and that training and evaluation read.

    train.jsonl.gz, validation.jsonl.gz, test.jsonl.gz   an ``Example`` a line
    prepared.json                                        labels, and whatever else is known of how it was made

Rules:
- Texts are what serving scores, joined and cleaned as it does.
- A target is a probability for each label, in the labels' order; a certain label is ones and zeros.
- An example's group (product, author, review) is in one split alone.
- A folder is complete or absent: written beside its place, then renamed.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from models.writing import fresh_folder
from stream.bundle import LABEL_SETS
from stream.core.events import Label  # msgspec reads the annotation
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
DESCRIPTION = "prepared.json"


class Example(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A text and what a reader would say of it."""

    text: str
    target: tuple[float, ...]
    """A probability for each label of the set; sums to 1."""
    noise: float = 0.0
    """Chance that the label is another one: it was given to the whole that the text is a part of."""
    group: str = ""
    """What must not be on both sides of a split: a product, an author, a review."""
    source: str = ""
    """Name of the set or file it is from."""
    language: str = ""
    """BCP 47, as far as it is known."""
    category: str = ""
    stars: float | None = None
    at: str | None = None
    """RFC 3339 date or time of the text."""


class PreparedSet(msgspec.Struct, frozen=True, kw_only=True):
    """Labels and examples of a prepared folder."""

    labels: tuple[Label, ...]
    splits: dict[Split, list[Example]]
    description: dict[str, Any] = msgspec.field(default_factory=dict)
    """How it was made: files with checksums, options, what was dropped and why."""

    def __getitem__(self, split: Split) -> list[Example]:
        return self.splits[split]


def targets(examples: Sequence[Example]) -> NDArray[np.float32]:
    """Targets, float32 (n, labels)."""
    import numpy as np

    return np.array([example.target for example in examples], np.float32)


def classes(examples: Sequence[Example]) -> NDArray[np.int64]:
    """The likeliest label's column, int64 (n,)."""
    columns: NDArray[np.int64] = targets(examples).argmax(axis=1)
    return columns


def noises(examples: Sequence[Example]) -> NDArray[np.float32]:
    """Chance of each label to be wrong, float32 (n,)."""
    import numpy as np

    return np.array([example.noise for example in examples], np.float32)


def kinds(examples: Sequence[Example]) -> list[tuple[str, int]]:
    """Language and length of each text; lengths are alike within a factor of two, in characters."""
    return [(example.language, len(example.text).bit_length()) for example in examples]


def write_prepared(prepared: PreparedSet, folder: Path) -> None:
    """Writes a prepared set at ``folder``; an older one is replaced.

    Raises:
        UsageError: something that is no prepared set stands there.
    """
    if folder.exists() and not (folder / DESCRIPTION).is_file():
        raise UsageError(f"{folder} exists and is not a prepared set; name another folder with --out.")
    with fresh_folder(folder) as fresh:
        for split in SPLITS:
            _write_lines(fresh / f"{split}.jsonl.gz", prepared.splits.get(split, []))
        stated = {"labels": prepared.labels, **prepared.description}
        (fresh / DESCRIPTION).write_bytes(msgspec.json.format(msgspec.json.encode(stated)) + b"\n")


def read_prepared(folder: Path, splits: Iterable[Split] = SPLITS) -> PreparedSet:
    """A prepared set, or some of its splits.

    Raises:
        UsageError: it is not there, or not what ``reviewpulse prepare`` writes.
    """
    try:
        stated = msgspec.json.decode((folder / DESCRIPTION).read_bytes(), type=dict[str, Any])
        labels = msgspec.convert(stated.pop("labels", None), tuple[Label, ...])
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(
            f"{folder} is not a prepared set: it has no {DESCRIPTION}; `reviewpulse prepare` writes one."
        ) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder / DESCRIPTION} cannot be read: {error}; prepare the set again.") from None
    if labels not in LABEL_SETS:
        raise UsageError(
            f"{folder / DESCRIPTION} has labels {list(labels)}; wanted one of {[*map(list, LABEL_SETS)]}."
        )
    chosen = {split: list(_read_lines(folder / f"{split}.jsonl.gz", labels)) for split in splits}
    return PreparedSet(labels=labels, splits=chosen, description=stated)


def check_no_leak(splits: Mapping[Split, Sequence[Example]]) -> None:
    """Looks for a text or a group that is in two splits.

    Raises:
        UsageError: there is one; training on the one and testing on the other would flatter.
    """
    for what in ("group", "text"):
        home: dict[str, Split] = {}
        for split, examples in splits.items():
            for example in examples:
                value = getattr(example, what)
                if value and home.setdefault(value, split) != split:
                    raise UsageError(
                        f"The {what} {value[:80]!r} is in both {home[value]} and {split}: figures on the one "
                        "would flatter. Prepare the set again, or split it by --group."
                    )


def _write_lines(file: Path, examples: Iterable[Example]) -> None:
    encoder = msgspec.json.Encoder()
    with gzip.GzipFile(file, "wb", mtime=0) as lines:  # the same set gives the same bytes
        for example in examples:
            lines.write(encoder.encode(example) + b"\n")


def _read_lines(file: Path, labels: Sequence[Label]) -> Iterator[Example]:
    decoder = msgspec.json.Decoder(Example)
    try:
        with gzip.open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                example = decoder.decode(line)
                if len(example.target) != len(labels):
                    raise UsageError(
                        f"{file}, line {number}: {len(example.target)} target probabilities for the "
                        f"{len(labels)} labels {', '.join(labels)}; prepare the set again."
                    )
                yield example
    except FileNotFoundError:
        raise UsageError(f"The prepared set lacks {file}; prepare it again.") from None
    except (msgspec.MsgspecError, OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{file} cannot be read: {error}; prepare the set again.") from None
