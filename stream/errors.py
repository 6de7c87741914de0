"""One error tree, by whose fault it is.

- ``EventError``: the event's. It becomes a dead letter with a stage and a reason; the stream goes on.
- ``DependencyError``: a broker's, a Redis', a disk's. Retried with backoff where that can help, then the
  process stops with a sentence and a non-zero exit.
- ``UsageError``: the caller's (a wrong option, a missing file, a tampered bundle). Said once; exit code 2.
- Anything else is ours: it crashes with a traceback.

Every message says what is wrong, where, and what to do about it.
"""

from __future__ import annotations

EXIT_STUCK = 4
"""Exit code of a worker that the watchdog ended; nothing is raised."""


class ReviewpulseError(Exception):
    """Base of every error Reviewpulse raises on purpose."""

    exit_code = 1


class EventError(ReviewpulseError):
    """One event is bad. ``stage`` names the room that refused it."""

    def __init__(self, stage: str, reason: str) -> None:
        super().__init__(reason)
        self.stage = stage
        self.reason = reason


class DependencyError(ReviewpulseError):
    """A server or device Reviewpulse needs does not do its part."""

    exit_code = 3


class UsageError(ReviewpulseError):
    """The caller asked for something that cannot be; the message names the remedy."""

    exit_code = 2


class BundleError(UsageError):
    """A model bundle is missing, incomplete, tampered with, or not made for this version."""
