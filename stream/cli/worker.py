"""``reviewpulse worker``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotation
from typing import Literal

import typer


def worker(
    bundle: Path | None = typer.Option(None, help="Folder of the model bundle."),
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] | None = typer.Option(
        None, help="Where the model runs. `cuda` fails where CUDA cannot be used."
    ),
    scorer: Literal["onnx", "constant"] | None = typer.Option(
        None, help="`constant` gives every text the same score: for tests and benches."
    ),
) -> None:
    """Run one worker until SIGTERM or Ctrl-C; any number of them share the partitions.

    Everything else is configured by REVIEWPULSE_* in the environment (see the README's table). It waits for
    Kafka, Redis and the topics, and drains before it stops. With REVIEWPULSE_HEALTH it serves `/livez`,
    `/readyz` and `/metrics`. Exit codes: 0 stopped, 2 wrong settings or bundle, 3 a server or device failed,
    4 it was stuck and ended itself: start it again.
    """
    import asyncio

    from stream import logs
    from stream.config import WORKER_ROOMS, log_unknown, start_settings
    from stream.worker import serve

    settings = start_settings(WORKER_ROOMS, bundle=bundle, provider=provider, scorer=scorer)
    logs.configure(settings)
    log_unknown()
    asyncio.run(serve(settings))
