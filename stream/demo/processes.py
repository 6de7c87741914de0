"""The demo's worker and its page: child processes like any others, configured by their environment alone.

Rules:
- They see the demo's settings and none of the ``REVIEWPULSE_*`` that happen to be set here.
- They outlive neither the demo nor, on Linux, a SIGKILL of it. Ctrl-C is for the demo, which then stops them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Self

from stream.errors import DependencyError
from stream.local import tied_to_parent
from stream.settings_check import PREFIX

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from stream.settings import Settings

DRAIN_S = 15.0
LOG_LINES_SHOWN = 5
READY = "The page is at "
"""How ``reviewpulse web`` begins to say its address."""


class CommandProcess:
    """A command of ours that runs on, as a context manager.

    Args:
        settings: those of them that were set are its configuration.
        log: file for what it prints and logs.
    """

    name: str
    """In a sentence that says that it has ended."""
    command: tuple[str, ...]

    def __init__(self, settings: Settings, log: Path) -> None:
        self._environment = environment_of(settings, os.environ)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "stream.cli.main", *self.command]
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
                "\n  ".join([f"The {self.name} ended with code {code}. Its last lines:", *lines])
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


class WorkerProcess(CommandProcess):
    """A worker."""

    name = "worker"
    command = ("worker",)


class PageProcess(CommandProcess):
    """The live page and the API, on a free port of loopback."""

    name = "page's server"
    command = ("web", "--port", "0")

    def address(self) -> str | None:
        """Where the page is; None until connections are taken."""
        for line in self._log.read_text(errors="replace").splitlines():
            if line.startswith(READY):
                return line.removeprefix(READY).strip()
        return None


def environment_of(settings: Settings, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment that makes a command have ``settings``.

    >>> from stream.settings import Settings
    >>> demo = Settings.model_construct(partitions=4)
    >>> environment_of(demo, {"HOME": "/home/ann", "REVIEWPULSE_SHARDS": "16"})
    {'HOME': '/home/ann', 'REVIEWPULSE_PARTITIONS': '4'}
    """
    kept = {name: value for name, value in inherited.items() if not name.startswith(PREFIX)}
    chosen: dict[str, Any] = {name: getattr(settings, name) for name in sorted(settings.model_fields_set)}
    return kept | {f"{PREFIX}{name.upper()}": str(value) for name, value in chosen.items()}
