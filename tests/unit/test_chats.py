from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from typer.testing import CliRunner
from word_counter import WordCounter

from models import classifier
from models.chats import areas, evaluate_chats, read_chats, so_far, with_context
from stream.cli.main import command_line
from stream.errors import UsageError

REAL = Path(__file__).parents[3] / "shared" / "data" / "uss_MWOZ.txt.gz"

CHATS = """
USER\tHello, a table please\tRestaurant-Inform\t3,3,3
SYSTEM\tThere is none.\tRestaurant-NoOffer\t
USER\tThat is bad\t\t2,2,3
USER\tReally bad, bye\t\t1,2,2,3
USER\tOVERALL\t\t2,2,2

USER\tgood, thanks\tgeneral-thank\t4,3,2,2
SYSTEM\tBye.\tgeneral-bye\t
USER\tOVERALL\t\t4,4,4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "chats.txt.gz").write_bytes(gzip.compress(CHATS.encode()))
    return tmp_path / "chats.txt.gz"


def test_user_turns_come_with_ratings_dialogue_and_what_was_said_before(file: Path) -> None:
    turns = read_chats(file)
    assert [(turn.text, turn.ratings, turn.dialogue) for turn in turns] == [
        ("Hello, a table please", (3, 3, 3), 0),
        ("That is bad", (2, 2, 3), 0),
        ("Really bad, bye", (1, 2, 2, 3), 0),
        ("good, thanks", (4, 3, 2, 2), 1),
    ]
    assert turns[1].before == (("USER", "Hello, a table please"), ("SYSTEM", "There is none."))
    assert turns[3].before == ()


def test_most_raters_decide_whether_a_turn_is_dissatisfied(file: Path) -> None:
    # Half of the last turn's raters gave 2: that is not most of them.
    assert [turn.dissatisfied for turn in read_chats(file)] == [False, True, True, False]


def test_context_stands_before_the_turn(file: Path) -> None:
    turn = read_chats(file)[2]
    assert with_context(turn, turns=1) == "That is bad Really bad, bye"
    assert with_context(turn, turns=1, roles=("SYSTEM",)) == "There is none. Really bad, bye"
    assert with_context(turn, turns=9) == ("Hello, a table please There is none. That is bad Really bad, bye")
    assert with_context(read_chats(file)[0], turns=2) == "Hello, a table please"


def test_a_fold_starts_anew_with_each_dialogue(file: Path) -> None:
    scores = np.array([0.2, 0.8, 0.4, 0.1])
    assert so_far(scores, read_chats(file), max).tolist() == [0.2, 0.8, 0.8, 0.1]


def test_areas_are_of_dissatisfied_turns_above_others(file: Path) -> None:
    found = {way.way: way for way in evaluate_chats(WordCounter(), read_chats(file), draws=50).ways}
    assert found["turn"].roc_auc.value == 1
    # After the dialogue's worst turn the highest score stays where it was.
    assert found["max so far"].roc_auc.value == 1
    assert found["system + turn"].average_precision.value == 1


def test_intervals_are_over_dialogues() -> None:
    """Ten copies of a turn in one dialogue tell no more than the turn."""
    rng = np.random.default_rng(0)
    truth = rng.random(60) < 0.5
    score = np.clip(truth * 0.2 + rng.random(60) * 0.8, 0, 1)
    once, _ = areas(score, truth, np.arange(60), draws=200)
    often, _ = areas(np.repeat(score, 10), np.repeat(truth, 10), np.repeat(np.arange(60), 10), draws=200)
    assert often.value == pytest.approx(once.value)
    assert often.interval == pytest.approx(once.interval)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("USER hello\n", r"line 1: wanted USER or SYSTEM"),
        ("USER\thello\t\tgood\n", r"line 1: the ratings 'good' are no whole numbers"),
        ("SYSTEM\thello\t\t\n", r"has no user turn with ratings"),
    ],
)
def test_a_file_that_holds_no_such_chats_is_named(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "chats.txt").write_text(content)
    with pytest.raises(UsageError, match=said):
        read_chats(tmp_path / "chats.txt")


def test_a_file_with_broken_bytes_is_named(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[:30] + bytes(20) + whole[50:])
    with pytest.raises(UsageError, match=r"chats.txt.gz cannot be read"):
        read_chats(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no file .*chats.txt.gz"):
        read_chats(tmp_path / "chats.txt.gz")


def test_the_command_prints_the_areas(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "open_classifier", lambda path: WordCounter())
    arguments = ["evaluate", "model", "--chats", str(file), "--draws", "100"]
    found = CliRunner().invoke(command_line(), [*arguments, "--json"])
    assert found.exit_code == 0
    stated = json.loads(found.stdout)
    assert stated["evaluation"] is None
    assert (stated["chats"]["turns"], stated["chats"]["dissatisfied"]) == (4, 2)
    assert stated["chats"]["ways"][0]["roc_auc"]["value"] == 1
    table = CliRunner().invoke(command_line(), arguments)
    assert "2 of 4 turns dissatisfied, 2 dialogues" in table.stdout


@pytest.mark.skipif(not REAL.is_file(), reason="the shared data is not here")
def test_the_real_file_is_read_whole() -> None:
    turns = read_chats(REAL)
    assert len(turns) == 11_553
    assert turns[-1].dialogue == 999
    assert sum(turn.dissatisfied for turn in turns) == 485
