"""What a bundle on trial costs a worker: ``reviewpulse bench swap``.

Rules:
- The worker's own ``Swap`` tries the candidate; windows are scored back to back on one thread, as a busy
  pipeline does. Kafka and Redis are left out: they do not fill the time, the model does.
- Turns with and without the shadow follow one another, so that a machine that slows down slows both; ratios
  are of neighbours.
- A window's wait is from asking for the thread to having it: what was before it there is the shadow.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stream import bundle
from stream.core.shadow import Gates
from stream.promotion import Found, Named, Proposal, named
from stream.scorer import isolate
from stream.scorer.load import load_scorer
from stream.swap import Opened, Swap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stream.pipeline import Listener
    from stream.settings import Settings

WINDOW = 64
"""Reviews of a window: several windows a second, as a worker's are."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured; medians over the rounds."""

    rate: float
    rate_beside_shadow: float
    ratio: float
    compared_per_s: float
    load_s: float
    longest_wait_ms: float
    mb_before: float
    mb_with_candidate: float
    mb_after: float


class _Thread:
    """The scoring thread, and who listens; see ``stream.swap.Stage``."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._thread = ThreadPoolExecutor(1)
        self.waits_s: list[float] = []

    def listen(self, listener: Listener | None) -> None:
        """See ``stream.swap.Stage``."""
        self._listener = listener

    async def between_windows(self, call: Callable[[], Any]) -> Any:
        """See ``stream.swap.Stage``."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def window(self, scorer: Any, texts: Sequence[str], token_budget: int) -> None:
        """Scores a window as the pipeline does."""
        asked = time.perf_counter()

        def score() -> None:
            started = time.perf_counter()
            self.waits_s.append(started - asked)
            encoded = isolate.encode(scorer, texts)
            scored = isolate.score(scorer, texts, encoded, token_budget=token_budget)
            if self._listener is not None:
                self._listener(texts, scored, time.perf_counter() - started)

        await self.between_windows(score)


class _Keys:
    """Redis' two keys."""

    proposal: Proposal | None = None

    async def read(self) -> Found:
        return Found(None, self.proposal, b"")


async def run(
    settings: Settings, candidate: Path, texts: Sequence[str], *, share: float, seconds: float, rounds: int
) -> Report:
    """Measures a trial of ``candidate`` beside the bundle in use.

    Args:
        settings: the bundle that serves, provider, threads, token budget.
        candidate: a bundle's folder, of another version.
        texts: reviews, scored over and over.
        share: most of the time that the shadow may take.
        seconds: of each turn.
        rounds: turns of each kind.

    Raises:
        BundleError: a bundle cannot be used.
    """
    serving = named(settings.bundle, bundle.load_manifest(settings.bundle))
    tried = named(candidate, bundle.load_manifest(candidate))
    opened = _open(settings, serving)
    thread, keys = _Thread(), _Keys()
    swap = Swap(
        keys,  # type: ignore[arg-type]  # it reads, and that is all
        configured=serving,
        serving=opened,
        load=lambda which: _open(settings, which),
        switch=lambda _: None,
        stage=thread,
        token_budget=settings.token_budget,
    )
    await _score_for(min(seconds, 2.0), thread, opened, texts, settings)  # warm
    before = _resident_mb()
    proposal = Proposal(id="1", bundle=tried, by="", at="", gates=Gates(texts=100_000, share=share))
    rates: list[tuple[float, float]] = []
    compared, load_s, waits, most = [], [], [0.0], before
    for number in range(rounds):
        alone = await _score_for(seconds, thread, opened, texts, settings)
        keys.proposal = msgspec.structs.replace(proposal, id=str(number))
        started = time.perf_counter()
        loading = asyncio.create_task(swap.look())
        while not loading.done():
            await _score_for(0.0, thread, opened, texts, settings)
        await loading
        load_s.append(time.perf_counter() - started)
        thread.waits_s.clear()
        beside = await _score_for(seconds, thread, opened, texts, settings)
        rates.append((alone, beside))
        waits += thread.waits_s
        compared.append(swap.status.compared.texts / seconds)
        most = max(most, _resident_mb())
        keys.proposal = None
        await swap.look()
        await asyncio.sleep(0.2)
    return Report(
        rate=statistics.median(alone for alone, _ in rates),
        rate_beside_shadow=statistics.median(beside for _, beside in rates),
        ratio=statistics.median(beside / alone for alone, beside in rates),
        compared_per_s=statistics.median(compared),
        load_s=statistics.median(load_s),
        longest_wait_ms=1000 * max(waits),
        mb_before=before,
        mb_with_candidate=most,
        mb_after=_resident_mb(),
    )


async def _score_for(
    seconds: float, thread: _Thread, opened: Opened, texts: Sequence[str], settings: Settings
) -> float:
    """Scores windows for so long, one at least; reviews a second."""
    started, done = time.perf_counter(), 0
    while done == 0 or time.perf_counter() - started < seconds:
        at = done % (len(texts) - WINDOW + 1)
        await thread.window(opened.scorer, texts[at : at + WINDOW], settings.token_budget)
        done += WINDOW
    return done / (time.perf_counter() - started)


def _open(settings: Settings, which: Named) -> Opened:
    scorer = load_scorer(settings.model_copy(update={"bundle": Path(which.path)}))
    return Opened(which, scorer, None, {})  # type: ignore[arg-type]  # nothing is judged here


def _resident_mb() -> float:
    with Path("/proc/self/statm").open() as file:
        return int(file.read().split()[1]) * 4096 / 1e6
