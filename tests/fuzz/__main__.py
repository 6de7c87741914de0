"""``python -m tests.fuzz``: looks for inputs that break a promise, for as long as ``FUZZ_SECONDS`` says.

Rules:
- With atheris (Linux x86-64: ``pip install --group fuzz``) code that was not reached before guides the
  search; without it, inputs are mutated blindly. The mutations are the same.
- Each target runs in a process of its own, so that one that dies of native code is found, too; one that hangs
  or takes a gigabyte is ended.
- What breaks a promise is written to ``tests/fuzz/found/``, with the command that repeats it. Mended, it
  belongs in the corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.corpus import CORPUS, HERE, corpus

FOUND = HERE / "found"
HANGS_AFTER_S = 10
MOST_MEMORY_MB = 1_500
"""Of a process; a target's libraries alone take a few hundred."""
GUIDED = importlib.util.find_spec("atheris") is not None


def main() -> int:
    """Looks at all targets, or those named; 1 when something broke."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help="Targets; all if none is named.")
    parser.add_argument("--seconds", type=float, default=float(os.environ.get("FUZZ_SECONDS", "60")))
    parser.add_argument("--input", type=Path, help="Run one input on one target, and nothing else.")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="Of the blind search.")
    parser.add_argument("--blind", action="store_true", help="Without atheris, even where it is installed.")
    parser.add_argument("--child", choices=("blind", "guided"), help=argparse.SUPPRESS)
    asked, passed_on = parser.parse_known_args()
    names = asked.targets or list(_names())
    if unknown := [name for name in names if name not in _names()]:
        parser.error(f"there is no target {', '.join(unknown)}; there are {', '.join(_names())}")
    if asked.input:
        _run(names[0])(asked.input.read_bytes())
        return 0
    if asked.child == "blind":
        return _blind(names[0], asked.seconds, asked.seed)
    if asked.child == "guided":
        return _guided(names[0], asked.seconds, passed_on)
    guided = GUIDED and not asked.blind
    print(f"{len(names)} targets, {asked.seconds:g} s in all, {'guided by coverage' if guided else 'blind'}")
    share = asked.seconds / len(names)
    return max(_look(name, share, asked.seed, guided=guided) for name in names)


def _names() -> list[str]:
    folder = {each.name for each in CORPUS.iterdir()}
    return sorted(folder | {"manifest", "tokenizer", "model"})


def _run(name: str):  # type: ignore[no-untyped-def]  # noqa: ANN202 (targets import all of the product)
    from tests.fuzz.targets import TARGETS  # noqa: PLC0415

    return TARGETS[name].run


def _look(name: str, seconds: float, seed: int, *, guided: bool) -> int:
    """One target in a process of its own."""
    way = "guided" if guided else "blind"
    command = [sys.executable, "-m", "tests.fuzz", name, "--child", way, "--seconds", str(seconds)]
    FOUND.mkdir(exist_ok=True)
    last = FOUND / f"{name}-last"
    environment = os.environ | {"FUZZ_LAST": str(last)}
    try:
        ended = subprocess.run(  # noqa: PLW1510 (its code is looked at)
            [*command, "--seed", str(seed)], env=environment, capture_output=True, text=True,
            timeout=seconds + 60 + HANGS_AFTER_S,
        )  # fmt: skip
        code, said = ended.returncode, ended.stdout + ended.stderr
    except subprocess.TimeoutExpired:
        code, said = -1, "it hung"
    summary = [line for line in said.splitlines() if line.startswith(("ran ", "Done ", "#")) and line.strip()]
    print(f"{'ok  ' if code == 0 else 'FAIL'} {name:<10} {summary[-1] if summary else ''}", flush=True)
    if code == 0:
        last.unlink(missing_ok=True)
        return 0
    print("\n".join(said.splitlines()[-25:]))
    if last.exists():
        kept = FOUND / f"{name}-{hashlib.sha256(last.read_bytes()).hexdigest()[:12]}"
        last.rename(kept)
        print(f"repeat it: python -m tests.fuzz {name} --input {kept}")
    return 1


def _blind(name: str, seconds: float, seed: int) -> int:
    from tests.fuzz.mutate import mutated  # noqa: PLC0415

    run, examples, rng = _run(name), list(corpus(name).values()), random.Random(seed)
    run(examples[0])  # what is loaded once is no part of what an input costs
    last, ends, count = Path(os.environ["FUZZ_LAST"]), time.monotonic() + seconds, 0
    while time.monotonic() < ends:
        data = mutated(rng.choice(examples), examples, rng)
        _once(run, data, last)
        count += 1
    print(f"ran {count:,} inputs")
    return 0


def _once(run, data: bytes, last: Path) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    last.write_bytes(data)  # before: the process may die of it
    started = time.monotonic()
    run(data)
    took = time.monotonic() - started
    if took > HANGS_AFTER_S:
        raise AssertionError(f"one input took {took:.0f} s")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if peak_mb > MOST_MEMORY_MB:
        raise AssertionError(f"the process took {peak_mb:,} MiB")


def _guided(name: str, seconds: float, passed_on: list[str]) -> int:
    import atheris  # noqa: PLC0415 (an extra)

    from tests.fuzz.mutate import mutated  # noqa: PLC0415

    with atheris.instrument_imports(include=["stream"]):
        run = _run(name)
    examples = list(corpus(name).values())
    run(examples[0])
    last = Path(os.environ["FUZZ_LAST"])

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if rng.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return mutated(data or examples[0], examples, rng)[:most]

    with tempfile.TemporaryDirectory() as folder:
        for number, each in enumerate(examples):
            (Path(folder) / str(number)).write_bytes(each)
        options = [
            f"-max_total_time={max(1, int(seconds))}", "-max_len=160000", f"-timeout={HANGS_AFTER_S}",
            f"-rss_limit_mb={MOST_MEMORY_MB}", f"-artifact_prefix={folder}/", "-print_final_stats=0",
        ]  # fmt: skip
        atheris.Setup(
            [sys.argv[0], *options, *passed_on, folder],
            lambda data: _once(run, data, last),
            custom_mutator=mutate,
        )
        atheris.Fuzz()  # ends the process
    return 0


if __name__ == "__main__":
    sys.exit(main())
