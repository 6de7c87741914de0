"""The page over its double of a server: what it is like when there is nothing, too much, or no server."""

from __future__ import annotations

import re
import threading
import time
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
import uvicorn
from playwright.sync_api import expect

from tests.browser.chromium import PHONE, launched, opened, violations
from tests.browser.fake_site import HOSTILE, World, app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
expect.set_options(timeout=20_000)
PATHS = ("/", "/product?id=power-1", "/alerts")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@contextmanager
def served(scene: str | World, port: int = 0) -> Iterator[str]:
    """The double's address, in a thread of this process."""
    world = World(scene) if isinstance(scene, str) else scene
    config = uvicorn.Config(app(world), port=port, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


def shown(page: Page) -> Page:
    """The page, once it is live."""
    expect(page.locator("#link-state")).to_have_attribute("data-state", "live")
    return page


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_page_has_a_serious_barrier_in_either_theme(browser: Browser, theme: str) -> None:
    with served("busy") as address:
        for path in PATHS:
            with opened(browser, address, path, color_scheme=theme) as page:
                shown(page)
                if path == "/alerts":
                    page.locator("[data-part=toggle]").first.click()
                assert violations(page) == []
        with opened(browser, address, "/product?id=power-1", color_scheme=theme) as page:
            shown(page).locator("#silence").click()
            expect(page.locator("#silence-dialog")).to_be_visible()
            assert violations(page) == []


def test_on_a_phone_nothing_is_wider_than_the_screen(browser: Browser) -> None:
    for scene in ("busy", "hostile"):
        with served(scene) as address:
            for path in PATHS:
                for language in ("en-GB", "zh-CN"):
                    with opened(browser, address, path, locale=language, **PHONE) as page:
                        shown(page)
                        assert page.evaluate("document.documentElement.scrollWidth") == 390, (scene, path)


def test_texts_that_want_to_be_more_are_text(browser: Browser) -> None:
    with served("hostile") as address, opened(browser, address, "/alerts") as page:
        shown(page).locator("[data-part=toggle]").first.click()
        quotes = page.locator(".quotes .stranger")
        assert quotes.nth(0).inner_text() == HOSTILE[0]
        assert quotes.nth(1).inner_text() == HOSTILE[1]
        assert quotes.nth(2).inner_text() == (
            r"abc \u202egnirts desrever\u202c \u2066isolate\u2069 zero\u200bwidth \u0007bell"
        )
        assert quotes.nth(3).inner_text() == HOSTILE[3]
        assert len(quotes.nth(4).inner_text()) == 401
        page.get_by_role("button", name="Show all (10,001 characters)").click()
        assert len(quotes.nth(4).inner_text()) == 10_001
        assert page.title() == "(4) Alerts · Reviewpulse"
        assert page.locator("main img, main script").count() == 0


def test_before_the_first_event_the_page_says_what_to_do(browser: Browser) -> None:
    with served("empty") as address, opened(browser, address) as page:
        expect(shown(page).locator("#first-steps")).to_contain_text("Nothing has been counted yet.")
        expect(page.locator("#active-empty")).to_have_text("All calm: no alert is firing.")
        expect(page.locator("#no-workers")).to_have_text("No worker is running.")
        expect(page.locator("#shares-chart .chart-canvas")).to_have_attribute(
            "aria-label", "No events in this window."
        )
        assert violations(page) == []


def test_a_server_that_goes_is_missed_and_one_that_comes_back_is_found(browser: Browser) -> None:
    opening = ExitStack()
    with served("busy") as gone:
        port = int(gone.rpartition(":")[2])
        page = opening.enter_context(opened(browser, gone, may_lose=True))
        shown(page).evaluate("window.isTheSame = true")
    notice = page.locator("#lost")
    expect(notice).to_contain_text("Disconnected since ")
    expect(notice).to_contain_text("Trying again in ")
    expect(page.locator("#announcer")).to_contain_text("Disconnected")
    assert violations(page) == []
    with served("busy", port), opening:
        page.locator("#retry").dispatch_event(
            "click"
        )  # hidden by now if the page tried by itself just before
        shown(page)
        expect(notice).to_be_hidden()
        expect(page.locator("#announcer")).to_contain_text("Connected again.")
        assert page.evaluate("window.isTheSame") is True


def test_a_redis_that_is_away_is_said_on_top_and_the_figures_stay(browser: Browser) -> None:
    world = World("busy")
    with served(world) as address, opened(browser, address) as page:
        expect(shown(page).locator("#away")).to_be_hidden()
        world.is_redis_well = False
        expect(page.locator("#away")).to_have_text("Redis does not answer: the figures stay as they were.")
        expect(page.locator("#health li").first).to_contain_text("Redis away")
        world.is_redis_well = True
        expect(page.locator("#away")).to_be_hidden()


def test_whoever_has_no_token_is_asked_for_one(browser: Browser) -> None:
    with served("shut") as address, opened(browser, address, may_lose=True) as page:
        expect(page.get_by_role("heading", name="This page needs a token")).to_be_visible()
        expect(page.locator("#content")).to_be_hidden()
        assert violations(page) == []
        page.get_by_label("Access token").fill("wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#gate-error")).to_have_text("There is no such token.")
        page.get_by_label("Access token").fill("open-sesame")
        page.keyboard.press("Enter")
        shown(page)
        expect(page.locator("#content")).to_be_visible()
        expect(page.locator("#sign-out")).to_be_visible()
        page.goto(f"{address}/product?id=power-1")
        expect(shown(page).locator("#may-not")).to_contain_text("that needs a token with the scope “operate”")
        expect(page.locator("#silence")).to_be_hidden()
        expect(page.locator("#acknowledge")).to_be_hidden()


def test_search_finds_one_of_a_hundred_thousand_products_by_keyboard(browser: Browser) -> None:
    with served("busy") as address, opened(browser, address) as page:
        shown(page).keyboard.press("/")
        page.keyboard.type("99987")
        expect(page.locator("#search-found [role=option]")).to_have_count(1)
        page.keyboard.press("ArrowDown")
        expect(page.locator("#search-found [role=option]")).to_have_attribute("aria-selected", "true")
        page.keyboard.press("Enter")
        page.wait_for_url("**/product?id=sku-099987")
        expect(page.get_by_role("heading", level=1)).to_have_text("sku-099987")


def test_everything_is_reached_by_keyboard_and_nothing_holds_it(browser: Browser) -> None:
    with served("busy") as address, opened(browser, address, "/product?id=power-1") as page:
        shown(page)
        page.keyboard.press("Tab")
        expect(page.locator(".skip")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#main")).to_be_focused()
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
            assert page.evaluate(
                "document.activeElement === document.body"
                " || getComputedStyle(document.activeElement).outlineStyle !== 'none'"
            )
        assert {"silence", "acknowledge", "1 hour", "7 days", "As a table"} <= reached
        page.locator("#silence").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#silence-reason")).to_be_focused()
        page.keyboard.press("Escape")
        expect(page.locator("#silence-dialog")).to_be_hidden()
        expect(page.locator("#silence")).to_be_focused()


def test_what_is_live_does_not_chatter_to_those_who_listen(browser: Browser) -> None:
    with served("busy") as address, opened(browser, address) as page:
        shown(page)
        before = page.locator("[data-figure=events_per_s] .value").inner_text()
        expect(page.locator("[data-figure=events_per_s] .value")).not_to_have_text(before)
        assert page.locator("[aria-live], [role=status], [role=log]").count() == 1
        assert page.locator("#announcer").inner_text() == ""


def test_the_chart_says_in_words_and_in_a_table_what_it_shows(browser: Browser) -> None:
    with served("busy") as address, opened(browser, address, "/product?id=power-1") as page:
        chart = shown(page).locator("#timeline-chart .chart-canvas")
        expect(chart).to_have_attribute(
            "aria-label", re.compile(r"^Last \d.*highest.*events\. Began .*, Fired ")
        )
        page.locator("summary").click()
        expect(page.locator("#timeline-chart tbody tr")).to_have_count(61)


def test_the_interface_speaks_chinese_and_remembers_a_choice(browser: Browser) -> None:
    with served("busy") as address, opened(browser, address, locale="zh-CN") as page:
        expect(shown(page).get_by_role("heading", name="触发中")).to_be_visible()
        page.get_by_role("button", name="English").click()
        expect(page.get_by_role("heading", name="Firing now")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Firing now")).to_be_visible()


def test_times_are_in_the_viewers_zone_which_is_named_with_utc_beside_them(browser: Browser) -> None:
    with (
        served("busy") as address,
        opened(browser, address, "/alerts", timezone_id="America/St_Johns") as page,
    ):
        expect(shown(page).locator("#zone")).to_have_text("Times in America/St_Johns (UTC\u22123:30).")
        when = page.locator(".card time").first
        at = when.get_attribute("datetime")
        assert at is not None
        assert when.get_attribute("title") == f"{at[:10]} {at[11:19]} UTC"
        there = datetime.fromisoformat(at).astimezone(ZoneInfo("America/St_Johns"))
        assert f"{there:%H:%M}" in when.inner_text()  # with seconds today, with the day before midnight


def test_the_theme_is_switched_and_stays(browser: Browser) -> None:
    with served("busy") as address, opened(browser, address, color_scheme="light") as page:
        ground = "getComputedStyle(document.documentElement).backgroundColor"
        light = shown(page).evaluate(ground)
        page.get_by_label("Theme").select_option("dark")
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        assert page.evaluate(ground) == dark
