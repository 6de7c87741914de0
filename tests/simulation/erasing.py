"""``reviewpulse forget`` beside the workers of a schedule: who runs it, and what it is to leave.

Rules:
- What it does to a shard is modelled command by command: a product's erasure is one, a customer's is to read
  the detector states and to replace those that are still the same, until there is none of the customer.
- Whether a schedule has erasures, of what and when is drawn apart, so that those without are what they would
  be if there were no such thing.
- What an erasure is to leave goes by where it stands among the changes of its server: an erasure that Redis
  lost again, with the offsets of since then, is none.
"""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import TYPE_CHECKING

from stream.backoff import retry
from stream.core.events import CHANNELS
from stream.store.contract import NOTHING_APPLIED, plain_partition
from stream.store.layout import shard_of
from tests.simulation.inputs import NAMES, PRODUCTS, Fate, author_of, without_author
from tests.simulation.loop import Process
from tests.simulation.redis_model import Command, WiredStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from faust.types import TP

    from stream.store.contract import Apply
    from stream.store.memory import Replacement
    from tests.simulation.inputs import Verdict
    from tests.simulation.redis_model import Server
    from tests.simulation.world import World

SHARE = 0.3
"""Of the schedules, those with erasures: most say something of the rest."""
AUTHORS = 3
ATTEMPTS = 20


class Eraser(WiredStore):
    """What ``stream.erasure.counters`` asks of Redis."""

    async def erase(self, product_id: str, by: int) -> None:
        """Forgets a product and raises its shard's mark of erasures."""
        await self._ask([Command("erase", (product_id, by), shard_of(product_id, self.shards))])

    async def states_of(self, shard: int) -> dict[tuple[str, str], bytes]:
        """The detector states of a shard, each channel's products by a command of their own."""
        products = [each for each in PRODUCTS if shard_of(each, self.shards) == shard]
        found = await self._ask([Command("states", ("", channel, products), shard) for channel in CHANNELS])
        return {
            (channel, product): state
            for channel, answer in zip(CHANNELS, found, strict=True)
            for product, state in zip(products, answer.states, strict=True)
            if state is not None
        }

    async def replace(self, shard: int, states: Sequence[Replacement], by: int) -> None:
        """Puts others in their place, where they are still the same."""
        await self._ask([Command("replace", (shard, states, by), shard)])


class Operator:
    """Whoever runs ``reviewpulse forget`` in a schedule, and repeats it until it is done."""

    def __init__(self, world: World, eraser: Eraser, seed: int) -> None:
        self._world = world
        self._eraser = eraser
        self._chance = chance = random.Random(f"erasures of {seed}")
        self._marks = random.Random(f"marks of {seed}")
        self._number = 1 + int(chance.random() * 3) if chance.random() < SHARE else 0
        self._between_s = chance.choice((0.2, 1.0, 3.0))
        self._reading_s = chance.choice((0.0, 0.1, 1.0))
        """How long the other states take to be read, before the first are replaced."""
        self.erases_last = bool(self._number) and chance.random() < 0.5
        """Whether to erase something when all is over, too, and no event comes after it."""
        self._process = Process("forget")
        self.erased: set[str] = set()
        """Products that were erased, for good or not."""

    def start(self) -> asyncio.Task[None] | None:
        """Begins to erase something now and then, as often as was drawn; None if never."""
        return self._world.loop.spawn(self._process, self._erase_often()) if self._number else None

    async def erase_last(self) -> None:
        """Erases something when all is over."""
        await self._world.loop.spawn(self._process, self._erase_something())

    async def _erase_often(self) -> None:
        for _ in range(self._number):
            await asyncio.sleep(self._between_s * 2 * self._chance.random())
            await self._erase_something()

    async def _erase_something(self) -> None:
        if self._chance.random() < 0.7:
            await self._erase_product(self._chance.choice(PRODUCTS))
        else:
            await self._erase_author(f"author-{int(self._chance.random() * AUTHORS)}")

    async def _erase_product(self, product_id: str) -> None:
        self._world.strike("products erased")
        self._world.note(f"forget: {product_id}")
        self.erased.add(product_id)
        by = self._raise_by()
        await retry(lambda: self._eraser.erase(product_id, by), "erase a product")

    async def _erase_author(self, author: str) -> None:
        self._world.strike("authors erased")
        self._world.note(f"forget: {author}")
        for shard in range(self._world.shards):
            for _ in range(ATTEMPTS):
                states = await retry(lambda shard=shard: self._eraser.states_of(shard), "read states")
                found = [
                    (*key, before, after)
                    for key, before in states.items()
                    if (after := without_author(before, author)) != before
                ]
                if not found:
                    break
                await asyncio.sleep(self._reading_s)
                erase = partial(self._eraser.replace, shard, found, self._raise_by())
                await retry(erase, "replace states")

    def _raise_by(self) -> int:
        return 1 + int(self._marks.random() * 1000)


class Erasures:
    """What was erased for good, worked out from what the servers were told.

    Args:
        servers: all of them.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self._shards = servers[0].store.shards
        self._offsets: dict[tuple[int, str], int] = {}
        self._states: dict[tuple[str, str], bytes] = {}
        self._products: dict[tuple[str, str], int] = {}
        """Partition and product to the offset that was stored when the product was erased last."""
        self._authors: dict[tuple[str, str, str], int] = {}
        """Partition, product and author to the offset that was stored when the state lost the author last."""
        for server in servers:
            for command, _ in server.history:
                self._follow(command)

    def fate(self, tp: TP, counted: Verdict) -> Fate:
        """What was left of an event."""
        of_product = (NAMES[tp], counted.product_id)
        of_author = (*of_product, author_of(counted.event_id))
        return Fate(
            counted.offset <= self._products.get(of_product, NOTHING_APPLIED),
            counted.offset <= self._authors.get(of_author, NOTHING_APPLIED),
        )

    def _follow(self, command: Command) -> None:
        match command.method:
            case "apply":
                self._step(*command.arguments[0])
            case "move":
                [move] = command.arguments[0]
                self._offsets[move.shard, plain_partition(move.partition)] = move.offset
            case "erase":
                self._erase(command.shard, *command.arguments)
            case "replace":
                self._replace(*command.arguments)

    def _step(self, step: Apply) -> None:
        self._offsets[step.shard, plain_partition(step.partition)] = step.last
        for product in step.products:
            if product.state is not None:
                self._states[step.channel, product.product_id] = product.state

    def _erase(self, shard: int, product_id: str, _by: int) -> None:
        for tp, name in NAMES.items():
            self._products[name, product_id] = self._stored(shard, name)
            self._states.pop((tp.topic, product_id), None)

    def _replace(self, shard: int, states: Sequence[Replacement], _by: int) -> None:
        for channel, product_id, before, after in states:
            if self._states.get((channel, product_id)) != before:
                continue
            self._states[channel, product_id] = after
            events = zip(before.decode().split(), after.decode().split(), strict=True)
            authors = {author_of(event.removesuffix("!")) for event, left in events if event != left}
            for name in [name for tp, name in NAMES.items() if tp.topic == channel]:
                for author in authors:
                    self._authors[name, product_id, author] = self._stored(shard, name)

    def _stored(self, shard: int, name: str) -> int:
        return self._offsets.get((shard, name), NOTHING_APPLIED)
