"""When a bundle is promoted, and when not: what the command makes of the workers' answers."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from stream import promote as room
from stream.core.shadow import Comparison, Gates
from stream.errors import UsageError
from stream.promote import Promoter, Wish, previous
from stream.promotion import Found, Named, Promotion, Proposal
from stream.settings import Settings
from stream.status import SwapStatus

if TYPE_CHECKING:
    from collections.abc import Callable

NEW = Named(path="/b/new", version="new", manifest="a" * 64)
OLD = Named(path="/b/old", version="old", manifest="b" * 64)


class Redis:
    """The two keys and the board: what workers say is made of the proposal that stands."""

    def __init__(self) -> None:
        self.promotion: Promotion | None = None
        self.proposal: Proposal | None = None
        self.says: dict[str, Callable[[Proposal | None, Promotion | None], SwapStatus | None]] = {}
        self.may_renew = self.may_promote = self.may_propose = True
        self.renewed = 0

    async def read(self) -> Found:
        return Found(self.promotion, self.proposal, b"")

    async def propose(self, proposal: Proposal) -> bool:
        if self.may_propose:
            self.proposal = proposal
        return self.may_propose

    async def renew(self, _: Proposal) -> bool:
        self.renewed += 1
        return self.may_renew

    async def withdraw(self, _: Proposal) -> None:
        self.proposal = None

    async def promote(self, _: Found, promotion: Promotion) -> bool:
        if self.may_promote:
            self.promotion = promotion
        return self.may_promote

    async def workers(self) -> list[Any]:
        return [
            SimpleNamespace(name=name, swap=say(self.proposal, self.promotion))
            for name, say in self.says.items()
        ]


def worker(
    state: str = "ready", *reasons: str, late: int = 0, **compared: Any
) -> Callable[[Proposal | None, Promotion | None], SwapStatus]:
    """One that says this of whatever is proposed, after so many looks, and follows what was promoted."""
    looks = 0

    def say(proposal: Proposal | None, promotion: Promotion | None) -> SwapStatus:
        nonlocal looks
        looks += 1
        used = promotion.bundle if promotion else OLD
        said = SwapStatus(bundle=used.manifest if used else OLD.manifest, is_configured=used in {OLD, None})
        if proposal is not None and promotion is None and looks > late:
            said = msgspec.structs.replace(
                said,
                proposal=proposal.id,
                state=state,
                reasons=list(reasons),
                compared=Comparison(**compared),
            )
        return said

    return say


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Redis:
    monkeypatch.setattr(room, "LOOK_S", 0.0)
    monkeypatch.setattr(room, "SWITCH_S", 0.0)
    return Redis()


async def promote(redis: Redis, **changes: Any) -> room.Outcome:
    promoter = Promoter(Settings())
    promoter._promotions = promoter._board = redis  # type: ignore[assignment]
    fields: dict[str, Any] = {"bundle": NEW, "gates": Gates(texts=100), "wait_s": 0.2}
    return await promoter.promote(Wish(**fields | changes))


async def test_it_is_promoted_when_all_have_loaded_it_and_together_compared_enough(redis: Redis) -> None:
    redis.says = {
        "a": worker("comparing", texts=70, agreed=70),
        "b": worker("comparing", texts=40, agreed=36, late=3),
        "idle": worker("comparing"),
    }
    outcome = await promote(redis)
    assert outcome.promoted
    assert not outcome.reasons
    assert (outcome.compared.texts, outcome.compared.agreed) == (110, 106)
    assert [each.state for each in outcome.answers] == ["switched"] * 3
    assert redis.promotion is not None
    assert (redis.promotion.bundle, redis.promotion.previous, redis.promotion.ungated) == (NEW, None, False)
    assert redis.proposal is None
    assert redis.renewed >= 1


async def test_one_worker_that_refuses_is_enough(redis: Redis) -> None:
    redis.says = {"a": worker(texts=200, agreed=200), "b": worker("refused", "model.onnx was altered")}
    outcome = await promote(redis)
    assert not outcome.promoted
    assert outcome.reasons == ("b: model.onnx was altered",)
    assert redis.promotion is None
    assert redis.proposal is None


async def test_samples_that_pass_alone_are_judged_together(redis: Redis) -> None:
    redis.says = {
        "a": worker("comparing", texts=60, agreed=30),
        "b": worker("comparing", texts=60, agreed=60),
    }
    outcome = await promote(redis)
    assert outcome.reasons == ("the same label for 75.0% of 120 texts, at least 90.0% are wanted",)
    assert redis.promotion is None


async def test_too_few_texts_are_said_with_what_each_worker_does(redis: Redis) -> None:
    redis.says = {"a": worker("comparing", texts=5, agreed=5), "b": worker("loading")}
    outcome = await promote(redis)
    assert outcome.reasons == (
        "after 0.2 s, 5 of 100 live texts were compared",
        "a: comparing",
        "b: loading",
        "wait longer with --wait, or compare fewer with --texts",
    )


async def test_nobody_to_try_it_is_a_reason_and_force_is_an_answer(redis: Redis) -> None:
    redis.says = {"constant": lambda *_: SwapStatus()}
    outcome = await promote(redis)
    assert not outcome.promoted
    assert "no worker with a bundle is at work" in outcome.reasons[0]
    forced = await promote(redis, compares=False, alone=True)
    assert forced.promoted
    assert [each.state for each in forced.answers] == ["apart"]
    assert redis.promotion is not None
    assert redis.promotion.ungated


async def test_a_worker_of_an_older_version_cannot_change_and_says_so(redis: Redis) -> None:
    redis.says = {"a": worker(texts=200, agreed=200), "old": lambda *_: None}
    outcome = await promote(redis)
    assert outcome.reasons == (
        "old: it is of a version that cannot change its bundle: restart it with this one",
    )


async def test_what_is_promoted_already_is_only_waited_for(redis: Redis) -> None:
    redis.promotion = Promotion(bundle=NEW, previous=OLD, by="me", at="")
    redis.says = {"a": worker()}
    outcome = await promote(redis)
    assert (outcome.promoted, outcome.reasons, redis.renewed) == (True, (), 0)
    redis.says["b"] = lambda *_: SwapStatus(bundle=OLD.manifest)
    outcome = await promote(redis)
    assert outcome.promoted
    assert outcome.reasons == ("it is promoted; not switched after 0 s: b",)


async def test_a_rollback_to_what_each_is_configured_with_compares_nothing(redis: Redis) -> None:
    redis.promotion = Promotion(bundle=NEW, previous=None, by="me", at="")
    say = worker()
    redis.says = {
        "a": lambda proposal, promotion: say(proposal, None if promotion.bundle == NEW else promotion)
    }  # type: ignore[union-attr]
    outcome = await promote(redis, bundle=previous(await redis.read()), compares=False, alone=True)
    assert outcome.promoted
    assert (redis.promotion.bundle, redis.promotion.previous) == (None, NEW)
    assert previous(await redis.read()) == NEW
    with pytest.raises(UsageError, match="Nothing was promoted yet"):
        previous(Found(None, None, b""))


async def test_two_commands_at_once_are_told_of_one_another(redis: Redis) -> None:
    redis.says = {"a": worker(texts=200, agreed=200)}
    redis.may_propose = False
    redis.proposal = Proposal(id="x", bundle=OLD, by="kim@there", at="")
    with pytest.raises(UsageError, match="Another promotion is under way: old by kim@there"):
        await promote(redis)
    redis.may_propose, redis.may_promote = True, False
    outcome = await promote(redis)
    assert "somebody else promoted another bundle meanwhile" in outcome.reasons[0]


async def test_a_proposal_that_redis_lost_changes_nothing(redis: Redis) -> None:
    redis.says = {"a": worker("comparing")}
    redis.may_renew = False
    outcome = await promote(redis)
    assert not outcome.promoted
    assert "Redis lost the proposal" in outcome.reasons[0]
