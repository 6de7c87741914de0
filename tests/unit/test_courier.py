"""A courier between a queue and a sender that are made up: what it notes, in which order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from builders import alert, until

from stream.core.delivery import DELIVERED, Entry, Outcome
from stream.core.messages import Message, of_alert
from stream.core.notify_file import Webhook
from stream.deliver.courier import Courier
from stream.deliver.queue import Waiting
from stream.deliver.sender import Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from stream.core.delivery import GivenUp
    from stream.deliver.queue import Failure

NOW_MS = 1_700_000_000_000


class FakeQueue:
    """A queue in memory; says what it was told."""

    def __init__(self, *messages: Message | None) -> None:
        self.waiting = {
            str(place): Waiting(Entry(str(place), message.lane if message else "", NOW_MS), NOW_MS, message)
            for place, message in enumerate(messages)
        }
        self.notes: list[str] = []
        self.buried = asyncio.Event()
        self.buried.set()

    async def on(self) -> dict[str, bytes]:
        return {"held": b"x"}

    async def read(self, after: str | None) -> list[Waiting]:
        return [each for place, each in self.waiting.items() if after is None or int(place) > int(after)]

    async def done(self, place: str, on: Mapping[str, bytes] | None = None) -> None:
        self.notes.append(f"done {self._name(place)}")
        del self.waiting[place]

    async def failed(self, place: str, failure: Failure) -> None:
        self.notes.append(f"failed {self._name(place)} {failure.attempts}: {failure.reason}")

    async def bury(self, given_up: Iterable[tuple[GivenUp, str]], now_ms: int) -> None:
        await self.buried.wait()
        for each, lane in given_up:
            self.notes.append(f"buried {self._name(each.entry.id)}{f' held {lane}' if lane else ''}")
            del self.waiting[each.entry.id]

    def _name(self, place: str) -> str:
        message = self.waiting[place].message
        return message.id if message else "what cannot be read"


class FakeSender:
    """Sends nowhere; each message meets the outcomes given for it, one after another, then success."""

    def __init__(self, queue: FakeQueue, **outcomes: list[Outcome | Exception]) -> None:
        self._queue = queue
        self._outcomes = outcomes
        self.started: Mapping[str, bytes] = {}
        self.is_closed = False

    async def start(self, on: Mapping[str, bytes]) -> None:
        self.started = on

    async def send(self, message: Message) -> Sent:
        self._queue.notes.append(f"sent {message.id}")
        left = self._outcomes.get(message.id.replace("-", "_"), [])
        outcome = left.pop(0) if left else DELIVERED
        if isinstance(outcome, Exception):
            raise outcome
        return Sent(outcome)

    async def again(self) -> Outcome | None:
        return None

    def gave_up(self, message: Message) -> str:
        return message.lane if message.state == "resolved" else ""

    async def close(self) -> None:
        self.is_closed = True


def message(name: str, number: int = 1, **fields: Any) -> Message:
    return of_alert(alert(id=name, sequence=number, **fields))


def courier(queue: FakeQueue, sender: FakeSender) -> Courier:
    target = Webhook(name="hook", url="http://127.0.0.1/", at_once=1)
    return Courier(target, queue, sender, now_ms=lambda: NOW_MS, chance=lambda: 0.0)  # type: ignore[arg-type]


async def delivered(queue: FakeQueue, sender: FakeSender, until: Callable[[], bool]) -> list[str]:
    """What was noted until then."""
    made = courier(queue, sender)
    running = asyncio.create_task(made.run())
    while not until():
        assert not running.done(), running.exception()
        await asyncio.sleep(0)
    made.stop()
    await running
    assert sender.is_closed
    return queue.notes


async def test_what_fails_is_noted_and_sent_again_before_what_follows() -> None:
    queue = FakeQueue(message("a", 1), message("a", 2))
    sender = FakeSender(queue, a_1=[Outcome("failed", "it answered 500")])
    assert await delivered(queue, sender, lambda: not queue.waiting) == [
        "sent a-1",
        "failed a-1 1: it answered 500",
        "sent a-1",
        "done a-1",
        "sent a-2",
        "done a-2",
    ]
    assert sender.started == {"held": b"x"}


async def test_an_error_of_ours_costs_its_message_and_no_other() -> None:
    queue = FakeQueue(message("a"), message("b"))
    sender = FakeSender(queue, a_1=[RuntimeError("secret"), RuntimeError("secret")])
    notes = await delivered(queue, sender, lambda: not queue.waiting)
    assert notes.count("failed a-1 1: an error of Reviewpulse's own: RuntimeError") == 1
    assert {"done a-1", "done b-1"} <= {*notes}


async def test_what_follows_a_dead_letter_goes_when_it_is_one() -> None:
    queue = FakeQueue(message("a", 1), message("a", 2))
    queue.buried.clear()
    sender = FakeSender(queue, a_1=[Outcome("hopeless", "it answered 404")])
    made = courier(queue, sender)
    running = asyncio.create_task(made.run())
    for _ in range(200):
        await asyncio.sleep(0)
    assert queue.notes == ["sent a-1"]
    queue.buried.set()
    await until(lambda: not queue.waiting)
    made.stop()
    await running
    assert queue.notes == ["sent a-1", "buried a-1", "sent a-2", "done a-2"]


async def test_an_end_that_is_given_up_is_no_longer_held_for_firing() -> None:
    queue = FakeQueue(message("a", 3, state="resolved"))
    sender = FakeSender(queue, a_3=[Outcome("hopeless", "it answered 400")])
    notes = await delivered(queue, sender, lambda: not queue.waiting)
    assert notes == ["sent a-3", "buried a-3 held a"]


async def test_what_cannot_be_read_is_buried_and_the_rest_goes() -> None:
    queue = FakeQueue(None, message("a"))
    notes = await delivered(queue, FakeSender(queue), lambda: not queue.waiting)
    assert notes == ["buried what cannot be read", "sent a-1", "done a-1"]


async def test_a_stop_waits_for_what_is_under_way_and_begins_nothing() -> None:
    queue = FakeQueue(message("a", 1), message("a", 2))
    going = asyncio.Event()

    class Slow(FakeSender):
        async def send(self, message: Message) -> Sent:
            self._queue.notes.append(f"sent {message.id}")
            await going.wait()
            return Sent(DELIVERED)

    sender = Slow(queue)
    made = courier(queue, sender)
    running = asyncio.create_task(made.run())
    await until(lambda: queue.notes)
    made.stop()
    for _ in range(50):
        await asyncio.sleep(0)
    assert not running.done()
    going.set()
    await running
    assert queue.notes == ["sent a-1", "done a-1"]
