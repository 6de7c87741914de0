"""``reviewpulse calibrate``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from models.cli.extra import require_training_extra
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.calibrate import Calibration
    from models.checkpoint import TrainingRecord
    from stream.bundle import Metric


def calibrate(
    checkpoint: Annotated[
        str | None, typer.Argument(help="Checkpoint folder; its training.json is rewritten.")
    ] = None,
    prepared: Annotated[str | None, typer.Argument(help="Folder that `reviewpulse prepare` left.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="TOML file with a table [calibrate]; what is given here wins over it.")
    ] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None,
        typer.Option(help="Held-out samples to calibrate on; `validation` by default."),
    ] = None,
    truth: Annotated[
        Literal["labels", "targets"] | None,
        typer.Option(
            help="What probabilities shall mean: how often the likeliest label is right (default), or the "
            "set's own probabilities, where they are shares of readers."
        ),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0, max=0.5, help="Of them, most that the neutral band may take; 0.05 by default."),
    ] = None,
    threshold: Annotated[
        Literal["half", "macro_f1"] | None,
        typer.Option(
            help="Where P(positive) becomes positive: `half` (the default), or for the best macro F1."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as one line of JSON.")] = False,
) -> None:
    """Makes a checkpoint's probabilities mean what they say.

    Fits one temperature on held-out samples, in which every language weighs the same, and for two labels the
    band of probabilities in which a text is neutral. Labels stay as they are, unless a threshold is asked
    for: that one is moved to one half by the bias of the network's last layer.

    `reviewpulse calibrate run/checkpoint prepared`

    Prints the calibration error before and after, with 95% intervals, of all samples and of each language.
    With `--json`: `{"checkpoint", "temperature", "neutral_band", "shift", "slices": {"all" or a language:
    {"rows", "temperature", "figures": {name: {"before", "after"}}}}}`.
    """
    require_training_extra()
    import msgspec

    from models.calibrate import CalibrateOptions, warning
    from models.calibrate import calibrate as fit
    from models.checkpoint import RECORD, move_last_bias, read_record, write_record
    from models.classifier import open_classifier
    from models.examples import read_prepared
    from models.recipe import options

    chosen = options(
        CalibrateOptions,
        recipe,
        "calibrate",
        checkpoint=checkpoint,
        prepared=prepared,
        split=split,
        truth=truth,
        share=share,
        threshold=threshold,
    )
    if not chosen.checkpoint or not chosen.prepared:
        raise UsageError("Name the checkpoint and the prepared set, here or in the recipe.")
    folder = Path(chosen.checkpoint)
    record = read_record(folder)
    samples = read_prepared(Path(chosen.prepared), (chosen.split,))
    classifier = open_classifier(folder)
    if classifier.labels != samples.labels:
        raise UsageError(
            f"{folder} tells {', '.join(classifier.labels)} apart, and {chosen.prepared} "
            f"{', '.join(samples.labels)}; prepare the set with the checkpoint's labels."
        )
    found = fit(classifier, samples[chosen.split], chosen)
    if found.shift:
        move_last_bias(folder, [0.0, found.shift])
    calibrated = msgspec.structs.replace(
        record,
        temperature=found.temperature,
        neutral_band=found.neutral_band,
        metrics=_metrics(record, found, chosen.split) if found.shift else record.metrics,
    )
    write_record(calibrated, folder / RECORD)
    if said := warning(found.temperature):
        print(said, file=sys.stderr)
    if as_json:
        slices = {
            name: {**each._asdict(), "figures": {key: one._asdict() for key, one in each.figures.items()}}
            for name, each in found.slices.items()
        }
        answer = {"checkpoint": chosen.checkpoint, **found._asdict(), "slices": slices}
        print(msgspec.json.encode(answer).decode())
        return
    for line in _report(record.temperature, record.neutral_band, found):
        print(line)


def _metrics(record: TrainingRecord, found: Calibration, split: str) -> tuple[Metric, ...]:
    """A record's figures after a threshold moved labels: those of the split it was found on are new."""
    import msgspec

    after = {name: change.after for name, change in found.slices["all"].figures.items()}
    return tuple(
        msgspec.structs.replace(
            metric,
            value=round(after[metric.name].value, 4),
            interval=(round(after[metric.name].interval[0], 4), round(after[metric.name].interval[1], 4)),
        )
        if metric.dataset == split and metric.name in after
        else metric
        for metric in record.metrics
    )


def _report(temperature: float, band: float, found: Calibration) -> Iterator[str]:
    yield f"temperature   {temperature:.3f} -> {found.temperature:.3f}"
    yield f"neutral band  {band:.3f} -> {found.neutral_band:.3f}"
    if found.shift:
        yield f"bias          {found.shift:+.3f}, for the threshold"
    for name, each in found.slices.items():
        change = each.figures["ece"]
        said = " -> ".join(
            f"{one.value:.4f} ({one.interval[0]:.4f} to {one.interval[1]:.4f})"
            for one in (change.before, change.after)
        )
        alone = f"; alone: temperature {each.temperature:.3f}" if name != "all" else ""
        yield f"calibration error, {name}, {each.rows:,} samples: {said}{alone}"
