"""The real page in a real browser: over the demo as anybody starts it, and over hostile texts.

The worker takes markup out of texts and masks links before it quotes them. So that the page meets the raw
texts, too, an alert that quotes them is put on the topic, as a careless producer might.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from playwright.sync_api import expect

from stream.client import EventProducer
from stream.core.events import Quote, rfc3339
from tests.browser.chromium import PHONE, launched, opened, violations
from tests.builders import alert
from tests.integration.conftest import WorkerProcess
from tests.web_server import web_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

    from stream.settings import Settings

pytestmark = pytest.mark.slow

expect.set_options(timeout=20_000)
SOON_S = 2.0
"""After the alert event was heard, the page shows it."""
PRODUCT = "<b>kettle</b>/=1+1 \u202e?&#x27;"
SHOWN_PRODUCT = r"<b>kettle</b>/=1+1 \u202e?&#x27;"
HOSTILE = (
    "Bad <script>document.title='taken'</script><img src=x onerror=alert(1)>",
    'Bad =HYPERLINK("http://evil.example","refund") @SUM(1+1) +1 -1',
    "Bad \u202egnirts desrever\u202c and \u2066isolated\u2069",
    "Bad 👎🏽👩‍👩‍👧‍👦 坏了 שבור",
    "Bad " + "endless" * 1_428,
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


class Demo:
    """``reviewpulse demo`` and when it said what."""

    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream.cli.main", "demo", "--headless", "--duration", "75"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        self._lines: list[tuple[float, str]] = []
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.append((time.time(), line.rstrip()))

    def said(self, text: str, timeout_s: float = 240.0) -> tuple[float, str]:
        """When it first said this, and the line."""
        deadline = time.monotonic() + timeout_s
        while True:
            for at, line in list(self._lines):
                if text in line:
                    return at, line
            assert time.monotonic() < deadline, f"no {text!r} in {self._lines}"
            assert self.process.poll() is None or time.monotonic() > deadline - timeout_s + 5, self._lines
            time.sleep(0.02)


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    demo.process.terminate()
    demo.process.wait(60)


def live(page: Page) -> Page:
    expect(page.locator("#link-state")).to_have_attribute("data-state", "live", timeout=30_000)
    return page


NOTE_WHEN_SHOWN = """
window.shownAt = {};
new MutationObserver(() => {
  for (const kind of ["firing", "resolved"]) {
    const line = document.querySelector(kind === "firing" ? "#active-list li" : "#lately-list li");
    if (line && !(kind in window.shownAt)) window.shownAt[kind] = Date.now() / 1000;
  }
}).observe(document.body, { childList: true, subtree: true });
"""


def silenced_and_acknowledged(overview: Page, browser: Browser, address: str) -> None:
    """On a phone, while another page shows it."""
    firing = overview.locator("#active-list li", has_text="power-1").first
    with opened(browser, address, "/product?id=power-1", **PHONE) as product:
        live(product)
        expect(product.locator("#product-state")).to_have_attribute(
            "data-kind", re.compile("warning|critical")
        )
        expect(product.locator(".quotes li").first).to_be_visible()
        product.locator("#silence").click()
        product.get_by_label("Reason").fill("known, <b>refund</b> running")
        product.locator("#silence-author").fill("Ann")
        product.get_by_role("button", name="Silence", exact=True).click()
        silence = product.locator("#silences li")
        expect(silence).to_contain_text("known, <b>refund</b> running")
        expect(firing).to_contain_text("Silenced until")
        product.locator("#acknowledge").click()
        product.get_by_label("Note").fill("with the supplier")
        product.get_by_role("button", name="Acknowledge", exact=True).click()
        expect(overview.locator("#active-list")).to_contain_text("Acknowledged by Ann")
        silence.get_by_role("button", name="End now").click()
        expect(silence).to_have_count(0)
        expect(overview.locator("#active-list")).not_to_contain_text("Silenced until")


@pytest.mark.timeout(900)
def test_a_spike_is_seen_firing_and_resolving_without_a_reload_and_silenced(
    demo: Demo, browser: Browser
) -> None:
    _, line = demo.said("the live page is at ")
    address = line[line.index("http://") :].strip().rstrip("/")
    demo.said("an ordinary day")
    with opened(browser, address) as overview:
        live(overview).evaluate(NOTE_WHEN_SHOWN)
        fired_at, _ = demo.said("FIRING")
        firing = overview.locator("#active-list li", has_text="power-1").first
        expect(firing).to_contain_text("Share of negatives rose")
        shown_at = overview.evaluate("window.shownAt.firing")
        assert shown_at - fired_at < SOON_S
        expect(overview.locator("#firing-pip")).not_to_be_empty()
        expect(overview.locator("#announcer")).to_contain_text("alert fires: power-1.")

        silenced_and_acknowledged(overview, browser, address)

        resolved_at, _ = demo.said("RESOLVED")
        expect(overview.locator("#lately-list li", has_text="power-1").first).to_contain_text("Recovered")
        assert overview.evaluate("window.shownAt.resolved") - resolved_at < SOON_S
        expect(overview.locator("#announcer")).to_contain_text("Alert resolved: power-1.")


def quoted(page: Page) -> list[str]:
    return page.locator(".quotes .stranger").all_inner_texts()


class ComplainingWorker(WorkerProcess):
    command = ("tests.integration.complaining_worker",)


def send(settings: Settings) -> None:
    """An ordinary hundred, then complaints alone; the hostile ones come when quotes are gathered already."""
    plain = [f"Bad kettle {n}." for n in range(30)]
    texts = ["A fine kettle."] * 100 + plain[:3] + list(HOSTILE) + plain[3:]
    now = time.time()
    with EventProducer(settings) as producer:
        for n, text in enumerate(texts):
            producer.send_review(
                event_id=f"e{n}",
                product_id=PRODUCT,
                text=text,
                event_time=now - len(texts) + n,
                category=HOSTILE[0],
                author_id=f"author-{n}",
            )
        careless = alert(
            id="raw",
            product_id=HOSTILE[1],
            category=HOSTILE[0],
            quotes=[
                Quote(event_id="e", text=each, p_negative=0.9, event_time=rfc3339(0)) for each in HOSTILE
            ],
        )
        producer.send_record(settings.topic_alerts, b"raw", msgspec.json.encode(careless))


def test_hostile_texts_are_shown_as_texts_on_every_page_in_both_themes(
    topics_made: None, settings: Settings, browser: Browser, tmp_path: Path
) -> None:
    worker = ComplainingWorker(tmp_path / "worker.log")
    try:
        with web_server() as server:
            send(settings)
            for theme in ("light", "dark"):
                with opened(browser, server.address, color_scheme=theme) as page:
                    alerts = live(page).locator("#active-list li", has_text="<b>kettle</b>")
                    expect(alerts.first).to_be_visible(timeout=60_000)
                    expect(page.locator("#leaders-rows a")).to_have_text(SHOWN_PRODUCT, timeout=15_000)
                    assert violations(page) == []
                    alerts.first.get_by_role("link").click()
                    expect(live(page).get_by_role("heading", level=1)).to_have_text(SHOWN_PRODUCT)
                    expect(page.locator(".quotes .stranger").first).to_be_visible()
                    assert any(each.startswith("Bad =HYPERLINK(") for each in quoted(page))
                    assert violations(page) == []
                    page.locator("nav").get_by_role("link", name="Alerts").click()
                    raw = live(page).locator(".card", has_text=HOSTILE[1])
                    raw.locator("[data-part=toggle]").click()
                    expect(raw.locator(".quotes li")).to_have_count(5)
                    assert quoted(page)[:2] == list(HOSTILE[:2])
                    assert quoted(page)[2] == r"Bad \u202egnirts desrever\u202c and \u2066isolated\u2069"
                    assert quoted(page)[3] == HOSTILE[3]
                    assert len(quoted(page)[4]) == 401
                    raw.get_by_role("button", name="Show all (10,000 characters)").click()
                    assert quoted(page)[4] == HOSTILE[4]
                    assert violations(page) == []
                    assert page.title().endswith("Alerts · Reviewpulse")
                    assert page.locator("main img, main script, main b").count() == 0
    finally:
        worker.kill()
