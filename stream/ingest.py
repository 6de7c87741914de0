"""JSON lines to Kafka.

Rules:
- Each line is judged as the worker would judge it. A bad one is named by its number and reason; the good
  ones still go.
- What is sent is the line as it came, so fields of the sender's own travel along.
- The file is read as it is sent, never held: a line longer than the largest event is passed over in pieces.
- Sending stops at the first event that Kafka gives up: the rest would be lost as well.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol

from stream.client.validation import check
from stream.errors import EventError
from stream.reading import Flaws

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stream.core.decode import Limits
    from stream.core.events import Channel

LINES_A_STEP = 256
"""Lines judged together: enough to make the cost of judging one small."""


class Sender(Protocol):
    """What sending needs of ``stream.client.EventProducer``."""

    @property
    def lost(self) -> int:
        """Events given up since the last flush."""
        ...

    def send_encoded(self, channel: Channel, product_id: str, value: bytes) -> None:
        """Queues an event."""
        ...

    def flush(self) -> None:
        """Waits until all is acknowledged."""
        ...


@dataclass
class Ingested:
    """How far it came."""

    lines: int = 0
    """Lines that are not blank."""
    last_line: int = 0
    """Number of the last line judged: everything up to it was sent or is bad."""
    sent: int = 0
    bad: Flaws = field(default_factory=Flaws)


def ingest(
    file: BinaryIO,
    channel: Channel,
    sender: Sender,
    limits: Limits,
    progress: Ingested,
    *,
    on_step: Callable[[], None] = lambda: None,
    now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> None:
    """Sends a file's events and waits for their acknowledgement.

    Args:
        file: JSON lines.
        channel: which topic they are for.
        sender: takes them.
        limits: what the workers accept.
        progress: kept up to date while it runs, so that an interrupted caller knows what went.
        on_step: called after every few lines.
        now_ms: the clock that event times are held against.

    Raises:
        DependencyError: Kafka took no more; ``progress.sent`` says how many were handed to it.
    """
    for step in _steps(file, progress, limits.max_event_bytes):
        verdicts = check(channel, [line for _, line in step], now_ms(), limits)
        for (number, line), verdict in zip(step, verdicts, strict=True):
            if isinstance(verdict, EventError):
                progress.bad.add(number, verdict.reason)
            else:
                sender.send_encoded(channel, verdict, line)
                progress.sent += 1
            progress.last_line = number
        if sender.lost:
            break
        on_step()
    sender.flush()


def _steps(file: BinaryIO, progress: Ingested, max_bytes: int) -> Iterator[list[tuple[int, bytes]]]:
    """Numbered lines, a few at a time, without blank ones and those too long to hold."""
    step: list[tuple[int, bytes]] = []
    for number, line, size in _lines(file, max_bytes):
        stripped = line.strip()
        if size > max_bytes:
            progress.lines += 1
            progress.bad.add(number, f"the line has {size:,} bytes, more than {max_bytes:,}")
        elif stripped:
            progress.lines += 1
            step.append((number, stripped))
        if len(step) >= LINES_A_STEP:
            yield step
            step = []
    if step:
        yield step


def _lines(file: BinaryIO, max_bytes: int) -> Iterator[tuple[int, bytes, int]]:
    """Number, beginning and whole length of each line."""
    number = 0
    # A byte more than allowed and the line's end tell a longest line from a too long one.
    while line := file.readline(max_bytes + 2):
        number += 1
        size = len(line.rstrip(b"\r\n"))
        piece = line
        while not piece.endswith(b"\n") and (piece := file.readline(max_bytes + 2)):
            size += len(piece.rstrip(b"\r\n"))
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is no part of it
        yield number, line, size
