"""A worker that dies of the text "deadly", as of a crash in native code: with no chance to say a word."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from stream import logs, worker
from stream.scorer.constant import ConstantScorer, Counted
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence


class MortalScorer(ConstantScorer):
    def encode(self, texts: Sequence[str]) -> Counted:
        if "deadly" in texts:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(texts)


if __name__ == "__main__":
    worker.load_scorer = lambda _: MortalScorer()  # type: ignore[assignment]
    settings = load()
    logs.configure(settings)
    asyncio.run(worker.serve(settings))
