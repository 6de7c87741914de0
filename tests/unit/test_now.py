"""The live view: what is away is said, what is known stays, and a look serves all."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from builders import alert

from stream.client import ChannelTotals, Figures, Fleet, ProductCounts, Series, SeriesPoint
from stream.core.silence import Acknowledgement, Said, Silence
from stream.errors import DependencyError
from stream.settings import Settings
from stream.status import WorkerStatus
from stream.web import now
from stream.web.alerts import AlertBook
from stream.web.now import LiveView, Rate
from stream.web.viewers import OVERLAP_MS

NOW_MS = 1_700_000_000_000
AT = "2023-11-14T22:13:20.000Z"


class Counters:
    """Of a fleet; it may be away, or hang."""

    def __init__(self) -> None:
        self.fails: Exception | None = None
        self.hangs = False
        self.ended = 100
        self.asked: list[str] = []

    async def fleet(self, windows: Any) -> Fleet:
        await self._answer("fleet")
        counts = [ProductCounts.of("", window, (3, 0, 7, 0)) for window in windows]
        return Fleet(counts, 2, {"reviews": ChannelTotals(counted=self.ended)})

    async def figures(self, product_ids: list[str], *, points: int) -> list[Figures]:
        await self._answer(" ".join(product_ids))
        tail = [SeriesPoint(_time(n), n, 0, 0, None) for n in range(points)]
        return [
            Figures(
                [ProductCounts.of(each, "5m", (1, 0, 0, 0))],
                Series(product_id=each, window="1h", width_s=60, points=tail),
            )
            for each in product_ids
        ]

    async def active(self, _: int | None) -> tuple[Any, list[str]]:
        return None, []

    async def _answer(self, asked: str) -> None:
        self.asked.append(asked)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails


def _time(n: int) -> Any:
    return msgspec.convert(f"2023-11-14T21:{n % 60:02d}:00Z", type=__import__("datetime").datetime)


class People:
    def __init__(self) -> None:
        self.heard = Said()

    async def said(self) -> Said:
        return self.heard


class World:
    """A live view among fakes."""

    def __init__(self) -> None:
        self.counters = Counters()
        self.people = People()
        self.alerts = AlertBook(Settings())
        self.alerts.caught_up, self.alerts.trouble = True, None
        self.workers: list[WorkerStatus] = []
        self.now_ms = NOW_MS
        shared: Any = SimpleNamespace(
            settings=Settings(),
            counters=self.counters,
            redis=None,
            alerts=self.alerts,
            people=self.people,
            stopping=asyncio.Event(),
        )
        self.live = LiveView(shared, now_ms=lambda: self.now_ms)
        self.live._board = SimpleNamespace(workers=self._workers)  # type: ignore[assignment]
        self.alerts.listen(self.live._tell)

    async def _workers(self) -> list[WorkerStatus]:
        return self.workers

    def sent(self, viewer: Any) -> list[tuple[str, Any]]:
        """What waits for a viewer: names and data."""
        chunks = b"".join((*viewer._alerts, *viewer._latest.values()))
        found = []
        for each in chunks.decode().split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in each.splitlines())
            found.append((lines["event"], msgspec.json.decode(lines["data"])))
        return found


@pytest.fixture
async def world() -> World:
    return World()


def worker(name: str, p50: float | None, p99: float | None) -> WorkerStatus:
    return WorkerStatus(
        name=name,
        at=0.0,
        model_version="en-1",
        provider="CPU",
        partitions=["reviews:0"],
        counted=1,
        dead=0,
        skipped=0,
        late=0,
        rewinds=0,
        events_per_s=5.0,
        latency_p50_ms=p50,
        latency_p99_ms=p99,
    )


async def test_a_look_says_how_things_are(world: World) -> None:
    world.workers = [worker("a", 10.0, 90.0), worker("b", 30.0, 70.0), worker("new", None, None)]
    world.alerts.add(alert(id="a1", at=AT))
    world.alerts.add(alert(id="a2", at=AT, severity="critical"))
    world.alerts.add(alert(id="a3", at=AT, historic=True))
    world.alerts.add(alert(id="a4", at=AT, state="resolved"))
    await world.live.tick()
    overview = world.live.overview
    assert overview.negative_share == {"5m": 0.3, "1h": 0.3, "24h": 0.3}
    assert overview.events == {"5m": 10, "1h": 10, "24h": 10}
    assert (overview.firing, overview.critical, overview.products) == (2, 1, 2)
    assert (overview.latency_p50_ms, overview.latency_p99_ms) == (30.0, 90.0)
    assert [each.name for each in overview.workers] == ["a", "b", "new"]
    assert (overview.redis_ok, overview.kafka_ok) == (True, False)  # nobody has asked Kafka yet
    assert msgspec.json.decode(msgspec.json.encode(overview))["at"] == "2023-11-14T22:13:20Z"


async def test_one_look_serves_every_viewer(world: World) -> None:
    viewers = [await world.live.begin_stream(None, "") for _ in range(50)]
    await world.live.tick()
    assert world.counters.asked == ["fleet"]
    assert len({id(each._latest["overview"]) for each in viewers}) == 1


async def test_while_redis_is_away_the_last_figures_stay_and_it_is_said(world: World) -> None:
    await world.live.tick()
    world.counters.fails = DependencyError("Redis is away.")
    viewer = await world.live.begin_stream(None, "")
    world.alerts.add(alert(at=AT))
    await world.live.tick()
    overview = world.live.overview
    assert (overview.redis_ok, overview.events["5m"], overview.firing) == (False, 10, 1)
    assert overview.events_per_s is None
    assert dict(world.sent(viewer))["overview"]["redis_ok"] is False
    world.counters.fails = None
    await world.live.tick()
    assert world.live.overview.redis_ok


async def test_before_redis_ever_answered_there_are_no_figures(world: World) -> None:
    world.counters.fails = DependencyError("Redis is away.")
    await world.live.tick()
    assert world.live.overview.negative_share == {"5m": None, "1h": None, "24h": None}
    assert world.live.overview.totals == {}


async def test_a_redis_that_hangs_is_not_waited_for(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(now, "ANSWER_S", 0.01)
    world.counters.hangs = True
    await world.live.tick()
    assert not world.live.overview.redis_ok


async def test_a_products_figures_are_read_once_however_many_watch_it(world: World) -> None:
    viewers = [world.live.viewers.add("lamp") for _ in range(20)]
    await world.live.tick()
    assert world.counters.asked == ["fleet", "lamp"]
    figures = dict(world.sent(viewers[7]))["product"]
    assert figures["counters"][0]["negative"] == 1
    assert [each["negative"] for each in figures["series_tail"]["points"]] == [0, 1, 2]


async def test_of_more_products_than_fit_in_a_look_each_has_its_turn(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(now, "MOST_WATCHED", 2)
    for n in range(5):
        world.live.viewers.add(f"p{n}")
    for _ in range(3):
        await world.live.tick()
    asked = [each.split() for each in world.counters.asked if each != "fleet"]
    assert [len(each) for each in asked] == [2, 2, 2]
    assert {name for each in asked for name in each} == {f"p{n}" for n in range(5)}


async def test_an_alert_goes_out_as_it_is_heard(world: World) -> None:
    viewer = await world.live.begin_stream(None, "")
    world.alerts.add(alert(id="a1", at=AT))
    ((name, data),) = world.sent(viewer)
    assert (name, data["id"], data["silenced_until"], data["acknowledged"]) == ("alert", "a1", None, None)


async def test_a_silence_is_shown_and_tells_the_alerts_that_it_changes_again(world: World) -> None:
    world.alerts.add(alert(id="a1", at=AT, product_id="lamp"))
    world.alerts.add(alert(id="a2", at=AT, product_id="kettle"))
    await world.live.listen()
    viewer = await world.live.begin_stream(None, "")
    viewer._latest.clear()
    silence = Silence(id="s1", start_ms=NOW_MS, end_ms=NOW_MS + 60_000, reason="known", product="lamp")
    world.people.heard = Said([silence])
    await world.live.listen()
    (told, alert_view), (shown, silences) = world.sent(viewer)
    assert (told, alert_view["id"], alert_view["silenced_until"]) == (
        "alert",
        "a1",
        "2023-11-14T22:14:20.000Z",
    )
    assert (shown, [each["id"] for each in silences["silences"]]) == ("silences", ["s1"])
    viewer._alerts.clear()
    viewer._latest.clear()
    await world.live.listen()
    assert world.sent(viewer) == []


async def test_a_silence_that_runs_out_is_told_too(world: World) -> None:
    world.alerts.add(alert(id="a1", at=AT))
    world.people.heard = Said(
        [Silence(id="s1", start_ms=NOW_MS, end_ms=NOW_MS + 60_000, reason="known", everything=True)]
    )
    await world.live.listen()
    viewer = world.live.viewers.add()
    viewer._latest.clear()
    world.now_ms += 60_000
    await world.live.listen()
    told = dict(world.sent(viewer))
    assert told["silences"] == {"silences": []}
    assert told["alert"]["silenced_until"] is None


async def test_an_acknowledgement_is_told_with_its_alert(world: World) -> None:
    world.alerts.add(alert(id="a1", at=AT))
    viewer = world.live.viewers.add()
    world.people.heard = Said((), {"a1": Acknowledgement(alert_id="a1", at_ms=NOW_MS, author="Ada")})
    await world.live.listen()
    assert dict(world.sent(viewer))["alert"]["acknowledged"]["author"] == "Ada"


async def test_who_comes_from_another_server_is_told_of_alerts_of_about_then_and_later(world: World) -> None:
    for n, ago_ms in enumerate((2 * OVERLAP_MS, 60_000, 1_000)):
        world.alerts.add(alert(id=f"a{n}", at=now.rfc3339(NOW_MS - ago_ms)))
    viewer = await world.live.begin_stream(None, f"0badcafe.7.{NOW_MS - 30_000}")
    assert [data["id"] for name, data in world.sent(viewer) if name == "alert"] == ["a1", "a2"]


def test_a_rate_needs_two_looks_and_begins_anew_with_other_counters() -> None:
    rate = Rate()
    assert rate.add(0.0, 1000) is None
    assert rate.add(1.0, 1100) == 100.0
    assert rate.add(2.0, 5) is None
    assert rate.add(3.0, 15) == 10.0
    assert [rate.add(at, 10 * int(at) - 15) for at in (4.0, 9.0, 14.0)][-1] == 10.0
