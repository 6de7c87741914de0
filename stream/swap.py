"""A worker follows what was promoted, and tries what is proposed beside its model: the hot swap.

Rules:
- Every ``LOOK_S``, and before anything is read after an assignment, the worker looks what was promoted
  (``stream.promotion``). If that is not what it scores with, it loads it and switches. One that cannot ends
  itself: a fleet scores with one version, and the others take its partitions.
  So whoever gets a partition scores it with what was promoted by then, and its versions never go back.
- A proposed bundle is loaded beside the model that serves: off the event loop, checksums first, one at a
  time, and only when no window is inside with a model of before. There are two models in memory at most.
- The candidate then scores texts that were just scored for real: on the scoring thread, between windows, for
  no more than the proposal's share of the time (``stream.core.shadow.Duty``). Nothing of it is counted,
  published or judged; what it throws is a reason to refuse it.
- The worker's own sample is judged by the proposal's gates when it is full. What it found, and what it made
  of it, is in its status; it does not switch for that. When every worker agrees, the command promotes, and
  all switch between two windows.
- A proposal that is gone takes its candidate with it.
- A switch is a change of model to whoever watches: the status names the new version from then on.
"""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
import structlog

from stream.backoff import retry
from stream.core.shadow import Comparison, Duty, evenly, refusals, stated_refusals, surer_by
from stream.errors import DependencyError, UsageError
from stream.promotion import check_named
from stream.scorer.contract import score_encoded
from stream.scorer.isolate import KNOWN_GOOD
from stream.status import SwapStatus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from faust.types import TP

    from stream.core.shadow import Figures
    from stream.pipeline import Listener
    from stream.promotion import Named, Promotion, Promotions, Proposal
    from stream.record import Detector
    from stream.runs import Position
    from stream.scorer.contract import Scorer
    from stream.scorer.isolate import Scored
    from stream.status import SwapState
    from stream.transport import Log, OffsetSink

log = structlog.get_logger("swap")

LOOK_S = 1.0
"""How often Redis is asked: two small values."""
PAUSE_S = 0.05
"""Between two looks at whether there is something to compare, or something to wait for."""
WAITING_TEXTS = 128
"""Live texts kept for the shadow; of more, the latest."""
TIMED_TEXTS = 64
"""So many are scored by both models, in turn, to compare how long they take."""

LEAVE_S = 60.0
"""What is inside is finished by then, and a model of before is gone; a slow one's window takes ten."""

T = TypeVar("T")


class Opened(NamedTuple):
    """A bundle's model, loaded."""

    named: Named
    scorer: Scorer[Any]
    detector: Detector
    """Names it in alerts."""
    figures: Figures
    """Of its manifest."""


class Stage(Protocol):
    """What is asked of the pipeline."""

    def listen(self, listener: Listener | None) -> None:
        """Has somebody told of every window that is scored."""
        ...

    def between_windows(self, call: Callable[[], T]) -> Awaitable[T]:
        """Runs ``call`` on the scoring thread, never beside a window."""
        ...


class Row(NamedTuple):
    """A live text, and what the serving model said of it."""

    text: str
    label: int
    negative: float
    confidence: float


class Swap:
    """Holds the model that serves and, for a while, the one that may follow it.

    Args:
        promotions: what was promoted, and what is proposed.
        configured: the bundle that the worker was started with, which serves until told otherwise.
        serving: what is loaded now: that, or what was promoted before the worker started.
        load: verifies and loads a bundle; runs on a thread of its own.
        switch: has the pipeline score with another model from the next window on.
        stage: the pipeline.
        token_budget: most padded tokens in a micro-batch.
        clock: seconds, only forward.
    """

    def __init__(
        self,
        promotions: Promotions,
        *,
        configured: Named,
        serving: Opened,
        load: Callable[[Named], Opened],
        switch: Callable[[Opened], None],
        stage: Stage,
        token_budget: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._promotions = promotions
        self._configured = configured
        self._serving = serving
        self._load = load
        self._switch = switch
        self._stage = stage
        self._token_budget = token_budget
        self._clock = clock
        self._looking = asyncio.Lock()
        self._candidate: Opened | None = None
        self._proposal: Proposal | None = None
        self._leaving: list[weakref.ref[Any]] = []
        """Models that are not used any more, and may be at work yet."""
        self._waiting: deque[Row] = deque(maxlen=WAITING_TEXTS)
        self._duty = Duty(1.0, 0.0)
        self._comparing: asyncio.Task[None] | None = None
        self._failed = asyncio.Event()
        self._error: UsageError | DependencyError | None = None
        self.status = self._nothing_proposed()
        self.outcomes = {"switched": 0, "refused": 0, "rolled_back": 0}
        """How often, since it was made."""
        self._known: Promotion | None = None
        """What was promoted, as of the last look."""

    async def run(self) -> None:
        """Looks again and again, until cancelled.

        Raises:
            UsageError: what was promoted cannot be loaded here.
            DependencyError: nor can its device be used.
        """
        try:
            while not self._failed.is_set():
                await self.look(patiently=True)
                try:
                    await asyncio.wait_for(self._failed.wait(), LOOK_S)
                except TimeoutError:
                    continue
        finally:
            self._drop_candidate()
        assert self._error is not None
        raise self._error

    async def caught_up(self) -> None:
        """Returns when the worker scores with what was promoted; never, when it cannot (``run`` then ends).

        Raises:
            DependencyError: Redis is away.
        """
        if not self._failed.is_set():
            await self.look()
        if self._failed.is_set():
            await asyncio.Event().wait()

    async def look(self, *, patiently: bool = False) -> None:
        """Goes by what Redis says now.

        Args:
            patiently: waits for Redis when it is away.

        Raises:
            DependencyError: Redis is away.
        """
        # Read under the lock, too: what was read before somebody else switched must not be gone by after it.
        async with self._looking:
            read = self._promotions.read
            found = await (retry(read, "look which bundle was promoted") if patiently else read())
            promotion, proposal = found.promotion, found.proposal
            wanted = (promotion and promotion.bundle) or self._configured
            is_back = _goes_back(self._known, promotion)
            self._known = promotion
            if wanted.manifest != self._serving.named.manifest:
                await self._follow(wanted)
                if wanted.manifest == self._serving.named.manifest:
                    self.outcomes["rolled_back" if is_back else "switched"] += 1
            if proposal != self._proposal:
                self._drop_candidate()
                if proposal is not None:
                    await self._try(proposal)

    # What was promoted.

    async def _follow(self, wanted: Named) -> None:
        """Switches to what was promoted: at once where it is the candidate, else when it is loaded."""
        opened = self._candidate
        if opened is None or opened.named.manifest != wanted.manifest:
            self._drop_candidate()
            log.warning("another bundle was promoted; loading it", bundle=wanted.path, version=wanted.version)
            try:
                opened = await self._loaded(wanted)
            except (UsageError, DependencyError) as error:
                # Not DependencyError: what Redis does not answer is asked again, and this is not Redis.
                self._error = type(error)(
                    f"This worker cannot score with what was promoted, and one fleet scores with one bundle:"
                    f" {error} (`reviewpulse bundle promote` and `rollback` change what is promoted.)"
                )
                self._failed.set()
                return
        self._use(opened)

    def _use(self, opened: Opened) -> None:
        was = self._serving.scorer.version
        self._leaving.append(weakref.ref(self._serving.scorer))
        self._serving = opened
        self._candidate = None  # it stays
        self._drop_candidate()
        self._switch(opened)
        log.info("another model scores", was=was, now=opened.scorer.version)

    async def _loaded(self, which: Named) -> Opened:
        """Loads a bundle when no third model is in memory."""
        until = self._clock() + LEAVE_S
        while any(each() is not None for each in self._leaving):
            if self._clock() > until:
                log.error("a model of before is in memory yet; going on without its leave")
                gc.collect()
                break
            await asyncio.sleep(PAUSE_S)
        self._leaving = []
        return await asyncio.to_thread(self._load_checked, which)

    def _load_checked(self, which: Named) -> Opened:
        check_named(which)
        return self._load(which)

    # What is proposed.

    async def _try(self, proposal: Proposal) -> None:
        """Loads what is proposed, and has it compared."""
        self._proposal = proposal
        which = proposal.bundle or self._configured
        if which.manifest == self._serving.named.manifest:
            self._say("ready")
            return
        self._say("loading")
        log.info("a bundle is proposed", bundle=which.path, version=which.version, by=proposal.by)
        if which.version == self._serving.scorer.version:
            self._refuse([f"its content is another and its version is the same, {which.version}"])
            return
        try:
            candidate = await self._loaded(which)
            await self._stage.between_windows(partial(self._score, candidate.scorer, [KNOWN_GOOD]))
        except Exception as error:  # noqa: BLE001 - whatever a runtime throws at a model that is none
            self._refuse([str(error) or repr(error)])
            return
        self._candidate = candidate
        if not proposal.compares:
            self._say("ready")
            return
        gates = proposal.gates
        worse = stated_refusals(self._serving.figures, candidate.figures, gates)
        if worse:
            self._refuse(worse)
            return
        self._say("comparing")
        self.status.surer = surer_by(self._serving.figures, candidate.figures)
        self._duty = Duty(gates.share, self._clock())
        self._waiting.clear()
        self._stage.listen(self._heard)
        self._comparing = asyncio.create_task(self._compare(candidate, proposal), name="shadow")

    def _say(self, state: SwapState, reasons: Sequence[str] = ()) -> None:
        assert self._proposal is not None
        before, self.status = self.status, self._nothing_proposed()
        self.status.proposal, self.status.state = self._proposal.id, state
        self.status.reasons = list(reasons)
        self.status.compared = before.compared if state in {"ready", "refused"} else Comparison()

    def _refuse(self, reasons: Sequence[str]) -> None:
        self._say("refused", reasons)
        self.outcomes["refused"] += 1
        self._let_go()
        log.warning("this bundle is refused", reasons=list(reasons))

    def _drop_candidate(self) -> None:
        """No proposal stands any more."""
        self._stage.listen(None)
        if self._comparing is not None:
            self._comparing.cancel()
        self._comparing = self._proposal = None
        self._let_go()
        self._waiting.clear()
        self.status = self._nothing_proposed()

    def _nothing_proposed(self) -> SwapStatus:
        serves = self._serving.named.manifest
        return SwapStatus(bundle=serves, is_configured=serves == self._configured.manifest)

    def _let_go(self) -> None:
        if self._candidate is not None:
            self._leaving.append(weakref.ref(self._candidate.scorer))
            self._candidate = None

    def _heard(self, texts: Sequence[str], scored: Scored, seconds: float) -> None:
        """A window was scored: some of it is kept for the shadow. On the scoring thread."""
        self._duty.window_took(seconds)
        rows = [row for row in range(len(texts)) if row not in scored.failed]
        for row in evenly(rows, WAITING_TEXTS):
            of_row = scored.probabilities[row]
            self._waiting.append(
                Row(texts[row], int(scored.labels[row]), float(of_row[0]), float(of_row.max()))
            )

    async def _compare(self, candidate: Opened, proposal: Proposal) -> None:
        """The shadow: scores what waits, as much as it may, until there is enough to judge by."""
        compared, gates = self.status.compared, proposal.gates
        try:
            while compared.texts < gates.texts:
                affordable = self._duty.affordable(self._clock())
                rows = [self._waiting.popleft() for _ in range(min(affordable, len(self._waiting)))]
                if not rows:
                    await asyncio.sleep(PAUSE_S)
                    continue
                is_timed = compared.timed < TIMED_TEXTS
                sample, seconds = await self._stage.between_windows(
                    partial(self._sampled, candidate, rows, is_timed=is_timed)
                )
                self._duty.spent(seconds, len(rows))
                compared.add(sample)
        except Exception as error:  # noqa: BLE001 - whatever a runtime throws at live text
            self._refuse([f"it fails on a text that the other one scored: {type(error).__name__}: {error}"])
            return
        finally:
            self._stage.listen(None)
        why = refusals(compared, gates, self.status.surer)
        if why:
            self._refuse(why)
        else:
            self._say("ready")

    def _sampled(self, candidate: Opened, rows: Sequence[Row], *, is_timed: bool) -> tuple[Comparison, float]:
        """What both made of these texts, and how long it took in all; on the scoring thread."""
        texts = [row.text for row in rows]
        started = time.perf_counter()
        probabilities = self._score(candidate.scorer, texts)
        candidate_s = time.perf_counter() - started
        labels = candidate.scorer.label(probabilities)
        sample = Comparison(
            texts=len(rows),
            agreed=sum(int(label) == row.label for label, row in zip(labels, rows, strict=True)),
            negative=sum(row.negative for row in rows),
            candidate_negative=float(probabilities[:, 0].sum()),
            confidence=sum(row.confidence for row in rows),
            candidate_confidence=float(probabilities.max(axis=1).sum()),
        )
        if is_timed:
            again = time.perf_counter()
            self._score(self._serving.scorer, texts)
            sample.timed, sample.candidate_seconds = len(rows), candidate_s
            sample.seconds = time.perf_counter() - again
        return sample, time.perf_counter() - started

    def _score(self, scorer: Scorer[Any], texts: list[str]) -> np.ndarray[Any, np.dtype[np.float32]]:
        found = score_encoded(scorer, scorer.encode(texts), token_budget=self._token_budget)
        if not np.isfinite(found).all():
            raise ValueError("its probabilities are not finite")
        return found


def _goes_back(before: Promotion | None, now: Promotion | None) -> bool:
    """Whether a promotion is of the bundle that the one before it took the place of, without a comparison."""
    if before is None or now is None or not now.ungated:
        return False
    return now.bundle == before.previous and now.previous == before.bundle


class PromotedFirst:
    """The sink that is given: nothing of it is read before the worker scores with what was promoted.

    Args:
        sink: the lanes.
        swap: looks what was promoted.
    """

    def __init__(self, sink: OffsetSink, swap: Swap) -> None:
        self._sink = sink
        self._swap = swap

    async def positions(self, tps: set[TP], kafka: Log) -> Mapping[TP, Position]:
        """See ``OffsetSink``."""
        await self._swap.caught_up()
        return await self._sink.positions(tps, kafka)

    def open(self, positions: Mapping[TP, Position]) -> Mapping[TP, int]:
        """See ``OffsetSink``."""
        return self._sink.open(positions)

    def committable(self) -> Mapping[TP, int]:
        """See ``OffsetSink``."""
        return self._sink.committable()

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """See ``OffsetSink``."""
        self._sink.committed(offsets)
