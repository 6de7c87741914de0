"""``reviewpulse reshard`` that takes its time, so that there is a middle to be killed in."""

from __future__ import annotations

import asyncio
import sys

from stream import reshard as resharding
from stream.cli.main import main

resharding.COPIED_AT_ONCE = 5
copy = resharding.Reshard._copy


async def slowly(self: resharding.Reshard, shard: int, first: int, last: int) -> None:
    await asyncio.sleep(0.2)
    await copy(self, shard, first, last)
    print(last, flush=True)


if __name__ == "__main__":
    resharding.Reshard._copy = slowly  # type: ignore[method-assign]
    sys.argv = ["reviewpulse", "reshard", "--shards", sys.argv[1]]
    main()
