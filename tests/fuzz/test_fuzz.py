"""Whatever comes in, only documented errors come out: of every decoder, file and request.

``make fuzz`` looks for longer; what it finds joins ``tests/fuzz/corpus``, and is tried here first.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tests.fuzz import __main__ as runner
from tests.fuzz.corpus import CORPUS, corpus
from tests.fuzz.mutate import MOST_BYTES, mutated
from tests.fuzz.targets import TARGETS, Broken, check, said_well

if TYPE_CHECKING:
    from random import Random

ROOT = Path(__file__).parents[2]
EXAMPLES = [(target, name) for target in TARGETS for name in corpus(target)]


@pytest.mark.parametrize(("target", "name"), EXAMPLES)
def test_the_corpus_breaks_nothing(clean_environment: None, target: str, name: str) -> None:
    TARGETS[target].run(corpus(target)[name])


@pytest.mark.parametrize("target", TARGETS)
def test_mutated_inputs_break_nothing(clean_environment: None, target: str) -> None:
    examples = list(corpus(target).values())

    @given(st.integers(0, len(examples) - 1), st.randoms(use_true_random=False))
    @hypothesis_settings(
        max_examples=TARGETS[target].examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    def look(which: int, rng: Random) -> None:
        TARGETS[target].run(mutated(examples[which], examples, rng))

    look()


@given(st.binary(max_size=300), st.randoms(use_true_random=False))
def test_a_mutation_is_repeatable_and_bounded(example: bytes, rng: Random) -> None:
    state = rng.getstate()
    first = mutated(example, [b"other"], rng)
    rng.setstate(state)
    assert mutated(example, [b"other"], rng) == first
    assert len(first) <= MOST_BYTES


def test_every_target_has_a_corpus_and_every_folder_of_it_a_target() -> None:
    assert [target for target in TARGETS if not corpus(target)] == []
    assert [each.name for each in CORPUS.iterdir() if each.name not in TARGETS] == []


def test_a_broken_promise_is_noticed() -> None:
    broken: list[Any] = [lambda: check(False, "x"), lambda: said_well(""), lambda: said_well("\ud800")]
    for each in broken:
        with pytest.raises(Broken):
            each()


def test_a_secret_that_is_repeated_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from stream.core.notify_parse import _Reading  # noqa: PLC0415
    from tests.fuzz import targets  # noqa: PLC0415

    monkeypatch.setattr(_Reading, "is_secret", lambda self, path: False)
    with pytest.raises(Broken, match="a secret is not repeated"):
        targets.notify(
            b'version = 1\ndefault = []\n[[target]]\nname = "a"\ntype = "webhook"\nurl = "https://x.example"\n'
            b'secret = "hunter2hunter2hunter2"\n'
        )


def test_the_long_search_runs_and_names_what_it_ran() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "redis_url", "letters", "--seconds", "1", "--blind"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    ran = r"ran [\d,]+ inputs\n"
    wanted = rf"2 targets, 1 s in all, blind\nok   redis_url  {ran}ok   letters    {ran}"
    assert re.fullmatch(wanted, done.stdout)


def test_an_input_that_breaks_something_is_kept_before_it_does(tmp_path: Path) -> None:
    def broken(data: bytes) -> None:
        raise KeyError(data)

    with pytest.raises(KeyError):
        runner._once(broken, b"bad", tmp_path / "last")
    assert (tmp_path / "last").read_bytes() == b"bad"
