"""Workers, each started again when it ends, as a supervisor does (`restart: unless-stopped`)."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from stream.demo.processes import DRAIN_S, environment_of
from stream.local import HOST, tied_to_parent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from stream.settings import Settings

PAUSE_S = 0.5
AS_SHIPPED = ("stream.cli.main", "worker")


class Supervised:
    """A worker that is started again until it is stopped.

    Args:
        settings: its settings.
        port: where it serves health and metrics.
        command: module and arguments.
        log: file for its log.

    Attributes:
        starts: how often it was started.
    """

    def __init__(self, settings: Settings, port: int, command: Sequence[str], log: Path) -> None:
        self.port = port
        self.starts = 0
        own = settings.model_copy(update={"health": f"{HOST}:{port}"})
        self._environment = environment_of(own, os.environ)
        self._command = [sys.executable, "-m", *command]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        # The kernel ties the process to the thread that started it: this one lives as long as it is wanted.
        self._thread = threading.Thread(target=self._run, name=f"supervisor-{port}", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self._log.open("ab") as log:
                self._process = subprocess.Popen(
                    tied_to_parent(self._command),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    start_new_session=True,
                )
            self.starts += 1
            if self._stopped.is_set():
                self._process.terminate()
            self._wait()
            self._stopped.wait(PAUSE_S)

    def _wait(self) -> None:
        """Until it ends; once told to stop, it may drain for so long and is killed then."""
        assert self._process is not None
        while True:
            try:
                self._process.wait(PAUSE_S)
            except subprocess.TimeoutExpired:
                if not self._stopped.is_set():
                    continue
                try:
                    self._process.wait(DRAIN_S)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            return

    def stop(self) -> None:
        """SIGTERM, the time to drain, then SIGKILL; it is not started again."""
        self._stopped.set()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
        self._thread.join()
