"""What a day's digest tells, and that hostile text stays text."""

from __future__ import annotations

import re
import string
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

from stream.client.counts import ChannelTotals
from stream.core.buckets import DAY_MS, HOUR_MS, RESOLUTIONS, field
from stream.core.events import Alert, Quote, rfc3339
from stream.core.phrases import Phrase
from stream.core.summary import Said
from stream.digest.compose import MOST_ALERTS, MOST_PRODUCTS, by_category, whole
from stream.digest.pages import file_name, pages, write_pages
from stream.digest.period import of_day, of_last
from stream.digest.read import Material, Product, Refusal, Tally, tally
from stream.digest.words import LANGUAGES, WORDS
from stream.errors import UsageError
from stream.store.values import Total
from tests.builders import alert, product_hash

if TYPE_CHECKING:
    from pathlib import Path

MIDNIGHT_MS = 1_700_006_400_000  # 2023-11-15
NOW_MS = MIDNIGHT_MS + 12 * HOUR_MS
HOSTILE = (
    '<script>alert("x")</script>', '"><img src=x onerror=alert(1)>', "{{ 7 * 7 }}{% raw %}", "\u202etxt.exe",
    "\x00\x1b[31m", "👍🏽", "你好世界", "=cmd|calc", "x" * 10_000, "../../etc/passwd", "</style><b>", "&amp;",
)  # fmt: skip


def fired(**fields: Any) -> Alert:
    at = rfc3339(NOW_MS - HOUR_MS)
    return alert(**{"at": at, "onset": rfc3339(NOW_MS - 2 * HOUR_MS), "quotes": [], **fields})


def material(
    products: list[Product] | None = None,
    alerts: list[tuple[str | None, Alert]] | None = None,
    refusals: list[Refusal] | None = None,
) -> Material:
    totals = {"reviews": ChannelTotals(counted=10, dead=1), "chats": ChannelTotals()}
    return Material(of_last("24h", NOW_MS), products or [], alerts or [], refusals or [], totals, 1_000)


def product(
    name: str, category: str | None, now: tuple[int, int, int], before: tuple[int, int, int]
) -> Product:
    return Product(name, category, Tally(*now), Tally(*before))


class Reader(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


# ---- Periods


def test_a_day_is_four_quarter_days_and_what_comes_before_overlaps_none() -> None:
    period = of_day("2023-11-14", NOW_MS)
    assert (period.begin_ms, period.end_ms) == (MIDNIGHT_MS - DAY_MS, MIDNIGHT_MS)
    assert not period.is_partial
    assert list(period.buckets) == [
        field(RESOLUTIONS[2], MIDNIGHT_MS - DAY_MS + hours * HOUR_MS) for hours in (0, 6, 12, 18)
    ]
    assert period.before[-1] < period.buckets[0]
    assert of_day("2023-11-15", NOW_MS).end_ms == NOW_MS
    assert of_day("2023-11-15", NOW_MS).is_partial


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("2023-11-16", "has not begun"),
        ("2023-11-01", "whole days since 2023-11-09"),
        ("yesterday", "is no date"),
    ],
)
def test_a_day_that_cannot_be_told_of_is_one_sentence(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        of_day(text, NOW_MS)


def test_counts_are_those_of_the_periods_own_buckets() -> None:
    period = of_day("2023-11-14", NOW_MS)
    quarter = RESOLUTIONS[2]
    written = product_hash(
        Total((9, 9, 9, 0), 0, 0, NOW_MS),
        {
            field(quarter, MIDNIGHT_MS - 1): (1, 0, 2, 0),
            field(quarter, MIDNIGHT_MS - DAY_MS): (2, 1, 0, 0),
            field(quarter, MIDNIGHT_MS): (4, 0, 0, 0),
            field(quarter, MIDNIGHT_MS - DAY_MS - 1): (0, 0, 8, 0),
        },
    )
    held = {name.encode(): value for name, value in written.items()}
    assert tally(held, period.buckets) == Tally(3, 1, 2)
    assert tally(held, period.before) == Tally(0, 0, 8)
    assert tally({}, period.buckets) == Tally()


# ---- What is told


def test_categories_with_alerts_come_first_and_those_without_a_name_last() -> None:
    made = by_category(
        material(
            [
                product("a", "lamps", (50, 0, 50), (0, 0, 0)),
                product("b", "kettles", (1, 0, 9), (0, 0, 0)),
                product("c", None, (90, 0, 9), (0, 0, 0)),
            ],
            [("kettles", fired())],
        )
    )
    assert [each.category for each in made] == ["kettles", "lamps", None]
    assert [each.fired for each in made] == [1, 0, 0]


def test_worse_and_better_are_what_the_interval_is_sure_of() -> None:
    digest = whole(
        material(
            [
                product("surely worse", "c", (40, 0, 60), (10, 0, 90)),
                product("perhaps worse", "c", (2, 0, 8), (10, 0, 90)),
                product("surely better", "c", (0, 0, 100), (30, 0, 70)),
                product("new", "c", (9, 0, 1), (0, 0, 0)),
                product("too few", "c", (4, 0, 0), (0, 0, 100)),
            ]
        )
    )
    assert [each.product_id for each in digest.worse.products] == ["surely worse"]
    assert [each.product_id for each in digest.better.products] == ["surely better"]
    assert [each.product_id for each in digest.worst.products] == ["new", "surely worse", "perhaps worse"]
    assert [each.product_id for each in digest.praised.products] == [
        "surely better",
        "surely worse",
        "perhaps worse",
    ]
    assert digest.now == Tally(55, 0, 169)
    assert digest.products == 5


def test_long_lists_say_how_much_more_there_is() -> None:
    products = [product(f"p{n}", "c", (n + 1, 0, 9), (0, 0, 0)) for n in range(MOST_PRODUCTS + 3)]
    alerts: list[tuple[str | None, Alert]] = [("c", fired(id=f"a{n}")) for n in range(MOST_ALERTS + 2)]
    digest = whole(material(products, alerts))
    assert (len(digest.worst.products), digest.worst.more) == (MOST_PRODUCTS, 3)
    assert (len(digest.alerts), digest.more_alerts, digest.fired) == (MOST_ALERTS, 2, MOST_ALERTS + 2)


def test_an_alert_says_how_long_it_lasted_and_whether_it_is_on() -> None:
    over = fired(id="b", state="resolved", resolution="recovered")
    digest = whole(material(alerts=[(None, over), (None, fired(id="a"))]))
    on, ended = digest.alerts
    assert (on.alert.id, on.is_on, on.lasted_ms) == ("a", True, 2 * HOUR_MS)
    assert (ended.alert.id, ended.is_on, ended.lasted_ms) == ("b", False, HOUR_MS)
    assert (digest.firing, digest.recovered) == (1, 1)


# ---- Pages


def everything_hostile() -> Material:
    products, alerts = [], []
    for n, text in enumerate(HOSTILE):
        products.append(product(text, text, (9, 0, 1), (0, 0, 20)))
        evidence = {
            "quotes": [Quote(event_id="1", text=text, p_negative=0.9, event_time=text[:20])],
            "phrases": [Phrase(text, 3, 0.5)],
            "summary": [Said(text, 2)],
        }
        alerts.append((text, fired(id=f"a{n}", product_id=text, rule=text, category=text, **evidence)))
    return material(products, alerts, [Refusal(text, text, 1) for text in HOSTILE])


@pytest.mark.parametrize("language", LANGUAGES)
def test_hostile_text_stays_text_on_every_page(language: Any) -> None:
    made = pages(everything_hostile(), language, NOW_MS)
    assert len(made) == len(HOSTILE) + 1
    for page in made:
        seen = read(page.html)
        assert not {"script", "img", "iframe", "link", "object"} & set(seen.tags)
        assert seen.tags.count("b") == 3  # the tiles' own
        assert not [name for name, _ in seen.attributes if name.startswith("on")]
        assert "\u202e" not in page.html
        assert "\x1b" not in page.html
        assert "49{% raw %}" not in page.html  # no template within a template
        assert "default-src 'none'" in page.html
        assert not re.search(r"(src|href)=[\"']?(https?:)?//", page.html)
        assert len(page.html) < 150_000
    script = next(page for page in made if page.digest and page.digest.category == HOSTILE[0])
    assert '<script>alert("x")</script>' in read(script.html).text


def test_the_index_leads_to_every_page_and_names_are_plain() -> None:
    made = pages(everything_hostile(), "en", NOW_MS)
    index = read(made[-1].html)
    leads = {value for name, value in index.attributes if name == "href"}
    assert leads == {page.name for page in made[:-1]}
    assert all(re.fullmatch(r"[a-z0-9-]{1,49}\.html", page.name) for page in made)
    assert len({file_name(each) for each in ("a b", "a-b", "A B", "甲", "乙", None)}) == 6


def test_one_category_may_be_asked_for_alone() -> None:
    of_both = material([product("a", "x", (1, 0, 9), (0, 0, 0)), product("b", "y", (1, 0, 9), (0, 0, 0))])
    (page,) = pages(of_both, "en", NOW_MS, "y")
    assert (page.name, "index.html" in page.html) == (file_name("y"), False)
    assert pages(of_both, "en", NOW_MS, "z") == []


def test_an_empty_day_is_told_too(tmp_path: Path) -> None:
    made = pages(material(), "en", NOW_MS)
    assert [page.name for page in made] == ["index.html"]
    assert "A quiet day: no alert. No event was counted." in made[0].html
    write_pages(made, tmp_path / "new" / "folder")
    assert [each.name for each in (tmp_path / "new" / "folder").iterdir()] == ["index.html"]


def test_the_same_day_gives_the_same_pages() -> None:
    assert pages(everything_hostile(), "en", NOW_MS) == pages(everything_hostile(), "en", NOW_MS)


def test_both_languages_say_the_same_things() -> None:
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    english, chinese = WORDS["en"], WORDS["zh"]
    assert english.keys() == chinese.keys()
    assert {key for key in english if places(english[key]) != places(chinese[key])} == set()
