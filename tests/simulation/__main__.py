"""Runs simulated schedules: ``python -m tests.simulation --help``."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.simulation.bugs import BUGS
from tests.simulation.sweep import sweep
from tests.simulation.world import simulate

if TYPE_CHECKING:
    from tests.simulation.sweep import Swept

HUNTED = 200
"""Schedules that each planted bug is looked for in; a rare one may need more."""


def main() -> int:
    """The exit status: 1 when something that must hold did not."""
    options = _options()
    if options.bugs:
        _hunt(options.processes)
        return 0
    if options.seed is not None:
        return _replay(options.seed, options.bug, trace=options.trace)
    swept = sweep(
        options.schedules,
        first=options.first,
        bug=options.bug,
        processes=options.processes,
        on_progress=_show_progress,
    )
    print(summary(swept, options.bug))
    return 1 if swept.failures else 0


def summary(swept: Swept, bug: str | None = None) -> str:
    """What a sweep found, and what happened in it."""
    found = f"{len(swept.failures) or 'no'} violation{'s' * (len(swept.failures) != 1)}"
    lines = [f"{swept.schedules:,} schedules in {swept.seconds:.0f} s, {swept.rate:.0f} a second: {found}."]
    lines += [f"{number:9,} {kind}" for kind, number in sorted(swept.strikes.items())]
    for outcome in swept.failures:
        planted = f" --bug {bug}" if bug else ""
        lines.append(f"seed {outcome.seed}: {outcome.violation}")
        lines.append(f"    replay it: python -m tests.simulation --seed {outcome.seed}{planted} --trace")
    return "\n".join(lines)


def _replay(seed: int, bug: str | None, *, trace: bool) -> int:
    outcome = simulate(seed, parts=BUGS[bug].parts if bug else None, trace=trace)
    for line in outcome.trace:
        print(line)
    print(f"seed {seed}: {outcome.violation or 'everything holds'}")
    return 1 if outcome.violation else 0


def _hunt(processes: int | None) -> None:
    """Looks for each planted bug; prints the table of ``docs/simulation.md``."""
    print(f"| bug | what it is | first seed | caught in of {HUNTED:,} |\n|---|---|---|---|")
    for name, bug in BUGS.items():
        failures = sweep(HUNTED, bug=name, processes=processes, most_failures=None).failures
        first = failures[0].seed if failures else "-"
        print(f"| `{name}` | {bug.says} | {first} | {len(failures)} |", flush=True)


def _show_progress(done: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:,} schedules", end="", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000, help="how many to run (%(default)s)")
    parser.add_argument("--first", type=int, default=0, help="seed to begin with (%(default)s)")
    parser.add_argument("--seed", type=int, help="run this one alone")
    parser.add_argument("--trace", action="store_true", help="with --seed: show all that happens")
    parser.add_argument("--bug", choices=BUGS, help="run it with a bug planted")
    parser.add_argument("--bugs", action="store_true", help="look for every planted bug")
    parser.add_argument("--processes", type=int, help="how many at once (one a CPU)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
