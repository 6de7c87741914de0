"""A primary, its replica and three sentinels on loopback, started by a test and gone with it."""

from __future__ import annotations

import random
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import redis

from stream.local import FREE_PORTS, HOST, Server, is_free, redis_answers, valkey_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SERVICE = "counters"
SENTINELS = 3
DOWN_AFTER_MS = 1_000
LONGEST_S = 30.0


class LocalSentinels:
    """As ``LocalCluster``; ``password`` is the sentinels' own.

    Attributes:
        primary, replica: ports, as they began.
    """

    def __init__(self, password: str = "") -> None:
        self._password = password
        free = (port for port in random.sample(FREE_PORTS, len(FREE_PORTS)) if is_free(port))
        self.primary, self.replica, *self._sentinels = (next(free) for _ in range(2 + SENTINELS))
        self._folder = Path()
        self._servers: dict[int, Server] = {}
        self._spawner: ThreadPoolExecutor | None = None

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'{HOST}:{port}' for port in self._sentinels)}/{SERVICE}"

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="reviewpulse-sentinel-"))
        self._spawner = ThreadPoolExecutor(1, "sentinels")
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        plain = ("--save", "", "--appendonly", "no", "--repl-diskless-sync-delay", "0")
        self._spawn(self.primary, plain)
        self._spawn(self.replica, (*plain, "--replicaof", f"{HOST} {self.primary}"))
        self.wait(
            lambda: self.call(self.replica, "INFO")["master_link_status"] == "up", "the replica is in step"
        )
        for port in self._sentinels:
            self._spawn(port, self._sentinel_arguments(port))
        self.wait(lambda: all(self._knows_all(port) for port in self._sentinels), "sentinels know each other")

    def _sentinel_arguments(self, port: int) -> Sequence[str]:
        lines = [
            f"sentinel monitor {SERVICE} {HOST} {self.primary} 2",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
            f"sentinel failover-timeout {SERVICE} 5000",
        ]
        if self._password:
            lines += [f"requirepass {self._password}", f"sentinel sentinel-pass {self._password}"]
        config = self._folder / f"{port}.conf"
        config.write_text("\n".join(lines) + "\n")
        return (str(config), "--sentinel")

    def _spawn(self, port: int, arguments: Sequence[str]) -> None:
        folder = self._folder / str(port)
        folder.mkdir()
        config = [each for each in arguments if each.endswith(".conf")]
        command = [
            *(str(valkey_binary()), *config, "--bind", HOST, "--port", str(port), "--dir", str(folder)),
            *(each for each in arguments if each not in config),
        ]
        server = Server(f"server {port}", command, port, folder / "log", lambda: self._answers(port))
        self._servers[port] = server
        assert self._spawner is not None
        self._spawner.submit(server.spawn).result()
        server.wait_until_ready()

    def _answers(self, port: int) -> bool:
        if port not in self._sentinels:
            return redis_answers(HOST, port)
        try:
            return bool(self.call(port, "PING"))
        except redis.RedisError:
            return False

    def _knows_all(self, port: int) -> bool:
        state = self.call(port, "INFO", "sentinel").get("master0", {})
        return bool(state) and state["slaves"] == 1 and state["sentinels"] == SENTINELS

    def call(self, port: int, *command: str) -> Any:
        password = self._password if port in self._sentinels else None
        with redis.Redis(HOST, port, password=password or None, socket_timeout=5) as client:
            return client.execute_command(*command)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {LONGEST_S:g} s"
            time.sleep(0.05)

    def kill_primary_ahead_of_its_replica(self) -> None:
        """Kills the primary whose last writes reached nobody; returns when the replica has taken over."""
        self.call(self.replica, "CONFIG", "SET", "masterauth", "wrong")
        self.call(self.replica, "CLIENT", "KILL", "TYPE", "master")
        time.sleep(0.7)
        self._servers[self.primary].kill()
        self.wait(lambda: self.call(self.replica, "INFO")["role"] == "master", "the replica takes over")

    def stop(self) -> None:
        for server in self._servers.values():
            server.kill()
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None
        shutil.rmtree(self._folder, ignore_errors=True)
