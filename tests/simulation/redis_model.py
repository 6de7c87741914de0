"""A modelled Redis, alone or a cluster: real ``MemoryStore``s behind a wire that delays, cuts and loses.

Rules:
- A request is a list of commands for one server. Each command is atomic, the list is not: others' commands
  come between, and a wire that is cut leaves a part of it done.
- What is on the wire arrives though its sender gave up, or died, meanwhile.
- A server remembers the commands that changed it. To lose writes (a restart without the last second of AOF, a
  failover to a replica that lags, an older snapshot) is to have run only the first of them.
- While a server is split, some workers talk to an old master whose writes will be gone.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from stream.errors import DependencyError
from stream.store.contract import NOTHING_APPLIED, StoredSeen, StoredStates
from stream.store.layout import shard_of
from tests.simulation.loop import PROCESS

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping, Sequence

    from stream.core.events import Channel
    from stream.store.contract import Apply, Move, OutboxEntry
    from stream.store.memory import MemoryStore
    from tests.simulation.loop import Process
    from tests.simulation.world import World


class Command(NamedTuple):
    """One call of a store's method, and the shard it is about."""

    method: str
    arguments: tuple[Any, ...]
    shard: int


class Change(NamedTuple):
    """A command that changed a server, and how many outbox entries it had made before."""

    command: Command
    entries: int


READS = {"applied", "logs", "seen", "notes", "states", "outbox"}
REFUSED = [False], False
"""What a write answers that changed nothing; an apply answers what is stored."""


def at_once(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("a store in memory waited")


def _called(store: MemoryStore, command: Command) -> Any:
    called = getattr(store, command.method)(*command.arguments)
    result = at_once(called) if asyncio.iscoroutine(called) else called
    # As in Redis, where both are fields of one hash, asked for by one command.
    return (result, store.erasures[command.shard]) if command.method == "applied" else result


class Server:
    """One Redis: a store, and how it became what it is."""

    def __init__(self, store_type: type[MemoryStore], shards: int) -> None:
        self._store_type = store_type
        self._shards = shards
        self.store = store_type(shards)
        self.history: list[Change] = []
        self.away_until_s = 0.0
        self.cut_off: set[Process | None] = set()
        """Who still talks to ``old_master``."""
        self.old_master: Server | None = None

    def run(self, command: Command) -> Any:
        """Runs one command and remembers it if it changed something."""
        entries = self.store._entries
        result = _called(self.store, command)
        changed = result == [None] if command.method == "apply" else result not in REFUSED
        if command.method not in READS and changed:
            self.history.append(Change(command, entries))
        return result

    def stored(self, step: Apply) -> int:
        """The offset that a step will be held against."""
        return self.store.offsets[step.shard].get(step.partition, NOTHING_APPLIED)

    def go_back(self, kept: int) -> None:
        """Loses all but the first ``kept`` changes."""
        entries = self.store._entries
        self.store, self.history = self._rerun(kept)
        self.store._entries = entries  # a stream's ids are times: they do not come twice

    def split(self, cut_off: set[Process | None]) -> None:
        """From now on ``cut_off`` talk to an old master of their own."""
        self.cut_off = cut_off
        self.old_master = Server(self._store_type, self._shards)
        self.old_master.store, self.old_master.history = self._rerun(len(self.history))
        self.old_master.store._entries = self.store._entries + 1_000_000

    def heal(self) -> None:
        """The old master becomes a replica: what it took alone is gone."""
        if self.old_master is not None:
            self.store._entries = max(self.store._entries, self.old_master.store._entries)
        self.cut_off, self.old_master = set(), None

    def of(self, process: Process | None) -> Server:
        """The server that ``process`` reaches."""
        return self.old_master if self.old_master is not None and process in self.cut_off else self

    def _rerun(self, kept: int) -> tuple[MemoryStore, list[Command]]:
        store, history = self._store_type(self._shards), self.history[:kept]
        for command, store._entries in history:
            _called(store, command)
        return store, history


class Request:
    """Commands on their way to a server, and the answer on its way back."""

    def __init__(self, world: World, server: Server, commands: Sequence[Command]) -> None:
        self._world = world
        self._process = PROCESS.get()
        self._server = server
        self._commands = commands
        self._results: list[Any] = []
        self.answer = world.loop.create_future()
        loop, chance, weather = world.loop, world.chance, world.weather
        self._runs = len(commands)
        self._answers = True
        out_s = world.hop_s()
        is_ordinary = weather.slow == 1.0
        trouble = chance.random()
        if trouble < weather.request_lost:
            # Nothing arrives, or the first commands do, or all of it and only the answer is lost.
            self._runs = int(chance.random() * (len(commands) + 1))
            self._answers = is_ordinary = False
            world.strike("requests lost" if not self._runs else "answers lost")
        elif trouble < weather.request_lost + weather.request_late:
            out_s += chance.random() * 12
            is_ordinary = False
            world.strike("requests that came late")
        world.in_flight += 1
        loop.call_later(out_s, self._arrive, context=world.context)
        # An ordinary answer is there long before anybody's patience ends.
        self._patience = None if is_ordinary else loop.call_later(world.patience_s(), self._give_up)

    def _arrive(self) -> None:
        world = self._world
        if world.loop.now_s < self._server.away_until_s:
            self._end("connection refused")
            return
        self._run_next()

    def _run_next(self) -> None:
        world = self._world
        server = self._server.of(self._process)
        while len(self._results) < self._runs:
            self._results.append(world.run_command(server, self._commands[len(self._results)], self))
            if world.chance.random() < 0.2:  # another's command comes between
                world.loop.call_later(world.hop_s(), self._run_next)
                return
        self._end(None if self._answers else "connection lost")

    def _end(self, problem: str | None) -> None:
        world = self._world
        world.in_flight -= 1
        world.loop.call_later(world.hop_s(), self._settle, problem, context=world.context_of(self._process))

    def _settle(self, problem: str | None) -> None:
        if self.answer.done():
            return
        if self._patience is not None:
            self._patience.cancel()
        if problem is None:
            self.answer.set_result(self._results)
        else:
            self.answer.set_exception(DependencyError(f"Redis: {problem}"))

    def _give_up(self) -> None:
        if not self.answer.done():
            self._world.strike("requests given up")
            self.answer.set_exception(DependencyError("Redis did not answer in time"))

    @property
    def is_orphan(self) -> bool:
        """Whether its sender is dead, stopped, or waits no longer."""
        return self.answer.done() or (self._process is not None and self._process.held is not None)

    @property
    def sender(self) -> str:
        return self._process.name if self._process else "world"


class WiredStore:
    """A worker's ``CounterStore``: one request per server that a call is about, all at the same time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._servers = world.servers
        self._plain = world.servers[0].store
        self._erased: tuple[int, ...] = ()

    @property
    def shards(self) -> int:
        return self._plain.shards

    @property
    def generation(self) -> int:
        return self._plain.generation

    @property
    def erased(self) -> tuple[int, ...]:
        return self._erased

    async def open(self) -> None:
        """Asks each server for something."""
        await self._ask([Command("applied", ([],), shard) for shard in range(self.shards)])

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        by_shard = await self._ask([Command("applied", (partitions,), shard) for shard in range(self.shards)])
        erased = tuple(count for _, count in by_shard)
        self._erased = erased if any(erased) else ()
        return {
            partition: tuple(found[partition][shard] for shard, (found, _) in enumerate(by_shard))
            for partition in partitions
        }

    async def logs(self, names: Sequence[str]) -> dict[str, str]:
        [found] = await self._ask([Command("logs", (sorted(names),), 0)])
        return found

    async def swap_log(self, name: str, before: str, after: str) -> bool:
        [done] = await self._ask([Command("swap_log", (name, before, after), 0)])
        return done

    async def move(self, moves: Sequence[Move]) -> list[bool]:
        done = await self._ask([Command("move", ([move],), move.shard) for move in moves])
        return [each for [each] in done]

    async def forget(self, partition: str) -> None:
        await self._ask([Command("forget", (partition,), shard) for shard in range(self.shards)])

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, StoredSeen]:
        by_shard = await self._ask([Command("seen", (segments,), shard) for shard in range(self.shards)])
        # A server that has several shards answers for all of them; a cluster's each for its own.
        answers = by_shard if len(self._servers) > 1 else by_shard[:1]
        return {
            partition: StoredSeen(
                {
                    number: b"".join(each[partition].segments[number] for each in answers)
                    for number in numbers
                },
                tuple(by_shard[shard][partition].as_of[shard] for shard in range(self.shards)),
            )
            for partition, numbers in segments.items()
        }

    async def notes(self, partitions: Sequence[str]) -> list[bytes | None]:
        [found] = await self._ask([Command("notes", (partitions,), 0)])
        return found

    async def leave_notes(self, notes: Mapping[str, bytes]) -> None:
        # In order: they come from a set, whose order is the process's.
        await self._ask([Command("leave_notes", (dict(sorted(notes.items())),), 0)])

    async def states(self, partition: str, channel: Channel, product_ids: Sequence[str]) -> StoredStates:
        wanted = sorted(product_ids)
        found = await self._ask(
            [Command("states", (partition, channel, [each]), shard_of(each, self.shards)) for each in wanted]
        )
        states = {each: answer.states[0] for each, answer in zip(wanted, found, strict=True)}
        as_of: dict[int, tuple[int, int]] = {}
        for answer in found:
            for shard, (before, after) in answer.as_of.items():
                first, last = as_of.get(shard, (before, after))
                as_of[shard] = min(first, before), max(last, after)
        erased = {
            shard: frozenset[int]().union(*(each.erased.get(shard, ()) for each in found)) for shard in as_of
        }
        return StoredStates([states[each] for each in product_ids], as_of, erased)

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        results = await self._ask([Command("apply", ([step],), step.shard) for step in steps])
        return [result for [result] in results]

    async def outbox(self, shard: int) -> list[OutboxEntry]:
        [entries] = await self._ask([Command("outbox", (shard,), shard)])
        return entries

    async def delivered(self, entries: Iterable[OutboxEntry]) -> None:
        await self._ask([Command("delivered", ([entry],), entry.shard) for entry in entries])

    async def close(self) -> None:
        """Nothing to disconnect."""

    async def _ask(self, commands: Sequence[Command]) -> list[Any]:
        """The results of all commands.

        Raises:
            DependencyError: some server did not answer; others may have done their part.
        """
        servers = self._servers
        by_server: dict[int, list[int]] = {}
        for n, command in enumerate(commands):
            by_server.setdefault(command.shard % len(servers), []).append(n)
        requests = [
            Request(self._world, servers[number], [commands[n] for n in places])
            for number, places in by_server.items()
        ]
        if len(requests) == 1:  # the answers are in the order of the commands
            return await requests[0].answer
        answers = await asyncio.gather(*(request.answer for request in requests), return_exceptions=True)
        results: list[Any] = [None] * len(commands)
        for places, answer in zip(by_server.values(), answers, strict=True):
            if isinstance(answer, BaseException):
                raise answer
            for n, result in zip(places, answer, strict=True):
                results[n] = result
        return results
