"""The page ``/metrics``: Prometheus' text format 0.0.4, which every scraper takes."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from stream.health import Page
from stream.metrics.families import registry

__all__ = ["metrics_page", "metrics_pages", "registry"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.metrics.families import Shown

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def metrics_page(shown: Shown) -> Page:
    """All that a process shows now."""
    return Page(HTTPStatus.OK, shown.text(), CONTENT_TYPE)


def metrics_pages(shown: Shown) -> dict[str, Callable[[], Page]]:
    """What a ``HealthServer`` serves beside its other pages."""
    return {PATH: partial(metrics_page, shown)}
