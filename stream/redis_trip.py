"""One round trip to whatever Redis there is: a pipeline to one server, or one to each master of a cluster.

redis-py's own pipeline on a cluster refuses EVALSHA and MGET, repeats failed commands one by one (many times
its timeout when a node hangs), and never learns that a master is gone as long as it does not retry (see its
issues 2224 and 3130). So commands are grouped by master here; connections and slots are left to redis-py.

Rules:
- Every command has its reply, in order; an error, of the server or of the way to it, is the reply of its
  command. ``raise_on_error`` raises the first one instead, when all are there.
- A command names its key first, behind the number of keys in scripts; further keys are in the same slot.
- A master that says that a slot is elsewhere (MOVED, ASK) has done nothing: such commands, and only they, go
  out again, to where it says, ``REDIRECTIONS`` times at most. Scripts are not sent after a slot that is still
  on its way (ASK): some of the keys they will use may not be there yet.
- When a master does not answer, or knows that the cluster is not well, what the cluster looks like is asked
  anew, from any node: the next trip goes to the new master. Whether to repeat is for the caller to say.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeAlias

import redis
import redis.asyncio
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    MovedError,
    RedisClusterException,
    SlotNotCoveredError,
    TimeoutError,  # noqa: A004
)

from stream.redis_errors import REDIS_ERRORS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from redis.asyncio.cluster import ClusterNode as AsyncNode
    from redis.cluster import ClusterNode as Node

    from stream.redis_config import AsyncClient, Client

Command: TypeAlias = "Sequence[str | bytes | int | float]"

REDIRECTIONS = 3
"""A slot moves once; more often only while nodes still disagree, and then a pause helps more than haste."""

SCRIPTS = {"EVALSHA", "EVAL"}

_STALE = (ConnectionError, TimeoutError, OSError, ClusterDownError, SlotNotCoveredError)
"""Errors after which what we know of the cluster may be wrong."""


def exchange(client: Client, commands: Sequence[Command], *, raise_on_error: bool = True) -> list[Any]:
    """Sends commands and returns their replies.

    Args:
        client: from ``stream.redis_config.connect``.
        commands: name, key, further arguments.
        raise_on_error: whether an error is raised instead of being a reply.

    Raises:
        RedisError, RedisClusterException, OSError: with ``raise_on_error``; see ``stream.redis_errors``.
    """
    if isinstance(client, redis.RedisCluster):
        replies = _exchange_cluster(client, commands)
    else:
        replies = _pipeline(client, commands)
    return _raised(replies) if raise_on_error else replies


async def exchange_async(
    client: AsyncClient, commands: Sequence[Command], *, raise_on_error: bool = True
) -> list[Any]:
    """See ``exchange``; the client is from ``connect_async``, and a cluster's masters are asked at once."""
    if isinstance(client, redis.asyncio.RedisCluster):
        replies = await _exchange_cluster_async(client, commands)
    else:
        replies = await _pipeline_async(client, commands)
    return _raised(replies) if raise_on_error else replies


def _raised(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


# One server: redis-py's pipeline as it is.


def _pipeline(client: redis.Redis, commands: Sequence[Command], *, asking: bool = False) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in _with_asking(commands) if asking else commands:
        pipe.execute_command(*command)  # type: ignore[no-untyped-call]
    try:
        replies: list[Any] = pipe.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        return [error] * len(commands)
    return replies[1::2] if asking else replies


async def _pipeline_async(client: redis.asyncio.Redis, commands: Sequence[Command]) -> list[Any]:
    pipe = client.pipeline(transaction=False)
    for command in commands:
        pipe.execute_command(*command)
    try:
        replies: list[Any] = await pipe.execute(raise_on_error=False)
    except REDIS_ERRORS as error:
        return [error] * len(commands)
    return replies


def _with_asking(commands: Sequence[Command]) -> Iterable[Command]:
    """The word that lets a master serve a key of a slot it is still taking over; it is for one command."""
    for command in commands:
        yield ("ASKING",)
        yield command


# A cluster: the same on each master.


class _Round:
    """Which commands go out now, and to which master; the rest have their replies."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self._commands = commands
        self.replies: list[Any] = [None] * len(commands)
        self.waiting = list(range(len(commands)))

    def by_node(self, client: Any) -> dict[tuple[Any, bool], list[int]]:
        """Commands by the master they are for, and whether it must be told that we come from another."""
        groups: dict[tuple[Any, bool], list[int]] = {}
        for n in self.waiting:
            before = self.replies[n]
            try:
                if type(before) is AskError:
                    node = client.get_node(host=before.host, port=before.port)
                else:
                    node = client.get_node_from_key(_key(self._commands[n]))
            except RedisClusterException as error:
                self.replies[n] = error
                continue
            if node is not None:  # else the AskError stays: nobody has told us of that master yet
                groups.setdefault((node, type(before) is AskError), []).append(n)
        return groups

    def commands(self, numbers: Sequence[int]) -> list[Command]:
        return [self._commands[n] for n in numbers]

    def note(self, numbers: Sequence[int], replies: Sequence[Any]) -> None:
        for n, reply in zip(numbers, replies, strict=True):
            self.replies[n] = reply

    def redirected(self) -> list[MovedError]:
        """Takes what is to go out again for waiting; returns where slots have moved to."""
        self.waiting = [n for n in self.waiting if self._is_to_go_on(n)]
        return [self.replies[n] for n in self.waiting if isinstance(self.replies[n], MovedError)]

    def _is_to_go_on(self, n: int) -> bool:
        reply = self.replies[n]
        if isinstance(reply, MovedError):
            return True
        return isinstance(reply, AskError) and self._commands[n][0] not in SCRIPTS

    @property
    def is_stale(self) -> bool:
        return any(isinstance(reply, _STALE) for reply in self.replies)


def _key(command: Command) -> str | bytes | int | float:
    return command[3] if command[0] in SCRIPTS else command[1]


def _exchange_cluster(client: redis.RedisCluster, commands: Sequence[Command]) -> list[Any]:
    trip = _Round(commands)
    for _ in range(1 + REDIRECTIONS):
        for (node, asking), numbers in trip.by_node(client).items():
            trip.note(numbers, _pipeline_on(client, node, trip.commands(numbers), asking=asking))
        moved = trip.redirected()
        if trip.is_stale or moved:
            _learn(client)
        for move in moved:
            client.nodes_manager.move_slot(move)
        if not trip.waiting:
            break
    return trip.replies


def _pipeline_on(
    client: redis.RedisCluster, node: Node, commands: Sequence[Command], *, asking: bool
) -> list[Any]:
    return _pipeline(client.get_redis_connection(node), commands, asking=asking)


def _learn(client: redis.RedisCluster) -> None:
    configured = [(node.host, node.port) for node in client.startup_nodes]
    try:
        client.nodes_manager.initialize(additional_startup_nodes_info=configured)
    except REDIS_ERRORS:
        return  # nobody tells now; the next trip will say so, or find somebody


async def _exchange_cluster_async(
    client: redis.asyncio.RedisCluster, commands: Sequence[Command]
) -> list[Any]:
    try:
        await client.initialize()
    except REDIS_ERRORS as error:
        return [error] * len(commands)
    trip = _Round(commands)
    for _ in range(1 + REDIRECTIONS):
        groups = trip.by_node(client)
        answers = await asyncio.gather(
            *(
                _pipeline_on_async(client, node, trip.commands(numbers), asking=asking)
                for (node, asking), numbers in groups.items()
            )
        )
        for numbers, replies in zip(groups.values(), answers, strict=True):
            trip.note(numbers, replies)
        moved = trip.redirected()
        if trip.is_stale or moved:
            await _learn_async(client)
        for move in moved:
            await client.nodes_manager.move_slot(move)
        if not trip.waiting:
            break
    return trip.replies


async def _pipeline_on_async(
    client: redis.asyncio.RedisCluster, node: AsyncNode, commands: Sequence[Command], *, asking: bool
) -> list[Any]:
    pipe = client.pipeline()
    for command in _with_asking(commands) if asking else commands:
        pipe.execute_command(*command, target_nodes=node)
    try:
        replies = await pipe.execute(raise_on_error=False, allow_redirections=False)
    except REDIS_ERRORS as error:
        return [error] * len(commands)
    return replies[1::2] if asking else replies


async def _learn_async(client: redis.asyncio.RedisCluster) -> None:
    configured = [(node.host, int(node.port)) for node in client.startup_nodes]
    try:
        await client.nodes_manager.initialize(additional_startup_nodes_info=configured)
    except REDIS_ERRORS:
        return
