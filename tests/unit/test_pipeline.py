"""Conservation through the whole pipeline, with a Kafka and a store that are only memory.

``Bench`` plays Faust: it cuts each partition's log into runs, puts them, and reads again where it is told to.
The detector's state is the list of events it has judged, so order and exactly-once show in it.
"""

from __future__ import annotations

import asyncio
import copy
import random
import threading
import weakref
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import msgspec
import numpy as np
import pytest
from builders import NOW_MS, chat, record, review, until
from faust.types import TP
from structlog.testing import capture_logs

from stream import backoff
from stream.core.buckets import RESOLUTIONS, field
from stream.core.events import CHANNELS, Score
from stream.core.segments import SEGMENT_OFFSETS
from stream.core.suspicion import Note
from stream.errors import DependencyError
from stream.lanes import Lanes
from stream.pipeline import Pipeline, PipelineSettings
from stream.runs import Cursor
from stream.store.memory import MemoryStore
from stream.topic_ids import TopicFacts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence

    from aiokafka import ConsumerRecord
    from numpy.typing import NDArray

    from stream.core.events import Channel
    from stream.core.spike import Observation
    from stream.record import Refused
    from stream.runs import Position, Run
    from stream.store.contract import Apply, StoredSeen, StoredStates

R0, R1, C0 = TP("reviews", 0), TP("reviews", 1), TP("chats", 0)
OWNERS = {"kettle": R0, "lamp": R1, "灯": R0}
"""Which reviews partition a product's key leads to."""


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_WAIT_S", 0)


# What stands around the pipeline.


class Texts(NamedTuple):
    texts: list[str]
    lengths: NDArray[np.int32]


class KeywordScorer:
    """ "bad" is negative, "poison" cannot be scored, everything else is positive."""

    version = "keyword"
    provider = "none"

    def __init__(self) -> None:
        self.may_score = threading.Event()
        self.may_score.set()
        self.is_scoring = threading.Event()
        self.failures_left = 0

    def encode(self, texts: Sequence[str]) -> Texts:
        return Texts(list(texts), np.array([len(text.split()) for text in texts], np.int32))

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        self.is_scoring.set()
        assert self.may_score.wait(30)
        if self.failures_left:
            self.failures_left -= 1
            raise RuntimeError("device gone")
        texts = [encoded.texts[row] for row in rows]
        if any("poison" in text for text in texts):
            raise ValueError("cannot take it")
        return np.array([(0.9, 0, 0.1) if "bad" in text else (0.1, 0, 0.9) for text in texts], np.float32)

    def label(self, probabilities: NDArray[np.float32]) -> NDArray[np.int8]:
        return probabilities.argmax(axis=1).astype(np.int8)


class RememberingDetector:
    """Its state is every event id it was given; "alarm" in a text is a transition."""

    def judge(
        self, product_id: str, channel: Channel, state: bytes | None, observations: Sequence[Observation]
    ) -> tuple[bytes, list[Any]]:
        seen = (msgspec.json.decode(state) if state else []) + [each.event_id for each in observations]
        return msgspec.json.encode(seen), [
            {"id": f"{channel}/{each.event_id}"} for each in observations if "alarm" in each.text
        ]


class ShakyStore(MemoryStore):
    """A store that can fail before or after the fact, run some steps only, and lose what it had."""

    def __init__(self, shards: int = 1) -> None:
        super().__init__(shards)
        self.applies: list[Sequence[Apply]] = []
        self.fail_before = 0
        self.fail_after = 0
        self.crash_after_steps: int | None = None
        self.hooks: dict[str, Callable[[], Awaitable[None]]] = {}
        """What happens, once, before or after a call: ``before states``, ``after applied``, and so on."""

    async def apply(self, steps: Sequence[Apply]) -> list[int | None]:
        self.applies.append(steps)
        if self.fail_before:
            self.fail_before -= 1
            raise DependencyError("Redis is away")
        if self.crash_after_steps is not None:
            await super().apply(steps[: self.crash_after_steps])
            raise Crash
        results = await super().apply(steps)
        if self.fail_after:
            self.fail_after -= 1
            raise DependencyError("Redis did not answer")
        return results

    async def states(self, partition: str, channel: Channel, product_ids: Sequence[str]) -> StoredStates:
        await self._happen("before states")
        found = await super().states(partition, channel, product_ids)
        await self._happen("after states")
        return found

    async def applied(self, partitions: Sequence[str]) -> dict[str, tuple[int, ...]]:
        await self._happen("before applied")
        found = await super().applied(partitions)
        await self._happen("after applied")
        return found

    async def seen(self, segments: Mapping[str, Sequence[int]]) -> dict[str, StoredSeen]:
        await self._happen("before seen")
        found = await super().seen(segments)
        await self._happen("after seen")
        return found

    async def _happen(self, moment: str) -> None:
        hook = self.hooks.pop(moment, None)
        if hook is not None:
            await hook()

    def snapshot(self) -> dict[str, Any]:
        kept = (
            "offsets",
            "log_names",
            "missing",
            "products",
            "detector_states",
            "fingerprints",
            "ledger",
            "outboxes",
            "erasures",
        )
        return copy.deepcopy({name: getattr(self, name) for name in kept})

    def restore(self, snapshot: dict[str, Any]) -> None:
        """As a failover to a replica that is behind does."""
        for name, value in copy.deepcopy(snapshot).items():
            setattr(self, name, value)


class Crash(Exception):  # noqa: N818
    """The process dies here."""


class RecordingPublisher:
    """Notes what is published, and how far the store was at that moment."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self.letters: list[tuple[Refused, int]] = []
        self.sent_scores: list[Score] = []
        self.nudges = 0
        self.failures_left = 0

    async def dead_letters(self, letters: Sequence[Refused]) -> None:
        if self.failures_left:
            self.failures_left -= 1
            raise DependencyError("Kafka is away")
        for letter in letters:
            name = f"{letter.record.topic}:{letter.record.partition}"
            self.letters.append((letter, self._store.offsets[0].get(name, -1)))

    async def scores(self, scores: Sequence[Score]) -> None:
        self.sent_scores.extend(scores)

    def alerts_waiting(self) -> None:
        self.nudges += 1

    def refused(self) -> Counter[tuple[str, int, int]]:
        return Counter((it.record.topic, it.record.partition, it.record.offset) for it, _ in self.letters)


class Bench:
    """One worker's pipeline between a Kafka in memory and a store. Use as ``async with``.

    Args:
        logs: records of each partition; a test may append.
        store: counters; kept by the test to outlive a worker.
        run_records: most records in a run.
        lose_run: says which runs get lost on the way.
        log_id: Kafka's id of every topic; None for a broker that tells none.
    """

    def __init__(
        self,
        logs: dict[TP, list[ConsumerRecord]],
        store: ShakyStore | None = None,
        *,
        run_records: int = 7,
        lose_run: Callable[[Run], bool] = lambda _: False,
        log_id: str | None = None,
        **settings: Any,
    ) -> None:
        self.logs = logs
        self.firsts: dict[TP, int] = {}
        """Offsets that retention has come to."""
        self.log_id = log_id
        self.store = store or ShakyStore()
        self.scorer = KeywordScorer()
        self.publisher = RecordingPublisher(self.store)
        self.lanes = Lanes(self.store, {channel: channel for channel in CHANNELS})
        self.rewound: list[TP] = []
        self._run_records = run_records
        self._lose_run = lose_run
        self._running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cursors: dict[TP, Cursor] = {}
        self.pipeline = Pipeline(
            store=self.store,
            lanes=self.lanes,
            scorer=self.scorer,
            detector=RememberingDetector(),
            publisher=self.publisher,
            rewind=self.rewind,
            settings=PipelineSettings(**{"window_events": 16, "token_budget": 64, **settings}),
        )

    async def __aenter__(self) -> Self:
        await self.assign(set(self.logs))
        self._running.cancel()
        self._running = asyncio.create_task(self.pipeline.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self.scorer.may_score.set()
        self._running.cancel()
        await asyncio.wait({self._running})

    # The consumer.

    async def topics(self, names: set[str]) -> dict[str, TopicFacts]:
        return {name: TopicFacts(self.log_id, 2) for name in names}

    async def ends(self, tps: set[TP]) -> Mapping[TP, tuple[int, int]]:
        return {
            tp: (self.firsts.get(tp, 0), self.logs[tp][-1].offset + 1 if self.logs[tp] else 0) for tp in tps
        }

    async def has_record(self, tp: TP, offset: int) -> bool:
        return any(each.offset == offset for each in self.logs[tp])

    async def assign(self, tps: set[TP]) -> None:
        """As after a rebalance: seeks to what the store holds."""
        positions: Mapping[TP, Position] = await self.lanes.positions(tps, self)
        epochs = self.lanes.open(positions)
        self._cursors.update(
            {tp: Cursor(tp, epochs[tp], positions[tp].offset, positions[tp].log) for tp in tps}
        )

    async def rewind(self, tps: set[TP]) -> None:
        self.rewound.extend(tps)
        await self.assign(tps)

    def next_run(self, tp: TP) -> Run | None:
        """Fetches a run, as the transport numbers it."""
        cursor = self._cursors[tp]
        records = [each for each in self.logs[tp] if each.offset >= cursor.next_offset][: self._run_records]
        return (cursor.run(records) if records else None) or cursor.farewell(0.0)

    async def put(self, tp: TP) -> bool:
        """Puts the partition's next run; False when it has none."""
        following = self.next_run(tp)
        if following is not None and not self._lose_run(following):
            await self._or_crash(self.pipeline.put(following))
        return following is not None

    async def quiet(self) -> None:
        """Until everything inside is recorded and read again where it must be."""
        await self._or_crash(self.pipeline._quiet.wait())
        await asyncio.gather(*self.pipeline._rewinding)

    async def _or_crash(self, waiting: Coroutine[Any, Any, object]) -> None:
        """Waits; when the pipeline crashes meanwhile, its error."""
        task = asyncio.ensure_future(waiting)
        await asyncio.wait({task, self._running}, return_when=asyncio.FIRST_COMPLETED)
        if self._running.done():
            task.cancel()
            self._running.result()

    async def read_all(self) -> None:
        """Reads to the end of every log, again where the pipeline has it rewound."""
        while True:
            put = [await self.put(tp) for tp in self.logs]
            await self.quiet()
            if not any(put):
                return

    async def read_all_at_once(self) -> None:
        """As ``read_all``, but with as much inside as back-pressure lets in."""
        unread = set(self.logs)
        while unread:
            unread = {tp for tp in unread if await self.put(tp)}
        await self.quiet()
        await self.read_all()


# Inputs, and the independent recount.


def some_log(
    seed: int, events: int = 120, *, alarms: bool = False, first: int = 0
) -> dict[TP, list[ConsumerRecord]]:
    """Reviews on two partitions and chats: bad input, agents' lines, repetitions, gaps in the offsets."""
    chance = random.Random(seed)
    logs: dict[TP, list[ConsumerRecord]] = {R0: [], R1: [], C0: []}
    offsets = dict.fromkeys(logs, first)
    for number in range(first, first + events):
        product = chance.choice(list(OWNERS))
        text = chance.choice(["It boils.", "bad kettle", "so bad it hurts", "fine", "poison", ""])
        if alarms and chance.random() < 0.1:
            text += " alarm"
        age_ms = chance.choice([0, 1000, 90_000, 4_000_000, 100_000_000])
        fields = {"product_id": product, "text": text, "event_time": NOW_MS - age_ms}
        if chance.random() < 0.4:
            tp, value = C0, chat(number, role=chance.choice(["customer", "customer", "agent"]), **fields)
        else:
            tp, value = OWNERS[product], review(number, **fields)
        content: Any = chance.choice([b"{", None]) if chance.random() < 0.05 else value
        if logs[tp] and chance.random() < 0.1:  # a producer that repeats itself
            content = chance.choice(logs[tp]).value
        logs[tp].append(record(offsets[tp], content, tp=tp))
        offsets[tp] += chance.choice([1, 1, 1, 2])  # compaction and transactions leave gaps
    return logs


class Expected(NamedTuple):
    products: dict[str, list[int]]
    """Negative, neutral, positive, sentiment sum, late."""
    buckets: dict[tuple[str, int], list[int]]
    ledger: Counter[str]
    judged: dict[tuple[str, str], list[str]]
    dead: set[tuple[str, int, int]]
    alarms: Counter[str]


def recount(logs: dict[TP, list[ConsumerRecord]]) -> Expected:
    """What must be in the store, worked out from the records one by one."""
    expected = Expected({}, {}, Counter(), {}, set(), Counter())
    for tp, records in logs.items():
        counted = set()
        for each in records:
            value = msgspec.json.decode(each.value) if each.value not in (None, b"{") else None
            if value is not None and value.get("role") == "agent":
                expected.ledger[f"{tp.topic}:skipped"] += 1
            elif value is None or not value["text"].strip() or "poison" in value["text"]:
                expected.ledger[f"{tp.topic}:dead"] += 1
                expected.dead.add((tp.topic, tp.partition, each.offset))
            elif value["event_id"] in counted:
                expected.ledger[f"{tp.topic}:duplicate"] += 1
            else:
                counted.add(value["event_id"])
                _recount_event(expected, tp.topic, value)
    return expected


def _recount_event(expected: Expected, channel: str, value: dict[str, Any]) -> None:
    product, event_ms = value["product_id"], value["event_time"]
    negative = "bad" in value["text"]
    counts = [int(negative), 0, int(not negative), -800 if negative else 800]
    late = NOW_MS - event_ms > 3_600_000
    expected.ledger[f"{channel}:counted"] += 1
    expected.ledger[f"{channel}:late"] += late
    _add(expected.products.setdefault(product, [0] * 5), [*counts, int(late)])
    for resolution in RESOLUTIONS:
        end = (event_ms // resolution.width_ms + 1) * resolution.width_ms
        if end + resolution.keep_ms > NOW_MS:
            _add(expected.buckets.setdefault((product, field(resolution, event_ms)), [0] * 4), counts)
    expected.judged.setdefault((channel, product), []).append(value["event_id"])
    if "alarm" in value["text"]:
        expected.alarms[f"{channel}/{value['event_id']}"] += 1


def _add(sums: list[int], counts: list[int]) -> None:
    sums[:] = [a + b for a, b in zip(sums, counts, strict=True)]


def assert_conserved(bench: Bench) -> None:
    """The store holds exactly what the logs say, and every dead letter was published."""
    store, expected = bench.store, recount(bench.logs)
    assert {name: hash_["total"][:5] for name, hash_ in store.products.items()} == expected.products
    assert {
        (name, each): sums
        for name, hash_ in store.products.items()
        for each, sums in hash_.items()
        if isinstance(each, int)
    } == expected.buckets
    assert +store.ledger == +expected.ledger
    judged = {key: msgspec.json.decode(state) for key, state in store.detector_states.items()}
    assert judged == expected.judged
    assert bench.publisher.refused().keys() == expected.dead
    waiting = Counter(
        msgspec.json.decode(entry.alert)["id"] for outbox in store.outboxes for entry in outbox.values()
    )
    assert waiting == expected.alarms
    for tp, records in bench.logs.items():
        if records:
            name = f"{tp.topic}:{tp.partition}"
            assert [offsets[name] for offsets in store.offsets] == [records[-1].offset] * store.shards


# Without trouble.


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shards", [1, 3])
async def test_every_record_ends_as_exactly_one_thing(seed: int, shards: int) -> None:
    async with Bench(some_log(seed, alarms=True), ShakyStore(shards)) as bench:
        await bench.read_all_at_once()
        assert_conserved(bench)
        assert bench.rewound == []
        progress, ledger = bench.pipeline.progress, bench.store.ledger
        for outcome in ("counted", "dead", "skipped", "duplicate", "late"):
            assert getattr(progress, outcome) == sum(ledger[f"{each}:{outcome}"] for each in CHANNELS)


async def test_a_window_costs_one_round_trip() -> None:
    async with Bench(some_log(1), run_records=1000, window_events=1000) as bench:
        await bench.read_all_at_once()
        assert bench.store.round_trips == bench.pipeline.progress.windows <= 3


async def test_an_idle_pipeline_records_a_single_event_at_once() -> None:
    logs = {R0: [record(0, review(0), tp=R0)]}
    async with Bench(logs) as bench:
        await bench.put(R0)
        await bench.quiet()
        assert_conserved(bench)


async def test_runs_that_wait_are_scored_together() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(12)]}
    bench = Bench(logs, run_records=3, window_events=12)
    await bench.assign({R0})
    while await bench.put(R0):
        pass
    async with bench:  # assigns anew: what waits is of an epoch before
        await bench.quiet()
        assert bench.store.applies == []
        await bench.read_all_at_once()
        assert_conserved(bench)


async def test_each_step_builds_on_the_one_before() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(40)]}
    async with Bench(logs, run_records=4, window_events=8) as bench:
        await bench.read_all_at_once()
        steps = [step for steps in bench.store.applies for step in steps]
        assert [step.base for step in steps] == [-1, *(step.last for step in steps[:-1])]
        assert steps[-1].last == 39


async def test_dead_letters_reach_kafka_before_the_step_that_counts_them() -> None:
    async with Bench(some_log(2)) as bench:
        bench.publisher.failures_left = 3
        await bench.read_all_at_once()
        assert bench.publisher.letters
        assert all(stored < letter.record.offset for letter, stored in bench.publisher.letters)
        assert_conserved(bench)


async def test_a_poisonous_text_is_a_dead_letter_of_the_scorer() -> None:
    logs = {R0: [record(n, review(n, text="poison" if n == 3 else "fine"), tp=R0) for n in range(6)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        [(letter, _)] = bench.publisher.letters
        assert (letter.record.offset, letter.stage) == (3, "score")
        assert letter.reason == "ValueError: cannot take it"
        assert_conserved(bench)


async def test_transitions_are_in_the_outbox_before_the_publisher_is_nudged() -> None:
    logs = {R0: [record(0, review(0, text="fine"), tp=R0)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        assert bench.publisher.nudges == 0
        logs[R0].append(record(1, review(1, text="alarm"), tp=R0))
        waiting: list[int] = []
        bench.publisher.alerts_waiting = lambda: waiting.append(len(bench.store.outboxes[0]))  # type: ignore[method-assign]
        await bench.read_all()
        assert waiting == [1]


async def test_scores_are_published_only_when_asked_for() -> None:
    logs = {R0: [record(n, review(n, text="bad" if n else "fine"), tp=R0) for n in range(2)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        assert bench.publisher.sent_scores == []
    async with Bench(logs, publish_scores=True) as bench:
        await bench.read_all()
        fine, bad = bench.publisher.sent_scores
        assert (fine.event_id, fine.label, fine.sentiment, fine.model_version) == (
            "review-0",
            "positive",
            0.8,
            "keyword",
        )
        assert (bad.event_id, bad.label, bad.sentiment) == ("review-1", "negative", -0.8)
        assert bad.probabilities == pytest.approx({"negative": 0.9, "neutral": 0.0, "positive": 0.1})
        assert bad.event_time == "2023-11-14T22:13:20.000Z"


# Events sent again.


async def test_an_event_sent_again_is_counted_once_and_not_scored_again() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(3)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        logs[R0].append(record(3, review(1), tp=R0))
        bench.scorer.is_scoring.clear()
        await bench.read_all()
        assert not bench.scorer.is_scoring.is_set()
        assert bench.store.ledger["reviews:duplicate"] == 1
        assert_conserved(bench)


async def test_an_event_that_follows_itself_is_counted_once() -> None:
    logs = {R0: [record(0, review(0), tp=R0), record(1, review(0), tp=R0)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        assert bench.store.ledger == {"reviews:counted": 1, "reviews:duplicate": 1}
        assert_conserved(bench)


async def test_a_dead_letter_sent_again_is_counted_once_it_can_be() -> None:
    logs = {R0: [record(0, review(0, text="poison"), tp=R0)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        logs[R0] += [record(n, review(0, text="mended"), tp=R0) for n in (1, 2)]
        await bench.read_all()
        assert bench.store.ledger == {"reviews:dead": 1, "reviews:counted": 1, "reviews:duplicate": 1}


async def test_the_next_owner_knows_what_was_counted() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(3)]}
    store = ShakyStore()
    async with Bench(logs, store) as bench:
        await bench.read_all()
    logs[R0] += [record(3 + n, review(n), tp=R0) for n in range(3)]
    async with Bench(logs, store) as bench:
        await bench.read_all()
        assert store.ledger == {"reviews:counted": 3, "reviews:duplicate": 3}
        assert_conserved(bench)


async def test_every_record_counts_where_nobody_asks_for_duplicates() -> None:
    logs = {R0: [record(n, review(0), tp=R0) for n in range(3)]}
    bench = Bench(logs)
    bench.lanes._segments_kept = None
    async with bench:
        await bench.read_all()
        assert bench.store.ledger == {"reviews:counted": 3}
        assert bench.store.fingerprints == [{}]


async def test_what_is_out_of_reach_is_forgotten_in_the_store_too() -> None:
    far = 4 * SEGMENT_OFFSETS
    logs = {R0: [record(0, review(0), tp=R0), record(far, review(1), tp=R0)]}
    async with Bench(logs, run_records=1) as bench:
        await bench.read_all()
        assert list(bench.store.fingerprints[0]) == [("reviews:0", 4)]
        logs[R0].append(record(far + 1, review(0), tp=R0))
        await bench.read_all()
        assert bench.store.ledger == {"reviews:counted": 3}


# Back-pressure and stopping.


async def test_putting_waits_while_two_windows_wait_already() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(40)]}
    bench = Bench(logs, run_records=8, window_events=8)
    await bench.assign({R0})
    assert await bench.put(R0)
    assert await bench.put(R0)
    following = bench.next_run(R0)
    assert following is not None
    third = asyncio.create_task(bench.pipeline.put(following))
    await asyncio.sleep(0)
    assert not third.done()
    running = asyncio.create_task(bench.pipeline.run())
    await third
    running.cancel()
    await asyncio.wait({running})


async def test_what_is_inside_is_bounded_while_the_model_is_slow() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(400)]}
    async with Bench(logs, run_records=8, window_events=8) as bench:
        bench.scorer.may_score.clear()
        reading = asyncio.create_task(bench.read_all_at_once())
        # One window in each stage and queue before the model, two waiting, one run in hand.
        await until(lambda: bench.scorer.is_scoring.is_set() and bench.pipeline._waiting_records == 16)
        for _ in range(100):
            await asyncio.sleep(0)
        assert bench._cursors[R0].next_offset <= 8 * 7
        bench.scorer.may_score.set()
        await reading
        assert_conserved(bench)


async def test_draining_records_what_is_inside_and_takes_nothing_more() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(30)]}
    async with Bench(logs, run_records=5) as bench:
        for _ in range(3):
            await bench.put(R0)
        assert await bench.pipeline.drain(30)
        await bench.put(R0)
        assert await bench.pipeline.drain(30)
        assert bench.store.offsets == [{"reviews:0": 14}]


async def test_draining_says_when_it_took_too_long() -> None:
    logs = {R0: [record(0, review(0), tp=R0)]}
    async with Bench(logs) as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        assert not await bench.pipeline.drain(0)


async def test_an_error_of_ours_ends_the_pipeline_as_it_is() -> None:
    async with Bench(some_log(3)) as bench:
        bench.store.crash_after_steps = 0
        with pytest.raises(Crash):
            await bench.read_all()


# With trouble.


async def test_a_lost_run_is_read_again() -> None:
    lost: list[Run] = []

    def lose(run_: Run) -> bool:
        if run_.number == 2 and not lost:
            lost.append(run_)
            return True
        return False

    async with Bench(some_log(4, events=240, alarms=True), lose_run=lose) as bench:
        await bench.read_all_at_once()
        assert bench.rewound == [lost[0].tp]
        assert bench.pipeline.progress.rewinds == 1
        assert_conserved(bench)


async def test_a_store_that_lost_writes_is_filled_again() -> None:
    """A failover to a replica that is behind: the next step finds a lower offset."""
    logs = some_log(5, alarms=True)
    async with Bench(logs) as bench:
        for tp in logs:
            await bench.put(tp)
        await bench.quiet()
        behind = bench.store.snapshot()
        for tp in logs:
            await bench.put(tp)
        await bench.quiet()
        bench.store.restore(behind)
        await bench.read_all_at_once()
        assert set(bench.rewound) == set(logs)
        assert_conserved(bench)


async def test_a_store_that_lost_everything_is_filled_again() -> None:
    logs = some_log(6, alarms=True)
    async with Bench(logs) as bench:
        empty = bench.store.snapshot()
        for tp in logs:
            await bench.put(tp)
        await bench.quiet()
        bench.store.restore(empty)
        await bench.read_all_at_once()
        assert_conserved(bench)


# With nothing to apply: the audit.


async def counted(bench: Bench) -> dict[str, Any]:
    """Has one run of each partition counted; returns the store as it was before."""
    empty = bench.store.snapshot()
    for tp in bench.logs:
        await bench.put(tp)
    await bench.quiet()
    return empty


@pytest.mark.parametrize("log_id", [None, "A"])
async def test_the_audit_finds_nothing_where_nothing_was_lost(log_id: str | None) -> None:
    async with Bench(some_log(6, alarms=True), log_id=log_id) as bench:
        await counted(bench)
        await bench.pipeline.audit()
        assert bench.rewound == []


@pytest.mark.parametrize("shards", [1, 3])
async def test_writes_that_were_lost_are_found_by_the_audit_while_nothing_comes(shards: int) -> None:
    logs = some_log(6, alarms=True)
    async with Bench(logs, ShakyStore(shards)) as bench:
        await bench.read_all_at_once()
        bench.store.restore(ShakyStore(shards).snapshot())
        with capture_logs() as said:
            await bench.pipeline.audit()
        await bench.quiet()
        assert sorted(bench.rewound) == sorted(logs)
        (line,) = [each for each in said if each.get("partition") == "reviews:0"]
        last = logs[R0][-1].offset
        assert (line["event"], line["reason"]) == (
            "rewinding to what Redis holds",
            f"offsets to {last} were applied, -1 is stored: Redis lost writes",
        )
        await bench.read_all_at_once()  # as the consumer goes on after the seek; no record is new
        assert_conserved(bench)


async def test_the_audit_rewinds_only_what_lost_writes() -> None:
    async with Bench(some_log(6)) as bench:
        await bench.read_all_at_once()
        del bench.store.offsets[0]["reviews:1"]
        await bench.pipeline.audit()
        await bench.quiet()
        assert bench.rewound == [R1]


async def test_a_loss_on_one_shard_alone_is_found() -> None:
    async with Bench(some_log(6), ShakyStore(3)) as bench:
        await bench.read_all_at_once()
        del bench.store.offsets[2]["reviews:0"]
        await bench.pipeline.audit()
        await bench.quiet()
        assert bench.rewound == [R0]


async def test_what_is_applied_while_the_audit_reads_is_no_loss() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(40)]}

    async with Bench(logs) as bench:
        await counted(bench)

        async def apply_more() -> None:
            await bench.put(R0)
            await bench.quiet()

        for moment in ("before applied", "after applied"):
            bench.store.hooks[moment] = apply_more
            await bench.pipeline.audit()
        assert bench.store.hooks == {}
        assert bench.store.offsets == [{"reviews:0": 20}]
        assert bench.rewound == []


async def test_a_partition_given_away_while_the_audit_reads_is_left_alone() -> None:
    """Its new owner may have found another log, and forgotten the offsets."""
    async with Bench({R0: [record(n, review(n), tp=R0) for n in range(9)]}) as bench:
        empty = await counted(bench)

        async def give_away() -> None:
            bench.lanes.close([R0])
            bench.store.restore(empty)

        bench.store.hooks["before applied"] = give_away
        await bench.pipeline.audit()
        await bench.pipeline.audit()
        assert bench.rewound == []


async def test_a_partition_read_anew_while_the_audit_reads_is_left_alone() -> None:
    async with Bench({R0: [record(n, review(n), tp=R0) for n in range(9)]}) as bench:
        empty = await counted(bench)
        bench.store.restore(empty)

        async def rebalance() -> None:
            await bench.assign({R0})

        bench.store.hooks["after applied"] = rebalance
        await bench.pipeline.audit()
        assert bench.store.hooks == {}
        assert bench.rewound == []
        await bench.read_all_at_once()
        assert_conserved(bench)


async def test_work_inside_while_the_audit_rewinds_is_dropped_and_read_again() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(30)]}
    async with Bench(logs) as bench:
        empty = await counted(bench)
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await until(bench.scorer.is_scoring.is_set)
        bench.store.restore(empty)
        await bench.pipeline.audit()
        bench.scorer.may_score.set()
        await bench.quiet()
        assert bench.pipeline.progress.rewinds == 1
        await bench.read_all_at_once()
        assert_conserved(bench)


async def test_counters_of_another_generation_are_none_of_the_audits_business() -> None:
    async with Bench({R0: [record(n, review(n), tp=R0) for n in range(9)]}) as bench:
        empty = await counted(bench)
        bench.store.restore(empty)
        bench.lanes[R0].generation -= 1
        await bench.pipeline.audit()
        assert bench.rewound == []


async def test_an_audit_that_redis_does_not_answer_changes_nothing() -> None:
    async with Bench({R0: [record(0, review(0), tp=R0)]}) as bench:
        await counted(bench)

        async def away() -> None:
            raise DependencyError("Redis is away")

        bench.store.hooks["before applied"] = away
        with pytest.raises(DependencyError):
            await bench.pipeline.audit()
        assert bench.rewound == []


async def test_what_another_worker_applied_is_not_applied_again() -> None:
    logs = some_log(7, alarms=True)
    async with Bench(logs) as zombie:
        for tp in logs:
            await zombie.put(tp)
        await zombie.quiet()
        async with Bench(logs, zombie.store) as owner:
            owner.publisher = zombie.publisher
            owner.pipeline._publisher = zombie.publisher
            for tp in logs:
                await owner.put(tp)
            await owner.quiet()
            await zombie.read_all_at_once()
            assert set(zombie.rewound) == set(logs)
            await owner.read_all_at_once()
            assert_conserved(owner)


async def test_a_revoked_partitions_work_is_dropped() -> None:
    logs = {
        R0: [record(n, review(n), tp=R0) for n in range(5)],
        R1: [record(0, review(9, product_id="lamp"), tp=R1)],
    }
    async with Bench(logs) as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await bench.put(R1)
        await until(bench.scorer.is_scoring.is_set)
        bench.lanes.close([R0])
        bench.scorer.may_score.set()
        await bench.quiet()
        assert bench.store.offsets == [{"reviews:1": 0}]
        await bench.assign({R0})
        await bench.read_all()
        assert_conserved(bench)


async def test_what_a_revoked_partition_remembers_is_freed_though_a_client_holds_on_to_who_asked() -> None:
    asked: list[asyncio.Task[Any] | None] = []

    async def hold_on() -> None:
        asked.append(asyncio.current_task())

    async with Bench({R0: [record(0, review(0))]}) as bench:
        bench.store.hooks["after states"] = hold_on
        await bench.read_all()
        seen = bench.lanes[R0].seen
        assert seen is not None
        remembered = weakref.ref(seen)
        del seen
        bench.lanes.close([R0])
        assert len(asked) == 1
        await until(lambda: remembered() is None)  # when the window's last task has ended


async def test_a_window_stale_as_a_whole_costs_no_round_trip() -> None:
    logs = {R0: [record(0, review(0), tp=R0)]}
    async with Bench(logs) as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await until(bench.scorer.is_scoring.is_set)
        bench.lanes.close([R0])
        bench.scorer.may_score.set()
        await bench.quiet()
        assert bench.store.applies == []


async def test_a_part_never_builds_on_the_base_of_a_later_epoch() -> None:
    """While a part waits for Redis, Redis restarts empty and a rebalance opens the lane anew.

    The part's records begin in the middle of the log; on the new lane's base (nothing applied) the fence
    would let them pass, and what lies before them would never be counted.
    """
    logs = some_log(8, alarms=True)
    async with Bench(logs) as bench:
        empty = bench.store.snapshot()
        for tp in logs:
            await bench.put(tp)
        await bench.quiet()

        async def restart_and_rebalance() -> None:
            bench.store.restore(empty)
            await bench.assign(set(logs))

        for tp in logs:
            bench.lanes[tp].states.clear()
        bench.store.hooks["before states"] = restart_and_rebalance
        for tp in logs:
            await bench.put(tp)
        await bench.quiet()
        assert bench.store.hooks == {}
        await bench.read_all_at_once()
        assert_conserved(bench)


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("read", ["states", "seen"])
async def test_nothing_is_built_on_what_somebody_else_stored_and_redis_lost(read: str, shards: int) -> None:
    """While this worker reads, another applies the whole log; then Redis is back where it was before.

    What was read is of later offsets than the fence holds its step against: events would be judged twice, or
    taken for duplicates of what nobody has counted.
    """
    logs = some_log(13, alarms=True)
    store = ShakyStore(shards)
    async with Bench(logs, store) as bench:
        for tp in logs:
            await bench.put(tp)
        await bench.quiet()
        before = store.snapshot()

        async def another_applies_everything() -> None:
            async with Bench(logs, store) as another:
                another.publisher.letters = bench.publisher.letters
                await another.read_all_at_once()
            store.hooks[f"after {read}"] = redis_loses_it

        async def redis_loses_it() -> None:
            store.restore(before)

        store.hooks[f"before {read}"] = another_applies_everything
        await bench.assign(set(logs))
        await bench.read_all_at_once()
        assert store.hooks == {}
        assert_conserved(bench)


@pytest.mark.parametrize("shards", [1, 3])
async def test_an_answer_that_was_lost_counts_once(shards: int) -> None:
    async with Bench(some_log(9, alarms=True), ShakyStore(shards)) as bench:
        bench.store.fail_after = 1
        await bench.read_all_at_once()
        first, second = bench.store.applies[:2]
        assert second is first  # the same steps, on the same base
        assert_conserved(bench)


async def test_a_store_that_is_away_is_asked_again() -> None:
    async with Bench(some_log(10, alarms=True)) as bench:
        bench.store.fail_before = 4
        await bench.read_all_at_once()
        assert bench.store.applies[0] is bench.store.applies[4]
        assert bench.rewound == []
        assert_conserved(bench)


async def test_a_device_that_is_gone_loses_nothing() -> None:
    async with Bench(some_log(11)) as bench:
        bench.scorer.failures_left = 300
        await bench.read_all_at_once()
        assert bench.scorer.failures_left == 0
        assert_conserved(bench)


@pytest.mark.parametrize("tp", [R0, C0])
@pytest.mark.parametrize("steps_done", range(4))
async def test_a_crash_between_two_shards_counts_nothing_twice(steps_done: int, tp: TP) -> None:
    logs = some_log(12, alarms=True)
    store = ShakyStore(3)
    async with Bench(logs, store) as first:
        for each in logs:
            await first.put(each)
        await first.quiet()
        store.crash_after_steps = steps_done
        await first.put(tp)
        with pytest.raises(Crash):
            await first.quiet()
    store.crash_after_steps = None
    async with Bench(logs, store, run_records=11) as second:
        second.publisher.letters += first.publisher.letters
        await second.read_all_at_once()
        assert_conserved(second)
        assert second.rewound == []


async def test_a_topic_made_anew_while_the_worker_was_away_is_counted_from_its_start() -> None:
    store = ShakyStore()
    async with Bench({R0: reviews_of_kettles(20)}, store, log_id="A") as before:
        await before.read_all()
    async with Bench({R0: reviews_of_kettles(30, first=100)}, store, log_id="B") as after:
        await after.read_all()
        assert store.products["kettle"]["total"][:4] == [0, 0, 50, 50 * 800]
        assert store.offsets == [{"reviews:0@A": 19, "reviews:0@B": 29}]


def reviews_of_kettles(number: int, first: int = 0) -> list[ConsumerRecord]:
    """A log of ``number`` reviews, with event ids from ``first`` on."""
    return [record(n, review(first + n), tp=R0) for n in range(number)]


@pytest.mark.parametrize("length", [6, 20, 60])
async def test_a_topic_made_anew_under_a_worker_is_counted_to_its_end_and_then_from_its_start(
    length: int,
) -> None:
    async with Bench({R0: reviews_of_kettles(20)}, log_id="A") as bench:
        bench.scorer.may_score.clear()
        for _ in range(3):
            await bench.put(R0)  # in hand when the topic goes
        bench.logs[R0], bench.log_id = reviews_of_kettles(length, first=100), "B"
        bench._cursors[R0].end("the topic was made anew")
        said = asyncio.create_task(bench.put(R0))
        await until(bench.scorer.is_scoring.is_set)
        assert not said.done()
        assert bench.rewound == []
        bench.scorer.may_score.set()
        await said
        await bench.quiet()
        assert bench.rewound == [R0]
        await bench.read_all()
        assert bench.store.products["kettle"]["total"][2] == 20 + length
        assert bench.store.offsets == [{"reviews:0@A": 19, "reviews:0@B": length - 1}]


async def test_a_partition_that_ended_is_not_rewound_when_it_was_given_away_meanwhile() -> None:
    async with Bench({R0: reviews_of_kettles(5)}) as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        bench._cursors[R0].end("out of range")
        said = asyncio.create_task(bench.put(R0))
        await until(bench.scorer.is_scoring.is_set)
        bench.lanes.close([R0])
        bench.scorer.may_score.set()
        await said
        assert bench.rewound == []


async def test_what_a_paused_worker_has_of_the_old_log_counts_once_and_costs_the_new_one_nothing() -> None:
    """Its step builds on an offset that the new log has reached meanwhile."""
    store = ShakyStore()
    async with Bench({R0: reviews_of_kettles(20)}, store, log_id="A", run_records=10) as zombie:
        await zombie.put(R0)
        await zombie.quiet()
        assert store.offsets == [{"reviews:0@A": 9}]
        zombie.scorer.may_score.clear()
        await zombie.put(R0)
        async with Bench({R0: reviews_of_kettles(10, first=100)}, store, log_id="B") as owner:
            await owner.read_all()
            assert store.offsets == [{"reviews:0@A": 9, "reviews:0@B": 9}]
            zombie.scorer.may_score.set()
            await zombie.quiet()
            assert store.offsets == [{"reviews:0@A": 19, "reviews:0@B": 9}]
            assert store.products["kettle"]["total"][2] == 30


async def test_a_log_that_is_cut_back_under_a_worker_counts_what_comes_and_nothing_twice() -> None:
    logs = {R0: reviews_of_kettles(20)}
    async with Bench(logs, log_id="A") as bench:
        await bench.read_all()
        del logs[R0][12:]  # an unclean election: the new leader lacks them
        bench._cursors[R0].end("offset 20 is not in the log")
        await bench.read_all()
        assert bench.store.offsets == [{"reviews:0@A": 11}]
        logs[R0] += [record(n, review(200 + n), tp=R0) for n in range(12, 30)]
        await bench.read_all()
        assert bench.store.offsets == [{"reviews:0@A": 29}]
        assert bench.store.products["kettle"]["total"][2] == 20 + 18


async def test_records_that_are_deleted_under_a_worker_are_missing_and_those_in_hand_are_not() -> None:
    logs = {R0: reviews_of_kettles(40)}
    async with Bench(logs, log_id="A") as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await bench.put(R0)  # offsets 0 to 13
        del logs[R0][:30]
        bench.firsts[R0] = 30
        bench._cursors[R0].end("offset 14 is not in the log")
        said = asyncio.create_task(bench.put(R0))
        bench.scorer.may_score.set()
        await said
        await bench.read_all()
        assert bench.store.products["kettle"]["total"][2] == 14 + 10
        assert bench.store.missing == [{"reviews:0@A": [(14, 29)]}]
        assert bench.lanes.missing == 16


async def test_detector_states_are_read_anew_when_a_partition_is() -> None:
    """Its products may have gone to other partitions meanwhile, and their states on from there."""
    logs = {R0: reviews_of_kettles(5)}
    async with Bench(logs, log_id="A") as bench:
        await bench.read_all()
        states = bench.store.detector_states
        states["reviews", "kettle"] = msgspec.json.encode(["by another partition"])
        await bench.assign({R0})
        logs[R0].append(record(5, review(5), tp=R0))
        await bench.read_all()
        assert msgspec.json.decode(states["reviews", "kettle"]) == ["by another partition", "review-5"]


class Death(BaseException):
    """The process dies of a text."""


class MortalScorer(KeywordScorer):
    """Dies of "deadly"."""

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        if any("deadly" in encoded.texts[row] for row in rows):
            raise Death
        return super().score(encoded, rows)


async def live(
    logs: dict[TP, list[ConsumerRecord]], store: ShakyStore, publisher: RecordingPublisher
) -> None:
    """One worker's life; raises ``Death`` when it dies."""
    bench = Bench(logs, store)
    bench.scorer = MortalScorer()
    bench.pipeline.use(bench.scorer, RememberingDetector())
    bench.publisher = bench.pipeline._publisher = publisher
    async with bench:
        await bench.read_all_at_once()


async def test_records_that_kill_workers_become_dead_letters_and_all_others_are_counted() -> None:
    deadly = (0, 150, 151, 290)
    logs = {
        R0: [record(n, review(n, text="deadly" if n in deadly else "fine"), tp=R0) for n in range(300)],
        R1: [record(n, review(1000 + n, product_id="lamp"), tp=R1) for n in range(300)],
    }
    store = ShakyStore()
    publisher = RecordingPublisher(store)
    deaths = 0
    while True:
        try:
            await live(logs, store, publisher)
        except Death:
            deaths += 1
            assert deaths < 40
        else:
            break
    assert publisher.refused().keys() == {("reviews", 0, offset) for offset in deadly}
    assert {letter.stage for letter, _ in publisher.letters} == {"worker"}
    assert store.ledger == {"reviews:counted": 596, "reviews:dead": 4}
    assert store.products["lamp"]["total"][2] == 300


async def test_a_worker_that_stops_in_peace_raises_no_suspicion() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(3)]}
    store = ShakyStore()
    for _ in range(5):
        async with Bench(logs, store, lose_run=lambda _: True) as bench:
            await store.leave_notes(bench.lanes.notes_to_leave([R0], (0, 2)))
            await store.leave_notes(bench.lanes.notes_to_take_back([R0]))
    async with Bench(logs, store) as bench:
        assert bench.lanes[R0].note.width == 0


async def test_what_is_suspected_is_worked_on_alone() -> None:
    logs = {
        R0: [record(n, review(n), tp=R0) for n in range(40)],
        R1: [record(n, review(100 + n, product_id="lamp"), tp=R1) for n in range(40)],
    }
    bench = Bench(logs)
    async with bench:
        bench.lanes[R0].note = Note(worker="b", base=-1, until=20, width=4, narrow_until=20)
        await bench.read_all_at_once()
        of_suspects = [
            [step.last for step in steps]
            for steps in bench.store.applies
            if steps[0].partition == "reviews:0" and steps[0].last <= 20
        ]
        assert of_suspects == [[3], [6], [10], [13], [17], [20]]
        assert bench.lanes[R0].note.width == 0
        assert_conserved(bench)


class Trouble:
    """Random trouble of every kind, at random moments."""

    def __init__(self, seed: int, store: ShakyStore) -> None:
        self.chance = random.Random(seed)
        self._store = store
        self._snapshots = [store.snapshot()]

    def loses(self, _: Run) -> bool:
        return self.chance.random() < 0.05

    async def strike(self, bench: Bench) -> None:
        kinds = (self._remember, self._lose_writes, self._store_away, self._rebalance, self._device_away)
        await self.chance.choice((*kinds, Bench.quiet, self._audit))(bench)

    async def _audit(self, bench: Bench) -> None:
        await bench.pipeline.audit()

    async def _remember(self, _: Bench) -> None:
        self._snapshots.append(self._store.snapshot())

    async def _lose_writes(self, _: Bench) -> None:
        del self._snapshots[self.chance.randrange(len(self._snapshots)) + 1 :]  # what is lost does not return
        self._store.restore(self._snapshots[-1])

    async def _store_away(self, _: Bench) -> None:
        self._store.fail_before = self.chance.randrange(3)
        self._store.fail_after = self.chance.randrange(3)

    async def _rebalance(self, bench: Bench) -> None:
        bench.lanes.close([self.chance.choice(list(bench.logs))])
        await bench.assign(set(bench.logs))

    async def _device_away(self, bench: Bench) -> None:
        await bench.quiet()
        bench.scorer.failures_left = self.chance.randrange(4)

    def crash_or_not(self) -> None:
        self._store.crash_after_steps = self.chance.choice([None, 0, 1, 2])

    def pause(self) -> None:
        self._store.crash_after_steps, self._store.fail_before, self._store.fail_after = None, 0, 0


@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("seed", range(12))
async def test_nothing_is_lost_or_repeated_whatever_happens(seed: int, shards: int) -> None:
    """Four lives of a worker, each with its troubles; then the logs are read to their ends."""
    logs, store = some_log(seed, events=300, alarms=True), ShakyStore(shards)
    trouble = Trouble(1000 + seed, store)
    letters: list[tuple[Refused, int]] = []
    for _ in range(4):
        run_records = trouble.chance.choice([1, 7, 40])
        async with Bench(logs, store, run_records=run_records, lose_run=trouble.loses) as bench:
            bench.publisher.letters = letters
            with suppress(Crash):
                for _ in range(trouble.chance.randrange(25)):
                    await trouble.strike(bench)
                    for tp in trouble.chance.sample(list(logs), trouble.chance.randrange(4)):
                        await bench.put(tp)
                trouble.crash_or_not()
                for tp in logs:
                    await bench.put(tp)
                await bench.quiet()
        trouble.pause()
    async with Bench(logs, store) as last:
        last.publisher.letters = letters
        await last.read_all_at_once()
        assert_conserved(last)


class Contrary(KeywordScorer):
    """Says the opposite of ``KeywordScorer``, of what it has encoded itself alone."""

    version = "contrary"

    def encode(self, texts: Sequence[str]) -> Texts:
        return Texts([f"contrary {text}" for text in texts], super().encode(texts).lengths)

    def score(self, encoded: Texts, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        assert all(text.startswith("contrary ") for text in encoded.texts), "another model's tokens"
        return super().score(encoded, rows)[:, ::-1]


async def test_a_window_is_scored_by_the_model_that_served_when_it_was_decoded() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(20)]}
    async with Bench(logs, window_events=8, run_records=8, publish_scores=True) as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await bench._or_crash(asyncio.to_thread(bench.scorer.is_scoring.wait, 30))
        await bench.put(R0)
        await until(bench.pipeline._to_score.full)  # tokenised, and not scored yet
        bench.pipeline.use(Contrary(), RememberingDetector())
        bench.scorer.may_score.set()
        await bench.read_all()
    scores = sorted(bench.publisher.sent_scores, key=lambda each: int(each.event_id.rpartition("-")[2]))
    assert [each.model_version for each in scores] == ["keyword"] * 16 + ["contrary"] * 4
    assert [each.label for each in scores] == ["positive"] * 16 + ["negative"] * 4
    assert bench.store.models == {"reviews:0": [(0, "keyword"), (16, "contrary")]}
    assert bench.store.ledger["reviews:counted"] == 20


async def test_which_model_scores_is_noted_once_whatever_partitions_are_read_anew() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(10)]}
    async with Bench(logs) as bench:
        await bench.read_all()
        await bench.assign({R0})
        logs[R0].append(record(10, review(10), tp=R0))
        await bench.read_all()
    assert bench.store.models == {"reviews:0": [(0, "keyword")]}


async def test_what_runs_between_windows_never_runs_beside_one() -> None:
    logs = {R0: [record(n, review(n), tp=R0) for n in range(4)]}
    async with Bench(logs) as bench:
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await asyncio.to_thread(bench.scorer.is_scoring.wait, 30)
        shadow = asyncio.create_task(bench.pipeline.between_windows(bench.scorer.may_score.is_set))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not shadow.done()
        bench.scorer.may_score.set()
        assert await shadow is True
        await bench.read_all()


async def test_who_listens_hears_of_each_window_what_became_of_its_texts() -> None:
    heard: list[tuple[list[str], list[int], list[int]]] = []
    logs = {R0: [record(n, review(n, text=text), tp=R0) for n, text in enumerate(("bad", "poison", "fine"))]}
    async with Bench(logs) as bench:
        bench.pipeline.listen(
            lambda texts, scored, _: heard.append((list(texts), scored.labels.tolist(), list(scored.failed)))
        )
        await bench.read_all()
        bench.pipeline.listen(None)
        logs[R0].append(record(3, review(3), tp=R0))
        await bench.read_all()
    ((texts, labels, failed),) = heard
    assert (texts, failed) == (["bad", "poison", "fine"], [1])
    assert (labels[0], labels[2]) == (0, 2)
