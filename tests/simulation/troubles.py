"""What goes wrong, and when.

Rules:
- Every schedule has its own selection of troubles, so that some have many of one kind (Groce et al., "Swarm
  Testing", 2012).
- ``end`` ends all of it: what was stopped goes on, what was away is back. What was sent late still comes.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.simulation.inputs import KILLER, NAMES, PARTITIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.simulation.redis_model import Server
    from tests.simulation.world import World


class Troubles:
    """The troubles of one schedule."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = chance = world.chance
        kinds = (
            self._kill_worker,
            self._pause_worker,
            self._stop_worker,
            self._rebalance,
            self._rebalance_storm,
            self._lose_writes,
            self._flush,
            self._flap,
            self._redis_away,
            self._split,
            self._slow,
            self._lossy,
            self._late,
            self._kafka_away,
            self._publishes_fail,
            self._model_fails,
            self._runs_lost,
            self._ends_lag,
            self._delete_old,
            self._send_killer,
        )
        self._kinds: list[Callable[[], None]] = chance.sample(kinds, 1 + int(chance.random() * 6))
        self._number = 1 + int(chance.random() * 8)
        self._between_s = chance.choice((0.2, 0.6, 1.5))

    async def strike(self) -> None:
        """Strikes at drawn moments, until as many struck as were drawn."""
        for _ in range(self._number):
            await asyncio.sleep(self._between_s * 2 * self._chance.random())
            self._chance.choice(self._kinds)()
        await asyncio.sleep(2 * self._chance.random())

    def end(self) -> None:
        """No more troubles."""
        world = self._world
        world.weather.__init__()  # type: ignore[misc]
        world.broker.away = False
        world.model_calls_to_fail = 0
        for server in world.servers:
            server.away_until_s = 0.0
            server.heal()
        for worker in world.workers.values():
            world.loop.resume(worker.process)

    # Workers.

    def _kill_worker(self) -> None:
        world = self._world
        if slots := list(world.workers):
            slot = self._chance.choice(slots)
            world.strike("workers killed")
            world.note(f"trouble: {world.workers[slot].process} is killed")
            world.end_worker(slot, restart_s=4 * self._chance.random())

    def _pause_worker(self) -> None:
        world = self._world
        if slots := list(world.workers):
            worker = world.workers[self._chance.choice(slots)]
            duration_s = self._chance.choice((0.2, 2.0, 8.0)) * 2 * self._chance.random()
            world.strike("workers stopped and woken")
            world.note(f"trouble: {worker.process} is stopped for {duration_s:.1f} s")
            world.loop.pause(worker.process)
            world.loop.call_later(duration_s, self._wake, worker, context=world.context)

    def _wake(self, worker: object) -> None:
        world = self._world
        if not worker.process.is_dead:
            world.note(f"trouble: {worker.process} wakes")
            world.loop.resume(worker.process)

    def _stop_worker(self) -> None:
        world = self._world
        if slots := [slot for slot, worker in world.workers.items() if not worker.is_draining]:
            slot = self._chance.choice(slots)
            worker = world.workers[slot]
            world.strike("workers told to stop")
            world.note(f"trouble: {worker.process} is told to stop")
            stopping = world.loop.spawn(worker.process, worker.stop())
            stopping.add_done_callback(lambda _: self._stopped(slot, worker), context=world.context)

    def _stopped(self, slot: int, worker: object) -> None:
        world = self._world
        if world.workers.get(slot) is worker:
            world.note(f"{worker.process}: has stopped")
            world.end_worker(slot, restart_s=2 * self._chance.random())

    def _rebalance(self) -> None:
        self._world.broker.group.rebalance()

    def _rebalance_storm(self) -> None:
        """Everybody owns everything in turn, and nobody knows for how long."""
        at_s = 0.0
        for _ in range(2 + int(self._chance.random() * 5)):
            at_s += 0.5 * self._chance.random()
            self._world.loop.call_later(at_s, self._rebalance, context=self._world.context)

    # Redis.

    def _some_servers(self) -> list[Server]:
        servers = self._world.servers
        return servers if self._chance.random() < 0.4 else [self._chance.choice(servers)]

    def _lose_writes(self) -> None:
        world = self._world
        for server in self._some_servers():
            if had := len(server.history):
                lost = min(had, 1 + int(self._chance.random() * self._chance.choice((2, 8, 40))))
                self._go_back(server, had - lost)
                world.strike("times Redis lost writes")

    def _flush(self) -> None:
        for server in self._some_servers():
            self._go_back(server, 0)
            self._world.strike("times Redis lost everything")

    def _flap(self) -> None:
        """It fails over again and again, just after it has answered, to a replica that lags a little."""
        self._weather("fails_over", 0.1 + 0.3 * self._chance.random(), 0.0)

    def _go_back(self, server: Server, kept: int) -> None:
        self._world.note(
            f"trouble: redis {self._world.servers.index(server)} keeps {kept} of {len(server.history)} writes"
        )
        server.go_back(kept)

    def _redis_away(self) -> None:
        world = self._world
        for server in self._some_servers():
            server.away_until_s = world.loop.now_s + self._chance.choice((0.3, 3.0)) * self._chance.random()
            world.strike("times Redis was away")
            world.note(f"trouble: redis {world.servers.index(server)} is away to {server.away_until_s:.1f}")

    def _split(self) -> None:
        """An old master serves some of the workers while a replica that was promoted serves the others."""
        world = self._world
        for server in self._some_servers():
            if server.old_master is None:
                cut_off = [w.process for w in world.workers.values() if self._chance.random() < 0.5]
                server.split(set(cut_off))
                world.strike("old masters")
                world.note(f"trouble: redis {world.servers.index(server)} is split, {cut_off} is cut off")
                self._later(5, server.heal)

    # The ways between them.

    def _slow(self) -> None:
        self._weather("slow", self._chance.choice((5.0, 30.0, 100.0)), 1.0)

    def _lossy(self) -> None:
        self._weather("request_lost", 0.1 + 0.4 * self._chance.random(), 0.0)

    def _late(self) -> None:
        self._weather("request_late", 0.1 + 0.3 * self._chance.random(), 0.0)

    def _publishes_fail(self) -> None:
        self._weather("publish_fails", 0.5 * self._chance.random(), 0.0)

    def _model_fails(self) -> None:
        """The device is gone for a number of calls: some are over before a text is blamed, some are not."""
        self._world.model_calls_to_fail = 1 + int(self._chance.random() * self._chance.choice((3, 40)))
        self._world.note("trouble: the model fails")

    def _runs_lost(self) -> None:
        self._weather("run_lost", 0.3, 0.0)

    def _ends_lag(self) -> None:
        self._weather("end_lags", 0.7, 0.0)

    def _weather(self, name: str, value: float, usual: float) -> None:
        world = self._world
        setattr(world.weather, name, value)
        world.note(f"trouble: {name} is {value:.2f}")
        self._later(4, lambda: setattr(world.weather, name, usual))

    def _kafka_away(self) -> None:
        self._world.broker.away = True
        self._world.strike("times Kafka was away")
        self._world.note("trouble: Kafka is away")
        self._later(4, lambda: setattr(self._world.broker, "away", False))

    def _delete_old(self) -> None:
        """Retention deletes the beginning of a log, whether it was read or not."""
        world = self._world
        tp = self._chance.choice(PARTITIONS)
        log = world.broker.logs[tp]
        first = int(self._chance.random() * (log.end + 1))
        if first > log.first:
            log.first = first
            world.strike("times retention deleted records")
            world.note(f"trouble: {NAMES[tp]} now begins at {first}")

    def _send_killer(self) -> None:
        """A record arrives that kills the process which scores it. One is enough: it takes several deaths."""
        if self._world.strikes["records that kill workers"] or self._chance.random() < 0.5:
            return
        self._world.append(self._chance.choice(PARTITIONS), KILLER)
        self._world.strike("records that kill workers")

    def _later(self, most_s: float, call: Callable[[], None]) -> None:
        self._world.loop.call_later(most_s * self._chance.random(), call, context=self._world.context)
