"""A worker and its bundles: follows what was promoted, tries what is proposed, and refuses with reasons."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

from stream.core.shadow import Duty, Gates
from stream.errors import BundleError, DependencyError
from stream.promotion import Found, Named, Promotion, Proposal
from stream.scorer.isolate import Scored
from stream.swap import Opened, Swap
from tests.builders import until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from stream.pipeline import Listener


class Texts(NamedTuple):
    texts: list[str]
    lengths: NDArray[np.int32]


class Model:
    """Says negative of what has one of its words."""

    provider = "none"

    def __init__(self, version: str, *words: str, sure: float = 0.9) -> None:
        self.version, self.words, self.sure = version, words, sure
        self.scored: list[str] = []

    def encode(self, texts: Sequence[str]) -> Texts:
        return Texts(list(texts), np.ones(len(texts), np.int32))

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        texts = [encoded.texts[row] for row in rows]
        self.scored += texts
        if "poison" in self.words and any("poison" in text for text in texts):
            raise RuntimeError("cannot take it")
        p = [self.sure if any(w in text for w in self.words) else 1 - self.sure for text in texts]
        return np.array([(each, 0, 1 - each) for each in p], np.float32)

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        return probabilities.argmax(axis=1).astype(np.int8)


class Keys:
    """Redis' two keys."""

    def __init__(self) -> None:
        self.promotion: Promotion | None = None
        self.proposal: Proposal | None = None
        self.is_away = False

    async def read(self) -> Found:
        if self.is_away:
            raise DependencyError("Redis is away")
        return Found(self.promotion, self.proposal, b"")


class Stage:
    """A pipeline whose scoring thread is this one."""

    def __init__(self) -> None:
        self.listener: Listener | None = None

    def listen(self, listener: Listener | None) -> None:
        self.listener = listener

    async def between_windows(self, call: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        return call()


def named(version: str, tmp_path: Path) -> Named:
    """A folder whose manifest says this version, as far as ``check_named`` looks."""
    return Named(
        path=str(tmp_path / version), version=version, manifest=hashlib.sha256(version.encode()).hexdigest()
    )


class Worker:
    """A swap and all that is around it."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **models: Model) -> None:
        monkeypatch.setattr("stream.swap.check_named", self.check)
        monkeypatch.setattr("stream.swap.LOOK_S", 0.001)
        monkeypatch.setattr("stream.swap.PAUSE_S", 0.0)
        self.models = {model.version: model for model in models.values()}
        self.names = {version: named(version, tmp_path) for version in self.models}
        self.figures: dict[str, dict[tuple[str, str], float]] = {}
        self.broken: dict[str, Exception] = {}
        self.keys, self.stage = Keys(), Stage()
        self.used: list[str] = []
        self.now = 0.0
        self.swap = Swap(
            self.keys,  # type: ignore[arg-type]
            configured=self.names["old"],
            serving=self.load(self.names["old"]),
            load=self.load,
            switch=lambda opened: self.used.append(opened.scorer.version),
            stage=self.stage,  # type: ignore[arg-type]
            token_budget=64,
            clock=self.tick,
        )

    def tick(self) -> float:
        """Each look at the clock is a second: the shadow has all the time it wants."""
        self.now += 1
        return self.now

    def check(self, which: Named) -> None:
        if which.version in self.broken:
            raise self.broken[which.version]

    def load(self, which: Named) -> Opened:
        return Opened(which, self.models[which.version], None, self.figures.get(which.version, {}))  # type: ignore[arg-type]

    def propose(self, version: str, **changes: Any) -> None:
        fields: dict[str, Any] = {
            "id": f"{version}-1",
            "bundle": self.names[version],
            "by": "me",
            "at": "",
            "gates": Gates(texts=20, slowdown=1e9),
        }
        self.keys.proposal = Proposal(**fields | changes)

    def promote(self, version: str | None) -> None:
        which = self.names[version] if version else None
        self.keys.promotion = Promotion(bundle=which, previous=None, by="me", at="")

    def window(self, *texts: str, failed: int | None = None) -> None:
        """The pipeline has scored some texts."""
        old = self.models["old"]
        found = old.score(old.encode(texts), np.arange(len(texts)))
        why = {} if failed is None else {failed: "cannot be scored"}
        if self.stage.listener:
            self.stage.listener(texts, Scored(found, old.label(found), why), 0.1)

    async def compared(self) -> None:
        """Twenty live texts, a quarter of them complaints; until the worker has made up its mind."""
        for n in range(20):
            self.window(f"bad {n}" if n % 4 == 0 else f"fine {n}")
        await until(lambda: self.swap.status.state in {"ready", "refused"})


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(
        tmp_path,
        monkeypatch,
        old=Model("old", "bad"),
        alike=Model("alike", "bad", "awful"),
        worse=Model("worse", "fine"),
        deaf=Model("deaf"),
        surer=Model("surer", "bad", sure=0.99999),
        weak=Model("weak", "bad", "poison"),
    )


async def test_what_stands_the_comparison_is_ready_and_changes_nothing_by_itself(worker: Worker) -> None:
    worker.propose("alike")
    await worker.swap.look()
    assert worker.swap.status.state == "comparing"
    await worker.compared()
    status = worker.swap.status
    assert (status.state, status.reasons, status.proposal) == ("ready", [], "alike-1")
    assert (status.compared.texts, status.compared.agreed, status.compared.timed) == (20, 20, 20)
    assert status.bundle == worker.names["old"].manifest
    assert worker.used == []


async def test_when_it_is_promoted_the_candidate_takes_over_without_being_loaded_again(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.propose("alike")
    await worker.swap.look()
    await worker.compared()
    monkeypatch.setattr(worker.swap, "_load", lambda _: pytest.fail("it was loaded again"))
    worker.promote("alike")
    await worker.swap.look()
    await worker.swap.look()
    assert worker.used == ["alike"]
    assert worker.swap.status.bundle == worker.names["alike"].manifest
    assert not worker.swap.status.is_configured


async def test_labels_that_are_exchanged_are_refused(worker: Worker) -> None:
    worker.propose("worse")
    await worker.swap.look()
    await worker.compared()
    status = worker.swap.status
    assert status.state == "refused"
    assert status.reasons == [
        "the same label for 0.0% of 20 texts, at least 90.0% are wanted",
        "the mean of P(negative) moves by +0.400, at most 0.050 is allowed",
    ]


async def test_a_mean_that_moves_would_read_as_news_and_is_refused(worker: Worker) -> None:
    worker.propose("deaf", gates=Gates(texts=20, agreement=0.5, slowdown=1e9))
    await worker.swap.look()
    await worker.compared()
    assert worker.swap.status.reasons == ["the mean of P(negative) moves by -0.200, at most 0.050 is allowed"]


async def test_one_that_is_surer_than_its_manifest_says_that_it_is_right_is_refused(worker: Worker) -> None:
    worker.figures = {"surer": {("b", "accuracy"): 0.9}}
    worker.swap._serving = worker.swap._serving._replace(figures={("b", "accuracy"): 0.9})
    gates = Gates(texts=20, confidence=0.05, shift=0.2, slowdown=1e9)
    worker.propose("surer", gates=gates)
    await worker.swap.look()
    await worker.compared()
    assert worker.swap.status.reasons == [
        "surer than it is right: confidence minus stated accuracy moves by +0.100, at most 0.050 is allowed"
    ]


async def test_one_whose_manifest_states_that_it_is_worse_is_refused_before_it_scores(worker: Worker) -> None:
    worker.figures = {"alike": {("b", "ece"): 0.2}}
    worker.swap._serving = worker.swap._serving._replace(figures={("b", "ece"): 0.02})
    worker.propose("alike")
    await worker.swap.look()
    assert worker.swap.status.state == "refused"
    assert worker.swap.status.reasons == ["its manifest states ece 0.200 on b, the serving one 0.020"]


async def test_one_that_fails_on_a_live_text_is_refused(worker: Worker) -> None:
    worker.propose("weak")
    await worker.swap.look()
    worker.window("poison")
    await until(lambda: worker.swap.status.state == "refused")
    assert worker.swap.status.reasons == [
        "it fails on a text that the other one scored: RuntimeError: cannot take it"
    ]


async def test_texts_that_the_serving_model_cannot_score_are_not_compared(worker: Worker) -> None:
    worker.propose("weak")
    await worker.swap.look()
    worker.window("poison", failed=0)
    await worker.compared()
    assert worker.swap.status.state == "ready"


async def test_one_that_cannot_be_loaded_is_refused_and_the_worker_works_on(worker: Worker) -> None:
    worker.broken["alike"] = BundleError("model.onnx is not the file that was exported")
    worker.propose("alike")
    await worker.swap.look()
    assert worker.swap.status.reasons == ["model.onnx is not the file that was exported"]
    assert worker.used == []


async def test_another_content_under_the_same_version_is_refused(worker: Worker) -> None:
    twin = Named(path="/elsewhere", version="old", manifest="1" * 64)
    worker.propose("old", bundle=twin)
    await worker.swap.look()
    assert worker.swap.status.reasons == ["its content is another and its version is the same, old"]


async def test_a_proposal_that_is_gone_takes_its_candidate_with_it(worker: Worker) -> None:
    worker.propose("alike")
    await worker.swap.look()
    candidate = weakref.ref(worker.models.pop("alike"))
    worker.keys.proposal = None
    await worker.swap.look()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    assert candidate() is None
    assert worker.stage.listener is None
    assert worker.swap.status.state == ""


async def test_no_third_model_is_loaded_while_two_are_in_memory(worker: Worker) -> None:
    worker.promote("alike")
    held = worker.models.pop("old")  # a window is inside with it
    await worker.swap.look()
    assert worker.used == ["alike"]
    worker.propose("worse", compares=False)
    looking = asyncio.create_task(worker.swap.look())
    for _ in range(20):
        await asyncio.sleep(0)
    assert worker.swap.status.state == "loading"
    assert not worker.models["worse"].scored
    del held
    await looking
    assert worker.swap.status.state == "ready"


async def test_what_was_promoted_while_nobody_looked_is_loaded(worker: Worker) -> None:
    worker.promote("worse")
    await worker.swap.caught_up()
    assert worker.used == ["worse"]
    worker.promote(None)
    await worker.swap.caught_up()
    assert worker.used == ["worse", "old"]
    assert worker.swap.status.is_configured


async def test_a_worker_that_cannot_follow_ends_and_reads_nothing_more(worker: Worker) -> None:
    worker.broken["worse"] = BundleError("There is no bundle folder /b.")
    worker.promote("worse")
    reading = asyncio.create_task(worker.swap.caught_up())
    with pytest.raises(BundleError, match=r"one fleet scores with one bundle: There is no bundle folder /b"):
        await worker.swap.run()
    assert not reading.done()
    assert worker.used == []
    reading.cancel()


async def test_redis_that_is_away_is_waited_for(worker: Worker) -> None:
    worker.keys.is_away = True
    with pytest.raises(DependencyError):
        await worker.swap.caught_up()
    running = asyncio.create_task(worker.swap.run())
    await asyncio.sleep(0.01)
    worker.promote("alike")
    worker.keys.is_away = False
    await until(lambda: worker.used == ["alike"])
    running.cancel()


async def test_forced_is_loaded_and_not_compared(worker: Worker) -> None:
    worker.propose("worse", compares=False)
    await worker.swap.look()
    assert worker.swap.status.state == "ready"
    assert worker.models["worse"].scored == ["It works as described."]


@pytest.mark.parametrize(("share", "model_s"), [(0.2, 0.01), (0.5, 0.001), (0.1, 0.4), (0.2, 3.0)])
def test_the_shadow_takes_its_share_and_at_most_one_burst_more(share: float, model_s: float) -> None:
    duty, now, spent, longest = Duty(share, 0.0), 0.0, 0.0, 0.0
    duty.window_took(0.5)
    for _ in range(4000):
        texts = duty.affordable(now)
        took = texts * model_s
        if texts:
            duty.spent(took, texts)
        spent, longest = spent + took, max(longest, took)
        now += 0.05 + took
    assert longest <= max(0.25, share * 0.5) + model_s
    assert spent <= share * now + longest
    assert spent >= 0.5 * share * now


async def test_switches_refusals_and_ways_back_are_counted(worker: Worker) -> None:
    worker.propose("worse")
    await worker.swap.look()
    await worker.compared()
    worker.keys.proposal = None
    worker.promote("alike")
    await worker.swap.look()
    await worker.swap.look()
    assert worker.swap.outcomes == {"switched": 1, "refused": 1, "rolled_back": 0}
    # `bundle rollback`: what the promotion took the place of, without a comparison.
    worker.keys.promotion = Promotion(
        bundle=None, previous=worker.names["alike"], by="me", at="", ungated=True
    )
    await worker.swap.look()
    assert worker.used == ["alike", "old"]
    assert worker.swap.outcomes == {"switched": 1, "refused": 1, "rolled_back": 1}
    # Forced forward again is no way back... unless it takes the place of what went back.
    worker.keys.promotion = Promotion(
        bundle=worker.names["worse"], previous=None, by="me", at="", ungated=True
    )
    await worker.swap.look()
    assert worker.swap.outcomes == {"switched": 2, "refused": 1, "rolled_back": 1}
