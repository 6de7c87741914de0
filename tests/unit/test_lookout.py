"""What the event loop tells the watchdog."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from builders import CHATS, REVIEWS
from faust.types import TP
from structlog.testing import capture_logs

from stream import backoff, lookout
from stream.core.watch import Seen
from stream.errors import DependencyError
from stream.lookout import Lookout, Reach
from stream.scorer.constant import ConstantScorer
from stream.scorer.contract import score_encoded
from stream.scorer.counted import Batches, CountedScorer
from stream.settings import Settings
from stream.store.missing import Missing

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    now = SimpleNamespace(time=1000.0)
    monkeypatch.setattr(lookout.time, "monotonic", lambda: now.time)
    return now


@pytest.fixture
def look(clock: SimpleNamespace) -> Callable[..., Lookout]:
    """A lookout over a worker that is only numbers."""

    def make(**worker: Any) -> Lookout:
        given = {"assigned": {REVIEWS, CHATS}, "applied": {}, "rebalancing": False, "rebalances": 1, **worker}
        consumer = SimpleNamespace(assigned=lambda: given["assigned"], ends_seen=lambda _: {})
        watched = Lookout(
            Settings(**given.get("settings", {})),
            app=SimpleNamespace(
                consumer=consumer, rebalancing=given["rebalancing"], rebalancing_count=given["rebalances"]
            ),
            lanes=SimpleNamespace(  # type: ignore[arg-type]
                applied=lambda tp: given["applied"].get(tp, -1),
                missing_ranges=(Missing("reviews:0", "A", 7, 8),),
            ),
            pipeline=SimpleNamespace(busy=True, progress=SimpleNamespace(rewinds=3)),  # type: ignore[arg-type]
            batches=Batches(),
        )
        watched.joined = given.get("joined", True)
        return watched

    return make


def test_a_server_is_away_when_it_is_silent_or_fails(clock: SimpleNamespace) -> None:
    redis = Reach("Redis", patience_s=11)
    clock.time += 11
    assert redis.away is None
    clock.time += 1
    assert redis.away == "Redis has not answered for 12 s"
    redis.answered()
    assert redis.away is None
    redis.failed(DependencyError("Redis at redis://r: Connection refused"))
    assert redis.away == "Redis at redis://r: Connection refused"
    redis.answered()
    assert redis.away is None


def test_what_is_seen_of_a_worker_that_works(look: Callable[..., Lookout]) -> None:
    watched = look(applied={REVIEWS: 41})
    assert watched.seen() == Seen(
        joined=True,
        applied={"reviews:0": 41, "chats:0": -1},
        busy=True,
        batches=0,
        rewinds=3,
        missing=(("reviews:0", 7, 8),),
    )


def test_before_it_has_joined_nothing_is_asked_of_the_consumer(look: Callable[..., Lookout]) -> None:
    watched = look(joined=False)
    watched._app = None
    assert watched.seen() == Seen()


def test_until_the_first_assignment_the_group_rebalances(look: Callable[..., Lookout]) -> None:
    assert look(rebalances=0).seen().rebalancing
    assert look(rebalancing=True).seen().rebalancing


def test_other_topics_are_none_of_its_business(look: Callable[..., Lookout]) -> None:
    assert look(assigned={REVIEWS, TP("faust-replies", 0)}).seen().applied == {"reviews:0": -1}


def test_records_wait_only_where_nothing_was_applied_since_they_were_seen(
    look: Callable[..., Lookout],
) -> None:
    watched = look(applied={REVIEWS: 41, CHATS: 7})
    watched._waiting = {REVIEWS: 41, CHATS: 6, TP("reviews", 9): 3}
    assert watched.seen().waiting == {"reviews:0"}


async def test_what_is_tried_again_is_told(look: Callable[..., Lookout], monkeypatch: Any) -> None:
    watched = look()
    told: list[tuple[str, ...]] = []

    async def wait(_seconds: float) -> None:
        told.append(watched.seen().waits)

    monkeypatch.setattr(backoff.asyncio, "sleep", wait)
    answers = [DependencyError("Connection refused"), None]

    async def call() -> None:
        if (answer := answers.pop(0)) is not None:
            raise answer

    await backoff.retry(call, "apply")
    assert told == [("apply: Connection refused",)]
    assert watched.seen().waits == ()


@pytest.mark.parametrize(("stall_s", "period_s"), [(120, 5.0), (6, 1.2), (0, 5.0)])
def test_a_short_limit_is_looked_for_more_often(
    look: Callable[..., Lookout], stall_s: float, period_s: float
) -> None:
    assert look(settings={"watchdog_stall_s": stall_s})._period_s == pytest.approx(period_s)


def test_scored_batches_are_counted() -> None:
    scorer = CountedScorer(ConstantScorer())
    encoded = scorer.encode(["one"] * 10)
    assert score_encoded(scorer, encoded, token_budget=4).shape == (10, 3)
    assert scorer.batches == 3
    assert (scorer.version, scorer.provider) == ("constant", "none")


def test_a_batch_that_fails_is_not_counted() -> None:
    class Broken(ConstantScorer):
        def score(self, *_: Any) -> Any:
            raise RuntimeError("device gone")

    scorer = CountedScorer(Broken())
    with pytest.raises(RuntimeError):
        score_encoded(scorer, scorer.encode(["one"]), token_budget=4)
    assert scorer.batches == 0


def test_a_server_that_goes_away_and_comes_back_is_one_line_each(look: Callable[..., Lookout]) -> None:
    watched = look()
    with capture_logs() as said:
        for kafka in (None, "Kafka has not answered for 12 s", "Kafka has not answered for 13 s", None, None):
            watched._say_who_is_away(Seen(kafka=kafka))
    assert [(line["log_level"], line["server"], line.get("why")) for line in said] == [
        ("warning", "Kafka", "Kafka has not answered for 12 s"),
        ("info", "Kafka", None),
    ]
