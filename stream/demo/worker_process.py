"""The demo's worker: a child process like any other worker, configured by its environment alone.

Rules:
- It sees the demo's settings and none of the ``REVIEWPULSE_*`` that happen to be set here.
- It outlives neither the demo nor, on Linux, a SIGKILL of it. Ctrl-C is for the demo, which then stops it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from stream.errors import DependencyError
from stream.local import tied_to_parent
from stream.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from stream.settings import Settings

DRAIN_S = 15.0
LOG_LINES_SHOWN = 5


class WorkerProcess:
    """A worker as a context manager.

    Args:
        settings: those of them that were set are the worker's configuration.
        log: file for what it logs.
    """

    def __init__(self, settings: Settings, log: Path) -> None:
        self._environment = environment_of(settings, os.environ)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "stream.cli.main", "worker"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                tied_to_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def check(self) -> None:
        """Looks whether it still lives.

        Raises:
            DependencyError: it has ended; the message has the end of its log.
        """
        assert self._process is not None, "not started"
        code = self._process.poll()
        if code is not None:
            lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise DependencyError(
                "\n  ".join([f"The worker ended with code {code}. Its last lines:", *lines])
            )

    def stop(self) -> int:
        """SIGTERM, the time to drain, then SIGKILL. May be called twice. Returns the exit code."""
        assert self._process is not None, "not started"
        self._process.terminate()
        try:
            return self._process.wait(DRAIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()


def environment_of(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment that makes a worker have ``settings``.

    >>> from stream.settings import Settings
    >>> demo = Settings.model_construct(partitions=4)
    >>> environment_of(demo, {"HOME": "/home/ann", "REVIEWPULSE_SHARDS": "16"})
    {'HOME': '/home/ann', 'REVIEWPULSE_PARTITIONS': '4'}
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(PREFIX)}
    chosen: dict[str, Any] = {name: getattr(settings, name) for name in sorted(settings.model_fields_set)}
    return kept | {f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items()}
