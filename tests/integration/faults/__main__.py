"""Many rounds of the fault matrix.

``python -m tests.integration.faults --rounds 5 [--fault NAME] [--seed N]`` prints what it does to standard
error, and a Markdown table for ``docs/fault-matrix.md`` in the end. Each run has a seed of its own; a failed
one is named with its seed and the folder that has its workers' logs.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from tests.integration.faults.matrix import FAULTS, Fault, meet

if TYPE_CHECKING:
    from tests.integration.faults.scene import Reckoning

NAMES = [fault.name for fault in FAULTS]


def main() -> int:
    """Runs the rounds; 0 when every run was exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each fault")
    parser.add_argument("--fault", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones count up")
    options = parser.parse_args()
    logging.disable()  # what the load's producer has to say of a broker that is away

    chosen = [fault for fault in FAULTS if not options.fault or fault.name in options.fault]
    went: dict[str, list[Reckoning | None]] = defaultdict(list)
    for seed in range(options.seed, options.seed + options.rounds):
        for fault in chosen:
            went[fault.name].append(run(fault, seed))
    print(table(chosen, went))
    return int(any(reckoning is None for runs in went.values() for reckoning in runs))


def run(fault: Fault, seed: int) -> Reckoning | None:
    """One run; None when it failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"reviewpulse-{fault.name}-{seed}-"))
    began = time.monotonic()
    try:
        reckoning = meet(fault, seed, folder)
    except Exception:  # noqa: BLE001 - whatever it was, the other runs go on
        print(f"{fault.name} seed {seed}: FAILED, see {folder}", file=sys.stderr)
        traceback.print_exc()
        return None
    print(f"{fault.name} seed {seed}: {reckoning} in {time.monotonic() - began:.0f} s", file=sys.stderr)
    shutil.rmtree(folder)
    return reckoning


def table(faults: list[Fault], went: dict[str, list[Reckoning | None]]) -> str:
    """Sums by fault."""
    rows = [
        "| fault | what happens | runs | events | rewinds | applies refused | result |",
        "|---|---|---|---|---|---|---|",
    ]
    for fault in faults:
        runs = went[fault.name]
        good = [each for each in runs if each is not None]
        result = "exact" if len(good) == len(runs) else f"{len(runs) - len(good)} failed"
        events, rewinds, refused = (sum(column) for column in zip((0, 0, 0), *good, strict=True))
        rows.append(
            f"| `{fault.name}` | {fault.what} | {len(runs)} | {events:,} | {rewinds} | {refused} | {result} |"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
