"""A pipeline of its own under load, with Prometheus beside it, and the reckoning in the end.

Rules:
- Each fault has a scene of its own: servers, workers, Prometheus' memory. Its folder alone is left of it.
- The reckoning is of what the load sent, and knows nothing of the workers: each event ends once.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from stream.client import LiveCounters
from stream.demo.processes import environment_of
from stream.drill.fleet import AS_SHIPPED, Supervised
from stream.drill.load import Load, Manner
from stream.drill.prometheus import Prometheus
from stream.errors import DependencyError
from stream.local import FREE_PORTS, LOCAL_SESSION_TIMEOUT_S, LocalServers, is_free
from stream.redis_config import connect
from stream.settings import Settings
from stream.topics import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from stream.redis_config import Client

PARTITIONS = 4
POLL_S = 0.25
COUNTED_S = 180.0
"""Longest that what was sent may take to be counted."""
BEGIN_S = 120.0
"""Longest that workers, topics and Prometheus may take to be at work, on a busy machine."""
COMMAND_S = 180.0


class Reckoning(NamedTuple):
    """What became of all that was sent."""

    sent: int
    counted: int
    dead: int
    duplicates: int
    """Sent again by the load, which did not know that Kafka had them; counted once."""
    problems: tuple[str, ...] = ()


class Scene:
    """Everything of one fault.

    Args:
        binary: Prometheus' executable.
        rules: the rule files.
        folder: for logs and data; it stays.
        minute_s: how long a minute of the rules lasts.
        given: the caller's settings: the bundle and how it runs are taken from them.
        manner: what the events are like.
        command: the worker's module and arguments.
        options: settings of its own.
    """

    def __init__(
        self,
        binary: Path,
        rules: list[Path],
        folder: Path,
        minute_s: float,
        given: Settings,
        *,
        manner: Manner,
        command: Sequence[str] = AS_SHIPPED,
        options: dict[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.minute_s = minute_s
        self.command: Sequence[str] = command
        self._given = given
        self._manner = manner
        self._options = options or {"scorer": "constant"}
        self._workers: list[Supervised] = []
        self._resources = ExitStack()
        self._binary, self._rules = binary, rules

    def __enter__(self) -> Self:
        """Starts everything and returns when the load flows and nothing fires.

        Raises:
            DependencyError: something of it failed to start.
        """
        with ExitStack() as resources:
            self.servers = resources.enter_context(LocalServers(data_dir=self.folder / "servers"))
            # Constructed, not loaded: loading would mix in the caller's environment.
            self.settings = Settings.model_construct(
                kafka=self.servers.kafka,
                redis=self.servers.redis,
                partitions=PARTITIONS,
                session_timeout_s=LOCAL_SESSION_TIMEOUT_S,
                provider=self._given.provider,
                threads=self._given.threads,
                log_format="json",
                **{"bundle": self._given.bundle.absolute(), **self._options},
            )
            ensure(self.settings)
            self.prometheus = resources.enter_context(
                Prometheus(self._binary, self._rules, self.folder / "prometheus", free_port(), self.minute_s)
            )
            resources.callback(self._stop_workers)
            self.add_workers(1)
            self.load = resources.enter_context(Load(self.settings, self._manner))
            self.load.go()
            self.wait_for("the first events are counted", lambda: self._counted() > 0, BEGIN_S)
            self.wait_for("metrics are scraped", self._is_scraped, BEGIN_S)
            self.wait_for("no alert is about to fire", lambda: not self.prometheus.active, BEGIN_S)
            self.prometheus.forget()
            self._resources = resources.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._resources.close()

    def redis(self) -> Client:
        """A client of the scene's Redis."""
        return connect(self.settings)

    def run(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> str:
        """Runs a ``reviewpulse`` command as whoever is on call would; what it printed.

        Raises:
            DependencyError: it ended with another exit code than one of ``codes``.
        """
        done = subprocess.run(
            [sys.executable, "-m", "stream.cli.main", *arguments],
            env=environment_of(self.settings, os.environ),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode not in codes:
            raise DependencyError(
                f"`reviewpulse {' '.join(arguments)}` ended with {done.returncode}:"
                f" {done.stdout}{done.stderr}"
            )
        return done.stdout

    def add_workers(self, number: int) -> None:
        """Starts so many more."""
        for _ in range(number):
            port = free_port()
            log = self.folder / f"worker-{len(self._workers)}.log"
            self._workers.append(Supervised(self.settings, port, self.command, log))
        self.prometheus.aim_at([worker.port for worker in self._workers])

    def replace_workers(self, command: Sequence[str]) -> None:
        """Deploys another command in place of all workers."""
        number = len(self._workers)
        self._stop_workers()
        self.command = command
        self.add_workers(number)

    def wait_for(self, what: str, is_so: Callable[[], bool], patience_s: float) -> None:
        """Returns when it is so.

        Raises:
            DependencyError: it was not in time.
        """
        deadline = time.monotonic() + patience_s
        while not is_so():
            if time.monotonic() > deadline:
                raise DependencyError(
                    f"It took longer than {patience_s:.0f} s until {what}; the logs are in {self.folder}."
                )
            time.sleep(POLL_S)

    def wait_until_counted(self) -> None:
        """Holds the load and returns when all it sent has ended.

        Raises:
            DependencyError: it has not in time.
        """
        self.load.hold()
        sent = self.load.meant.total()
        self.wait_for("all was counted", lambda: self._ended() >= sent, COUNTED_S)

    def reckon(self) -> Reckoning:
        """Waits for the last event and compares."""
        self.load.hold()
        meant = self.load.meant
        try:
            self.wait_for("all was counted", lambda: self._ended() >= meant.total(), COUNTED_S)
        except DependencyError as error:
            problems = [str(error)]
        else:
            problems = []
        with LiveCounters(self.settings) as counters:
            totals = counters.totals()["reviews"]
        problems += [
            f"{number:,} of {meant[outcome]:,} events ended as {outcome}."
            for outcome, number in (("counted", totals.counted), ("dead", totals.dead))
            if number != meant[outcome]
        ]
        return Reckoning(meant.total(), totals.counted, totals.dead, totals.duplicate, tuple(problems))

    def _counted(self) -> int:
        with LiveCounters(self.settings) as counters:
            return counters.totals()["reviews"].counted

    def _ended(self) -> int:
        """Those that were sent twice end as a duplicate once: they do not count here."""
        try:
            with LiveCounters(self.settings) as counters:
                totals = counters.totals()["reviews"]
        except DependencyError:
            return 0
        return totals.counted + totals.dead

    def _is_scraped(self) -> bool:
        return (self.prometheus.value("sum(reviewpulse_events_counted_total)") or 0.0) > 0

    def _stop_workers(self) -> None:
        for worker in self._workers:
            worker.stop()
        self._workers = []


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    return next(port for port in random.sample(FREE_PORTS, len(FREE_PORTS)) if is_free(port))
