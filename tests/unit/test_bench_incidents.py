"""Incidents put into real streams: what is put where, and that the figures are of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest

from stream.bench import incidents
from stream.bench.incidents import LEAST_BEFORE, DataSet, inject, run
from stream.core.spike import Observation
from stream.errors import UsageError
from stream.settings import load

if TYPE_CHECKING:
    from pathlib import Path

DAY_MS = 86_400_000
T0_MS = 1_500_000_000_000


def observation(number: int, negative: bool, product: str = "p") -> Observation:
    ms = T0_MS + number * DAY_MS
    return Observation(f"{product}{number}", ms, ms, negative, float(negative), None, f"{product} {number}")


STREAM = [observation(number, False) for number in range(50)]
DONORS = [observation(number, True, "donor") for number in range(30)]


def test_an_incident_is_so_many_real_negatives_of_others_within_its_window() -> None:
    injected = inject("p", STREAM, DONORS, 20, 10.0, np.random.default_rng(1))
    synthetic = [each for each in injected.observations if each.event_id.startswith("synthetic")]
    start_ms, end_ms = injected.window.start_ms, injected.window.end_ms
    assert end_ms - start_ms == 10 * DAY_MS
    assert start_ms >= STREAM[LEAST_BEFORE].arrival_ms
    assert len(synthetic) == 20
    assert all(start_ms <= each.arrival_ms == each.event_ms <= end_ms for each in synthetic)
    assert len({each.text for each in synthetic} & {each.text for each in DONORS}) == 20
    assert [each for each in injected.observations if each not in synthetic] == STREAM
    arrivals_ms = [each.arrival_ms for each in injected.observations]
    assert arrivals_ms == sorted(arrivals_ms)


def test_the_share_of_an_incident_counts_the_ordinary_events_in_it() -> None:
    injected = inject("p", STREAM, DONORS, 20, 10.0, np.random.default_rng(1))
    start_ms, end_ms = injected.window.start_ms, injected.window.end_ms
    ordinary = sum(start_ms <= each.arrival_ms <= end_ms for each in STREAM)
    assert ordinary > 0
    assert injected.share == 20 / (20 + ordinary)


def test_few_donors_are_used_again() -> None:
    injected = inject("p", STREAM, DONORS[:3], 8, 10.0, np.random.default_rng(1))
    assert len(injected.observations) == 58


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of one product that gets incidents and one too young to."""
    rows = [
        {"event_id": f"{product}{number}", "product_id": product, "text": f"text {number}", "rating": stars}
        | {"event_time": T0_MS + number * DAY_MS}
        for product, count in (("old", 300), ("young", 39))
        for number in range(count)
        for stars in [1 if number % 10 == 0 else 5]
    ]
    (tmp_path / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    monkeypatch.setattr(incidents, "DATA_SETS", (DataSet("made", "made.jsonl", "jsonl"),))
    return tmp_path


def made(data: Path, **changes: object) -> incidents.Report:
    asked = {"run_lengths": [1_000.0], "sizes": [3, 30], "incident_days": 10.0, "draws": 4, "seed": 7}
    return run(data, load(), **{**asked, **changes})  # type: ignore[arg-type]


def test_many_complaints_are_found_and_fewer_than_the_least_are_not(data: Path) -> None:
    found = made(data)
    assert [(each.events, each.products, each.eligible) for each in found.data_sets] == [(339, 2, 1)]
    few, few_of_all, many, many_of_all = found.rows
    assert (few.size, few.incidents, few.found, few.delay_events) == (3, 4, 0, None)
    assert (many.size, many.incidents, many.recall, many.false_alarms_per_day) == (30, 4, 1.0, 0.0)
    assert many.delay_events is not None
    assert 8 <= many.delay_events.median <= 20
    assert few_of_all == msgspec.structs.replace(few, data_set="all")
    assert many_of_all == msgspec.structs.replace(many, data_set="all")


def test_the_same_seed_gives_the_same_table_and_another_another(data: Path) -> None:
    assert made(data) == made(data)
    assert made(data).rows != made(data, seed=8).rows


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"lacks amazon2018_All_Beauty_5\.json\.gz, .*; name the folder"):
        made(tmp_path)
