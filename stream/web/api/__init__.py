"""The HTTP API under ``/api/v1``; its OpenAPI document is at ``/api/v1/openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.web.api import alerts, counters, events, health, people, score, session
from stream.web.shared import Part

if TYPE_CHECKING:
    from stream.web.shared import Shared


def part(_: Shared) -> Part:
    """All of the API that is not the live page's."""
    modules = (counters, alerts, people, events, score, session, health)
    return Part([handler for module in modules for handler in module.HANDLERS])
