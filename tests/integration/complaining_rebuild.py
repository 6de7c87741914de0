"""``reviewpulse rebuild`` with the model of ``complaining_worker``, which shows what it withholds.

Rules:
- The transitions of the past go into a stream that is gone when the rebuild is. Each is a line of the file
  that ``WITHHELD`` names, as its bytes are in the stream, from the moment before what differs is told.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from stream import rebuild
from stream.cli.main import main
from stream.scorer import load
from tests.integration.complaining_worker import ComplainingScorer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.events import Alert


class ShowingRebuild(rebuild.Rebuild):
    async def _tell(self, known: Mapping[str, Alert]) -> int:
        upcoming = self._switch.next
        streams = await self._trip(
            ("XRANGE", upcoming.withheld(shard), "-", "+") for shard in range(upcoming.shards)
        )
        lines = [fields[b"alert"] + b"\n" for entries in streams for _, fields in entries]
        await asyncio.to_thread(Path(os.environ["WITHHELD"]).write_bytes, b"".join(lines))
        return await super()._tell(known)


if __name__ == "__main__":
    load.load_scorer = lambda _: ComplainingScorer()  # type: ignore[assignment]
    rebuild.Rebuild = ShowingRebuild  # type: ignore[misc]
    sys.argv = ["reviewpulse", "rebuild", *sys.argv[1:]]
    main()
