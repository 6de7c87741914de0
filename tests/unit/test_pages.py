from __future__ import annotations

import gzip
import json
import re
from typing import TYPE_CHECKING

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from stream.web import pages

if TYPE_CHECKING:
    from collections.abc import Iterator

CLOSING = "acknowledge.done silence.done link.live link.paused product.title"
"""Asked for by names that are put together: ``link.${state}``, ``${dialog}.done``, ``page ~ ".title"``."""
PUT_TOGETHER = (
    *("channel.", "figure.", "health.", "leaders.by_", "resolution.", "rule.", "severity.", "span."),
    *("state.", "theme.", "totals."),
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient[Litestar]]:
    with TestClient(Litestar(list(pages.part(None).handlers), openapi_config=None)) as client:  # type: ignore[arg-type]
        yield client


def scripts() -> str:
    files = [*pages.STATIC.glob("js/**/*.js"), *pages.SHELLS.glob("*.html")]
    return "\n".join(file.read_text() for file in files)


# ---- Texts


def test_every_language_has_the_same_texts_with_the_same_places_to_fill() -> None:
    english, chinese = (pages.texts(each) for each in pages.LANGUAGES)
    assert list(english) == list(chinese)
    places = {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in english.items()}
    assert places == {key: set(re.findall(r"\{(\w+)\}", text)) for key, text in chinese.items()}
    assert [key for key, text in (english | chinese).items() if not text.strip()] == []


def test_every_text_a_script_asks_for_is_there_and_none_is_left_over() -> None:
    known = set(pages.texts("en"))
    asked = set(re.findall(r"\b(?:t|counted)\(\s*[\"']([a-z][\w.]+)[\"']", scripts()))
    asked |= set(re.findall(r"\"([a-z]+\.[a-z0-9_]+)\"", scripts())) - {"frame.html"} | set(CLOSING.split())
    asked = {each for each in asked if not each.endswith((".", "_"))}
    assert {each for each in asked if not {each, f"{each}.one"} & known} == set()
    bare = {each.removesuffix(".one").removesuffix(".other") for each in known}
    assert {each for each in bare - asked if not each.startswith(PUT_TOGETHER)} == set()


def test_no_script_makes_markup_of_a_string() -> None:
    assert (
        re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", scripts())
        == []
    )
    assert re.findall(r"<script(?![^>]*\bsrc=)(?![^>]*application/json)|\sstyle=|\son\w+=\"", scripts()) == []


# ---- What is sent


@pytest.mark.parametrize("path", ["/", "/product", "/alerts", f"/static/{pages.site().version}/js/dom.js"])
def test_everything_comes_under_a_policy_that_allows_our_own_files_alone(
    client: TestClient[Litestar], path: str
) -> None:
    policy = client.get(path).headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy


def test_a_page_names_nothing_on_another_host(client: TestClient[Litestar]) -> None:
    named = re.findall(r"(?:src|href)=\"([^\"]*)\"", client.get("/").text)
    assert len(named) > 10
    assert [each for each in named if not each.startswith(("/", "#"))] == []


def test_what_a_page_names_is_there_and_kept_for_a_year(client: TestClient[Litestar]) -> None:
    for page in ("/", "/product", "/alerts"):
        for name in re.findall(r"\"(/static/[^\"]+)\"", client.get(page).text):
            answer = client.get(name)
            assert answer.status_code == 200, name
            assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


def test_a_file_under_another_version_is_asked_for_again(client: TestClient[Litestar]) -> None:
    answer = client.get("/static/another/js/dom.js")
    assert answer.headers["cache-control"] == "no-cache"


def test_what_a_browser_has_already_is_not_sent_again(client: TestClient[Litestar]) -> None:
    first = client.get("/alerts")
    again = client.get("/alerts", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]


def test_pages_travel_compressed_to_those_who_take_it(client: TestClient[Litestar]) -> None:
    plain = client.get("/", headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert client.get("/", headers={"Accept-Encoding": "gzip"}).headers["content-encoding"] == "gzip"
    asset = pages.site().shells["overview", "en", "auto"]
    assert gzip.decompress(asset.packed) == asset.body == plain.content


@pytest.mark.parametrize(
    "path",
    [
        "/static/x/../pages.py",
        "/static/x/..%2fpages.py",
        "/static/x/%2e%2e/%2e%2e/settings.py",
        "/static/x//etc/passwd",
        "/static/x/texts/en.json",
        "/static/x/vendor/README.md",
        "/static/x/",
    ],
)
def test_no_path_leads_out_of_what_is_published(client: TestClient[Litestar], path: str) -> None:
    assert client.get(path).status_code == 404


# ---- Language and theme


def test_the_page_is_in_the_readers_language_before_a_script_runs(client: TestClient[Litestar]) -> None:
    chinese = client.get("/", headers={"Accept-Language": "zh-TW,zh;q=0.9,en;q=0.8"})
    assert '<html lang="zh-Hans"' in chinese.text
    assert "<title>总览" in chinese.text
    assert chinese.headers["content-language"] == "zh"
    assert "Accept-Language" in chinese.headers["vary"]
    assert '<html lang="en"' in client.get("/", headers={"Accept-Language": "fr"}).text


def test_the_switches_cookies_come_first_and_nonsense_in_them_does_no_harm(
    client: TestClient[Litestar],
) -> None:
    said = {"Accept-Language": "zh", "Cookie": "reviewpulse-language=en; reviewpulse-theme=dark"}
    assert '<html lang="en" data-theme="dark"' in client.get("/", headers=said).text
    said = {"Accept-Language": "zh", "Cookie": 'reviewpulse-language=xx; reviewpulse-theme="><script>'}
    assert '<html lang="zh-Hans" data-theme="auto"' in client.get("/", headers=said).text


def test_the_texts_in_a_page_are_the_catalogue(client: TestClient[Litestar]) -> None:
    (block,) = re.findall(
        r"<script type=\"application/json\" id=\"texts\">(.*?)</script>", client.get("/").text
    )
    assert "<" not in block
    assert json.loads(block) == pages.texts("en")
