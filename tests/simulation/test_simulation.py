"""Thousands of schedules with faults of every kind hold what must hold; planted bugs do not get through.

A failing seed is printed with the command that replays it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.__main__ import summary
from tests.simulation.bugs import BUGS
from tests.simulation.sweep import sweep
from tests.simulation.worker import Parts
from tests.simulation.world import simulate

SCHEDULES = 10_000
SEEDS_A_BUG = 3_000
"""The rarest of those looked for here are caught in about one of 200."""
ROOT = Path(__file__).parents[2]

FAULTS = {
    "a worker's session expired",
    "alerts published again",
    "answers lost",
    "authors erased",
    "commits refused",
    "dead letters published again",
    "ends of logs that lagged",
    "fetches out of range",
    "model calls that failed",
    "old masters",
    "products erased",
    "publishes that failed",
    "publishes that failed, but arrived",
    "rebalances",
    "records sent again",
    "records that kill workers",
    "requests given up",
    "requests lost",
    "requests that came late",
    "rewinds",
    "runs dropped in a rebalance",
    "runs lost on the way",
    "steps applied that nobody waited for any more",
    "steps refused that nobody waited for any more",
    "steps refused: a gap",
    "steps refused: a repeat",
    "steps refused: something was erased",
    "times Kafka was away",
    "times Redis lost everything",
    "times Redis lost its last writes",
    "times Redis lost writes",
    "times Redis was away",
    "times a worker named deleted records",
    "times retention deleted records",
    "workers killed",
    "workers stopped and woken",
    "workers that a record killed",
    "workers told to stop",
}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_thousand_schedules_lose_nothing_and_count_nothing_twice() -> None:
    swept = sweep(SCHEDULES)
    told = summary(swept)
    print(told)
    assert not swept.failures, told
    assert swept.schedules == SCHEDULES
    assert {kind for kind, times in swept.strikes.items() if times} >= FAULTS


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("bug", [name for name, bug in BUGS.items() if not bug.is_rare])
def test_a_planted_bug_is_caught(bug: str) -> None:
    parts = BUGS[bug].parts
    caught = next((seed for seed in range(SEEDS_A_BUG) if simulate(seed, parts=parts).violation), None)
    assert caught is not None, f"no seed below {SEEDS_A_BUG} catches {bug}: {BUGS[bug].says}"
    assert simulate(caught).violation is None
    print(f"python -m tests.simulation --bug {bug} --seed {caught} --trace")


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_changes_what_is_there(bug: str) -> None:
    """A bug in a method that was since renamed changes nothing, and searches for it find nothing."""
    replaced = [(kind, of) for kind, of in zip(BUGS[bug].parts, Parts(), strict=True) if kind is not of]
    assert any(hasattr(of, name) for kind, of in replaced for name in _defined(kind, of))


def _defined(kind: type, of: type) -> set[str]:
    """What a class and its bases below `of` define, but for what every class has."""
    own = {name for each in kind.__mro__ if not issubclass(of, each) for name in vars(each)}
    return {name for name in own if name == "__init__" or not name.startswith("__")}


@pytest.mark.parametrize("seed", range(4))
def test_a_seed_makes_the_same_schedule_in_every_process(seed: int) -> None:
    traces = [
        subprocess.run(
            [sys.executable, "-m", "tests.simulation", "--seed", str(seed), "--trace"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=120,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert traces[0] == traces[1]
    assert len(traces[0].splitlines()) > 50


@pytest.mark.parametrize("seed", range(10))
def test_tracing_changes_nothing(seed: int) -> None:
    assert simulate(seed).fingerprint == simulate(seed, trace=True).fingerprint


def test_a_failing_seed_is_told_with_the_command_that_replays_it() -> None:
    swept = sweep(20, bug="no-fence", processes=1, most_failures=1)
    failure = swept.failures[0]
    assert f"--seed {failure.seed} --bug no-fence --trace" in summary(swept, "no-fence")
