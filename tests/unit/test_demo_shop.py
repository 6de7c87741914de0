from __future__ import annotations

import random
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING

import msgspec
import pytest

from stream.cli.demo import SEED
from stream.core.decode import Limits, decode_run
from stream.core.spike import Observation, SpikeDetector, rule_from
from stream.demo import catalogue
from stream.demo.reconcile import RESOLVES_FROM_S, problems_with_alerts
from stream.demo.shop import COMPLAINTS, EVENTS_PER_S, HISTORY_EVENTS, Incident, Shop
from stream.settings import Settings

if TYPE_CHECKING:
    from stream.core.decode import Decoded
    from stream.core.events import Alert
    from stream.demo.shop import ShopRecord

NOW_MS = 1_700_000_000_000


def decoded(record: ShopRecord, arrival_ms: int = NOW_MS) -> Decoded:
    kafka = SimpleNamespace(offset=0, timestamp=arrival_ms, key=None, value=record.value)
    return decode_run(record.channel, [kafka], Limits())


def test_the_same_seed_makes_the_same_shop_and_another_seed_another() -> None:
    def everything(seed: int) -> tuple[object, ...]:
        shop = Shop(seed)
        return shop.products, shop.history(NOW_MS), shop.live(NOW_MS, 30.0)

    assert everything(3) == everything(3)
    assert everything(3) != everything(4)


def test_every_record_becomes_what_the_shop_means_it_to_become() -> None:
    shop = Shop(1)
    fates = Counter[str]()
    for record in [*shop.history(NOW_MS), *shop.live(NOW_MS, 60.0)]:
        done = decoded(record, NOW_MS + int(record.at_s * 1000))
        became = "counted" if done.events else "dead" if done.dead else "skipped"
        assert became == record.fate, record
        fates[became] += 1
        if done.events:
            assert done.events[0].product_id == record.product_id
    assert fates["dead"] > 10
    assert fates["skipped"] > 100


def test_there_are_dozens_of_products_and_the_best_seller_gets_the_bad_batch() -> None:
    shop = Shop(2)
    assert len(shop.products) == len({product.product_id for product in shop.products}) == 36
    assert shop.bad_product.name == "Voltway 20K power bank"
    assert shop.bad_product.weight == max(product.weight for product in shop.products)
    assert sum(product.weight for product in shop.products) == pytest.approx(1.0)
    assert all(COMPLAINTS[0] <= product.complaints <= COMPLAINTS[1] for product in shop.products)


def test_volumes_and_complaints_are_what_they_are_said_to_be() -> None:
    shop = Shop(5)
    history = shop.history(NOW_MS)
    assert len(history) == pytest.approx(HISTORY_EVENTS, rel=0.1)
    duration_s = 600.0
    live = shop.live(NOW_MS, duration_s)
    assert EVENTS_PER_S * duration_s < len(live) < 1.4 * EVENTS_PER_S * duration_s
    ordinary = [r for r in live if r.product_id != shop.bad_product.product_id and r.mood]
    for channel, low, high in (("reviews", 0.06, 0.12), ("chats", 0.08, 0.18)):
        angry = [record.mood == "angry" for record in ordinary if record.channel == channel]
        assert low < sum(angry) / len(angry) < high


def test_only_the_best_sellers_customers_turn_and_only_during_the_incident() -> None:
    shop, duration_s = Shop(6), 600.0
    incident = Incident.of(duration_s)
    shares: dict[str, list[bool]] = {"usual": [], "incident": [], "replaced": []}
    for record in shop.live(NOW_MS, duration_s):
        if record.product_id == shop.bad_product.product_id and record.channel == "reviews" and record.mood:
            shares[incident.stage(record.at_s)].append(record.mood == "angry")
    means = {stage: sum(angry) / len(angry) for stage, angry in shares.items()}
    assert means["incident"] > 0.6
    assert means["usual"] < 0.2
    assert means["replaced"] < 0.2


def test_records_come_in_the_order_they_are_sent_and_none_after_closing() -> None:
    times = [record.at_s for record in Shop(7).live(NOW_MS, 45.0)]
    assert times == sorted(times)
    assert times[-1] < 45.0


def test_stars_agree_with_the_words() -> None:
    stars = {"happy": {4, 5}, "lukewarm": {3}, "angry": {1, 2}}
    for record in Shop(8).live(NOW_MS, 60.0):
        if record.channel == "reviews" and record.mood:
            assert msgspec.json.decode(record.value)["rating"] in stars[record.mood]


def test_some_events_are_late_and_none_is_early() -> None:
    late = 0
    records = Shop(9).live(NOW_MS, 300.0)
    for record in records:
        arrival_ms = NOW_MS + int(record.at_s * 1000)
        for event in decoded(record, arrival_ms).events:
            assert event.event_ms <= arrival_ms
            late += arrival_ms - event.event_ms > 3_600_000
    assert 0.01 < late / len(records) < 0.03


def test_every_placeholder_of_the_catalogue_is_filled() -> None:
    for record in Shop(10).live(NOW_MS, 300.0):
        for event in decoded(record, NOW_MS + 300_000).events:
            assert "{" not in event.text
            assert "}" not in event.text


def test_no_sentence_is_in_both_the_praise_and_the_blame_of_a_category() -> None:
    for category in catalogue.CATEGORIES:
        assert not set(category.praise) & set(category.blame + catalogue.BAD_BATCH)


def judged(seed: int, duration_s: float, misread: float) -> list[Alert]:
    """Alerts of a shop whose texts are read as they are meant, but for a few at random."""
    defaults = Settings.model_construct()
    rule = rule_from(
        defaults.false_alarms_per_day,
        defaults.expected_events_per_day,
        defaults.alert_min_events,
        defaults.alert_min_negatives,
        round(defaults.historic_after_s * 1000),
    )
    detector, reader, shop = SpikeDetector(rule, "meant"), random.Random(seed), Shop(seed)
    states: dict[tuple[str, str], bytes] = {}
    alerts = []
    for number, record in enumerate([*shop.history(NOW_MS), *shop.live(NOW_MS, duration_s)]):
        if record.mood is None:
            continue
        negative = (record.mood == "angry") != (reader.random() < misread)
        seen = Observation(f"e-{number}", NOW_MS, NOW_MS, negative, 0.9, None, "words")
        key = (record.product_id, record.channel)
        states[key], transitions = detector.judge(*key, states.get(key), [seen])
        alerts.extend(transitions)
    return alerts


def test_with_any_seed_the_bad_batch_is_found_and_nothing_else() -> None:
    for seed in range(12):
        alerts = judged(seed, RESOLVES_FROM_S, misread=0.03)
        assert problems_with_alerts(alerts, Shop(seed).bad_product.product_id, RESOLVES_FROM_S) == [], seed


@pytest.mark.parametrize("duration_s", [30.0, 45.0, 60.0, 90.0, 180.0])
def test_the_seed_of_the_command_finds_the_bad_batch_at_every_length(duration_s: float) -> None:
    alerts = judged(SEED, duration_s, misread=0.03)
    assert problems_with_alerts(alerts, Shop(SEED).bad_product.product_id, duration_s) == []
