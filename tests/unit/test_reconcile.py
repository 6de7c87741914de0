"""What subscribers are told after a recount: enough to know what the new states say, and no more."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from stream.core.events import rfc3339
from stream.core.reconcile import latest, reconcile
from stream.core.spike import Observation, SpikeDetector, rule_from
from stream.core.spike_state import pack, unpack

if TYPE_CHECKING:
    from stream.core.events import Alert
    from stream.core.reconcile import Correction

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
PRODUCT = ("p1", "reviews")

OLD = SpikeDetector(rule_from(1.0, 2_000.0, 20, 8, DAY_MS), "m1")
STRICTER = SpikeDetector(rule_from(1.0, 2e9, 20, 8, DAY_MS), "m2")
LOOSER = SpikeDetector(rule_from(1.0, 400.0, 20, 8, DAY_MS), "m3")


def events(*stretches: tuple[int, float], seed: int = 1) -> list[Observation]:
    chance = random.Random(seed)
    shares = [share for count, share in stretches for _ in range(count)]
    return [
        Observation(f"e{n}", START_MS + 1000 * n, START_MS + 1000 * n, negative, 0.9, None, f"complaint {n}")
        for n, negative in enumerate(chance.random() < share for share in shares)
    ]


def count(
    detector: SpikeDetector, seen: list[Observation], state: bytes | None = None
) -> tuple[bytes, list[Alert]]:
    return detector.judge(*PRODUCT, state, seen)  # type: ignore[arg-type]


def firing_of(transitions: list[Alert]) -> dict[str, Alert]:
    """By the recount: what `rebuild` keeps of the transitions it withholds."""
    firing: dict[str, Alert] = {}
    for alert in transitions:
        if alert.state == "firing":
            firing[alert.id] = alert
        else:
            del firing[alert.id]
    return firing


def correct(
    told: list[Alert], state: bytes | None, withheld: list[Alert], *, now_ms: int = START_MS
) -> list[Correction]:
    return reconcile(
        latest(told),
        firing_of(withheld),
        {PRODUCT: state},
        now_ms=now_ms,
        historic_after_ms=DAY_MS,  # type: ignore[dict-item]
    )


def believed(told: list[Alert]) -> set[str]:
    """Alerts that a subscriber takes for firing."""
    return {alert.id for alert in latest(told).values() if alert.state == "firing"}


def fires(state: bytes) -> set[str]:
    now = unpack(state)
    return {now.alert_id.hex()} if now.firing else set()


INCIDENT = events((300, 0.1), (100, 0.45))
CLIMBING = 340
"""So far the old rule has fired and the stricter one has not, both on the same onset."""


def test_the_same_recount_has_nothing_to_tell() -> None:
    state, told = count(OLD, INCIDENT)
    assert [alert.state for alert in told] == ["firing"]
    assert correct(told, state, told) == []


def test_an_alert_nobody_knows_of_is_told() -> None:
    state, withheld = count(OLD, INCIDENT)
    (correction,) = correct([], state, withheld)
    assert (correction.product_id, correction.channel, correction.state) == (*PRODUCT, None)
    assert correction.transitions == withheld


def test_an_alert_of_long_ago_that_nobody_knows_of_wakes_nobody() -> None:
    state, withheld = count(OLD, INCIDENT)
    (correction,) = correct([], state, withheld, now_ms=START_MS + 3 * DAY_MS)
    assert [alert.historic for alert in correction.transitions] == [True]


def test_an_alert_that_does_not_fire_any_more_is_resolved() -> None:
    state, _ = count(STRICTER, INCIDENT[:CLIMBING])
    _, told = count(OLD, INCIDENT)
    now_ms = START_MS + 400_000
    (correction,) = correct(told, state, [], now_ms=now_ms)
    (over,) = correction.transitions
    assert (over.id, over.sequence, over.state, over.at) == (told[0].id, 2, "resolved", rfc3339(now_ms))
    assert correction.state is not None
    assert unpack(correction.state).told == 2
    assert over.duration_s == pytest.approx(now_ms / 1000 - unpack(state).onset_ms / 1000)


def test_an_alert_of_a_product_that_was_not_seen_again_is_resolved() -> None:
    _, told = count(OLD, INCIDENT)
    (correction,) = correct(told, None, [])
    assert correction.state is None
    assert [(alert.id, alert.state) for alert in correction.transitions] == [(told[0].id, "resolved")]


def test_an_alert_that_was_resolved_too_early_fires_again_and_can_be_resolved_again() -> None:
    """The same onset, so the same id: subscribers go by the highest sequence."""
    state, withheld = count(OLD, INCIDENT)
    told = [withheld[0], replace(withheld[0], state="resolved", sequence=2)]
    (correction,) = correct(told, state, withheld)
    assert [(alert.id, alert.sequence, alert.state) for alert in correction.transitions] == [
        (withheld[0].id, 3, "firing")
    ]
    _, later = count(OLD, events((1_000, 0.0)), correction.state)
    assert [(alert.id, alert.sequence, alert.state) for alert in later] == [(withheld[0].id, 4, "resolved")]


def test_an_alert_resolved_here_that_fires_later_after_all_is_news() -> None:
    _, told = count(OLD, INCIDENT)
    state, _ = count(STRICTER, INCIDENT[:CLIMBING])
    assert unpack(state).alert_id.hex() == told[0].id
    assert unpack(state).firing is None
    (correction,) = correct(told, state, [])
    _, later = count(STRICTER, INCIDENT[CLIMBING:] + events((100, 0.9)), correction.state)
    assert [(alert.id, alert.sequence) for alert in [*told, *correction.transitions, *later[:1]]] == [
        (told[0].id, 1),
        (told[0].id, 2),
        (told[0].id, 3),
    ]


def test_reconciling_again_after_a_crash_has_nothing_more_to_tell() -> None:
    """What is in the outbox counts as known; the state may have been stored or not."""
    state, withheld = count(LOOSER, INCIDENT)
    _, told = count(OLD, INCIDENT[:200])
    (correction,) = correct(told, state, withheld)
    again = [*told, *correction.transitions]
    assert correct(again, correction.state or state, withheld) == []


@pytest.mark.parametrize("seed", range(300))
def test_after_a_recount_by_other_rules_subscribers_know_what_the_states_say_ever_after(seed: int) -> None:
    chance = random.Random(seed)
    stretches = [(chance.randrange(20, 200), chance.choice((0.05, 0.2, 0.6, 0.9))) for _ in range(5)]
    seen = events(*stretches, seed=seed)
    cut = chance.randrange(len(seen))
    begins = chance.choice((0, 0, chance.randrange(cut + 1)))  # what Kafka does not have any more
    _, told = count(chance.choice((OLD, STRICTER, LOOSER)), seen[:cut])
    recount = chance.choice((OLD, STRICTER, LOOSER))
    state, withheld = count(recount, seen[begins:cut])

    for correction in correct(told, state, withheld):
        told += correction.transitions
        state = correction.state or state
    assert believed(told) == fires(state)

    for n in range(cut, len(seen), 7):
        state, transitions = count(recount, seen[n : n + 7], state)
        told += transitions
        assert believed(told) == fires(state)
    sequences = [(alert.id, alert.sequence) for alert in told]
    assert len(set(sequences)) == len(sequences)


def test_what_was_told_survives_packing() -> None:
    state, _ = count(STRICTER, INCIDENT[:CLIMBING])
    now = unpack(state)
    now.told = 2
    assert unpack(pack(now)).told == 2
