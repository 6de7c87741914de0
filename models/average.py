"""One checkpoint of several: the mean of their weights ("model soup", Wortsman et al., arXiv:2203.05482).

Rules:
- Only runs that began at one base can be averaged: their weights lie in one valley of the loss, those of
  others do not. What can be seen of that is refused: another base, tokenizer, labels or network.
- The mean costs no more to serve than one of them, and is mostly as good as the best of them or better, above
  all on texts of other kinds than the training set's. That is to be measured: figures are not taken over.
- Its temperature is the mean of theirs until it is calibrated.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from models.checkpoint import TOKENIZER, load_checkpoint, read_record, save_checkpoint
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.checkpoint import TrainingRecord

Weight = Annotated[float, msgspec.Meta(gt=0)]


class AverageOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of ``reviewpulse average``: the table ``[average]`` of a recipe."""

    checkpoints: tuple[str, ...] = ()
    weights: tuple[Weight, ...] = ()
    """One for each checkpoint; none makes them equal."""
    out: str = ""
    name: str = ""
    """Of the mean; the first checkpoint's where there is none."""


def average(options: AverageOptions) -> TrainingRecord:
    """Writes the mean of checkpoints at ``options.out``; one that is there is replaced.

    Returns:
        Its record: the first one's, with the training sets of all.

    Raises:
        UsageError: there are fewer than two, one cannot be read, or they do not belong together.
    """
    folders = [Path(each) for each in options.checkpoints]
    if len({each.resolve() for each in folders}) < max(len(folders), 2):
        raise UsageError("Name at least two checkpoints, each once: a mean is of several.")
    shares = shares_of(options.weights, len(folders))
    records = [read_record(each) for each in folders]
    network, tokenizer = load_checkpoint(folders[0], records[0].max_length)
    kinds = {name: tensor.dtype for name, tensor in network.state_dict().items()}
    sums = {name: tensor.double() * shares[0] for name, tensor in network.state_dict().items()}
    for folder, record, share in zip(folders[1:], records[1:], shares[1:], strict=True):
        other, _ = load_checkpoint(folder, record.max_length)
        differs = {
            "base": record.base_model != records[0].base_model,
            "tokenizer": (folder / TOKENIZER).read_bytes() != (folders[0] / TOKENIZER).read_bytes(),
            "labels": other.config.id2label != network.config.id2label,
            "network": _shapes(other.state_dict()) != _shapes(sums),
        }
        if any(differs.values()):
            what = " and ".join(name for name, is_so in differs.items() if is_so)
            raise UsageError(
                f"{folder} has another {what} than {folders[0]}: their mean would be neither. Average runs "
                "that began at one base with one vocabulary."
            )
        for name, tensor in other.state_dict().items():
            sums[name] += tensor.double() * share
    network.load_state_dict({name: each.to(kinds[name]) for name, each in sums.items()})
    mean = _record(records, shares, options.name)
    tokenizer.no_truncation()
    save_checkpoint(network, tokenizer, Path(options.out), mean)
    return mean


def shares_of(weights: Sequence[float], count: int) -> list[float]:
    """What each checkpoint has of the mean.

    Raises:
        UsageError: there are not as many weights as checkpoints.

    >>> shares_of((), 2), shares_of((3.0, 1.0), 2)
    ([0.5, 0.5], [0.75, 0.25])
    """
    if weights and len(weights) != count:
        raise UsageError(f"There are {len(weights)} weights for {count} checkpoints; give each one, or none.")
    stated = weights or (1.0,) * count
    return [each / sum(stated) for each in stated]


def _record(records: Sequence[TrainingRecord], shares: Sequence[float], name: str) -> TrainingRecord:
    def mean(values: Sequence[float]) -> float:
        return round(sum(value * share for value, share in zip(values, shares, strict=True)), 4)

    sources = {source.name: source for each in reversed(records) for source in each.trained_on}
    order = dict.fromkeys(source.name for each in records for source in each.trained_on)
    return msgspec.structs.replace(
        records[0],
        name=name or records[0].name,
        temperature=mean([each.temperature for each in records]),
        neutral_band=mean([each.neutral_band for each in records]),
        max_length=min(each.max_length for each in records),
        trained_on=tuple(sources[each] for each in order),
        metrics=(),
    )


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(each.shape) for name, each in weights.items()}
