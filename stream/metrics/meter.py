"""What the pipeline tells of its work, where somebody wants to know: one call a window, batch or run.

``Meter`` itself keeps nothing: the pipeline of a process that serves no metrics has one, and pays a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from stream.core.events import Channel
    from stream.record import Judged
    from stream.runs import Run
    from stream.scorer.contract import Scorer
    from stream.scorer.isolate import Scored


class Meter:
    """Keeps nothing of what it is told."""

    def taken(self, channel: Channel, run: Run) -> None:
        """A run was taken into the pipeline."""

    def stage(self, stage: str, seconds: float) -> None:
        """A window was in a stage for so long."""

    def encoded(self, scorer: Scorer[Any], texts: Sequence[str], encoded: Any) -> None:
        """A window's texts were tokenised; an exception in place of ``encoded`` where that failed."""

    def scored(self, scorer: Scorer[Any], scored: Scored) -> None:
        """A window was scored."""

    def batch(self, lengths: NDArray[Any], cpu_s: float) -> None:
        """A micro-batch was scored.

        Args:
            lengths: tokens of each text.
            cpu_s: CPU time it took on its thread.
        """

    def applied(self, judged: Judged, now_ms: float) -> None:
        """A part is in the store.

        Args:
            judged: with the steps that were applied.
            now_ms: ms since the epoch.
        """


NO_METER = Meter()
