"""``reviewpulse web`` as shipped, in a process of its own: what benches measure."""

from __future__ import annotations

import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from stream.bench.pipeline import worker_environment
from stream.errors import DependencyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stream.settings import Settings


@contextmanager
def running_server(settings: Settings) -> Iterator[tuple[int, str]]:
    """Runs it on a free port; yields its pid and address.

    Raises:
        DependencyError: it does not start.
    """
    server = subprocess.Popen(
        [sys.executable, "-m", "stream.cli.main", "web", "--port", "0"],
        env=worker_environment(settings) | {"REVIEWPULSE_TOPIC_ALERTS": settings.topic_alerts},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        if "http://" not in line:
            raise DependencyError("The web server did not start.")
        yield server.pid, line[line.index("http://") :].strip()
    finally:
        server.terminate()
        server.wait(60)
        server.stdout.close()
