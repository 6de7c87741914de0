"""Customer-service chats with satisfaction ratings: does a sentiment model find the dissatisfied customers?

The file is that of User Satisfaction Simulation (Sun et al. 2021), MultiWOZ part: dialogues divided by an
empty line, a turn a line with tabs between

    role (USER or SYSTEM)    text    dialogue act    ratings (of user turns), by commas: 3,4,3

Three to six people rated every user turn from 1 to 5; a turn OVERALL rates the dialogue.

Rules:
- A turn is dissatisfied when more than half of its raters gave 2 or lower. (A mean of at most 2 needs all of
  them to agree, and leaves 71 turns of 11,553.)
- The measure is the area under the ROC curve of a score for dissatisfaction: how often a dissatisfied turn
  scores above another. Ratings are never fitted to.
- Turns of one dialogue resemble each other, so bootstrap draws are of whole dialogues.
- Evaluation only: the data's licence is not stated.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from models.classifier import probabilities
from models.metrics import DRAWS, Figure, Ranked, interval, resamples
from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from models.classifier import Classifier

OVERALL = "OVERALL"


class Turn(NamedTuple):
    """What a customer wrote, and how satisfied people thought them to be."""

    text: str
    ratings: tuple[int, ...]
    before: tuple[tuple[str, str], ...]
    """Role and text of the turns before it in the dialogue, the first one first."""
    dialogue: int

    @property
    def dissatisfied(self) -> bool:
        """Whether more than half of the raters gave 2 or lower."""
        return sum(rating <= 2 for rating in self.ratings) * 2 > len(self.ratings)


class ChatFigures(msgspec.Struct, frozen=True, kw_only=True):
    """One way of scoring turns."""

    way: str
    meaning: str
    roc_auc: Figure
    average_precision: Figure


class Chats(msgspec.Struct, frozen=True, kw_only=True):
    """A classifier on chats."""

    model: str
    dialogues: int
    turns: int
    dissatisfied: int
    ways: tuple[ChatFigures, ...]


def read_chats(file: Path) -> list[Turn]:
    """User turns with ratings, in order; OVERALL lines are left out.

    Raises:
        UsageError: the file is not there or not of this kind.
    """
    opened = gzip.open if file.suffix == ".gz" else open
    turns: list[Turn] = []
    before: list[tuple[str, str]] = []
    dialogue = 0
    try:
        with opened(file, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    dialogue, before = dialogue + bool(before), []
                    continue
                role, text, ratings = _turn(line, f"{file}, line {number}")
                if role == "USER" and ratings and text != OVERALL:
                    turns.append(Turn(text, ratings, tuple(before), dialogue))
                before.append((role, text))
    except FileNotFoundError:
        raise UsageError(f"There is no file {file}; name one of chats with ratings.") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}.") from None
    if not turns:
        raise UsageError(f"{file} has no user turn with ratings.")
    return turns


def _turn(line: str, where: str) -> tuple[str, str, tuple[int, ...]]:
    fields = line.rstrip("\r\n").split("\t")
    if len(fields) != 4 or fields[0] not in {"USER", "SYSTEM"}:
        raise UsageError(f"{where}: wanted USER or SYSTEM, text, act and ratings with tabs between them.")
    try:
        return fields[0], fields[1], tuple(int(each) for each in fields[3].split(",") if each)
    except ValueError:
        raise UsageError(f"{where}: the ratings {fields[3]!r} are no whole numbers.") from None


# --- ways to score ----------------------------------------------------------------------------------------


def with_context(turn: Turn, *, turns: int, roles: Sequence[str] = ("USER", "SYSTEM")) -> str:
    """A turn's text after the last ``turns`` turns of ``roles`` before it.

    >>> with_context(Turn("No.", (2,), (("USER", "Hi."), ("SYSTEM", "Is it blue?")), 0), turns=1)
    'Is it blue? No.'
    """
    said = [text for role, text in turn.before if role in roles]
    return " ".join([*said[max(len(said) - turns, 0) :], turn.text])


def so_far(
    scores: NDArray[np.float64], turns: Sequence[Turn], fold: Callable[[Sequence[float]], float]
) -> NDArray[np.float64]:
    """Of each turn, ``fold`` over the scores of its dialogue's turns up to itself, shape (n,)."""
    made, seen, dialogue = np.empty(len(turns)), list[float](), -1
    for at, (score, turn) in enumerate(zip(scores.tolist(), turns, strict=True)):
        if turn.dialogue != dialogue:
            dialogue, seen = turn.dialogue, []
        seen.append(score)
        made[at] = fold(seen)
    return made


def _mean(seen: Sequence[float]) -> float:
    return sum(seen) / len(seen)


def _recent(seen: Sequence[float]) -> float:
    """Each turn weighs half of the next one."""
    weights = [0.5 ** (len(seen) - 1 - at) for at in range(len(seen))]
    return sum(weight * score for weight, score in zip(weights, seen, strict=True)) / sum(weights)


TEXTS: dict[str, tuple[str, Callable[[Turn], str]]] = {
    "turn": ("the turn alone", lambda turn: turn.text),
    "system + turn": (
        "the system's turn before it, then the turn",
        lambda turn: with_context(turn, turns=1, roles=("SYSTEM",)),
    ),
    "user + turn": (
        "the customer's turn before it, then the turn",
        lambda turn: with_context(turn, turns=1, roles=("USER",)),
    ),
    "three + turn": ("the three turns before it, then the turn", lambda turn: with_context(turn, turns=3)),
}
FOLDS: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {
    "max so far": ("the highest score of the customer's turns so far", max),
    "mean so far": ("the mean score of the customer's turns so far", _mean),
    "recent": ("a mean in which each of the customer's turns weighs half of the next", _recent),
}


def evaluate_chats(
    classifier: Classifier, turns: Sequence[Turn], *, draws: int = DRAWS, seed: int = 0
) -> Chats:
    """Areas under the curves of dissatisfaction by P(negative), one for each way of scoring a turn.

    Raises:
        UsageError: every turn is satisfied, or none is.
    """
    truth = np.array([turn.dissatisfied for turn in turns])
    if truth.all() or not truth.any():
        raise UsageError("The chats have satisfied turns only, or none: there is nothing to tell apart.")
    dialogue = np.unique([turn.dialogue for turn in turns], return_inverse=True)[1]
    ways = {}
    for way, (meaning, text) in TEXTS.items():
        ways[way] = meaning, probabilities(classifier, [text(turn) for turn in turns])[:, 0]
    alone = ways["turn"][1]
    for way, (meaning, fold) in FOLDS.items():
        ways[way] = meaning, so_far(alone, turns, fold)
    return Chats(
        model=classifier.name,
        dialogues=int(dialogue.max()) + 1,
        turns=len(turns),
        dissatisfied=int(truth.sum()),
        ways=tuple(
            ChatFigures(
                way=way,
                meaning=meaning,
                **{figure.name: figure for figure in areas(score, truth, dialogue, draws=draws, seed=seed)},
            )
            for way, (meaning, score) in ways.items()
        ),
    )


def areas(
    score: NDArray[np.float64],
    truth: NDArray[np.bool_],
    dialogue: NDArray[np.intp],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[Figure, Figure]:
    """ROC AUC and average precision of a score, with intervals over draws of dialogues.

    Args:
        score: of each turn, higher where dissatisfaction is likelier, shape (n,).
        truth: whether it is dissatisfied, shape (n,).
        dialogue: number of its dialogue, from 0, shape (n,).
        draws: bootstrap resamples.
        seed: of the resampling.
    """
    ranked = Ranked(score, truth)
    values = ranked(np.ones((1, len(truth))))
    drawn = [
        np.stack(ranked(some[:, dialogue]))
        for weights in resamples(int(dialogue.max()) + 1, draws, seed)
        for some in np.array_split(weights, max(len(weights) // 50, 1))  # turns are ten times the dialogues
    ]
    ends = [interval(each) for each in np.concatenate(drawn, axis=1)]
    names = ("roc_auc", "average_precision")
    roc_auc, average_precision = (
        Figure(name, float(value[0]), end) for name, value, end in zip(names, values, ends, strict=True)
    )
    return roc_auc, average_precision
