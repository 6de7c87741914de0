"""Priors: what is fitted to products, what a state has learned, snapshots that nobody alters unseen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.priors import (
    BUILT_IN,
    DEFAULT,
    LEAST_EVENTS,
    LEAST_SHARE,
    MOST_EVENTS,
    MOST_SHARE,
    ChannelPriors,
    Counts,
    Prior,
    Priors,
    drawn_towards,
    encode_snapshot,
    fit,
    learn,
    learned,
    read_snapshot,
    snapshot,
)
from stream.core.profile import HOURS
from stream.core.spike import Observation, SpikeDetector, rule_from
from stream.core.spike_state import State, unpack
from stream.errors import UsageError
from stream.priors import check_place, load_priors, load_snapshot, save_snapshot
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MADE_AT = "2026-11-23T10:00:00.000Z"
SHOES = Prior(0.1, 50.0, 40)
LEARNED = ChannelPriors(Prior(0.2, 30.0, 90), {"shoes": SHOES, "灯 [b]": Prior(0.3, 20.0, 12)})
RULE = rule_from(1.0, 1e6, 20, 8, 86_400_000)


def fleet(alpha: float, beta: float, products: int, seed: int) -> list[tuple[float, float]]:
    """Negatives and events of products whose shares are a beta's and whose volumes are Zipf's."""
    chance = np.random.default_rng(seed)
    events = np.minimum(4 + chance.zipf(1.5, products), 5_000)
    negatives = chance.binomial(events, chance.beta(alpha, beta, products))
    return list(zip(negatives.tolist(), events.tolist(), strict=True))


def taught(negatives: int, events: int, category: str | None = None) -> Counts:
    return Counts(float(negatives), float(events), category)


# ---- fitting


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    ("alpha", "beta", "weights"),
    [(3.0, 17.0, (17.0, 24.0)), (30.0, 170.0, (100.0, 100.0)), (2.0, 3.0, (5.0, 5.6))],
)
def test_a_fitted_prior_is_the_beta_that_the_products_came_from(
    alpha: float, beta: float, weights: tuple[float, float], seed: int
) -> None:
    """Beta(30, 170) weighs 200 events, beyond the bound."""
    found = fit(fleet(alpha, beta, 5_000, seed))
    assert found is not None
    assert found.products == 5_000
    assert found.share == pytest.approx(alpha / (alpha + beta), abs=0.01)
    assert weights[0] <= found.events <= weights[1]


def test_a_few_large_products_do_not_speak_for_all() -> None:
    small = [(2.0, 10.0), (0.0, 10.0), (5.0, 10.0), (1.0, 10.0)] * 25
    found = fit([*small, (45_000.0, 50_000.0)])
    assert found is not None
    assert found.share == pytest.approx(0.2, abs=0.02)  # pooled, it would be 0.886


def test_shares_that_differ_as_coins_do_make_the_surest_prior() -> None:
    # Variance of ten throws of a coin of 0.15: 1.275 / 100; these differ by less.
    assert fit([(1.0, 10.0), (2.0, 10.0)] * 10) == Prior(0.15, MOST_EVENTS, 20)


def test_kleinmans_moments_of_two_kinds_of_products_are_those_computed_by_hand() -> None:
    # Equal sizes, equal weights: mean 0.2, spread s2 = 0.01, k = 20 products of n = 50.
    # r = (s2 / pq - (1 - 1/k) / n) / ((1 - 1/k) (1 - 1/n)) = (0.0625 - 0.019) / 0.931 = 0.0467240
    # weight = 1 / r - 1 = 20.4023
    assert fit([(5.0, 50.0), (15.0, 50.0)] * 10) == Prior(0.2, 20.4023, 20)


def test_products_without_a_single_negative_make_the_vaguest_prior_with_the_least_share() -> None:
    assert fit([(0.0, 10.0)] * 30) == Prior(LEAST_SHARE, LEAST_EVENTS, 30)
    assert fit([(10.0, 10.0)] * 30) == Prior(MOST_SHARE, LEAST_EVENTS, 30)


def test_small_products_are_left_out_and_too_few_make_nothing() -> None:
    assert fit([]) is None
    assert fit([(1.0, 10.0)] * 9) is None
    assert fit([(1.0, 10.0)] * 9 + [(4.0, 4.9)] * 100) is None
    found = fit([(1.0, 10.0)] * 10 + [(4.0, 4.0)] * 100)
    assert found == Prior(0.1, MOST_EVENTS, 10)


COUNTS = st.floats(0, 3_000).flatmap(
    lambda events: st.tuples(st.floats(0, 1).map(lambda share: share * events), st.just(events))
)


@given(st.lists(COUNTS, max_size=25), st.randoms())
def test_a_prior_is_always_within_its_bounds_whatever_the_order(
    counts: list[tuple[float, float]], chance: object
) -> None:
    found = fit(counts)
    chance.shuffle(shuffled := list(counts))  # type: ignore[attr-defined]
    assert fit(shuffled) == found
    if found is None:
        assert sum(events >= 5 for _, events in counts) < 10
    else:
        assert LEAST_SHARE <= found.share <= MOST_SHARE
        assert LEAST_EVENTS <= found.events <= MOST_EVENTS


def test_the_fewer_products_a_level_has_the_nearer_it_is_to_the_one_above() -> None:
    above = Prior(0.2, 20.0, 500)
    drawn = [drawn_towards(above, Prior(0.1, 100.0, products)).share for products in (10, 30, 90, 990)]
    assert drawn == [0.15, 0.125, 0.11, 0.101]


def test_a_channel_has_its_fleet_and_the_categories_with_enough_products() -> None:
    shoes = [taught(1, 10, "shoes")] * 10
    lamps = [taught(3, 10, "lamps")] * 9
    found = learn([*shoes, *lamps, taught(2, 10)])
    assert found is not None
    own = fit([each[:2] for each in shoes])
    everything = fit([each[:2] for each in (*shoes, *lamps, taught(2, 10))])
    assert own is not None
    assert everything is not None
    assert found.fleet == drawn_towards(BUILT_IN, everything)
    assert found.categories == {"shoes": drawn_towards(found.fleet, own)}
    assert learn(lamps) is None


# ---- what a state has learned


def judged(labels: Sequence[bool]) -> State:
    events = [Observation(str(n), n, n, each, 0.9, None, "x") for n, each in enumerate(labels)]
    packed, _ = SpikeDetector(RULE, "en-1").judge("kettle", "reviews", None, events)
    return unpack(packed)


def test_nothing_is_learned_of_a_product_never_seen() -> None:
    nothing = State(BUILT_IN.alpha, BUILT_IN.beta)
    assert learned(nothing, [BUILT_IN]) == (0.0, 0.0)


@given(st.lists(st.booleans(), max_size=15))
def test_what_a_detector_has_seen_is_what_it_has_learned_excursion_included(labels: list[bool]) -> None:
    state = judged(labels)
    assert state.firing is None
    assert learned(state, [BUILT_IN]) == pytest.approx((sum(labels), len(labels)))


def test_a_firing_excursion_is_left_out() -> None:
    state = judged([n % 10 == 0 for n in range(200)] + [True] * 40)
    assert state.firing is not None
    assert state.events >= 40
    negatives, events = learned(state, [BUILT_IN])
    assert events == pytest.approx(240 - state.events)
    assert negatives == pytest.approx(60 - state.negatives)


def test_the_prior_that_a_state_began_with_is_told_by_its_weight() -> None:
    began_with = [SHOES, LEARNED.fleet, BUILT_IN]
    for prior in began_with:
        state = State(prior.alpha + 8.0, prior.beta + 92.0, seen=100)
        assert learned(state, began_with) == pytest.approx((8.0, 100.0))


def test_where_the_weight_does_not_tell_it_is_the_first_prior_that_can_be() -> None:
    faded = State(SHOES.alpha + 8.0, SHOES.beta + 92.0, seen=60_000)
    assert learned(faded, [SHOES, BUILT_IN]) == pytest.approx((8.0, 100.0))
    lighter_than_shoes = State(2.5, 18.5, seen=500)
    assert learned(lighter_than_shoes, [SHOES, BUILT_IN]) == (1.0, 11.0)
    assert learned(State(0.5, 0.5, seen=3), [SHOES, BUILT_IN]) == (0.0, 0.0)


# ---- snapshots


def test_a_snapshot_survives_its_file_and_gives_the_priors_that_went_in(tmp_path: Path) -> None:
    made = snapshot(MADE_AT, "en-1", {"reviews": LEARNED})
    save_snapshot(tmp_path / "priors.json", made)
    found = load_snapshot(tmp_path / "priors.json")
    assert found == made
    assert found.of("reviews", "shoes") == SHOES
    assert found.of("reviews", "lamps") == found.of("reviews", None) == LEARNED.fleet
    assert found.of("chats", "shoes") == BUILT_IN
    assert [each.name for each in tmp_path.iterdir()] == ["priors.json"]


def test_the_version_is_twelve_digits_of_the_contents_hash_and_changes_with_it() -> None:
    made = snapshot(MADE_AT, "en-1", {"reviews": LEARNED})
    assert made.version == "46ed2dc7bb56"
    others = [
        snapshot(MADE_AT, "en-2", {"reviews": LEARNED}),
        snapshot(MADE_AT, "en-1", {"chats": LEARNED}),
        snapshot("2026-11-24T10:00:00.000Z", "en-1", {"reviews": LEARNED}),
    ]
    assert len({made.version, *(each.version for each in others)}) == 4
    reordered = ChannelPriors(LEARNED.fleet, dict(reversed(LEARNED.categories.items())))
    assert snapshot(MADE_AT, "en-1", {"reviews": reordered}).version == made.version


def test_without_a_snapshot_every_product_begins_with_the_built_in_prior() -> None:
    assert load_priors(load()) is DEFAULT
    assert DEFAULT.version == ""
    assert DEFAULT.of("reviews", "shoes") == BUILT_IN == Prior(0.15, 10.0, 0)


def test_the_setting_names_the_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = snapshot(MADE_AT, "en-1", {"chats": LEARNED})
    save_snapshot(tmp_path / "priors.json", made)
    monkeypatch.setenv("REVIEWPULSE_PRIORS", str(tmp_path / "priors.json"))
    assert load_priors(load()) == made


WEEK = [1.25 if hour % 24 == 20 else 0.9891 for hour in range(HOURS)]
WEEKLY = encode_snapshot(
    snapshot(MADE_AT, "en-1", {"reviews": msgspec.structs.replace(LEARNED, week=WEEK)}),
)
SHORT_WEEK = msgspec.structs.replace(LEARNED, week=[1.0])


def test_a_week_makes_the_profile_of_its_channel_and_alerts_can_name_it() -> None:
    made = read_snapshot(WEEKLY)
    profile = made.profile("reviews")
    assert profile.version == made.version != read_snapshot(WHOLE).version
    assert profile.weights[20] / profile.weights[19] == pytest.approx(1.25 / 0.9891)
    assert made.profile("chats").version == "flat"
    assert read_snapshot(WHOLE).profile("reviews").version == "flat"


WHOLE = encode_snapshot(snapshot(MADE_AT, "en-1", {"reviews": LEARNED}))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (WHOLE[: len(WHOLE) // 2], "no snapshot of priors"),
        (b"", "no snapshot of priors"),
        (b"\xff\xfe", "no snapshot of priors|not UTF-8"),
        (b"[" * 100_000, "nested too deeply|no snapshot"),
        (
            WHOLE.replace(b'"share": 0.2', b'"share": 0.25'),
            "not what version [0-9a-f]{12} was made from",
        ),
        (WHOLE.replace(b"shoes", b"boots"), "its content is not what version"),
        (WHOLE.replace(b'"share": 0.2', b'"share": 1'), "Expected `float` < 1"),
        (WHOLE.replace(b'"reviews"', b'"letters"'), "letters"),
        (msgspec.json.encode(DEFAULT), r"version \(none\)"),
        (encode_snapshot(snapshot(MADE_AT, "en-1", {"chats": SHORT_WEEK})), "a week in it has not 168 hours"),
        (WEEKLY.replace(b" 1.25", b" 0.00"), "Expected `float` > 0"),
    ],
)
def test_a_damaged_or_edited_file_is_refused_by_name_with_the_remedy(
    tmp_path: Path, raw: bytes, why: str
) -> None:
    assert raw not in (WHOLE, WEEKLY)
    (tmp_path / "priors.json").write_bytes(raw)
    with pytest.raises(UsageError, match=why) as raised:
        load_snapshot(tmp_path / "priors.json")
    assert "priors.json: " in str(raised.value)
    assert "make another with `reviewpulse priors learn`" in str(raised.value)


def test_every_single_bit_that_flips_in_a_file_is_seen_or_changes_nothing() -> None:
    read = read_snapshot(WHOLE)
    for place in range(len(WHOLE)):
        flipped = bytearray(WHOLE)
        flipped[place] ^= 1
        try:
            found: Priors | None = read_snapshot(bytes(flipped))
        except ValueError:
            found = None
        assert found in (None, read)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json: No such file or directory"):
        load_snapshot(tmp_path / "none.json")


def test_a_place_that_cannot_hold_a_snapshot_is_refused_before_any_work(tmp_path: Path) -> None:
    check_place(tmp_path / "priors.json")
    with pytest.raises(UsageError, match="is a folder"):
        check_place(tmp_path)
    with pytest.raises(UsageError, match="There is no folder"):
        check_place(tmp_path / "none" / "priors.json")


def test_a_snapshot_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "priors.json"
    save_snapshot(path, first := snapshot(MADE_AT, "en-1", {"chats": LEARNED}))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(OSError, match="No space left"):
        save_snapshot(path, snapshot(MADE_AT, "en-2", {"chats": LEARNED}))
    assert load_snapshot(path) == first
    assert [each.name for each in tmp_path.iterdir()] == ["priors.json"]
