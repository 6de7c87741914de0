"""The HTTP API under ``/api/v1``; its OpenAPI document is at ``/api/v1/openapi.json``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream.web.api import alerts, counters, health, people, session
from stream.web.shared import Part

if TYPE_CHECKING:
    from stream.web.shared import Shared


def part(shared: Shared) -> Part:
    """All of the API that is not the live page's."""
    del shared
    return Part([*counters.HANDLERS, *alerts.HANDLERS, *people.HANDLERS, *session.HANDLERS, *health.HANDLERS])
