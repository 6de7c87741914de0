"""A backtest as one HTML file: what fired, on each product's timeline.

Rules:
- Needs no network and runs no script: a policy in the page forbids both. Hostile text is escaped by
  ``stream.pages``, and quotes are masked as in alerts.
- The same backtest gives the same bytes.
- Products that alerted come first, by when; then those whose labelled incident was missed. Of more than
  ``MOST_PRODUCTS`` the page says how many it leaves out.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from stream.backtest.timeline import Timeline, close_up, timeline
from stream.backtest.wording import lasting, later, when
from stream.pages import template

if TYPE_CHECKING:
    from stream.backtest.report import Report
    from stream.core.backtest import Incident, Window

TEMPLATE = Path(__file__).parent / "page.html.j2"
MOST_PRODUCTS = 150
"""Some megabytes of page."""

WIDE = 0.6
"""A close-up of more than this of the history shows nothing that the whole does not."""


class Shown(NamedTuple):
    """An alert and its close-up."""

    incident: Incident
    close_up: Timeline | None


class Product(NamedTuple):
    """A product's place on the page."""

    product_id: str
    events: int
    negatives: int
    whole: Timeline
    shown: list[Shown]
    others: list[Incident]
    """Its alerts under the rule set that is compared."""
    windows: list[Window]


def write_page(report: Report, file: Path) -> None:
    """Writes the page at ``file``."""
    file.write_text(page(report), encoding="utf-8", errors="backslashreplace")


def page(report: Report) -> str:
    """The page."""
    product_ids = _in_order(report)
    return template(TEMPLATE).render(
        report=report,
        replayed=report.replayed,
        first=report.replayed.outcomes[0],
        second=report.replayed.outcomes[1] if len(report.replayed.outcomes) > 1 else None,
        products=[_product(report, product_id) for product_id in product_ids[:MOST_PRODUCTS]],
        left_out=max(0, len(product_ids) - MOST_PRODUCTS),
        from_model=report.verdicts.by not in ("stars", "file"),
        when=when,
        lasting=lasting,
        later=later,
    )


def _in_order(report: Report) -> list[str]:
    alerted = [each.product_id for outcome in report.replayed.outcomes for each in outcome.incidents]
    labelled = [window.product_id for window in report.windows or ()]
    return [each for each in dict.fromkeys(alerted + labelled) if each in report.by_product]


def _product(report: Report, product_id: str) -> Product:
    observations = report.by_product[product_id]
    of_each = [
        [each for each in outcome.incidents if each.product_id == product_id]
        for outcome in report.replayed.outcomes
    ]
    incidents, others = of_each[0], of_each[1] if len(of_each) > 1 else []
    windows = [window for window in report.windows or () if window.product_id == product_id]
    first_ms, last_ms = observations[0].arrival_ms, observations[-1].arrival_ms
    # A label may begin before the first event and end after the last.
    from_ms = min(first_ms, *(window.start_ms for window in windows)) if windows else first_ms
    to_ms = max(last_ms, from_ms + 1, *(window.end_ms for window in windows))

    def drawn(start_ms: int, end_ms: int) -> Timeline:
        return timeline(observations, incidents, others, windows, start_ms, end_ms)

    def near(incident: Incident) -> Timeline | None:
        start_ms, end_ms = close_up(observations, incident)
        return drawn(start_ms, end_ms) if end_ms - start_ms <= WIDE * (to_ms - from_ms) else None

    return Product(
        product_id,
        len(observations),
        sum(each.negative for each in observations),
        drawn(from_ms, to_ms),
        [Shown(incident, near(incident)) for incident in incidents],
        others,
        windows,
    )
