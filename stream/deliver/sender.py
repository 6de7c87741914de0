"""The contract of what sends: one message to one target, once. Repeating is the courier's business."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.core.delivery import Outcome
    from stream.core.messages import Message


class Sent(NamedTuple):
    """How an attempt ended."""

    outcome: Outcome
    on: Mapping[str, bytes] = {}
    """What the target holds for firing changes so: by lane, an empty value removes it."""


class Sender(Protocol):
    """Sends to one target. What it says carries no secret."""

    async def start(self, on: Mapping[str, bytes]) -> None:
        """Called once, with what the target holds for firing."""

    async def send(self, message: Message) -> Sent:
        """Sends a message; whatever goes wrong is an outcome, not an exception."""

    async def again(self) -> Outcome | None:
        """Sends again what is to be repeated by now; None if nothing is."""

    def gave_up(self, message: Message) -> str:
        """A message is given up; returns the lane that is no longer held for firing, or ``""``."""

    async def close(self) -> None:
        """Ends its connections."""
