"""Everything that wants a GPU, in order and within minutes: ``make gpu``.

Rules:
- Short and telling steps come first: what the machine has, the tests of the real device, both bundles; then
  the scorer alone, then the whole path. Each step is a command of this project in a process of its own.
- What a step prints is a file of the folder ``--out``, as JSON where the command can. A step that fails or
  has no time left is named in ``summary.json``, and the next one runs.
- Nothing is fetched: without ``--data`` texts are made. BERT-base's weights are random, which cost what
  others do; its bundle is exported by force: float16 may well move its labels.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from export.bench.cuda import BASE, random_network
from export.reopen import weights_of
from stream.bench.texts import synthetic
from stream.settings import SHIPPED_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Sequence

REVIEWPULSE = (sys.executable, "-m", "stream.cli.main")

TESTS = (sys.executable, "-m", "pytest", "-m", "gpu", "-q", "tests/unit/test_on_a_gpu.py")

LONGEST = 384
"""Tokens read of a text, as the shipped model does."""


class Step(NamedTuple):
    """One command."""

    name: str
    command: tuple[str, ...]
    longest_s: float
    out: str
    """Name of the file of what it prints."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """How a step went."""

    step: str
    ended: str
    """``well``, ``failed (CODE)``, ``out of time`` or ``not begun``."""
    took_s: float


def steps(
    out: Path,
    shipped: Path,
    base: Path,
    texts: Path,
    *,
    data: Path | None = None,
    workers: str = "1,2,4",
) -> list[Step]:
    """What is run.

    Args:
        out: folder of bundles.
        shipped: checkpoint of the shipped model.
        base: checkpoint of BERT-base's shape.
        texts: a text a line, to compare bundles on.
        data: folder of review sets.
        workers: how many there are in each turn of the whole path.
    """
    where = ("--data", str(data)) if data else ()

    def exported(name: str, checkpoint: Path, *options: str) -> Step:
        command = ("export", str(checkpoint), "--target", "cuda", "--out", str(out / name))
        return Step(
            f"export {name}",
            (*REVIEWPULSE, *command, "--texts", str(texts), *options),
            120,
            f"export-{name}.json",
        )

    def piped(name: str, events: int, numbers: str, *options: str) -> Step:
        command = ("bench", "pipeline", "--scorer", "onnx", "--bundle", str(out / name), "--provider", "cuda")
        sizes = ("--events", str(events), "--workers", numbers, "--json")
        return Step(
            f"whole path {name}", (*REVIEWPULSE, *command, *sizes, *options), 180, f"pipeline-{name}.json"
        )

    score = ("bench", "score", "--provider", "cuda", "--checkpoint", str(shipped), "--rounds", "3", "--json")
    return [
        Step("machine", ("nvidia-smi",), 20, "machine.txt"),
        Step("tests", TESTS, 120, "tests.txt"),
        exported("shipped", shipped),
        exported("base", base, "--force"),
        exported("packed", shipped, "--packed"),
        Step("scorer", (*REVIEWPULSE, *score, "--texts", "8192", *where), 240, "score.json"),
        piped("shipped", 300_000, workers),
        piped("base", 100_000, workers, "--ceiling-events", "0"),
        piped("packed", 300_000, workers, "--ceiling-events", "0"),
    ]


def run(todo: Sequence[Step], out: Path, minutes: float) -> list[Done]:
    """Runs steps until the time is over; returns how each went, and writes it to ``summary.json``."""
    deadline = time.monotonic() + minutes * 60
    done: list[Done] = []
    for step in todo:
        start = time.monotonic()
        left = min(step.longest_s, deadline - start)
        ended = "not begun"
        if left > 1:
            print(f"{step.name} ...", file=sys.stderr, flush=True)
            ended = _ended(step, out, left)
        done.append(Done(step=step.name, ended=ended, took_s=round(time.monotonic() - start, 1)))
        (out / "summary.json").write_bytes(msgspec.json.format(msgspec.json.encode(done)))
        print(f"{step.name}: {ended} in {done[-1].took_s:.0f} s", file=sys.stderr, flush=True)
    return done


def _ended(step: Step, out: Path, longest_s: float) -> str:
    environment = os.environ | {"REVIEWPULSE_TEST_GPU": "1"}  # no test is skipped for want of one
    with (out / step.out).open("wb") as said, (out / f"{step.out}.log").open("wb") as log:
        try:
            process = subprocess.Popen(
                step.command, stdout=said, stderr=log, env=environment, start_new_session=True
            )
        except FileNotFoundError as error:
            return f"failed ({error.strerror}: {step.command[0]})"
        try:
            code = process.wait(longest_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # its workers and servers, too
            process.wait()
            return "out of time"
    return f"failed ({code})" if code else "well"


def make_base(folder: Path) -> Path:
    """A checkpoint of random weights in BERT-base's shape, with the shipped tokenizer."""
    from tokenizers import Tokenizer

    from models.checkpoint import TrainingRecord, save_checkpoint

    tokenizer = Tokenizer.from_file(str(SHIPPED_BUNDLE / "tokenizer.json"))
    record = TrainingRecord(
        name=folder.name,
        languages=("en", "zh"),
        base_model="random",
        base_licence="none",
        max_length=LONGEST,
        temperature=1.0,
        neutral_band=0.0,
        trained_on=(),
        metrics=(),
        caveats=("Its weights are random: it is for timing alone.",),
    )
    save_checkpoint(random_network(tokenizer.get_vocab_size(), **BASE), tokenizer, folder, record)
    return folder


def main(
    out: Annotated[Path, typer.Option(help="Folder of everything that is found.")] = Path("gpu-session"),
    checkpoint: Annotated[
        Path, typer.Option(help="Checkpoint or bundle.", show_default="what ships")
    ] = SHIPPED_BUNDLE,
    data: Annotated[Path | None, typer.Option(help="Folder of review sets; made texts by default.")] = None,
    workers: Annotated[str, typer.Option(help="Workers on the GPU, each number in turn.")] = "1,2,4",
    minutes: Annotated[float, typer.Option(min=0.1, help="For all of it.")] = 12,
) -> None:
    """Runs all that wants a GPU and writes what it finds to a folder."""
    out.mkdir(parents=True, exist_ok=True)
    texts = out / "texts.txt"
    texts.write_text("\n".join(synthetic(200)), encoding="utf-8")
    base = make_base(out / "base-shape")
    done = run(
        steps(out, weights_of(checkpoint), base, texts, data=data, workers=workers),
        out,
        minutes,
    )
    raise typer.Exit(int(any(each.ended != "well" for each in done)))


if __name__ == "__main__":
    typer.run(main)
