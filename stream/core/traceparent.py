"""The W3C ``traceparent`` header of a Kafka record (https://www.w3.org/TR/trace-context/): found and checked.

Rules:
- Version 00 alone, lower-case hex, no zero ids: what is anything else is none. It came from outside, and goes
  out again on dead letters and alerts.
- It says which trace an event belongs to; nothing is decided by it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

HEADER = "traceparent"

_FORM = re.compile(rb"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")


class Parent(NamedTuple):
    """A span of somebody else's."""

    trace_id: int
    span_id: int
    flags: int


def parsed(value: bytes) -> Parent | None:
    """What a header's value says; None for what is none.

    >>> parsed(b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01").flags
    1
    >>> parsed(b"00-00000000000000000000000000000000-b7ad6b7169203331-01") is None
    True
    """
    found = _FORM.fullmatch(value)
    return None if found is None else Parent(*(int(each, 16) for each in found.groups()))


def of_record(headers: Iterable[tuple[str, bytes | None]] | None) -> bytes | None:
    """The valid ``traceparent`` among a record's headers.

    >>> of_record([("other", b"x"), ("traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-00")])[:5]
    b'00-11'
    """
    for name, value in headers or ():
        if name == HEADER and value is not None and _FORM.fullmatch(value):
            return value
    return None
