"""Promoting a bundle: proposes it to the workers, gathers what they say, and makes the one switch.

Rules:
- Nothing switches unless every worker at work has loaded the bundle and none refuses, and the live texts that
  they compared, taken together, are enough and pass the gates. Then one compare-and-set promotes it.
- A worker that has compared enough by itself refuses by itself: its partitions' texts are its own.
- Killed or interrupted at any moment, the same command may run again. Before the switch nothing has happened,
  and the workers forget the candidate when the lease has run out; after it, what was promoted stays so.
- What is promoted already is promoted again by saying so: the workers are waited for, that is all.
- Going back is no news, and whoever wants to go back is in a hurry: no gates, the bundle must only load.
"""

from __future__ import annotations

import asyncio
import getpass
import socket
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, Self

from stream.core.shadow import Comparison, Gates, pooled, refusals
from stream.errors import UsageError
from stream.promotion import Promotion, Promotions, Proposal, new_id
from stream.redis_config import connect_async
from stream.status import StatusBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.promotion import Found, Named
    from stream.settings import Settings
    from stream.status import WorkerStatus

LOOK_S = 0.5
SWITCH_S = 30.0
"""Longest a worker may take to switch: it looks once a second, and only one that starts has to load."""


class Answer(NamedTuple):
    """What a worker says of a proposal."""

    worker: str
    state: str
    """``loading``, ``comparing``, ``ready``, ``refused``; ``switched`` in the end; ``apart``: it scores
    without a bundle; ``silent``: it has not heard of it yet."""
    reasons: tuple[str, ...]
    compared: Comparison
    surer: float | None = None
    """As the worker read it in both manifests."""


class Outcome(NamedTuple):
    """How it ended."""

    promoted: bool
    reasons: tuple[str, ...]
    """Why not."""
    answers: tuple[Answer, ...]
    compared: Comparison
    """All workers' samples together."""


class Wish(NamedTuple):
    """What is to be promoted, and how."""

    bundle: Named | None
    """None: what each worker is configured with."""
    gates: Gates = Gates()
    compares: bool = True
    wait_s: float = 300.0
    """Longest that live texts are waited for."""
    alone: bool = False
    """Whether it is promoted though no worker is at work: then nobody tries it."""


def signature() -> str:
    """Who promotes, for people."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (OSError, KeyError):  # a container's user may have no name
        return socket.gethostname()


def previous(found: Found) -> Named | None:
    """What a rollback goes back to; None is what each worker is configured with.

    Raises:
        UsageError: nothing was promoted yet.
    """
    if found.promotion is None:
        raise UsageError(
            "Nothing was promoted yet, so there is nothing to go back to: each worker scores with the bundle"
            " it is configured with."
        )
    return found.promotion.previous


class Promoter:
    """Promotes bundles of a namespace. Use as ``async with``.

    Args:
        settings: where Redis is.
        say: is called with the answers whenever they have changed.
    """

    def __init__(self, settings: Settings, say: Callable[[Sequence[Answer]], None] = lambda _: None) -> None:
        self._promotions = Promotions(connect_async(settings), settings.namespace)
        self._board = StatusBoard(connect_async(settings), settings.namespace)
        self._say = say
        self._said: list[Answer] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._promotions.close()
        await self._board.close()

    async def found(self) -> Found:
        """What was promoted, and what is proposed."""
        return await self._promotions.read()

    async def workers(self) -> list[WorkerStatus]:
        """Those at work."""
        return await self._board.workers()

    async def changes(self) -> dict[str, list[tuple[int, str]]]:
        """Which model scored from which offset on, by partition; the latest changes of each."""
        return await self._promotions.changes()

    async def promote(self, wish: Wish) -> Outcome:
        """Promotes a bundle, or says why not.

        Raises:
            UsageError: another promotion is under way.
            DependencyError: Redis failed.
        """
        found = await self.found()
        live = found.promotion.bundle if found.promotion else None
        if wish.bundle == live:
            return await self._switched(wish.bundle, Comparison())
        if not wish.alone and not any(map(_takes_part, await self.workers())):
            why = "no worker with a bundle is at work, so nobody can try it; --force promotes it all the same"
            return Outcome(False, (why,), (), Comparison())
        proposal = Proposal(
            id=new_id(),
            bundle=wish.bundle,
            by=signature(),
            at=_now(),
            gates=wish.gates,
            compares=wish.compares,
        )
        if not await self._promotions.propose(proposal):
            other = (await self.found()).proposal
            who = f" {other.bundle.version if other.bundle else ''} by {other.by}" if other else ""
            raise UsageError(
                f"Another promotion is under way:{who}. Wait for its end; one that was killed is forgotten"
                " after 15 s."
            )
        try:
            return await self._decide(found, proposal, wish)
        finally:
            await self._promotions.withdraw(proposal)

    async def _decide(self, found: Found, proposal: Proposal, wish: Wish) -> Outcome:
        deadline = time.monotonic() + wish.wait_s
        while True:
            answers = await self._answers(proposal)
            compared = pooled(each.compared for each in answers)
            why = [f"{each.worker}: {reason}" for each in answers for reason in each.reasons]
            if not why and _is_enough(answers, compared, wish):
                surer = next((each.surer for each in answers if each.surer is not None), None)
                why = refusals(compared, wish.gates, surer) if wish.compares else []
                if not why:
                    break
            if not why and time.monotonic() > deadline:
                waited = f"after {wish.wait_s:g} s" if wish.wait_s else "at once"
                why = [
                    f"{waited}, {compared.texts} of {wish.gates.texts} live texts were compared"
                    if wish.compares
                    else f"{waited}, not every worker had loaded it",
                    *(f"{each.worker}: {each.state}" for each in answers if each.state != "ready"),
                    "wait longer with --wait, or compare fewer with --texts",
                ]
            if why:
                return Outcome(False, tuple(why), tuple(answers), compared)
            if not await self._promotions.renew(proposal):
                why = ["Redis lost the proposal, or did not answer for longer than its lease: run it again"]
                return Outcome(False, tuple(why), tuple(answers), compared)
            await asyncio.sleep(LOOK_S)
        promotion = Promotion(
            bundle=wish.bundle,
            previous=found.promotion.bundle if found.promotion else None,
            by=proposal.by,
            at=_now(),
            ungated=not wish.compares,
        )
        if not await self._promotions.promote(found, promotion):
            why = ["somebody else promoted another bundle meanwhile: look with `reviewpulse bundle status`"]
            return Outcome(False, tuple(why), tuple(answers), compared)
        return await self._switched(wish.bundle, compared)

    async def _answers(self, proposal: Proposal) -> list[Answer]:
        return self._tell([_answer(each, proposal) for each in await self.workers()])

    def _tell(self, answers: list[Answer]) -> list[Answer]:
        if answers != self._said:
            self._said = answers
            self._say(answers)
        return answers

    async def _switched(self, bundle: Named | None, compared: Comparison) -> Outcome:
        """Waits until every worker scores with what was promoted."""
        deadline = time.monotonic() + SWITCH_S
        samples = {each.worker: each.compared for each in self._said}
        while True:
            answers = [
                Answer(each.name, _use(each, bundle), (), samples.get(each.name, Comparison()))
                for each in await self.workers()
            ]
            late = [each.worker for each in answers if each.state == "silent"]
            if not late:
                self._tell(answers)
                return Outcome(True, (), tuple(answers), compared)
            if time.monotonic() > deadline:
                why = f"it is promoted; not switched after {SWITCH_S:g} s: {', '.join(late)}"
                return Outcome(True, (why,), tuple(answers), compared)
            await asyncio.sleep(LOOK_S)


def _is_enough(answers: Sequence[Answer], compared: Comparison, wish: Wish) -> bool:
    """Whether every worker has it loaded, and they have compared enough."""
    taking_part = [each for each in answers if each.state != "apart"]
    if not taking_part:  # they were at work when it began
        return wish.alone
    if not wish.compares:
        return all(each.state == "ready" for each in taking_part)
    have_it = all(each.state in {"comparing", "ready"} for each in taking_part)
    # All are ready without a text where it is the very bundle that each is configured with.
    are_ready = all(each.state == "ready" for each in taking_part)
    return have_it and (are_ready or compared.texts >= wish.gates.texts)


def _takes_part(status: WorkerStatus) -> bool:
    """Whether a worker scores with a bundle. One of an older version does: it is to be heard, and refuses."""
    return status.swap is None or bool(status.swap.bundle)


def _answer(status: WorkerStatus, proposal: Proposal) -> Answer:
    swap = status.swap
    if swap is None:
        why = "it is of a version that cannot change its bundle: restart it with this one"
        return Answer(status.name, "refused", (why,), Comparison())
    if not swap.bundle:
        return Answer(status.name, "apart", (), Comparison())
    if swap.proposal != proposal.id:
        return Answer(status.name, "silent", (), Comparison())
    return Answer(status.name, swap.state, tuple(swap.reasons), swap.compared, swap.surer)


def _use(status: WorkerStatus, bundle: Named | None) -> str:
    """``switched``, ``apart`` or ``silent``. What each is configured with only the workers know."""
    swap = status.swap
    if swap is None or not swap.bundle:
        return "apart"
    is_it = swap.is_configured if bundle is None else swap.bundle == bundle.manifest
    return "switched" if is_it else "silent"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
