"""Run folders: whose they are, and what several seeds gave.

Rules:
- A folder is taken by ``run.json``: the options that decide the weights, and fingerprints of the data and of
  the base. A run goes on only with the same; nothing else's folder is written to or deleted.
- Where accelerate launched several processes, the first alone writes.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from models.writing import write_whole
from stream.bundle import sha256
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.fitting import FitOptions, Fitted

ASIDE = {
    "prepared",
    "texts",
    "column",
    "out",
    "seeds",
    "name",
    "licence",
    "caveats",
    "training_note",
    "metrics_note",
    "truth",
    "neutral_share",
}
ASIDE |= {"save_minutes", "save_steps", "threads", "device"}
"""Options that a run's weights do not depend on, or only by the content of what they name."""

CONTENT = ("model.safetensors", "pytorch_model.bin", "model.onnx")


def claim(out: Path, options: FitOptions, data: str, *bases: str, restart: bool) -> None:
    """Takes a run folder for a run, or finds that it is this run's already.

    Args:
        out: the run folder.
        options: of the run.
        data: fingerprint of the examples.
        bases: what it starts from: folders are known by their content, other names by themselves.
        restart: whether a run that is there is deleted.

    Raises:
        UsageError: another run is there, or something else.
    """
    decisive = {key: value for key, value in msgspec.to_builtins(options).items() if key not in ASIDE}
    stated = {"options": decisive, "data": data, "bases": [_content(base) for base in bases]}
    from accelerate import PartialState

    with PartialState().main_process_first():
        file = out / "run.json"
        if restart and file.is_file() and is_main_process():
            shutil.rmtree(out)
        if file.is_file():
            _compare(out, _known(file), stated)
            return
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} exists and is not a run; name another folder with --out.")
        out.mkdir(parents=True, exist_ok=True)
        write_whole(file, msgspec.json.format(msgspec.json.encode(stated)) + b"\n")


def fingerprint(rows: Iterable[object]) -> str:
    """SHA-256 of texts, or of texts with targets, in order."""
    digest = hashlib.sha256()
    encoder = msgspec.json.Encoder()
    for row in rows:
        digest.update(encoder.encode(row) + b"\n")
    return digest.hexdigest()


def summarise(runs: Sequence[Fitted]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (of a sample; 0 for one) of each figure over the seeds."""
    values = {name: np.array([run.figures[name] for run in runs]) for name in runs[0].figures}
    return {
        name: {"mean": float(each.mean()), "spread": float(each.std(ddof=1)) if len(each) > 1 else 0.0}
        for name, each in values.items()
    }


def write_seeds(
    runs: Sequence[Fitted], summary: dict[str, dict[str, float]], best: Fitted, out: Path
) -> None:
    """Writes ``seeds.json``: which was best, each figure's mean and spread, and every run."""
    stated = {"best": best.seed, "figures": summary, "runs": runs}
    write_whole(out / "seeds.json", msgspec.json.format(msgspec.json.encode(stated)) + b"\n")


def is_main_process() -> bool:
    """Whether this is the only process, or the first that accelerate launched."""
    from accelerate import PartialState

    return bool(PartialState().is_main_process)


def _content(base: str) -> str:
    for name in CONTENT:
        if (Path(base) / name).is_file():
            return sha256(Path(base) / name)
    return base


def _known(file: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}; start the run anew with --restart, or name another --out."
        ) from None


def _compare(out: Path, known: dict[str, Any], stated: dict[str, Any]) -> None:
    before = known.get("options", {})
    other = [
        f"{key} {before.get(key)!r}, not {value!r}"
        for key, value in stated["options"].items()
        if before.get(key) != value
    ]
    other += ["other examples"] if known.get("data") != stated["data"] else []
    if not other and known.get("bases") != stated["bases"]:
        other.append("other weights in the base's folder")
    if other:
        raise UsageError(
            f"{out} holds a run with {'; '.join(other)}. Name another --out, or start this one anew with "
            "--restart, which deletes the other."
        )
