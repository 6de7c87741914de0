"""``reviewpulse reshard`` that takes its time, so that there is a middle to be killed in."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from stream import reshard as resharding
from stream.cli import reshard as command
from stream.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings

resharding.COPIED_AT_ONCE = 5
move = command._move


async def slowly(settings: Settings, shards: int, _on_step: Callable[[int], None]) -> int:
    def step(done: int) -> None:
        print(done, flush=True)
        time.sleep(0.2)

    return await move(settings, shards, step)


if __name__ == "__main__":
    command._move = slowly
    sys.argv = ["reviewpulse", "reshard", "--shards", sys.argv[1]]
    main()
