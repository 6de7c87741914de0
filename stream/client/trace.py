"""The trace that a producer's caller is in, as a record's header.

Rules:
- Only who uses OpenTelemetry has such a trace, and then its API is loaded already. So it is not imported
  here: who does not use it pays a look into a dictionary.
- A header that the caller gave himself stands.
"""

from __future__ import annotations

import sys
from typing import TypeAlias

from stream.core.traceparent import HEADER

Headers: TypeAlias = "list[tuple[str, bytes]] | None"


def with_traceparent(headers: Headers) -> Headers:
    """A record's headers, with the current span's ``traceparent`` if there is one."""
    value = current()
    if value is None or any(name == HEADER for name, _ in headers or ()):
        return headers
    return [*(headers or ()), (HEADER, value)]


def current() -> bytes | None:
    """The ``traceparent`` of the current span; None outside of one."""
    api = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    context = api.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}".encode("ascii")
