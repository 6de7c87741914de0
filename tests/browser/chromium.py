"""A browser for tests: the machine's own Chromium, and pages that remember what went wrong in them.

Rules:
- Nothing is downloaded: where no Chromium is found, the tests are skipped and say so.
- A page that logs an error, throws, or asks another host for anything fails its test at the end.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Page

NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
DESK = {"viewport": {"width": 1440, "height": 900}}
SERIOUS = {"serious", "critical"}


def executable() -> str:
    """Where Chromium is; skips the test where there is none."""
    named = os.environ.get("CHROMIUM")
    found = named or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium: install it (Debian: apt-get install chromium), or name it in CHROMIUM")
    return found


@contextmanager
def launched() -> Iterator[Browser]:
    """A browser without a window."""
    path = executable()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def opened(
    browser: Browser, address: str, path: str = "/", *, may_lose: bool = False, **options: Any
) -> Iterator[Page]:
    """A page that is up; what went wrong in it fails the test when it is left.

    Args:
        browser: it.
        address: of the server.
        path: of the page.
        may_lose: the server is to go away or refuse; browsers log that as errors.
        options: of the browser's context.
    """
    context = browser.new_context(**{"locale": "en-GB", "timezone_id": "Europe/Berlin", **DESK, **options})
    page = context.new_page()
    page.set_default_timeout(20_000)
    wrong: list[str] = []

    def logged(message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not (
            may_lose and "Failed to load resource" in message.text
        ):
            wrong.append(f"{message.type}: {message.text}")

    page.on("console", logged)
    page.on("pageerror", lambda error: wrong.append(f"thrown: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    host = urlsplit(address).netloc
    page.on("request", lambda asked: urlsplit(asked.url).netloc == host or wrong.append(f"asks {asked.url}"))
    try:
        page.goto(f"{address}{path}")
        yield page
    finally:
        context.close()
    assert wrong == []


def violations(page: Page) -> list[str]:
    """What axe-core finds serious or critical, with the elements it found it in."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {each['help']}: {node['target']} {node.get('failureSummary', '')}"
        for each in found
        if each["impact"] in SERIOUS
        for node in each["nodes"]
    ]
