"""A digest as HTML files: one for each category, and an index.

Rules:
- A page needs no network and runs no script: a policy in it forbids both. Names and texts are hostile and
  escaped by ``stream.pages``; quotes are masked as in alerts.
- The same material gives the same bytes, but for the line that says when it was made.
- A file's name is made of letters, digits and dashes, whatever the category is called, and of a hash of it.
- Each file is there whole or as it was before; the index comes last.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stream import __version__
from stream.core.events import rfc3339
from stream.digest.compose import LEAST_BEFORE, LEAST_EVENTS, by_category, whole
from stream.digest.words import Language, Speaker
from stream.pages import template
from stream.writing import write_whole

if TYPE_CHECKING:
    from stream.digest.compose import Digest
    from stream.digest.period import Period
    from stream.digest.read import Material

HERE = Path(__file__).parent


class Page(NamedTuple):
    """A file."""

    name: str
    digest: Digest | None
    """None for the index."""
    html: str


def pages(material: Material, language: Language, made_ms: int, category: str | None = None) -> list[Page]:
    """The pages: each category's, then the index, or one category's alone.

    Args:
        material: what they tell.
        language: of the words that are ours.
        made_ms: now, ms since the epoch.
        category: makes this one's page alone, if there is anything of it.
    """
    say = Speaker(language)
    digests = by_category(material)
    if category is not None:
        digests = [each for each in digests if each.category == category]
    shared = {
        "say": say,
        "material": material,
        "period": _period(material.period, say),
        "made": say("made", at=moment(made_ms), version=__version__),
        "percent_of": percent_of,
        "points": points,
        "moment": moment,
        "least": LEAST_EVENTS,
        "least_before": LEAST_BEFORE,
        "file_name": file_name,
        "index": "index.html" if category is None else None,
    }
    page = template(HERE / "page.html.j2")
    made = [Page(file_name(each.category), each, page.render(digest=each, **shared)) for each in digests]
    if category is None:
        index = template(HERE / "index.html.j2")
        made.append(Page("index.html", None, index.render(digest=whole(material), digests=digests, **shared)))
    return made


def write_pages(made: list[Page], folder: Path) -> None:
    """Writes the pages into a folder, which is made if it is not there.

    Raises:
        OSError: one cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for page in made:
        write_whole(folder / page.name, page.html.encode("utf-8", "backslashreplace"))


def file_name(category: str | None) -> str:
    """What a category's page is called.

    >>> file_name("Power & Audio"), file_name("../../etc/passwd"), file_name(None)
    ('power-audio-e75b75e4.html', 'etc-passwd-3754d6cb.html', 'no-category.html')
    """
    if category is None:
        return "no-category.html"
    words = re.sub(r"[^a-z0-9]+", "-", category.lower()).strip("-")[:40].strip("-") or "category"
    hashed = hashlib.sha256(category.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{words}-{hashed}.html"


def moment(ms: int) -> str:
    """A moment to the minute, in UTC.

    >>> moment(1_700_000_000_000)
    '2023-11-14 22:13'
    """
    return rfc3339(ms)[:16].replace("T", " ")


def percent_of(share: float | None) -> str:
    """A share for reading.

    >>> percent_of(0.125), percent_of(0.004), percent_of(None)
    ('12%', '0.4%', '–')
    """
    if share is None:
        return "–"
    return f"{100 * share:.1f}%" if 0 < share < 0.01 else f"{100 * share:.0f}%"


def points(change: float | None) -> str:
    """A change of a share in percentage points, with its sign.

    >>> points(0.0512), points(-0.2), points(0.0001), points(None)
    ('+5.1', '−20.0', '±0.0', '–')
    """
    if change is None:
        return "–"
    rounded = round(100 * change, 1)
    return f"{'+' if rounded > 0 else '−' if rounded < 0 else '±'}{abs(rounded):.1f}"


def _period(period: Period, say: Speaker) -> str:
    if period.day is None:
        return say("span", begin=moment(period.begin_ms), end=moment(period.end_ms))
    if period.is_partial:
        return say("day_so_far", day=period.day, until=moment(period.end_ms)[11:])
    return say("day", day=period.day)
