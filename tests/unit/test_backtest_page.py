"""The page of a backtest: hostile text stays text, and what is drawn is where it belongs."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from stream.backtest.labels import Verdicts
from stream.backtest.page import page
from stream.backtest.read import Countable
from stream.backtest.report import Report
from stream.backtest.run import RuleSet, replayed
from stream.backtest.timeline import BARS, Box, Mark, Timeline, close_up, share_top, timeline
from stream.core.backtest import Incident, Window
from stream.core.spike import Observation
from stream.reading import Flaws
from stream.settings import load

if TYPE_CHECKING:
    from collections.abc import Sequence

HOSTILE = '<script>alert("x")</script><img src=x onerror=alert(1)> \u202egnp.exe & \'"'
T0_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


def observation(number: int, negative: bool) -> Observation:
    ms = T0_MS + number * HOUR_MS
    text = f"{HOSTILE} {number}" if negative else "fine"
    return Observation(f"e{number}", ms, ms, negative, float(negative), f"author {number}", text)


CALM = [observation(number, number % 10 == 0) for number in range(200)]
BAD = [observation(number, True) for number in range(200, 230)]
AFTER = [observation(number, number % 10 == 0) for number in range(230, 500)]
STREAM = [*CALM, *BAD, *AFTER]


def incident(**changes: Any) -> Incident:
    fields: dict[str, Any] = {
        "id": "a",
        "product_id": "p",
        "channel": "reviews",
        "rule": "negative_share",
        "severity": "warning",
        "onset_ms": STREAM[200].arrival_ms,
        "fired_ms": STREAM[210].arrival_ms,
        "place": 210,
        "events": 11,
        "negatives": 11,
        "share": 1.0,
        "share_interval": (0.7, 1.0),
        "baseline_share": 0.1,
        "baseline_interval": (0.1, 0.2),
        "distinct_authors": 11,
        "resolved_ms": STREAM[250].arrival_ms,
        "peak_share": 1.0,
        "quotes": [],
    }
    return Incident(**fields | changes)


def report(product_id: str = HOSTILE, *, against: str | None = None, windows: bool = True) -> Report:
    rule_sets = [RuleSet(HOSTILE, None, {"expected_events_per_day": 10_000.0})]
    if against:
        rule_sets.append(RuleSet(against, None, {"min_negatives": 20}))
    labelled = [Window(product_id, None, STREAM[200].arrival_ms, STREAM[230].arrival_ms)] if windows else None
    by_product = {product_id: STREAM, "calm": CALM}
    judged = replayed(by_product, "reviews", rule_sets, load(), HOSTILE, labelled)
    return Report(HOSTILE, Countable("reviews"), Verdicts(HOSTILE, [], Flaws()), by_product, labelled, judged)


class Tags(HTMLParser):
    """Every tag and attribute of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.mark.parametrize("against", [None, HOSTILE])
def test_hostile_names_and_quotes_stay_text_and_nothing_is_fetched(against: str | None) -> None:
    tags = Tags()
    tags.feed(page(report(against=against)))
    names = {tag for tag, _ in tags.tags}
    assert not names & {"script", "img", "link", "iframe", "object", "base", "form", "a"}
    attributes = {name for _, attributes in tags.tags for name in attributes}
    assert not attributes & {"src", "href", "xlink:href"}
    assert not [name for name in attributes if name.startswith("on")]
    assert '<script>alert("x")</script>' in "".join(tags.text)
    assert "\u202e" not in "".join(tags.text)


def test_the_page_forbids_what_it_does_not_have() -> None:
    made = page(report())
    assert "default-src 'none'; style-src 'unsafe-inline'" in made
    assert "url(" not in made
    assert "@import" not in made


def test_every_product_that_alerted_or_was_labelled_is_drawn_and_no_other() -> None:
    made = page(report("kettle"))
    assert re.findall(r'<h2 id="product-\d+">(.*)</h2>', made) == ["kettle"]
    missed = page(report("calm"))
    assert re.findall(r'<h2 id="product-\d+">(.*)</h2>', missed) == ["calm"]


def test_a_page_without_alerts_says_so() -> None:
    made = report("kettle", windows=False)
    silent = replayed({"calm": CALM}, "reviews", [RuleSet("r", None, {})], load(), "m", None)
    quiet = Report("f", made.countable, made.verdicts, {"calm": CALM}, None, silent)
    assert "None fired." in page(quiet)
    assert "There is nothing to draw." in page(quiet)


# --- where things are drawn -------------------------------------------------------------------------------


def drawn(
    incidents: Sequence[Incident], windows: Sequence[Window] = (), others: Sequence[Incident] = ()
) -> Timeline:
    return timeline(STREAM, incidents, others, windows, T0_MS, T0_MS + 499 * HOUR_MS)


def test_moments_are_placed_by_time() -> None:
    assert drawn([incident()]).marks == [
        Mark("onset", 200 / 499),
        Mark("fired", 210 / 499),
        Mark("resolved", 250 / 499),
    ]
    assert drawn([], others=[incident()]).marks == [Mark("other", 210 / 499)]


def test_the_baseline_is_a_band_up_to_the_end_of_the_alert() -> None:
    [band] = drawn([incident()]).bands
    assert band == Box(0.0, share_top(0.2), 250 / 499, share_top(0.1) - share_top(0.2))
    [whole] = drawn([incident(resolved_ms=None)]).bands
    assert whole.width == 1.0


def test_a_window_that_sticks_out_is_cut_at_the_edges() -> None:
    window = Window("p", None, T0_MS - HOUR_MS, T0_MS + 499 * HOUR_MS // 2)
    assert drawn([], [window]).windows == [Box(0.0, 0.0, 0.5, 1.0)]


def test_the_line_has_the_share_of_the_last_20_events() -> None:
    share = {round(left * 499): top for left, top in drawn([]).share}
    assert min(share) == 4  # no share of fewer than five events
    assert share[199] == share_top(2 / 20)
    assert share[205] == share_top(7 / 20)  # of events 186 to 205: 190, and 200 to 205
    assert share[225] == share_top(1.0)


def test_bars_hold_every_event_and_the_negatives_among_them() -> None:
    line = drawn([])
    room = 0.24
    events = sum(box.height for box in line.bars) / room * line.most_events
    negatives = sum(box.height for box in line.negative_bars) / room * line.most_events
    assert (round(events), round(negatives)) == (500, 20 + 30 + 27)
    assert len(line.bars) == BARS


def test_a_close_up_has_30_events_on_each_side() -> None:
    assert close_up(STREAM, incident()) == (STREAM[170].arrival_ms, STREAM[280].arrival_ms)
    assert close_up(STREAM, incident(resolved_ms=None)) == (STREAM[170].arrival_ms, STREAM[240].arrival_ms)


def test_a_history_of_one_moment_can_be_drawn() -> None:
    at_once = [observation(0, True)] * 30
    assert timeline(at_once, [], [], [], T0_MS, T0_MS + 1).most_events == 30
