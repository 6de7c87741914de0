"""What leaving a client's ``with`` block does: said once for all of them.

Rules:
- A block that ends without an error has dealt with what it was handed: that is finished. One that ends with
  an error has not, and what it was handed comes again, where a group keeps the position.
- The client is closed either way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Block:
    """A client that is used in a ``with`` block."""

    def close(self) -> None:
        """Closes the connections."""
        raise NotImplementedError

    def _finish(self) -> None:
        """What was handed out was dealt with."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self.close()


class AsyncBlock:
    """A client that is used in an ``async with`` block."""

    async def close(self) -> None:
        """Closes the connections."""
        raise NotImplementedError

    async def _open(self) -> None:
        """Connects, where a client does so before its first use."""

    async def _finish(self) -> None:
        """What was handed out was dealt with."""

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                await self._finish()
        finally:
            await self.close()
