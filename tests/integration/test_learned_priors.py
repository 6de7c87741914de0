"""Priors learned from what the store and the log hold, and the words of the command when they cannot be."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from builders import NOW_MS, event
from kafka import KafkaProducer

from stream.client import EventProducer
from stream.core.priors import BUILT_IN, Counts, learn, snapshot
from stream.core.profile import HOUR_MS, HOURS, learn_week
from stream.core.spike_state import State, pack, unpack
from stream.errors import ReviewpulseError
from stream.priors import learn_priors, load_snapshot, read_categories, read_hours, read_states
from stream.settings import load
from stream.store.layout import shard_of
from stream.topics import ensure
from tests.conftest import external_servers
from tests.integration.cluster import LocalCluster
from tests.integration.test_commands import reviewpulse
from tests.integration.test_store import redis_store, step_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stream.core.events import Channel
    from stream.core.priors import Prior
    from stream.priors import Watched
    from stream.settings import Settings

SHOES = {f"shoe-{n}": (n % 3, 20) for n in range(12)}
LAMPS = {f"lamp-{n}": (n % 5, 10) for n in range(15)}
FEW = {"evil\n[bold]": (2, 4)}


def state_of(negatives: int, events: int, began_with: Prior = BUILT_IN) -> bytes:
    alpha, beta = began_with.alpha + negatives, began_with.beta + events - negatives
    return pack(State(alpha, beta, seen=events))


async def store_states(
    settings: Settings, channel: Channel, states: Mapping[str, bytes], *, shards: int = 1, base: int = -1
) -> None:
    """Puts states where workers put them, by steps that count an event of each product."""
    store = redis_store(settings, shards)
    await store.open()
    for shard in range(shards):
        mine = {name: state for name, state in states.items() if shard_of(name, shards) == shard}
        step = step_of(
            [event(product_id=name) for name in mine],
            base=base,
            last=base + 1,
            shard=shard,
            partition=f"{channel}:0",
            channel=channel,
            states=mine,
        )
        assert await store.apply([step]) == [None]
    await store.close()


def send_categories(settings: Settings, categories: Mapping[str, str | None]) -> None:
    with EventProducer(settings) as producer:
        for n, (product_id, category) in enumerate(categories.items()):
            producer.send_review(
                event_id=str(n), product_id=product_id, text="x", event_time=1.6e9, category=category
            )


def taught(products: Mapping[str, tuple[int, int]], category: str | None) -> list[Counts]:
    return [Counts(float(negatives), float(events), category) for negatives, events in products.values()]


def printed(*arguments: str, code: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(reviewpulse("priors", *arguments, "--json", code=code).stdout)
    return found


async def test_priors_are_learned_from_states_and_log_shown_and_learned_again(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REVIEWPULSE_SCORER", "constant")
    ensure(settings)
    everything = SHOES | LAMPS | FEW
    await store_states(settings, "reviews", {name: state_of(*each) for name, each in everything.items()})
    send_categories(settings, dict.fromkeys(SHOES, "shoes") | dict.fromkeys(LAMPS, "lamps") | {"none": None})
    send_categories(settings, {"shoe-0": "boots"})  # the first category stays
    path = tmp_path / "priors.json"
    said = printed("learn", "--out", str(path))
    made = load_snapshot(path)
    wanted = learn([*taught(SHOES, "shoes"), *taught(LAMPS, "lamps"), *taught(FEW, None)])
    assert wanted is not None
    assert made == snapshot(made.made_at, "constant", {"reviews": wanted})
    assert set(wanted.categories) == {"shoes", "lamps"}
    figures = [said[name] for name in ("path", "version", "states", "categorised", "records", "unreadable")]
    assert figures == [str(path), made.version, 28, 27, 29, 0]
    assert said["channels"] == msgspec.to_builtins(made.channels)
    table = reviewpulse("priors", "show", str(path)).stdout.decode()
    assert f"priors {made.version}" in table
    rows = [line.split()[:2] for line in table.splitlines() if line.split()[:1] == ["reviews"]]
    assert rows == [["reviews", "(fleet)"], ["reviews", "lamps"], ["reviews", "shoes"]]

    # Products that began with the snapshot teach what they saw, not the snapshot over again.
    monkeypatch.setenv("REVIEWPULSE_PRIORS", str(path))
    began_with = made.of("reviews", "shoes")
    states = {name: state_of(*each, began_with) for name, each in SHOES.items()}
    await store_states(settings, "reviews", states, base=0)
    assert learn_priors(load(), now_ms=NOW_MS, most_records=100).priors.channels == made.channels


async def test_priors_of_the_fleet_alone_need_no_kafka(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store_states(settings, "chats", {name: state_of(*each) for name, each in LAMPS.items()})
    monkeypatch.setenv("REVIEWPULSE_KAFKA", "127.0.0.1:1")
    lesson = learn_priors(load(), now_ms=NOW_MS, most_records=0)
    assert (lesson.states, lesson.records, lesson.priors.made_at) == (15, 0, "2023-11-14T22:13:20.000Z")
    assert lesson.priors.channels == {"chats": learn(taught(LAMPS, None))}


async def test_states_are_read_from_every_shard_of_a_cluster_those_of_a_newer_worker_are_counted(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    states = {f"product-{n}": state_of(n % 4, 20 + n) for n in range(700)}
    with LocalCluster(replicas=0) as cluster:
        monkeypatch.setenv("REVIEWPULSE_REDIS", cluster.url)
        settings = load()
        await store_states(settings, "reviews", states | {"newer": b"\x09"}, shards=5)
        await store_states(settings, "chats", {"product-0": states["product-0"]}, shards=5)
        found, unreadable = read_states(settings)
    wanted = {(name, "reviews"): unpack(state) for name, state in states.items()}
    assert found == wanted | {("product-0", "chats"): unpack(states["product-0"])}
    assert unreadable == 1


def test_only_the_newest_records_are_looked_at(settings: Settings) -> None:
    ensure(settings)
    send_categories(settings, {f"product-{n}": f"category-{n}" for n in range(40)})
    wanted: list[Watched] = [(f"product-{n}", "reviews") for n in range(40)]
    everything, records = read_categories(settings, wanted, 1_000)
    assert everything == {each: f"category-{n}" for n, each in enumerate(wanted)}
    assert records == 40
    some, records = read_categories(settings, wanted, 10)
    assert records == len(some) == 10
    assert some.items() <= everything.items()


async def test_too_little_to_learn_from_is_told_with_what_is_missing(settings: Settings) -> None:
    with pytest.raises(ReviewpulseError, match="No product has a detector state under") as raised:
        learn_priors(settings, now_ms=NOW_MS, most_records=0)
    assert raised.value.exit_code == 1
    await store_states(settings, "reviews", {"kettle": b"\x09"})
    with pytest.raises(ReviewpulseError, match="None of 1 detector states can be read"):
        learn_priors(settings, now_ms=NOW_MS, most_records=0)
    await store_states(settings, "reviews", {"kettle": state_of(1, 20)}, base=0)
    with pytest.raises(ReviewpulseError, match="on no channel 10 products have 5 events") as raised:
        learn_priors(settings, now_ms=NOW_MS, most_records=0)
    assert raised.value.exit_code == 1


def test_what_keeps_the_command_from_its_work_is_one_sentence(
    env: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusal(code: int, *arguments: str) -> str:
        return reviewpulse("priors", *arguments, code=code).stderr.decode()

    path = tmp_path / "priors.json"
    path.write_text("{}")
    assert f"Cannot use the priors {path}" in refusal(2, "show", str(path))
    assert "There is no folder" in refusal(2, "learn", "--out", str(tmp_path / "none" / "priors.json"))
    monkeypatch.setenv("REVIEWPULSE_REDIS", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("REVIEWPULSE_SCORER", "constant")
    assert "Redis at redis://127.0.0.1:1/0" in refusal(3, "learn", "--out", str(path), "--events", "0")
    assert path.read_text() == "{}"


def test_how_busy_the_hours_of_a_week_are_is_told_by_the_offsets_alone(settings: Settings) -> None:
    """Evenings are three times as busy; what came before all partitions had begun is left out."""
    ensure(settings)
    if external_servers() is None:
        assert read_hours(settings, NOW_MS) == {"reviews": {}, "chats": {}}
        pytest.skip("the embedded broker finds no records by time; name a Kafka in REVIEWPULSE_TEST_KAFKA")
    hours = range(NOW_MS // HOUR_MS - 200, NOW_MS // HOUR_MS)
    came = {hour: 3 if hour % 24 == 20 else 1 for hour in hours}
    producer = KafkaProducer(bootstrap_servers=settings.kafka, linger_ms=0)
    for hour, number in came.items():
        for partition in (0, 2) if hour > hours[5] else (0,):
            for n in range(number):
                sent = producer.send(
                    settings.topic_reviews, b"x", partition=partition, timestamp_ms=hour * HOUR_MS + n
                )
            sent.get(timeout=10)
    producer.close()
    found = read_hours(settings, NOW_MS)
    assert found["chats"] == {}
    assert found["reviews"] == {hour: 2 * number for hour, number in came.items() if hour > hours[6]}
    week = learn_week(found["reviews"])
    busiest = {cell % 24 for cell in range(HOURS) if week[cell] > 1.5}
    assert busiest == {20}
