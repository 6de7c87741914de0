"""The queues of ``notify`` in a real Redis: each step whole or not at all, fenced and bounded."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from redis.crc import key_slot

from stream.core.delivery import GivenUp
from stream.core.messages import of_alert, of_notification
from stream.core.notify import Notification
from stream.core.routing import Ear, Kind, Route, Routing
from stream.deliver import queue as queue_module
from stream.deliver.intake import Sorter
from stream.deliver.queue import Failure, Keys, LostLeaseError, Queue, Queues, Waiting
from stream.redis_config import connect, connect_async
from tests.builders import alert
from tests.integration.cluster import LocalCluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.core.messages import Message
    from stream.settings import Settings

NOW_MS = 1_700_000_000_000


@pytest.fixture
def queues(settings: Settings) -> Iterator[Queues]:
    with connect(settings) as client:
        found = Queues(client, Keys(settings.namespace, "g"), settings.redis, "me")
        assert found.take() is None
        yield found


def sorter(queues: Queues, *routes: Route, default: tuple[str, ...] = ("a", "b")) -> Sorter:
    names = {*default, *(name for route in routes for name in route.to)}
    routing = Routing(routes, default, dict.fromkeys(names, Ear("transitions", historic=True)))
    return Sorter(routing, queues, lambda names: None)


def message(number: int = 1, name: str = "x", **fields: Any) -> Message:
    return of_alert(alert(id=name, sequence=number, **fields))


def on_loop(settings: Settings, use: Callable[[Queue], Any], target: str = "a", token: str = "me") -> Any:  # noqa: S107
    """What a courier does with its queue."""

    async def run() -> Any:
        client = connect_async(settings)
        try:
            keys = Keys(settings.namespace, "g")
            return await use(Queue(client, keys, target, settings.redis, token))
        finally:
            await client.aclose()

    return asyncio.run(run())


def read(settings: Settings, target: str = "a") -> list[Waiting]:
    found: list[Waiting] = on_loop(settings, lambda queue: queue.read(None), target)
    return found


def ids(waiting: list[Waiting]) -> list[str]:
    return [each.message.id for each in waiting if each.message]


def test_all_keys_of_a_group_lie_in_one_slot() -> None:
    keys = Keys("rp", "pager")
    names = [keys.owner, keys.lanes, keys.lanes_at]
    names += [keys.of(kind, name) for kind in ("queue", "failed", "on", "dead") for name in ("a", "b")]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert key_slot(Keys("rp", "other").owner.encode()) != key_slot(keys.owner.encode())


def test_a_message_is_in_each_queue_once_however_often_it_is_put(settings: Settings, queues: Queues) -> None:
    sort = sorter(queues)
    assert sort.put(message(1), NOW_MS) == ["a", "b"]
    assert sort.put(message(2), NOW_MS) == ["a", "b"]
    assert sort.put(message(1), NOW_MS) == []
    assert sort.put(message(2), NOW_MS) == []
    assert ids(read(settings, "a")) == ids(read(settings, "b")) == ["x-1", "x-2"]


def test_a_notification_that_is_handed_out_again_is_known(queues: Queues) -> None:
    told = Notification(
        id="x-firing-1",
        thread="t",
        kind="alert",
        state="firing",
        severity="warning",
        at="2024-01-17T10:00:00.000Z",
        fired=1,
        alert=alert(),
    )
    routing = Routing((), ("room",), {"room": Ear("notifications")})
    sort = Sorter(routing, queues, lambda names: None)
    assert sort.put(of_notification(told), NOW_MS) == ["room"]
    assert sort.put(of_notification(told), NOW_MS) == []


def test_who_heard_the_beginning_hears_the_end_after_a_restart_too(queues: Queues) -> None:
    critical = Route(("pager",), severity=("critical",))
    assert sorter(queues, critical).put(message(1), NOW_MS) == ["a", "b"]
    assert sorter(queues, critical).put(message(2, severity="critical"), NOW_MS) == ["pager", "a", "b"]
    end = message(3, severity="critical", state="resolved", category="toys")
    assert sorter(queues, critical).put(end, NOW_MS) == ["pager", "a", "b"]
    memory = queues.memory("t:x")
    assert memory is not None
    assert memory.kinds == [Kind("warning", None), Kind("critical", None), Kind("critical", "toys")]


def test_what_is_delivered_is_gone_and_what_failed_is_remembered(settings: Settings, queues: Queues) -> None:
    sort = sorter(queues, default=("a",))
    for number in (1, 2):
        sort.put(message(number), NOW_MS)
    first, second = read(settings)
    assert (first.entry.lane, first.queued_ms, first.entry.attempts) == ("x", NOW_MS, 0)
    on_loop(settings, lambda queue: queue.failed(first.entry.id, Failure(3, "it answered 500", NOW_MS)))
    assert [each.entry.attempts for each in read(settings)] == [3, 0]
    waiting, _, failure = queues.waiting("a")
    assert failure is not None
    assert (waiting, failure.reason) == (2, "it answered 500")
    on_loop(settings, lambda queue: queue.done(first.entry.id, {"x": b"held"}))
    assert ids(read(settings)) == ["x-2"]
    assert queues.waiting("a")[2] is None
    assert on_loop(settings, lambda queue: queue.on()) == {"x": b"held"}
    on_loop(settings, lambda queue: queue.done(second.entry.id, {"x": b""}))
    assert on_loop(settings, lambda queue: queue.on()) == {}


def test_a_dead_letter_is_listed_goes_again_once_and_can_be_dropped(
    settings: Settings, queues: Queues
) -> None:
    sort = sorter(queues, default=("a",))
    for number in (1, 2):
        sort.put(message(number), NOW_MS)
    given_up = [(GivenUp(each.entry, "it answered 404"), "x") for each in read(settings)]
    on_loop(settings, lambda queue: queue.bury(given_up, NOW_MS + 5))
    on_loop(settings, lambda queue: queue.bury(given_up, NOW_MS + 5))  # as after an answer that was lost
    assert read(settings) == []
    letters = queues.dead("a")
    assert [(each.message.id, each.reason, each.queued_at, each.failed_at) for each in letters] == [
        (f"x-{number}", "it answered 404", NOW_MS, NOW_MS + 5) for number in (1, 2)
    ]
    assert queues.redrive(letters[0], NOW_MS + 9)
    assert not queues.redrive(letters[0], NOW_MS + 9)
    assert queues.drop(letters[1])
    assert queues.dead("a") == []
    (again,) = read(settings)
    assert again.message is not None
    assert (again.message.id, again.queued_ms) == ("x-1", NOW_MS + 9)


def test_of_a_full_queue_the_oldest_becomes_a_dead_letter(
    settings: Settings, queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "MOST_WAITING", 2)
    sort = sorter(queues, default=("a",))
    for number in (1, 2, 3):
        sort.put(message(number), NOW_MS)
    assert ids(read(settings)) == ["x-2", "x-3"]
    (letter,) = queues.dead("a")
    assert (letter.message.id, letter.reason) == ("x-1", "more than 2 messages waited")


def test_the_oldest_lanes_are_forgotten(queues: Queues, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue_module, "MOST_LANES", 2)
    sort = sorter(queues)
    for later, name in enumerate(("x", "y", "x", "z")):
        sort.put(message(later + 1, name), NOW_MS + later)
    assert [queues.memory(f"t:{name}") is not None for name in ("x", "y", "z")] == [True, False, True]


def test_who_is_not_the_owner_writes_nothing(settings: Settings, queues: Queues) -> None:
    sorter(queues, default=("a",)).put(message(1), NOW_MS)
    (first,) = read(settings)
    with connect(settings) as client:
        other = Queues(client, Keys(settings.namespace, "g"), settings.redis, "other")
        assert other.take() == "me"
        assert other.take("somebody else") == "me"
        with pytest.raises(LostLeaseError):
            sorter(other, default=("a",)).put(message(2), NOW_MS)
        attempts: list[Callable[[Queue], Any]] = [
            lambda queue: queue.done(first.entry.id),
            lambda queue: queue.failed(first.entry.id, Failure(1, "", 0)),
            lambda queue: queue.bury([(GivenUp(first.entry, ""), "")], NOW_MS),
        ]
        for attempt in attempts:
            with pytest.raises(LostLeaseError):
                on_loop(settings, attempt, token="other")  # noqa: S106
        assert read(settings) == [first]
        assert other.take("me") is None  # known to be dead
        assert queues.take() == "other"
        queues.leave()
        assert queues.take() == "other"
        other.leave()
        assert queues.take() is None


def test_a_lease_that_ran_out_and_that_nobody_took_is_still_ours(settings: Settings, queues: Queues) -> None:
    queues.leave()  # as when it runs out while Redis is away
    assert sorter(queues, default=("a",)).put(message(1), NOW_MS) == ["a"]
    with connect(settings) as client:
        assert Queues(client, Keys(settings.namespace, "g"), settings.redis, "other").take() == "me"


def test_what_a_newer_version_wrote_is_no_message(settings: Settings, queues: Queues) -> None:
    with connect(settings) as client:
        key = Keys(settings.namespace, "g").of("queue", "a")
        client.xadd(key, {"at": NOW_MS, "message": b'{"schema": 2}'})
    (found,) = read(settings)
    assert found.message is None


@pytest.mark.slow
def test_it_is_the_same_in_a_cluster(settings: Settings) -> None:
    with LocalCluster(replicas=0) as cluster:
        there = settings.model_copy(update={"redis": cluster.url})
        with connect(there) as client:
            queues = Queues(client, Keys(there.namespace, "g"), there.redis, "me")
            assert queues.take() is None
            for number in (1, 2, 3):
                assert sorter(queues, default=("a",)).put(message(number), NOW_MS) == ["a"]
            first, second, third = read(there)
            on_loop(there, lambda queue: queue.failed(first.entry.id, Failure(1, "r", NOW_MS)))
            on_loop(there, lambda queue: queue.done(first.entry.id, {"x": b"held"}))
            given_up = [(GivenUp(each.entry, "r"), "x") for each in (second, third)]
            on_loop(there, lambda queue: queue.bury(given_up, NOW_MS))
            one, two = queues.dead("a")
            assert queues.redrive(one, NOW_MS)
            assert queues.drop(two)
            assert ids(read(there)) == ["x-2"]
            queues.leave()
