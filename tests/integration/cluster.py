"""A real cluster on loopback: masters with a replica each, started by a test and gone with it.

Rules:
- Nodes find each other by the cluster bus on a free port of its own; nothing but loopback is used.
- As ``stream.local``: the kernel ends the nodes with us, and ``stop`` waits until they are gone.
- ``start`` returns when every node agrees that all slots are served and every replica is in step.
"""

from __future__ import annotations

import random
import re
import shutil
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import redis

from stream.local import FREE_PORTS, HOST, Server, is_free, redis_answers, valkey_binary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
"""How long a master may be silent until the others vote: short, for tests that kill one."""
LONGEST_S = 30.0


class NodeView(NamedTuple):
    """One node, as another sees it."""

    id: str
    port: int
    flags: set[str]
    primary: str
    """Id of the master it follows; ``-`` for none."""

    @property
    def is_master(self) -> bool:
        return "master" in self.flags

    @property
    def is_well(self) -> bool:
        return not self.flags & {"fail", "fail?", "noaddr", "handshake"}


class LocalCluster:
    """``masters`` masters with ``replicas`` replicas each, as a context manager.

    Attributes:
        url: for ``REVIEWPULSE_REDIS``: every node.
    """

    def __init__(self, masters: int = 3, replicas: int = 1, arguments: Sequence[str] = ()) -> None:
        self._masters = masters
        self._replicas = replicas
        self._arguments = arguments
        self._folder = Path()
        self._servers: dict[int, Server] = {}
        self._spawner: ThreadPoolExecutor | None = None

    @property
    def ports(self) -> list[int]:
        """Of every node, the first masters first."""
        return list(self._servers)

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{port}" for port in self.ports)

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="reviewpulse-cluster-"))
        # The kernel ties a child to the thread that started it: see `stream.local`.
        self._spawner = ThreadPoolExecutor(1, "cluster")
        nodes = self._masters * (1 + self._replicas)
        free = (port for port in random.sample(FREE_PORTS, len(FREE_PORTS)) if is_free(port))
        for _ in range(nodes):
            self._add(next(free), bus_port=next(free))
        for server in self._servers.values():
            self._spawner.submit(server.spawn).result()
        for server in self._servers.values():
            server.wait_until_ready()
        self._form()

    def _add(self, port: int, bus_port: int) -> None:
        folder = self._folder / str(port)
        folder.mkdir()
        command = [
            *(str(valkey_binary()), "--bind", HOST, "--port", str(port), "--dir", str(folder)),
            *("--cluster-enabled", "yes", "--cluster-port", str(bus_port)),
            *("--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
            # A replica that lost the link a while ago may be promoted, too: tests want the worst.
            *("--cluster-replica-validity-factor", "0"),
            *("--repl-diskless-sync-delay", "0", "--save", "", "--appendonly", "no"),
            *("--maxmemory-policy", "noeviction"),
            *self._arguments,
        ]
        self._servers[port] = Server(
            f"node {port}", command, port, folder / "log", lambda: redis_answers(HOST, port)
        )

    def _form(self) -> None:
        masters, replicas = self.ports[: self._masters], self.ports[self._masters :]
        first, *others = self.ports
        for n, port in enumerate(masters):
            slots = SLOTS * n // self._masters, SLOTS * (n + 1) // self._masters - 1
            self.call(port, "CLUSTER", "ADDSLOTSRANGE", *slots)
            self.call(port, "CLUSTER", "SET-CONFIG-EPOCH", n + 1)
        for port in others:
            bus_port = self._servers[port].command[self._servers[port].command.index("--cluster-port") + 1]
            self.call(first, "CLUSTER", "MEET", HOST, port, bus_port)
        self.wait(
            lambda: all(len(self.view(port)) == len(self.ports) for port in self.ports), "everyone meets"
        )
        for n, port in enumerate(replicas):
            primary = self.node_id(masters[n % self._masters])
            self.wait(
                lambda port=port, primary=primary: self._follow(port, primary), "a replica knows its master"
            )
        self.wait_until_well()

    def _follow(self, port: int, primary: str) -> bool:
        try:
            self.call(port, "CLUSTER", "REPLICATE", primary)
        except redis.ResponseError:
            return False
        return True

    def call(self, port: int, *command: str | int | bytes) -> Any:
        """Asks one node, without a cluster client's cleverness."""
        with redis.Redis(HOST, port, socket_connect_timeout=2, socket_timeout=5) as client:
            return client.execute_command(*command)

    def node_id(self, port: int) -> str:
        return str(self.call(port, "CLUSTER", "MYID").decode())

    def view(self, port: int) -> list[NodeView]:
        """Every node, as the one at ``port`` sees it."""
        nodes = []
        for line in self.call(port, "CLUSTER", "NODES").decode().splitlines():
            node_id, address, flags, primary, *_ = line.split()
            nodes.append(NodeView(node_id, int(re.split("[:@]", address)[1]), set(flags.split(",")), primary))
        return nodes

    def masters(self) -> list[int]:
        """Ports of the masters that live, as the first living node sees it."""
        return [each.port for each in self.view(self.living()[0]) if each.is_master and each.is_well]

    def master_of(self, slot: int) -> int:
        """Port of the master that serves a slot."""
        for first, last, (_, port, *_), *_ in self.call(self.living()[0], "CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return int(port)
        raise AssertionError(slot)

    def replicas_of(self, port: int) -> list[int]:
        """Ports of a master's replicas."""
        nodes = self.view(port)
        (me,) = (each.id for each in nodes if each.port == port)
        return [each.port for each in nodes if each.primary == me]

    def living(self) -> list[int]:
        return [port for port, server in self._servers.items() if server.is_running]

    def wait_until_well(self) -> None:
        """Returns when the living nodes agree who is what, all slots are served, and replicas are in step."""
        self.wait(
            lambda: all(self._is_well(port) for port in self.living()) and len(self._opinions()) == 1,
            "the cluster is well",
        )

    def _opinions(self) -> set[frozenset[tuple[int, str]]]:
        """What the living nodes think who follows whom."""
        return {
            frozenset((each.port, each.primary) for each in self.view(port) if each.is_well)
            for port in self.living()
        }

    def _is_well(self, port: int) -> bool:
        try:
            state = self.call(port, "CLUSTER", "INFO").decode()
            link = self.call(port, "INFO", "replication")
        except redis.RedisError:
            return False
        in_step = link["role"] == "master" or link["master_link_status"] == "up"
        return "cluster_state:ok" in state and in_step

    def wait(self, condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            assert time.monotonic() < deadline, f"{what}: not within {LONGEST_S:g} s"
            time.sleep(0.05)

    def move_slot(self, slot: int, target: int, *, pause_s: float) -> None:
        """Moves a slot to another master, a few keys at a time, with pauses in which it is in both places.

        The longest names go first: the products', before what all of a shard's steps need.
        """
        source = self.master_of(slot)
        self.call(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", self.node_id(source))
        self.call(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", self.node_id(target))
        while keys := self.call(source, "CLUSTER", "GETKEYSINSLOT", slot, SLOTS):
            self.call(
                source, "MIGRATE", HOST, target, "", 0, 5000, "KEYS", *sorted(keys, key=len, reverse=True)[:5]
            )
            time.sleep(pause_s)
        for port in (target, source, *(set(self.masters()) - {source, target})):
            self.call(port, "CLUSTER", "SETSLOT", slot, "NODE", self.node_id(target))

    def kill(self, port: int) -> None:
        """Kills a node with SIGKILL."""
        self._servers[port].kill()

    def restart(self, port: int) -> None:
        """Starts a node that was killed; it has its part in the cluster, and no data."""
        assert self._spawner is not None
        server = self._servers[port]
        self._spawner.submit(server.spawn).result()
        server.wait_until_ready()

    def pid(self, port: int) -> int:
        return self._servers[port].pid

    def stop(self) -> None:
        for server in self._servers.values():
            server.kill()
        if self._spawner is not None:
            self._spawner.shutdown()
            self._spawner = None
        shutil.rmtree(self._folder, ignore_errors=True)
