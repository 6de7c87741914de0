from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.core import detection
from stream.core.events import CHANNELS
from stream.core.priors import ChannelPriors, Prior, encode_snapshot, snapshot
from stream.core.profile import HOURS, hour_of_week
from stream.core.rules import Override, Rules, ThresholdRule
from stream.core.rules_parse import parse_rules
from stream.core.spike import Observation
from stream.detectors import budget_of, detector_of, oddities
from stream.settings import load
from stream.vocabulary import background

if TYPE_CHECKING:
    from pathlib import Path

    from stream.core.detection import Detection
    from stream.core.events import Alert

START_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
THRESHOLD = ThresholdRule(name="half", window="24h", share=0.5, min_events=20)
SETTINGS = load(false_alarms_per_day=100.0, expected_events_per_day=10_000.0)
"""Run lengths short enough for an incident of some dozen events."""


def observation(number: int, negative: bool, **changes: object) -> Observation:
    at_ms = START_MS + HOUR_MS * number
    who = f"a{number}"
    made = Observation(f"e{number}", at_ms, at_ms, negative, 0.9, who, f"complaint {number}", "kitchen")
    return msgspec.structs.replace(made, **changes)


QUIET = [observation(number, number % 10 == 0) for number in range(300)]
SURGE = [
    observation(300 + number, number % 8 != 0, arrival_ms=START_MS + HOUR_MS * 300 + 60_000 * number)
    for number in range(120)
]
AFTER = [observation(310 + number, number % 10 == 0) for number in range(400)]
HISTORY = [*QUIET, *SURGE, *AFTER]


def judge(rules: Rules = Rules(thresholds=(THRESHOLD,))) -> Detection:  # noqa: B008  # frozen
    return detector_of(SETTINGS, rules, "m1")


def judged(detector: Detection, observations: list[Observation]) -> tuple[bytes, list[Alert]]:
    return detector.judge("p1", "reviews", None, observations)


def told(alerts: list[Alert]) -> set[tuple[str, str]]:
    return {(alert.rule, alert.state) for alert in alerts}


def test_one_incident_is_told_by_each_rule_that_it_breaks() -> None:
    _, alerts = judged(judge(), HISTORY)
    rules = ("negative_share", "negative_rate", "half")
    assert told(alerts) == {(rule, state) for rule in rules for state in ("firing", "resolved")}
    assert len({alert.id for alert in alerts if alert.state == "firing"}) == 3
    assert {alert.category for alert in alerts} == {"kitchen"}


def test_the_surge_goes_by_the_week_that_the_priors_hold_of_its_channel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hours of the incident are held to be busy ones, so as many complaints in them are a lesser rate."""
    busy = {hour_of_week(seen.arrival_ms) for seen in SURGE}
    week = [3.0 if hour in busy else 1.0 for hour in range(HOURS)]
    priors = snapshot(
        "2026-11-27T10:00:00.000Z", "m1", {"reviews": ChannelPriors(Prior(0.15, 10.0, 0), {}, week)}
    )
    (tmp_path / "priors.json").write_bytes(encode_snapshot(priors))
    monkeypatch.setenv("REVIEWPULSE_PRIORS", str(tmp_path / "priors.json"))
    detector = detector_of(load(false_alarms_per_day=100.0, expected_events_per_day=10_000.0), Rules(), "m1")
    fired = {
        channel: next(
            alert.rate
            for alert in detector.judge("p1", channel, None, HISTORY)[1]
            if alert.rate is not None and alert.state == "firing"
        )
        for channel in CHANNELS
    }
    assert fired["reviews"].profile == priors.version
    assert fired["chats"].profile == "flat"
    assert fired["reviews"].per_day == pytest.approx(fired["chats"].per_day / 3.0, rel=0.05)


def test_a_statistical_alert_names_the_table_its_phrases_were_told_from() -> None:
    fired = next(alert for alert in judged(judge(), HISTORY)[1] if alert.rule == "negative_share")
    assert fired.vocabulary == background().version


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(HISTORY)), max_size=8))
def test_how_observations_are_split_into_calls_changes_nothing(cuts: list[int]) -> None:
    whole = judged(judge(), HISTORY)
    state: bytes | None = None
    alerts: list[Alert] = []
    detector = judge()
    for start, end in pairwise([0, *sorted(cuts), len(HISTORY)]):
        state, more = detector.judge("p1", "reviews", state, HISTORY[start:end])
        alerts += more
    assert state == whole[0]
    # Rule by rule: a call tells one rule's transitions before the next one's.
    for rule in ("negative_share", "negative_rate", "half"):
        assert [each for each in alerts if each.rule == rule] == [
            each for each in whole[1] if each.rule == rule
        ]


def test_a_muted_rule_fires_nothing_new_and_what_fires_resolves() -> None:
    muted = Rules(overrides=(Override(product="p1", rule="spike", enabled=False),))
    assert "negative_share" not in {rule for rule, _ in told(judged(judge(muted), HISTORY)[1])}
    assert "negative_rate" in {rule for rule, _ in told(judged(judge(muted), HISTORY)[1])}
    other = judge(muted).judge("p2", "reviews", None, HISTORY)[1]
    assert ("negative_share", "firing") in told(other)
    state, fired = judged(judge(Rules()), [*QUIET, *SURGE])
    assert ("negative_share", "firing") in told(fired)
    _, ended = judge(muted).judge("p1", "reviews", state, AFTER)
    assert ("negative_share", "resolved") in told(ended)


def test_an_override_asks_more_of_one_product() -> None:
    strict = Rules(overrides=(Override(category="kitchen", min_negatives=60),))
    fired = [alert for alert in judged(judge(strict), HISTORY)[1] if alert.state == "firing"]
    assert fired
    assert all(alert.negatives >= 60 for alert in fired)


def test_states_follow_what_subscribers_know() -> None:
    state, alerts = judged(judge(), [*QUIET, *SURGE])
    firing = {alert.id: alert for alert in alerts if alert.state == "firing"}
    ids = detection.alert_ids(state)
    assert {id_ for id_, fires in ids.items() if fires} == set(firing)
    known = {id_: alert.sequence for id_, alert in firing.items()}
    assert detection.follow(state, known) == state
    ahead = detection.follow(state, {id_: sequence + 5 for id_, sequence in known.items()})
    _, later = judge().judge("p1", "reviews", ahead, AFTER)
    ended = {alert.id: alert.sequence for alert in later if alert.state == "resolved" and alert.id in known}
    assert len(ended) == 3
    assert all(ended[id_] > known[id_] + 5 for id_ in known)


def test_a_state_that_is_damaged_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="detectors' state is damaged"):
        judge().judge("p1", "reviews", b"\x03\xff", QUIET)


def test_a_worker_hears_of_a_rule_that_cannot_fire_and_of_priors_of_another_model(tmp_path: Path) -> None:
    shoes = ChannelPriors(Prior(0.2, 30.0, 90), {})
    file = tmp_path / "priors.json"
    file.write_bytes(encode_snapshot(snapshot("2026-11-27T10:00:00.000Z", "m0", {"reviews": shoes})))
    told = load(priors=file)
    assert oddities(told, Rules(), "m0") == []
    (odd,) = oddities(told, Rules(), "m1")
    assert "learned from the labels of m0" in odd
    always = parse_rules('version = 1\n[[threshold]]\nname = "x"\nwindow = "1h"\nshare = 0.0\n', "r.toml")
    assert any("r.toml:" in each for each in oddities(load(), always, "m1"))


def test_the_statistical_rules_share_the_budget_and_a_rules_file_stands_above_it() -> None:
    settings_ = load(false_alarms_per_day=4.0, expected_events_per_day=1e6)
    assert budget_of(settings_, Rules().spike).run_length == 500_000.0
    own = msgspec.structs.replace(Rules().spike, false_alarms_per_day=10.0, min_negatives=4)
    assert budget_of(settings_, own)[:1] == (10.0,)
    assert budget_of(settings_, own).min_negatives == 4
