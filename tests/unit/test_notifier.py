"""What people are told, and what not: turns by exact time, and what holds of any story."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from stream.core import notifier as notifier_module
from stream.core.events import rfc3339
from stream.core.notifier import Notifier, thread_of
from stream.core.notify import Notification, Policy
from stream.core.silence import Acknowledgement, Said, Silence
from stream.errors import UsageError
from tests.builders import alert

if TYPE_CHECKING:
    from stream.core.events import Alert

START_MS = 1_700_000_000_000
HOUR = 3_600
INTERVAL = 4 * HOUR
ALONE = Policy(incident_products=10_000, model_change_products=10_000)


class Story:
    """Alerts of products as time goes by, and what was told; times are seconds since the story began."""

    def __init__(self, policy: Policy = ALONE) -> None:
        self.policy = policy
        self.notifier = Notifier(policy)
        self.silences: list[Silence] = []
        self.acknowledged: dict[str, Acknowledgement] = {}
        self.told: list[tuple[int, Notification]] = []
        self.latest: dict[str, Alert] = {}

    @property
    def said(self) -> Said:
        return Said(self.silences, self.acknowledged)

    def fire(self, at: int, product: str = "B1", **fields: Any) -> list[str]:
        """A new alert of the product; returns the turns told."""
        begun = alert(id=f"{product}@{at}", product_id=product, at=rfc3339(START_MS + at * 1000), **fields)
        return self.take(at, begun)

    def become(self, at: int, product: str = "B1", **fields: Any) -> list[str]:
        """The next transition of the product's alert."""
        last = self.latest[product]
        changed = {"sequence": last.sequence + 1, "at": rfc3339(START_MS + at * 1000), **fields}
        return self.take(at, replace(last, **changed))

    def resolve(self, at: int, product: str = "B1") -> list[str]:
        return self.become(at, product, state="resolved")

    def take(self, at: int, transition: Alert) -> list[str]:
        self.latest[transition.product_id] = transition
        return self._tell(at, self.notifier.take(transition, START_MS + at * 1000, self.said))

    def tick(self, at: int) -> list[str]:
        return self._tell(at, self.notifier.tick(START_MS + at * 1000, self.said))

    def restart(self) -> None:
        self.notifier = Notifier.load(self.notifier.dump(), self.policy)

    def silence(self, until: int, **what: Any) -> None:
        self.silences.append(
            Silence(id="s", start_ms=START_MS, end_ms=START_MS + until * 1000, reason="r", **what)
        )

    def acknowledge(self, id_: str) -> None:
        self.acknowledged[id_] = Acknowledgement(alert_id=id_, at_ms=START_MS)

    def _tell(self, at: int, notifications: list[Notification]) -> list[str]:
        self.told += [(at, each) for each in notifications]
        return [f"{each.kind} {each.state}" for each in notifications]


# ---- One thread


def test_an_incident_is_told_when_it_fires_and_once_when_it_has_resolved() -> None:
    story = Story()
    assert story.fire(0) == ["alert firing"]
    assert story.tick(600) == []
    assert story.resolve(1_200) == ["alert resolved"]
    assert story.tick(10 * INTERVAL) == []
    assert [each.id for _, each in story.told] == ["B1@0-firing-1", "B1@0-resolved-2"]
    assert {each.thread for _, each in story.told} == {thread_of(story.latest["B1"])}


def test_it_is_told_again_after_the_renotify_interval_to_the_second() -> None:
    story = Story()
    story.fire(0)
    assert story.tick(INTERVAL - 1) == []
    assert story.tick(INTERVAL) == ["alert still_firing"]
    assert story.tick(2 * INTERVAL - 1) == []
    assert story.tick(2 * INTERVAL) == ["alert still_firing"]
    assert story.told[-1][1].id == "B1@0-still_firing-3"


def test_what_is_acknowledged_is_not_told_again_but_its_end_is() -> None:
    story = Story()
    story.fire(0)
    story.acknowledge("B1@0")
    assert story.tick(INTERVAL) == []
    assert story.tick(9 * INTERVAL) == []
    assert story.resolve(9 * INTERVAL + 1) == ["alert resolved"]


def test_an_acknowledgement_ends_with_its_alert() -> None:
    story = Story()
    story.fire(0)
    story.acknowledge("B1@0")
    story.resolve(60)
    assert story.fire(120) == []
    assert story.tick(60 + INTERVAL) == ["alert firing"]
    assert story.tick(60 + 2 * INTERVAL) == ["alert still_firing"]


def test_what_is_acknowledged_before_it_is_told_need_not_be_told_but_the_next_must() -> None:
    story = Story()
    story.fire(0)
    story.resolve(60)
    story.fire(120)  # too soon to be told; somebody sees it in the list
    story.acknowledge("B1@120")
    assert story.tick(60 + INTERVAL) == []
    assert story.resolve(70 + INTERVAL) == []
    assert story.fire(80 + INTERVAL) == ["alert firing"]


def test_an_escalation_is_told_at_once_even_when_acknowledged_and_only_once() -> None:
    story = Story()
    story.fire(0)
    story.acknowledge("B1@0")
    assert story.become(60, severity="critical") == ["alert escalated"]
    assert story.become(120, severity="warning") == []
    assert story.become(180, severity="critical") == []
    assert story.resolve(240) == ["alert resolved"]


def test_a_share_that_hovers_is_told_of_once_in_an_interval() -> None:
    """It fires every 20 minutes and resolves 10 minutes later, for two days."""
    story = Story()
    for at in range(0, 48 * HOUR, 1_200):
        story.fire(at)
        story.tick(at + 300)
        story.resolve(at + 600)
        story.tick(at + 900)
    assert [(at, each.state) for at, each in story.told] == [
        (0, "firing"),
        (600, "resolved"),  # nobody knows yet that it hovers
        (15_600, "firing"),  # when the interval was over, at 15,000, it did not fire
        *((15_600 + n * INTERVAL, "still_firing") for n in range(1, 11)),
    ]
    assert story.told[2][1].fired == 13


def test_after_a_quiet_interval_the_next_incident_is_told_as_the_first_was() -> None:
    story = Story()
    story.fire(0)
    story.resolve(60)
    assert story.fire(120) == []
    assert story.resolve(180) == []
    assert story.fire(180 + INTERVAL) == ["alert firing"]
    assert story.resolve(240 + INTERVAL) == ["alert resolved"]


def test_what_fires_again_too_soon_is_told_when_the_interval_is_over_if_it_fires_still() -> None:
    story = Story()
    story.fire(0)
    story.resolve(60)
    assert story.fire(120) == []
    assert story.tick(60 + INTERVAL - 1) == []
    assert story.tick(60 + INTERVAL) == ["alert firing"]
    assert story.told[-1][1].id == "B1@120-firing-3"


def test_what_fires_again_more_severely_is_told_at_once() -> None:
    story = Story()
    story.fire(0)
    story.resolve(60)
    assert story.fire(120, severity="critical") == ["alert firing"]


def test_the_end_of_one_alert_that_comes_after_the_next_ones_beginning_ends_nothing() -> None:
    """Alerts are keyed by id: two of a product may lie in two partitions."""
    story = Story()
    story.fire(0)
    first = story.latest["B1"]
    story.fire(120)
    late_end = replace(first, state="resolved", sequence=2, at=rfc3339(START_MS + 60_000))
    assert story.take(121, late_end) == []
    assert story.tick(INTERVAL) == ["alert still_firing"]
    assert story.told[-1][1].alert is not None
    assert story.told[-1][1].alert.id == "B1@120"


def test_channels_and_rules_of_a_product_are_threads_of_their_own() -> None:
    story = Story()
    assert story.fire(0) == ["alert firing"]
    assert story.fire(1, channel="chats") == ["alert firing"]
    assert story.fire(2, rule="surge") == ["alert firing"]


def test_a_repeat_says_nothing_also_after_a_restart() -> None:
    story = Story()
    story.fire(0)
    fired = story.latest["B1"]
    story.resolve(60)
    resolved = story.latest["B1"]
    story.restart()
    assert story.take(90, fired) == []
    assert story.take(91, resolved) == []
    assert story.tick(INTERVAL) == []


def test_history_notifies_nobody() -> None:
    story = Story()
    assert story.fire(0, historic=True) == []
    assert story.tick(INTERVAL) == []
    assert story.resolve(INTERVAL + 1) == []


def test_a_resolve_marked_historic_still_ends_what_was_told() -> None:
    """As a rebuild tells it: its last event is long ago, but the page is open now."""
    story = Story()
    story.fire(0)
    assert story.become(60, state="resolved", historic=True) == ["alert resolved"]


def test_time_alone_resolves_nothing() -> None:
    story = Story()
    story.fire(0)
    turns = [turn for days in range(1, 40) for turn in story.tick(days * 24 * HOUR)]
    assert turns == ["alert still_firing"] * 39


def test_the_end_of_what_is_not_known_is_not_told() -> None:
    story = Story()
    assert story.take(0, alert(state="resolved", sequence=2, at=rfc3339(START_MS))) == []
    assert story.tick(INTERVAL) == []


def test_a_time_that_is_none_is_taken_for_now() -> None:
    story = Story()
    assert story.take(0, alert(at="yesterday")) == ["alert firing"]


def test_a_clock_that_was_far_ahead_silences_nobody_for_years() -> None:
    story = Story()
    story.fire(100 * 365 * 24 * HOUR)
    assert story.tick(0) == ["alert still_firing"]


# ---- After the subscriber was away


def test_what_we_hear_of_late_is_told_by_the_tick_if_it_fires_still() -> None:
    story = Story()
    late = 3 * 24 * HOUR
    gone, still = (alert(id=name, product_id=name, at=rfc3339(START_MS)) for name in ("gone", "still"))
    assert story.take(late, gone) == []
    assert story.take(late, still) == []
    assert story.resolve(late, "gone") == []
    assert story.tick(late + 1) == ["alert firing"]
    assert story.told[0][1].id == "still-firing-1"


def test_a_crowd_of_long_ago_that_is_heard_of_at_once_is_no_incident() -> None:
    """Ten alerts began a day apart; a subscriber that was away takes them in one second."""
    story = Story(Policy())
    now = 11 * 24 * HOUR
    for day in range(10):
        story.take(now, alert(id=f"a{day}", product_id=f"B{day}", at=rfc3339(START_MS + day * 86_400_000)))
    assert story.tick(now) == ["alert firing"] * 10


# ---- Silences


def test_what_is_silenced_is_told_when_the_silence_ends_if_it_fires_still() -> None:
    story = Story()
    story.silence(until=2 * HOUR, product="B1")
    assert story.fire(60) == []
    assert story.fire(61, "B2") == ["alert firing"]
    assert story.tick(2 * HOUR - 1) == []
    assert story.tick(2 * HOUR) == ["alert firing"]


def test_what_comes_and_goes_in_a_silence_is_never_told() -> None:
    story = Story()
    story.silence(until=2 * HOUR, everything=True)
    story.fire(60)
    story.resolve(120)
    assert story.tick(2 * HOUR) == []
    assert story.tick(9 * INTERVAL) == []


def test_the_end_of_what_was_told_waits_for_the_silence() -> None:
    story = Story()
    story.fire(0)
    story.silence(until=2 * HOUR, rule="negative_share")
    assert story.resolve(60) == []
    assert story.tick(2 * HOUR) == ["alert resolved"]


# ---- Incidents


def many(story: Story, products: range, at: int = 0, **fields: Any) -> list[str]:
    return [turn for n in products for turn in story.fire(at + n, f"B{n}", **fields)]


def test_the_fifth_product_makes_an_incident_and_what_follows_is_held_back() -> None:
    story = Story(Policy())
    assert many(story, range(4)) == ["alert firing"] * 4
    assert many(story, range(4, 5)) == ["incident firing"]
    assert many(story, range(5, 40)) == []
    told = story.told[-1][1]
    assert told.incident is not None
    assert (told.incident.scope, told.incident.firing, told.incident.total) == ("fleet", 5, 5)
    assert told.incident.products == ["B0", "B1", "B2", "B3", "B4"]
    assert told.incident.since == rfc3339(START_MS)
    assert story.tick(4 + INTERVAL) == ["incident still_firing"]
    still = story.told[-1][1]
    assert still.incident is not None
    assert (still.thread, still.incident.firing) == (told.thread, 40)


def test_it_is_over_when_most_have_resolved_and_a_window_has_passed_and_the_rest_is_told() -> None:
    story = Story(Policy())
    many(story, range(10))
    ended = [turn for n in range(8) for turn in story.resolve(600 + n, f"B{n}")]
    assert ended == ["alert resolved"] * 4  # those told by themselves before the fifth
    assert story.tick(9 + 899) == []
    assert story.tick(9 + 900) == ["incident resolved", "alert firing", "alert firing"]
    incident = story.told[-3][1].incident
    assert incident is not None
    assert (incident.firing, incident.total) == (2, 10)
    assert [each.alert.product_id for _, each in story.told[-2:] if each.alert] == ["B8", "B9"]
    assert story.resolve(1_000, "B8") == ["alert resolved"]


def test_what_begins_when_an_incident_is_mostly_over_is_told_by_itself() -> None:
    story = Story(Policy())
    many(story, range(5))
    for n in range(4):
        story.resolve(60 + n, f"B{n}")
    assert story.fire(120, "B77") == ["alert firing"]


def test_five_products_spread_over_more_than_the_window_are_no_incident() -> None:
    story = Story(Policy())
    turns = [turn for n in range(5) for turn in story.fire(n * 226, f"B{n}")]
    assert turns == ["alert firing"] * 5


def test_the_usual_trickle_of_a_large_fleet_is_no_incident() -> None:
    """A product every 400 s for hours: then six at once are little, thirty more are not."""
    story = Story(Policy())
    turns = [turn for n in range(60) for turn in story.fire(n * 400, f"B{n}")]
    at = 60 * 400
    turns += [turn for n in range(100, 106) for turn in story.fire(at + n, f"B{n}")]
    assert turns == ["alert firing"] * 66
    assert [turn for n in range(200, 230) for turn in story.fire(at + 120 + n - 200, f"B{n}")].count(
        "incident firing"
    ) == 1


def test_one_product_that_hovers_is_no_crowd() -> None:
    story = Story(Policy())
    for n in range(8):
        story.fire(n * 60)
        story.resolve(n * 60 + 30)
    assert [each.kind for _, each in story.told] == ["alert", "alert"]


def test_a_category_has_an_incident_of_its_own_that_holds_back_no_other() -> None:
    story = Story(Policy())
    assert many(story, range(5), category="kettles")[-1] == "incident firing"
    told = story.told[-1][1].incident
    assert told is not None
    assert (told.scope, told.category) == ("category", "kettles")
    assert story.fire(60, "B50", category="kettles") == []
    assert story.fire(61, "B51", category="lamps") == ["alert firing"]


def test_silenced_products_are_neither_counted_nor_named() -> None:
    story = Story(Policy())
    story.silence(until=HOUR, pattern="B[12]")
    assert many(story, range(6)) == ["alert firing"] * 4
    assert many(story, range(6, 7)) == ["incident firing"]
    incident = story.told[-1][1].incident
    assert incident is not None
    assert incident.products == ["B0", "B3", "B4", "B5", "B6"]


def test_when_a_silence_of_everything_ends_a_crowd_is_one_incident() -> None:
    story = Story(Policy())
    story.silence(until=HOUR, everything=True)
    assert many(story, range(30)) == []
    assert story.tick(HOUR) == ["incident firing"]


def test_an_acknowledged_incident_is_not_told_again() -> None:
    story = Story(Policy())
    many(story, range(5))
    story.acknowledge(story.told[-1][1].thread)
    assert story.tick(5 + INTERVAL) == []


def test_an_incident_that_becomes_critical_says_so_at_once() -> None:
    story = Story(Policy())
    many(story, range(5))
    assert story.fire(60, "B9", severity="critical") == ["incident escalated"]


def test_an_incident_that_comes_back_is_told_at_once_and_stays_for_an_interval() -> None:
    story = Story(Policy())
    many(story, range(5))
    for n in range(5):
        story.resolve(60 + n, f"B{n}")
    assert story.tick(905) == ["incident resolved"]
    turns = [turn for n in range(10, 15) for turn in story.fire(1_000 + n, f"B{n}")]
    assert turns[-1] == "incident firing"
    for n in range(10, 15):
        story.resolve(1_100 + n, f"B{n}")
    assert story.tick(1_014 + INTERVAL - 1) == []
    assert story.tick(1_014 + INTERVAL) == ["incident resolved"]


def test_after_a_change_of_model_two_products_are_its_incident() -> None:
    story = Story(Policy())
    story.notifier.saw_model("en-1", START_MS)
    assert story.notifier.saw_model("en-2", START_MS + 100_000)
    assert story.fire(200, "B1", model_version="en-2") == ["alert firing"]
    assert story.fire(201, "B2", model_version="en-2") == ["incident firing"]
    assert story.fire(1_899, "B3", model_version="en-2") == []
    told = story.told[-1][1].incident
    assert told is not None
    assert (told.scope, told.models) == ("model", ("en-1", "en-2"))
    assert story.fire(1_901, "B4", model_version="en-2") == ["alert firing"]  # half an hour later: its own


def test_a_whole_fleet_that_fires_after_a_hot_swap_is_two_notifications() -> None:
    """Events lie in Kafka for a while: alerts may be dated before the switch that they are due to."""
    story = Story(Policy())
    for at in range(0, 100, 10):
        story.notifier.saw_model("en-1", START_MS + at * 1000)
    story.notifier.saw_model("en-2", START_MS + 100_000)
    for worker_still_on in ("en-1", "en-2", "en-2"):
        story.notifier.saw_model(worker_still_on, START_MS + 101_000)
    turns = [
        turn
        for n, at in enumerate((110, 95, 112, 60, *range(120, 160)))
        for turn in story.fire(at, f"B{n}", model_version="en-2")
    ]
    assert turns == ["alert firing", "incident firing"]
    incident = story.told[-1][1].incident
    assert incident is not None
    assert (incident.scope, incident.models) == ("model", ("en-1", "en-2"))


def test_after_a_rollback_two_products_are_its_incident_though_the_model_was_seen_lately() -> None:
    story = Story(Policy())
    story.notifier.saw_model("en-1", START_MS + 999_000)
    story.notifier.saw_model("en-2", START_MS + 1_000_000)
    assert not story.notifier.saw_model("en-1", START_MS + 2_200_000)  # as in a rolling upgrade
    assert story.notifier.announced_model("en-2", "en-1", START_MS + 2_200_000)
    assert not story.notifier.announced_model("en-2", "en-1", START_MS + 2_200_000)
    story.restart()
    assert not story.notifier.announced_model("en-2", "en-1", START_MS + 2_200_000)
    turns = [turn for n in range(20) for turn in story.fire(3_000 + n, f"B{n}", model_version="en-1")]
    assert turns == ["alert firing", "incident firing"]
    incident = story.told[-1][1].incident
    assert incident is not None
    assert (incident.scope, incident.models) == ("model", ("en-2", "en-1"))


def test_alerts_alone_tell_of_a_change_of_model_too() -> None:
    story = Story(Policy())
    story.fire(0, "B0")
    assert story.fire(60, "B1", model_version="en-2") == ["alert firing"]
    assert story.fire(61, "B2", model_version="en-2") == ["incident firing"]


def test_two_models_of_a_rolling_upgrade_are_one_change() -> None:
    notifier = Notifier()
    changes = [notifier.saw_model(f"en-{1 + n % 2}", START_MS + n * 10_000) for n in range(60)]
    assert changes == [False, True, *[False] * 58]


# ---- What holds of any story

MOVES = st.tuples(
    st.sampled_from(["fire", "resolve", "escalate", "tick", "silence", "acknowledge", "repeat"]),
    st.sampled_from(["B1", "B2", "B3", "B4"]),
    st.integers(0, 2 * HOUR),
)
SHORT = Policy(renotify_s=3_600, min_interval_s=1_800, incident_products=3, incident_window_s=600)


def play(story: Story, moves: list[tuple[str, str, int]], *, restart: bool = False) -> int:
    """Plays the moves; what does not fit (a second firing, an end of nothing) is left out."""
    at = 0
    firing: set[str] = set()
    for move, product, gap in moves:
        at += gap + 1
        if restart:
            story.restart()
        if move == "fire" and product not in firing:
            story.fire(at, product, severity="warning")
            firing.add(product)
        elif move == "resolve" and product in firing:
            story.resolve(at, product)
            firing.remove(product)
        elif move == "escalate" and product in firing:
            story.become(at, product, severity="critical")
        elif move == "silence":
            story.silences = [
                Silence(
                    id="s",
                    start_ms=START_MS + at * 1000,
                    end_ms=START_MS + (at + HOUR) * 1000,
                    reason="r",
                    product=product,
                )
            ]
        elif move == "acknowledge" and product in firing:
            story.acknowledge(story.latest[product].id)
        elif move == "repeat" and product in story.latest:
            assert story.take(at, story.latest[product]) == []
        else:
            story.tick(at)
    return at


@given(st.lists(MOVES, max_size=60))
def test_a_thread_is_told_firing_once_then_its_end_once(moves: list[tuple[str, str, int]]) -> None:
    story = Story(SHORT)
    play(story, moves)
    turns: dict[str, str] = {}
    for _, each in story.told:
        turns[each.thread] = turns.get(each.thread, "") + f"{each.state} "
    for told in turns.values():
        assert re.fullmatch(r"(firing ((still_firing|escalated) )*(resolved |$))*", told), told
    ids = [each.id for _, each in story.told]
    assert len(set(ids)) == len(ids)


@given(st.lists(MOVES, max_size=60))
def test_a_restart_at_any_point_changes_nothing(moves: list[tuple[str, str, int]]) -> None:
    story, restarted = Story(SHORT), Story(SHORT)
    play(story, moves)
    play(restarted, moves, restart=True)
    assert restarted.told == story.told


@given(st.lists(MOVES, max_size=60))
def test_nothing_is_told_of_a_product_while_it_is_silenced(moves: list[tuple[str, str, int]]) -> None:
    silenced: list[tuple[int, str]] = []

    class Watching(Story):
        def _tell(self, at: int, notifications: list[Notification]) -> list[str]:
            for each in notifications:
                named = [each.alert.product_id] if each.alert else []
                named += each.incident.products if each.incident else []
                silenced.extend(
                    (at, product)
                    for silence in self.silences
                    for product in named
                    if silence.is_on(START_MS + at * 1000) and silence.product == product
                )
            return super()._tell(at, notifications)

    play(Watching(SHORT), moves)
    assert silenced == []


@given(st.lists(MOVES, max_size=60))
def test_in_the_end_everything_that_fires_was_told(moves: list[tuple[str, str, int]]) -> None:
    """Silences over, nothing acknowledged: each product that fires is open, by itself or in an incident."""
    story = Story(SHORT)
    at = play(story, [move for move in moves if move[0] != "acknowledge"])
    for later in (1, HOUR + 1, 2 * HOUR + 2):
        story.tick(at + later)
    by_thread: dict[str, Notification] = {each.thread: each for _, each in story.told}
    named = {
        product
        for each in by_thread.values()
        if each.state != "resolved"
        for product in (
            [each.alert.product_id] if each.alert else each.incident.products if each.incident else []
        )
    }
    firing = {name for name, last in story.latest.items() if last.state == "firing"}
    assert firing <= named
    ended = {product for product in story.latest if product not in firing}
    alone = {each.alert.product_id for each in by_thread.values() if each.alert and each.state != "resolved"}
    assert not ended & alone


@given(st.lists(st.integers(1, 3_599), min_size=1, max_size=120), st.lists(st.booleans(), max_size=120))
def test_a_share_that_hovers_in_any_way_is_told_of_once_in_an_interval(
    gaps: list[int], ticks: list[bool]
) -> None:
    """Transitions come more often than the interval, ticks as they please."""
    story = Story(ALONE)
    at, fires = 0, False
    for n, gap in enumerate(gaps):
        at += gap
        fires = not fires
        (story.fire if fires else story.resolve)(at)
        if n < len(ticks) and ticks[n]:
            story.tick(at)
    times = [time for time, _ in story.told]
    assert all(later - earlier >= INTERVAL for earlier, later in pairwise(times[1:]))
    pages = [time for time, each in story.told if each.state != "resolved"]
    assert all(later - earlier >= INTERVAL for earlier, later in pairwise(pages))


# ---- Memory


def test_memory_is_bounded_and_what_fires_is_forgotten_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier_module, "MOST_THREADS", 10)
    monkeypatch.setattr(notifier_module, "MOST_SEEN", 10)
    story = Story()
    story.fire(0, "kept")
    for n in range(1, 100):
        story.fire(n * 2, f"B{n}")
        story.resolve(n * 2 + 1, f"B{n}")
    state = story.notifier._state
    assert (len(state.threads), len(state.sequences)) == (10, 10)
    assert story.tick(INTERVAL) == ["alert still_firing"]
    story.tick(3 * INTERVAL)
    assert [each.alert.product_id for each in story.notifier._state.threads.values()] == ["kept"]


def test_a_whole_fleet_at_once_is_five_notifications(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier_module, "MOST_THREADS", 500)
    story = Story(Policy())
    for n in range(2_000):
        story.fire(n // 10, f"B{n}")
    assert [each.kind for _, each in story.told] == ["alert"] * 4 + ["incident"]
    assert len(story.notifier.dump()) < 500 * 1_000 + 200_000


@pytest.mark.parametrize("damaged", [b"", b"\x02abc", b"\x01", b"\x01\xff\xff", b"\x01\x81\xa7threads\x01"])
def test_what_is_no_dump_of_ours_is_a_value_error(damaged: bytes) -> None:
    with pytest.raises(ValueError, match="version"):
        Notifier.load(damaged)


def test_a_policy_that_would_page_hovering_shares_more_often_is_refused() -> None:
    with pytest.raises(UsageError, match=r"min_interval_s is 14400: choose .* at most renotify_s"):
        Policy(renotify_s=3_600)
