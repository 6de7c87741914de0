"""Many rounds of the fault matrix.

``python -m tests.integration.faults --rounds 5 [--fault NAME] [--seed N]`` prints what it does to standard
error, and a Markdown table for ``docs/fault-matrix.md`` in the end. Each run has a seed of its own; a failed
one is named with its seed and the folder that has its workers' logs. Servers are embedded ones, or those that
``REVIEWPULSE_TEST_KAFKA`` and ``REVIEWPULSE_TEST_REDIS`` name; faults that want their own are then left out.
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

from tests.conftest import external_servers
from tests.integration.faults.matrix import FAULTS, Fault, meet

if TYPE_CHECKING:
    from tests.conftest import ExternalServers
    from tests.integration.faults.scene import Reckoning

NAMES = [fault.name for fault in FAULTS]


def main() -> int:
    """Runs the rounds; 0 when every run was exact."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each fault")
    parser.add_argument("--fault", action="append", choices=NAMES, help="only this one; may be repeated")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; the next ones count up")
    options = parser.parse_args()
    try:
        external = external_servers()
    except ValueError as error:
        parser.error(str(error))
    logging.disable()  # what the load's producer has to say of a broker that is away

    chosen = []
    for fault in FAULTS:
        if options.fault and fault.name not in options.fault:
            continue
        if external and (why := fault.why_not_at(external.redis)):
            print(f"{fault.name}: left out, {why}", file=sys.stderr)
        else:
            chosen.append(fault)
    went: dict[str, list[Reckoning | None]] = defaultdict(list)
    for seed in range(options.seed, options.seed + options.rounds):
        for fault in chosen:
            went[fault.name].append(run(fault, seed, external))
    print(table(chosen, went))
    return int(any(reckoning is None for runs in went.values() for reckoning in runs))


def run(fault: Fault, seed: int, external: ExternalServers | None) -> Reckoning | None:
    """One run; None when it failed."""
    folder = Path(tempfile.mkdtemp(prefix=f"reviewpulse-{fault.name}-{seed}-"))
    began = time.monotonic()
    try:
        reckoning = meet(fault, seed, folder, external)
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
        "| fault | what happens | by default | exact runs | events | rewinds | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [
        _row(f"`{fault.name}` | {fault.what} | {'yes' * fault.by_default}", went[fault.name])
        for fault in faults
    ]
    rows.append(_row("all | |", [each for fault in faults for each in went[fault.name]]))
    return "\n".join(rows)


def _row(what: str, runs: list[Reckoning | None]) -> str:
    exact = [each for each in runs if each is not None]
    of = "" if len(exact) == len(runs) else f" of {len(runs)}"
    events, rewinds, refused = (sum(column) for column in zip((0, 0, 0), *exact, strict=True))
    return f"| {what} | {len(exact)}{of} | {events:,} | {rewinds} | {refused} |"


if __name__ == "__main__":
    sys.exit(main())
