from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.profile import HOUR_MS, HOURS, LEAST_WEIGHT, Profile, flat, hour_of_week, learn_profile
from stream.errors import UsageError

EVENINGS = Profile([3.0 if hour % 24 >= 18 else 1.0 for hour in range(HOURS)], "evenings")
WEEK_MS = HOURS * HOUR_MS
moments = st.integers(0, 4_000_000_000_000)


@pytest.mark.parametrize("ms", [0, 1_700_000_000_000, 1_709_251_199_999])
def test_the_hour_of_the_week_is_the_calendars(ms: int) -> None:
    told = datetime.fromtimestamp(ms / 1_000, UTC)
    assert hour_of_week(ms) == told.weekday() * 24 + told.hour


def test_a_week_has_seven_operational_days_whatever_the_profile() -> None:
    for profile in (flat(), EVENINGS):
        assert profile.days(123_456_789, 123_456_789 + 3 * WEEK_MS) == pytest.approx(21.0, rel=1e-12)


def test_busy_hours_are_long() -> None:
    noon, evening = 12 * HOUR_MS, 19 * HOUR_MS
    assert EVENINGS.days(evening, evening + HOUR_MS) == pytest.approx(
        3.0 * EVENINGS.days(noon, noon + HOUR_MS)
    )
    # Half before six in the evening at weight 1, half after at weight 3; the mean weight is 1.5.
    assert EVENINGS.days(17 * HOUR_MS + HOUR_MS // 2, 18 * HOUR_MS + HOUR_MS // 2) == pytest.approx(
        2 / 1.5 / 24
    )


@given(moments, st.integers(0, 3_000_000_000), st.integers(0, 3_000_000_000))
def test_time_adds_up_and_never_runs_back(start: int, first: int, second: int) -> None:
    middle, end = start + first, start + first + second
    parts = EVENINGS.days(start, middle) + EVENINGS.days(middle, end)
    assert EVENINGS.days(start, end) == pytest.approx(parts, abs=1e-10)
    assert EVENINGS.days(start, middle) >= 0.0


def test_a_learned_profile_is_what_was_counted() -> None:
    counted = [1_000.0 * EVENINGS.weights[hour] * (0.5 if hour >= 120 else 1.0) for hour in range(HOURS)]
    learned = learn_profile(counted)
    mean = sum(counted) / HOURS
    assert max(abs(told - seen / mean) for told, seen in zip(learned.weights, counted, strict=True)) < 0.03


def test_little_seen_is_shrunk_to_flat_and_nothing_is_flat() -> None:
    one = learn_profile([3.0 if hour == 40 else 0.0 for hour in range(HOURS)])
    assert 0.8 < min(one.weights) <= max(one.weights) < 1.7
    assert learn_profile([0.0] * HOURS, version="empty").weights == flat().weights


def test_hours_that_were_never_watched_follow_their_day_and_hour() -> None:
    counted = [EVENINGS.weights[hour] * 500.0 if hour < 72 else 0.0 for hour in range(HOURS)]
    learned = learn_profile(counted, [1.0 if hour < 72 else 0.0 for hour in range(HOURS)])
    assert learned.weights[140] / learned.weights[130] == pytest.approx(3.0, rel=0.1)


def test_no_hour_is_so_quiet_that_one_complaint_is_news() -> None:
    learned = learn_profile([0.0 if hour % 24 == 3 else 5_000.0 for hour in range(HOURS)])
    assert min(learned.weights) == pytest.approx(LEAST_WEIGHT, rel=0.1)


@pytest.mark.parametrize("weights", [[1.0] * 24, [1.0] * 167 + [0.0]])
def test_a_profile_that_is_none_is_refused(weights: list[float]) -> None:
    with pytest.raises(UsageError, match="needs 168 weights above zero"):
        Profile(weights, "bad")
