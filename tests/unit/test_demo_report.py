from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from stream.client import ChannelTotals, ProductCounts
from stream.core.events import Alert, Quote
from stream.demo.processes import PageProcess, environment_of
from stream.demo.reconcile import (
    Report,
    Sent,
    channel_sums,
    problems_with_alerts,
    problems_with_sums,
    wrong_products,
)
from stream.demo.shop import Shop, ShopRecord
from stream.demo.view import (
    PlainScreen,
    Snapshot,
    Trends,
    latest,
    render,
    render_report,
    svg,
)
from stream.settings import Settings
from stream.status import WorkerStatus

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import RenderableType

HOSTILE = "\x1b[2J\x1b]0;owned\x07\u202egnirts\n[bold red]not markup[/]\x9b31m"


def alert(**changed: Any) -> Alert:
    fields: dict[str, Any] = {
        "id": "a1",
        "sequence": 1,
        "state": "firing",
        "rule": "negative_share",
        "severity": "warning",
        "product_id": "power-1",
        "channel": "reviews",
        "at": "2026-01-01T10:00:20.000Z",
        "onset": "2026-01-01T10:00:00.000Z",
        "events": 24,
        "negatives": 14,
        "current_share": 14 / 24,
        "current_interval": (0.39, 0.76),
        "baseline_share": 0.1,
        "baseline_interval": (0.07, 0.13),
        "baseline_events": 150.0,
        "false_alarm_run_length": 1e6,
        "distinct_authors": 14,
        "quotes": [
            Quote(
                event_id="e1",
                text="The battery died.",
                p_negative=0.98,
                event_time="2026-01-01T10:00:10.000Z",
            )
        ],
        "peak_share": 0.7,
        "duration_s": 20.0,
        "model_version": "m-1",
    }
    return Alert(**fields | changed)


def sent_of(*fates: tuple[str, str, str]) -> Sent:
    sent = Sent()
    for channel, product_id, fate in fates:
        sent.add(ShopRecord(0.0, channel, product_id, b"", fate, None))  # type: ignore[arg-type]
    return sent


SENT = sent_of(
    ("reviews", "a", "counted"),
    ("reviews", "a", "counted"),
    ("reviews", "b", "counted"),
    ("reviews", "b", "dead"),
    ("chats", "b", "counted"),
    ("chats", "b", "skipped"),
)


def totals(**reviews: int) -> dict[str, ChannelTotals]:
    return {
        "reviews": ChannelTotals(**{"counted": 3, "dead": 1} | reviews),
        "chats": ChannelTotals(counted=1, skipped=1),
    }


def counts(**events: int) -> list[ProductCounts]:
    return [ProductCounts.of(product, "all", (0, 0, n, 0)) for product, n in events.items()]


def test_when_every_event_ended_as_meant_there_is_nothing_to_complain_of() -> None:
    sums = channel_sums(SENT, totals())
    assert [each.difference for each in sums] == [0, 0]
    assert problems_with_sums(sums, wrong_products(SENT, counts(a=2, b=2)), letters=1) == []


def test_an_event_without_an_end_is_named_by_its_channel() -> None:
    sums = channel_sums(SENT, totals(counted=2))
    assert sums[0].difference == 1
    (problem,) = problems_with_sums(sums, [], letters=1)
    assert "Of 4 events sent to reviews, 2 were counted" in problem


def test_an_event_counted_twice_is_a_difference_too() -> None:
    sums = channel_sums(SENT, totals(counted=4))
    assert sums[0].difference == -1
    assert problems_with_sums(sums, [], letters=1)


def test_sums_that_agree_by_exchanging_two_events_do_not_hold() -> None:
    sums = channel_sums(SENT, totals(counted=2, dead=2))
    assert sums[0].difference == 0
    assert len(problems_with_sums(sums, [], letters=2)) == 1


def test_a_dead_letter_that_is_not_in_its_topic_is_missed() -> None:
    (problem,) = problems_with_sums(channel_sums(SENT, totals()), [], letters=0)
    assert "1 events are said to be dead letters, and 0 were found" in problem


def test_a_product_with_other_counters_than_were_sent_is_named_even_an_unknown_one() -> None:
    assert wrong_products(SENT, counts(a=3, b=2, ghost=1)) == ["a", "ghost"]
    assert wrong_products(SENT, counts(a=2)) == ["b"]


def test_the_bad_products_alert_that_fired_and_resolved_is_all_that_is_wanted() -> None:
    alerts = [alert(), alert(sequence=2, state="resolved")]
    assert problems_with_alerts(alerts, "power-1", 60.0) == []


def test_a_short_demo_may_end_before_the_alert_resolves() -> None:
    assert problems_with_alerts([alert()], "power-1", 30.0) == []
    assert len(problems_with_alerts([alert()], "power-1", 60.0)) == 1


def test_without_an_alert_the_demo_has_failed() -> None:
    (problem,) = problems_with_alerts([], "power-1", 60.0)
    assert problem == "No alert fired for power-1, which got the bad batch."


def test_another_products_alert_is_a_false_one() -> None:
    alerts = [alert(), alert(sequence=2, state="resolved"), alert(id="a2", product_id="pans-1")]
    (problem,) = problems_with_alerts(alerts, "power-1", 60.0)
    assert "pans-1" in problem


def worker_status() -> WorkerStatus:
    return WorkerStatus(
        name=HOSTILE,
        at=0.0,
        model_version=HOSTILE,
        provider="CPUExecutionProvider",
        partitions=[],
        counted=1,
        dead=0,
        skipped=0,
        late=0,
        rewinds=0,
        events_per_s=1_234.5,
        latency_p50_ms=12.3,
        latency_p99_ms=None,
    )


def snapshot(**changed: Any) -> Snapshot:
    shop = Shop(1)
    hostile_quote = Quote(event_id="e", text=HOSTILE, p_negative=0.99, event_time="2026-01-01T10:00:10.000Z")
    return Snapshot(
        duration_s=90.0,
        names={product.product_id: product.name for product in shop.products},
        bad_product="power-1",
        stage="incident",
        elapsed_s=31.0,
        sent=2_000,
        done=1_990,
        worker=worker_status(),
        leaders=[
            ProductCounts.of("power-1", "5m", (30, 2, 20, -9_000)),
            ProductCounts.of(HOSTILE, "5m", (1, 0, 9, 8_000)),
        ],
        trends={"power-1": [0.1, None, 0.8], HOSTILE: [0.0, 1.0]},
        alerts=[alert(quotes=[hostile_quote]), alert(id="a2", product_id=HOSTILE)],
    )._replace(**changed)


def printed(renderable: RenderableType, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system="truecolor")
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def assert_harmless(text: str) -> None:
    shown = without_colours(text)
    assert [char for char in shown if not char.isprintable() and char != "\n"] == []
    assert "\\x1b[2J" in shown  # written out, not sent


@pytest.mark.parametrize("width", [80, 100, 120])
def test_the_live_view_fits_the_terminal_and_sends_it_nothing_hostile(width: int) -> None:
    text = printed(render(snapshot(), width), width)
    assert_harmless(text)
    lines = without_colours(text).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= width
    assert any("FIRING" in line and "Voltway 20K power bank" in line for line in lines)
    assert any("1,234" in line and "12 ms" in line for line in lines)


def test_the_live_view_has_the_same_height_before_there_is_anything_to_see() -> None:
    empty = Snapshot(duration_s=90.0, names={}, bad_product="power-1", note="the worker loads the model")
    heights = {len(printed(render(each, 80), 80).splitlines()) for each in (empty, snapshot())}
    assert len(heights) == 1


def test_lines_for_logs_carry_nothing_hostile_and_tell_each_alert_once() -> None:
    out = io.StringIO()
    screen = PlainScreen(Console(file=out, width=120))
    with screen:
        screen.show(snapshot(note="begins"))
        screen.show(snapshot(note="begins"))
    assert_harmless(out.getvalue())
    assert out.getvalue().count("FIRING") == 2


PAGE = "http://127.0.0.1:8123/"


def test_the_live_view_says_where_the_page_is_without_another_line() -> None:
    without, with_page = (printed(render(snapshot(page=page), 80), 80) for page in ("", PAGE))
    assert f"live page: {PAGE}" in with_page
    assert len(with_page.splitlines()) == len(without.splitlines())


def test_lines_for_logs_say_once_where_the_page_is() -> None:
    out = io.StringIO()
    screen = PlainScreen(Console(file=out, width=120))
    for page in ("", PAGE, PAGE):
        screen.show(snapshot(page=page))
    assert out.getvalue().count(f"the live page is at {PAGE}") == 1


def test_the_page_is_where_its_server_says_once_it_says_so(tmp_path: Path) -> None:
    log = tmp_path / "page.log"
    page = PageProcess(Settings.model_construct(), log)
    log.write_text('{"event": "The page is at nowhere"}\n')
    assert page.address() is None
    log.write_text(f"warming up\nThe page is at {PAGE}\n")
    assert page.address() == PAGE


def report(**changed: Any) -> Report:
    fields: dict[str, Any] = {
        "ok": True,
        "problems": [],
        "duration_s": 60.0,
        "seed": 1,
        "model_version": "m-1",
        "provider": "CPUExecutionProvider",
        "latency_p50_ms": 10.0,
        "latency_p99_ms": 20.0,
        "channels": channel_sums(SENT, totals()),
        "products": 2,
        "products_exact": 2,
        "dead_letters": {"the text is empty": 1},
        "bad_product": "power-1",
        "alerts": [alert(), alert(sequence=2, state="resolved", duration_s=33.0)],
    }
    return Report(**fields | changed)


def test_the_report_tells_the_sums_the_alert_and_that_all_holds() -> None:
    text = without_colours(printed(render_report(report(), {"power-1": "Voltway 20K power bank"}), 120))
    assert re.search(r"reviews +4 +3 +1 +0 +0", text)
    assert "fired at 14 negatives of 24, usually 10%; resolved 33 s after its onset" in text
    assert "Everything holds." in text


def test_the_report_says_what_does_not_hold_and_shows_no_hostile_reason() -> None:
    failed = report(ok=False, problems=["No alert fired."], dead_letters={HOSTILE: 1})
    text = printed(render_report(failed, {}), 100)
    assert_harmless(text)
    assert "Does not hold: No alert fired." in without_colours(text)


def test_a_picture_names_no_server() -> None:
    picture = svg(lambda width: render(snapshot(), width))
    assert set(re.findall(r"https?://[^\s\"]+", picture)) == {"http://www.w3.org/2000/svg"}


def test_alerts_that_fire_come_before_those_that_ended() -> None:
    ended = [alert(id="old"), alert(id="old", sequence=2, state="resolved", at="2026-01-01T10:05:00.000Z")]
    assert [(each.id, each.state) for each in latest([*ended, alert()])] == [
        ("a1", "firing"),
        ("old", "resolved"),
    ]


def test_a_trend_shows_shares_of_what_is_new_not_of_all_there_ever_was() -> None:
    trends = Trends()
    for negatives in (0, 0, 10):
        trends.add([ProductCounts.of("a", "all", (negatives, 0, 1_000, 0))])
    assert trends.of("a") == [1.0]
    assert trends.of("never seen") == []


def test_the_worker_sees_the_demos_settings_and_no_other_reviewpulse_variable() -> None:
    chosen = Settings.model_construct(kafka="127.0.0.1:1", threads=2)
    environment = environment_of(chosen, {"PATH": "/bin", "REVIEWPULSE_TOPIC_REVIEWS": "other"})
    assert environment == {
        "PATH": "/bin",
        "REVIEWPULSE_KAFKA": "127.0.0.1:1",
        "REVIEWPULSE_THREADS": "2",
    }
