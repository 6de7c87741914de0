"""What was erased from the store is not brought back by what a worker remembers."""

from __future__ import annotations

import msgspec
import pytest
from builders import record, review, until

from stream.store.contract import Move
from tests.unit.test_pipeline import R0, Bench, ShakyStore

LOG = {R0: [record(n, review(n, product_id="kettle"), tp=R0) for n in range(12)]}
SEEN = ("reviews", "kettle")


def judged(bench: Bench) -> list[str]:
    return list(msgspec.json.decode(bench.store.detector_states[SEEN]))


@pytest.mark.parametrize("shards", [1, 3])
async def test_a_remembered_state_is_not_written_back_after_it_was_erased(shards: int) -> None:
    async with Bench(LOG, ShakyStore(shards), run_records=4) as bench:
        await bench.put(R0)
        await bench.quiet()
        assert judged(bench) == [f"review-{n}" for n in range(4)]
        bench.store.erase("kettle")
        await bench.read_all()
        assert bench.rewound == [R0]
        assert judged(bench) == [f"review-{n}" for n in range(4, 12)]
        assert bench.store.products["kettle"]["total"][2] == 8
        assert bench.store.ledger["reviews:counted"] == 12


async def test_a_window_inside_while_it_is_erased_is_refused_and_counted_once() -> None:
    async with Bench(LOG, run_records=4) as bench:
        await bench.put(R0)
        await bench.quiet()
        bench.scorer.may_score.clear()
        await bench.put(R0)
        await until(bench.scorer.is_scoring.is_set)
        bench.store.erase("kettle")
        bench.scorer.may_score.set()
        await bench.read_all()
        assert judged(bench) == [f"review-{n}" for n in range(4, 12)]
        assert bench.store.ledger["reviews:counted"] == 12


async def test_a_state_read_before_and_applied_after_is_refused() -> None:
    async with Bench(LOG, run_records=4) as bench:
        await bench.put(R0)
        await bench.quiet()
        bench.lanes[R0].states.clear()  # as with many products: it is read from the store again

        async def erase() -> None:
            bench.store.erase("kettle")

        bench.store.hooks["after states"] = erase
        await bench.read_all()
        assert judged(bench) == [f"review-{n}" for n in range(4, 12)]


async def test_a_state_read_after_an_erasure_that_redis_then_loses_is_not_built_on() -> None:
    async with Bench(LOG, run_records=4) as bench:
        await bench.put(R0)
        await bench.quiet()
        bench.lanes[R0].states.clear()
        before = bench.store.snapshot()

        async def erase() -> None:
            bench.store.erase("kettle", by=7)

        async def lose_it() -> None:
            bench.store.restore(before)

        bench.store.hooks |= {"before states": erase, "after states": lose_it}
        await bench.read_all()
        assert bench.store.hooks == {}
        assert bench.rewound == [R0]
        assert judged(bench) == [f"review-{n}" for n in range(12)]
        assert bench.store.products["kettle"]["total"][2] == 12


async def test_an_erasure_after_one_that_redis_lost_is_another_one() -> None:
    store = ShakyStore(1)
    store.erase("lamp", by=7)
    async with Bench(LOG, store, run_records=4) as bench:
        await bench.put(R0)
        await bench.quiet()
        store.erasures = [0]  # it fails over, and another worker counts the same events again
        store.erase("kettle", by=9)
        await bench.read_all()
        assert bench.rewound == [R0]
        assert judged(bench) == [f"review-{n}" for n in range(4, 12)]


async def test_a_lane_that_knows_lost_records_goes_on_from_none_that_skipped_them() -> None:
    async with Bench(LOG, run_records=4) as bench:
        lost = bench.store.snapshot()
        await bench.put(R0)
        await bench.quiet()
        (name,) = bench.store.offsets[0]
        bench.store.restore(lost)
        # Retention deletes them, and another worker goes on to the first record there is: where this lane is.
        assert await bench.store.move([Move(0, name, -1, 3, missing=True, raised_by=7)]) == [True]
        await bench.read_all()
        assert bench.rewound == [R0]
        assert judged(bench) == [f"review-{n}" for n in range(4, 12)]
        assert bench.store.products["kettle"]["total"][2] == 8


async def test_a_quiet_lane_forgets_with_the_next_audit() -> None:
    async with Bench(LOG, run_records=12) as bench:
        await bench.read_all()
        assert set(bench.lanes[R0].states) == {"kettle"}
        bench.store.erase("kettle")
        await bench.pipeline.audit()
        await bench.quiet()
        assert bench.rewound == [R0]
        assert bench.lanes[R0].states == {}
        await bench.pipeline.audit()
        assert bench.rewound == [R0]
