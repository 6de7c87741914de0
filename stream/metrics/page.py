"""The page ``/metrics``: Prometheus' text format 0.0.4, which every scraper takes."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from stream.health import Page
from stream.metrics.families import registry

__all__ = ["metrics_page", "metrics_pages", "registry"]

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client.registry import CollectorRegistry

PATH = "/metrics"


def metrics_page(shown: CollectorRegistry) -> Page:
    """All that a registry has now."""
    return Page(HTTPStatus.OK, generate_latest(shown), CONTENT_TYPE_PLAIN_0_0_4)


def metrics_pages(shown: CollectorRegistry) -> dict[str, Callable[[], Page]]:
    """What a ``HealthServer`` serves beside its other pages."""
    return {PATH: partial(metrics_page, shown)}
