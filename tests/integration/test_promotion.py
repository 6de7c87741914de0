"""What was promoted and what is proposed, in Redis; and which model scored from which offset on."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from stream import bundle
from stream.errors import BundleError, DependencyError, UsageError
from stream.promotion import LEASE_S, Named, Promotion, Promotions, Proposal, check_named, named
from stream.redis_config import connect, connect_async
from stream.settings import SHIPPED_BUNDLE, Settings
from stream.store.contract import Apply
from stream.store.layout import Layout
from stream.store.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WHICH = Named(path="/bundles/en-2", version="en-2", manifest="a" * 64)
PROMOTION = Promotion(bundle=WHICH, previous=None, by="me@here", at="2026-11-27T19:00:00Z")
PROPOSAL = Proposal(id="one", bundle=WHICH, by="me@here", at="2026-11-27T19:00:00Z")


@pytest.fixture
async def promotions(settings: Settings) -> AsyncIterator[Promotions]:
    opened = Promotions(connect_async(settings), settings.namespace)
    yield opened
    await opened.close()


async def test_before_the_first_promotion_there_is_none(promotions: Promotions) -> None:
    assert tuple(await promotions.read()) == (None, None, b"")
    assert await promotions.changes() == {}


async def test_of_two_commands_that_promote_at_once_one_fails(promotions: Promotions) -> None:
    found = await promotions.read()
    other = msgspec.structs.replace(PROMOTION, by="you@there")
    assert sorted(
        await asyncio.gather(promotions.promote(found, PROMOTION), promotions.promote(found, other))
    ) == [
        False,
        True,
    ]
    again = await promotions.read()
    assert again.promotion in {PROMOTION, other}
    assert await promotions.promote(again, PROMOTION)


async def test_there_is_one_proposal_at_a_time_and_only_its_owner_takes_it_back(
    promotions: Promotions,
) -> None:
    other = msgspec.structs.replace(PROPOSAL, id="two")
    assert await promotions.propose(PROPOSAL)
    assert not await promotions.propose(other)
    await promotions.withdraw(other)
    assert not await promotions.renew(other)
    assert (await promotions.read()).proposal == PROPOSAL
    await promotions.withdraw(PROPOSAL)
    assert (await promotions.read()).proposal is None
    assert not await promotions.renew(PROPOSAL)


async def test_a_proposal_that_nobody_stands_behind_runs_out(
    promotions: Promotions, settings: Settings
) -> None:
    await promotions.propose(PROPOSAL)
    with connect(settings) as client:
        key = f"{settings.namespace}:bundle:proposed"
        assert 0 < client.pttl(key) <= LEASE_S * 1000
        client.pexpire(key, 50)
        assert await promotions.renew(PROPOSAL)
        assert client.pttl(key) > 1000
        client.pexpire(key, 1)
        await asyncio.sleep(0.05)
    assert (await promotions.read()).proposal is None


async def test_words_of_another_version_are_a_sentence(promotions: Promotions, settings: Settings) -> None:
    with connect(settings) as client:
        client.set(f"{settings.namespace}:bundle", b'{"bundle": 3}')
    with pytest.raises(UsageError, match=r"does not say which bundle was promoted"):
        await promotions.read()


async def test_redis_that_is_away_is_a_dependency() -> None:
    promotions = Promotions(connect_async(Settings(redis="redis://127.0.0.1:1/0")), "rp")
    with pytest.raises(DependencyError):
        await promotions.read()
    await promotions.close()


def test_a_folder_is_known_by_its_manifest(tmp_path: Path) -> None:
    folder = shutil.copytree(SHIPPED_BUNDLE, tmp_path / "b")
    which = named(folder, bundle.load_manifest(folder))
    check_named(which)
    file = folder / bundle.MANIFEST
    file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": 9.0}))
    with pytest.raises(
        BundleError, match=r"holds another bundle .* than reviewpulse-en-zh-\w+, which was promoted"
    ):
        check_named(which)
    shutil.rmtree(folder)
    with pytest.raises(BundleError, match=r"no bundle folder"):
        check_named(which)


async def test_a_change_of_model_is_noted_with_its_offset_and_repeats_are_not(
    promotions: Promotions, settings: Settings
) -> None:
    store = RedisStore(connect_async(settings), Layout(settings.namespace, 1), settings.redis)
    await store.open()

    def step(base: int, last: int, model: str) -> Apply:
        return Apply(0, "reviews:0", base, last, "reviews", 0, {}, [], [], model=model)

    steps = [
        step(-1, 9, "en-1"),
        step(9, 19, "en-1"),
        step(19, 29, ""),
        step(29, 39, 'en "2" 二'),
        step(39, 49, "en-1"),
    ]
    assert await store.apply(steps) == [None] * 5
    assert await store.apply([step(39, 49, "en-3")]) == [49]  # refused: it notes nothing
    noted = [(0, "en-1"), (30, 'en "2" 二'), (40, "en-1")]
    assert await promotions.changes() == {"reviews:0": noted}
    for n in range(20):
        await store.apply([step(49 + n, 50 + n, f"v{n}")])
    latest = (await promotions.changes())["reviews:0"]
    assert (len(latest), latest[-1]) == (16, (69, "v19"))
    await store.close()
