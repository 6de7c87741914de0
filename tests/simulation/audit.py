"""What must hold, while a schedule runs and after it.

Rules:
- While it runs: a stored offset goes back only where a loss was injected; a step that takes effect holds
  every record between its base and its end; an offset is moved on only over records that retention deleted,
  and says so; what a step counts as dead is in Kafka already.
- After it: totals, buckets, ledger and detector states equal a recount of the logs; every alert and every
  dead letter has been published, and none that should not exist.
- An erasure takes what was counted before it, of what it is of, out of counters, detector states and outbox
  for good. It changes nothing else: no offset, no ledger, no fleet's sum, no other product. When it comes
  last, and no event after it, what workers remember goes, too.
- A record that workers are only suspected to have died of may be set aside, too: in a schedule in which that
  happens to an innocent one, the sums are not compared. It is counted how often.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from stream.core.buckets import is_expired
from stream.store.contract import NOTHING_APPLIED, plain_partition
from stream.store.layout import shard_of
from stream.store.missing import union
from tests.simulation.erasing import Erasures
from tests.simulation.inputs import NAMES, PARTITIONS, Verdict, home_shard, recount, verdict
from tests.simulation.worker import alarm

if TYPE_CHECKING:
    from aiokafka import ConsumerRecord
    from faust.types import TP

    from stream.store.contract import Apply, Move
    from tests.simulation.inputs import Expected
    from tests.simulation.redis_model import Command, Server
    from tests.simulation.world import World


class Violation(Exception):  # noqa: N818
    """Something that must hold does not."""


class Audit:
    """The books of one schedule."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._verdicts: dict[str, list[Verdict]] = {name: [] for name in NAMES.values()}

    # While it runs.

    def take_record(self, tp: TP, record: ConsumerRecord) -> None:
        """A record is in the log."""
        self._verdicts[NAMES[tp]].append(verdict(record))

    def check_apply(self, step: Apply, instead: int | None, before: int, after: int) -> None:
        """A server was given a step; ``before`` and ``after`` are the offsets it stored.

        Raises:
            Violation: it should not have come to this.
        """
        if after < before:
            raise Violation(f"{step.partition}: the stored offset went from {before} back to {after}")
        name = plain_partition(step.partition)
        if instead is not None or self._innocents(name, step.base + 1, step.last):
            return
        shards = self._world.shards
        here = [
            each
            for each in self._verdicts[name]
            if step.base < each.offset <= step.last and home_shard(each, shards) == step.shard
        ]
        have = sum(number for outcome, number in step.ledger.items() if not outcome.endswith(":late"))
        if have != len(here):
            raise Violation(
                f"{step.partition}: the step ({step.base}..{step.last}] on shard {step.shard} holds {have}"
                f" records, the log {len(here)}"
            )
        topic, _, number = name.partition(":")
        for each in here:
            if each.outcome == "dead" and not self._world.broker.letters[topic, int(number), each.offset]:
                raise Violation(f"{name}: {each.offset} is counted as dead, and was not published")

    def check_move(self, move: Move) -> None:
        """A server has moved a stored offset.

        Raises:
            Violation: there was no cause to.
        """
        if move.renamed_from:
            return
        name = plain_partition(move.partition)
        [log] = [log for tp, log in self._world.broker.logs.items() if NAMES[tp] == name]
        if move.offset < move.seen:
            raise Violation(f"{name}: the stored offset was moved from {move.seen} back to {move.offset}")
        if move.offset >= log.first:
            raise Violation(f"{name}: moved to {move.offset}, but the log begins at {log.first}")
        if not move.missing and move.seen != NOTHING_APPLIED:
            raise Violation(f"{name}: {move.seen} to {move.offset} are not said to be missing")

    def check_erased(self, server: Server, erase: Command) -> None:
        """A server has erased a product.

        Raises:
            Violation: something of it is left.
        """
        [product_id, _], store = erase.arguments, server.store
        waiting = [
            msgspec.json.decode(entry.alert)["product_id"] for entry in store.outboxes[erase.shard].values()
        ]
        states = [product for _, product in store.detector_states]
        if product_id in (*waiting, *states, *store.products):
            raise Violation(f"{product_id} was erased, and is there")

    def _innocents(self, name: str = "", first: int = 0, last: int = -1) -> bool:
        """Whether a harmless record was set aside, of those given if a partition is."""
        for topic, number, offset in self._world.broker.set_aside:
            of = f"{topic}:{number}"
            if not name or (of == name and first <= offset <= last):
                found = next(each for each in self._verdicts[of] if each.offset == offset)
                if found.outcome != "dead":
                    return True
        return False

    # After it.

    def unfinished(self) -> str | None:
        """What is still to be done; None when all is recorded and told."""
        world = self._world
        if world.in_flight:
            return "requests are on their way"
        for tp in PARTITIONS:
            name, last = world.name(tp), world.broker.logs[tp].offsets[-1]
            for shard in range(world.shards):
                stored = self._server(shard).store.offsets[shard].get(name, NOTHING_APPLIED)
                if stored != last:
                    return f"{name} is recorded to {stored} of {last} on shard {shard}"
            told = world.broker.group.committed.get(tp)
            if told != last + 1:
                return f"the group is told that {name} is at {told}, not {last + 1}"
        if any(any(server.store.outboxes) for server in world.servers):
            return "alerts wait in the outbox"
        return None

    def extent(self) -> tuple[int, ...]:
        """How much was done; when it is the same later, nothing was done in between."""
        broker = self._world.broker
        changes = [len(server.history) for server in self._world.servers]
        return (*changes, broker.letters.total(), broker.alerts.total())

    def check_all(self) -> None:
        """Compares everything with a recount of the logs.

        Raises:
            Violation: something differs.
        """
        world = self._world
        world.strikes["dead letters published again"] = _repeats(world.broker.letters)
        world.strikes["alerts published again"] = _repeats(world.broker.alerts)
        if self._innocents():
            world.strikes["schedules that set an innocent record aside"] = 1
            return
        latest_ms = max(log.records[-1].timestamp for log in world.broker.logs.values())
        gone = [self._gone(shard) for shard in range(world.shards)]
        erasures = Erasures(world.servers)
        expected = recount(
            (
                (tp, each)
                for tp, name in NAMES.items()
                for each in self._verdicts[name]
                if (name, each.offset) not in gone[home_shard(each, world.shards)]
            ),
            latest_ms,
            once=world.counts_once,
            fate=erasures.fate,
        )
        self._check_stored(expected, latest_ms)
        self._check_published(expected, anything_gone=any(gone))

    def remembered(self) -> str | None:
        """What a worker still remembers of what was erased; None when nobody does."""
        world = self._world
        for worker in world.workers.values():
            for tp, lane in worker.lanes._lanes.items():
                for product_id, state in () if lane.closed else lane.states.items():
                    stored = self._server(shard_of(product_id, world.shards)).store
                    if state != stored.detector_states.get((tp.topic, product_id)):
                        return f"{worker.process} remembers of {product_id} what Redis does not hold"
        return None

    def _gone(self, shard: int, *, only_missing: bool = False) -> set[tuple[str, int]]:
        """Partition and offset of what retention deleted before it was counted on a shard.

        Also of what came before the partition was ever read, unless only what is missing is asked for.
        """
        return {
            (plain_partition(move.partition), offset)
            for move in self._moves(shard)
            if move.missing or not only_missing
            for offset in range(move.seen + 1, move.offset + 1)
        }

    def _moves(self, shard: int) -> list[Move]:
        history = [command for command, _ in self._server(shard).history if command.method == "move"]
        moves = [command.arguments[0][0] for command in history]
        return [move for move in moves if move.shard == shard and not move.renamed_from]

    def _check_stored(self, expected: Expected, latest_ms: int) -> None:
        stores = [server.store for server in self._world.servers]
        products = {name: hash_ for store in stores for name, hash_ in store.products.items()}
        buckets = {
            (name, field): sums
            for name, hash_ in products.items()
            for field, sums in hash_.items()
            if isinstance(field, int) and not is_expired(field, latest_ms)
        }
        ledger = sum((store.ledger for store in stores), Counter())
        fleets = [hash_ for store in stores for hash_ in store.fleet.values()]
        states = {key: state for store in stores for key, state in store.detector_states.items()}
        _compare("totals", {name: hash_["total"] for name, hash_ in products.items()}, expected.products)
        _compare("buckets", buckets, expected.buckets)
        _compare("ledger", dict(ledger), dict(expected.ledger))
        _compare("detector states", states, expected.states)
        fleet = [sum(column) for column in zip(*(each["total"][:5] for each in fleets), strict=True)]
        _compare("fleet", {"total": fleet or [0] * 5}, {"total": expected.fleet})
        self._check_missing()

    def _check_missing(self) -> None:
        """What the shards list names each offset that was gone before some shard counted it."""
        shards = range(self._world.shards)
        listed = union(
            (name, " ".join(f"{first}-{last}" for first, last in ranges))
            for shard in shards
            for name, ranges in self._server(shard).store.missing[shard].items()
        )
        named = Counter(
            (each.partition, offset) for each in listed for offset in range(each.first, each.last + 1)
        )
        gone: set[tuple[str, int]] = set().union(*(self._gone(shard, only_missing=True) for shard in shards))
        _compare("missing", dict(named), dict.fromkeys(gone, 1))

    def _check_published(self, expected: Expected, *, anything_gone: bool) -> None:
        letters, alerts = set(self._world.broker.letters), set(self._world.broker.alerts)
        wanted = {msgspec.json.encode(alarm(*each)) for each in expected.alarms}
        # An erasure starts the numbers of a product's alarms anew; what it came after may have been published
        # before, and so may what was counted again since Redis lost the erasure.
        alerts -= self._may_be_published(expected) - wanted
        if anything_gone:  # what was published before its counts were lost for ever is no mistake
            letters, alerts = letters & expected.dead, alerts & wanted
        for what, found, right in (("dead letters", letters, expected.dead), ("alerts", alerts, wanted)):
            if found != right:
                missing, extra = sorted(right - found), sorted(found - right)
                raise Violation(f"{what}: {missing} missing, {extra} too many")

    def _may_be_published(self, expected: Expected) -> set[bytes]:
        so_far: Counter[tuple[str, str]] = Counter()
        allowed = set()
        for channel, product_id, event_id in expected.raised:
            so_far[channel, product_id] += 1
            if product_id in self._world.operator.erased:
                numbers = range(1, so_far[channel, product_id] + 1)
                allowed |= {
                    msgspec.json.encode(alarm(channel, product_id, number, event_id)) for number in numbers
                }
        return allowed

    def _server(self, shard: int) -> Server:
        servers = self._world.servers
        return servers[shard % len(servers)]


def _repeats(published: Counter[Any]) -> int:
    return published.total() - len(published)


def _compare(what: str, found: dict[Any, Any], expected: dict[Any, Any]) -> None:
    if found != expected:
        keys = {key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key)}
        wrong = [f"{key}: {found.get(key)} for {expected.get(key)}" for key in sorted(keys, key=repr)]
        raise Violation(f"{what}: {'; '.join(wrong[:3])}")
