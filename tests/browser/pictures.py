"""Makes the pictures of ``docs/page.md`` anew, over a demo that runs: ``python tests/browser/pictures.py``.

It takes two minutes, and a quiet machine: the demo's model needs both cores of a small one.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.browser.chromium import DESK, PHONE, launched

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

FOLDER = Path(__file__).parents[2] / "docs" / "page"
DURATION_S = 90
QUALITY = 82
"""Of WebP: letters stay crisp, and no picture is above 150 kB."""
WORTH_MS = 9_000
"""After the alert fired its figures are worth a picture."""


@contextmanager
def demo() -> Iterator[subprocess.Popen[str]]:
    """A demo that runs."""
    command = [sys.executable, "-m", "stream.cli.main", "demo", "--headless", "--duration", str(DURATION_S)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def until(process: subprocess.Popen[str], text: str) -> str:
    """The first line with this text."""
    assert process.stderr is not None
    for line in process.stderr:
        print(line, end="", file=sys.stderr)
        if text in line:
            return line
    raise SystemExit(f"the demo ended without {text!r}")


@contextmanager
def seen(
    browser: Browser, address: str, *, phone: bool = False, dark: bool = False, locale: str = "en-GB"
) -> Iterator[Page]:
    """A page that is live."""
    context = browser.new_context(
        **(PHONE if phone else DESK),
        color_scheme="dark" if dark else "light",
        locale=locale,
        timezone_id="Europe/Berlin",
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#link-state[data-state=live]")
    page.wait_for_selector(".uplot, .card")
    page.wait_for_timeout(2_500)  # for the sparklines
    yield page
    context.close()


def picture(page: Page, name: str) -> None:
    """What the window shows, as WebP."""
    session = page.context.new_cdp_session(page)
    taken = session.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    file = FOLDER / f"{name}.webp"
    file.write_bytes(base64.b64decode(taken["data"]))
    print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Takes them all."""
    FOLDER.mkdir(exist_ok=True)
    with demo() as process, launched() as browser:
        line = until(process, "the live page is at ")
        address = line[line.index("http://") :].strip()
        until(process, "FIRING")
        with seen(browser, address) as page:
            page.wait_for_timeout(WORTH_MS)
            picture(page, "overview-1440-light")
        with seen(browser, f"{address}product?id=power-1", dark=True) as page:
            picture(page, "product-1440-dark")
        with seen(browser, address, phone=True) as page:
            picture(page, "overview-390-light")
        with seen(browser, f"{address}alerts", phone=True, dark=True, locale="zh-CN") as page:
            page.locator("[data-part=toggle]").first.click()
            picture(page, "alerts-390-dark-zh")
        until(process, "RESOLVED")
        with seen(browser, f"{address}product?id=power-1", phone=True) as page:
            page.wait_for_timeout(2_000)
            picture(page, "product-390-light")
        with seen(browser, f"{address}alerts") as page:
            page.locator("[data-part=toggle]").first.click()
            page.wait_for_timeout(500)
            picture(page, "alerts-1440-light")


if __name__ == "__main__":
    main()
