"""What the parts of the web server share, and what a part is.

Rules:
- Made once by ``create_app``; entered and left by the application's lifespan.
- A handler gets it by a parameter ``shared: Shared``.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from stream.client import AsyncLiveCounters
from stream.redis_config import connect_async
from stream.web.alerts import AlertBook
from stream.web.ingest import Ingest
from stream.web.leading import Leaders
from stream.web.people import People
from stream.web.reads import Reads
from stream.web.scoring import Scoring

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from litestar import Litestar

    from stream.settings import Settings
    from stream.web.tokens import Tokens
    from stream.web.viewers import Viewers


class Part(NamedTuple):
    """A piece of the application."""

    handlers: Sequence[Any]
    """Litestar's route handlers, controllers or routers, with their whole paths (``/api/v1/overview``)."""
    lifespan: Sequence[Callable[[Litestar], AbstractAsyncContextManager[None]]] = ()
    """What runs while the server does; entered after what is shared, left before it."""


class Shared:
    """What every part may use.

    Attributes:
        settings: of the server.
        tokens: who may do what.
        counters: the live counters; one client for all.
        reads: counters of products, read together for all who ask at once.
        leaders: who leads in a window, read once for many who ask.
        alerts: the alerts there are, followed from Kafka.
        people: silences and acknowledgements.
        ingest: the way in for events.
        scoring: a model, loaded when it is first asked for.
        viewers: who watches the live stream; None before there is one.
        stopping: set when the server begins to end; streams must end then.
    """

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self.settings = settings
        self.tokens = tokens
        self.redis = connect_async(settings)
        self.counters = AsyncLiveCounters(settings, client=self.redis)
        self.reads = Reads(self.counters)
        self.leaders = Leaders(settings)
        self.alerts = AlertBook(settings)
        self.people = People(settings)
        self.ingest = Ingest(settings)
        self.scoring = Scoring(settings)
        self.viewers: Viewers | None = None
        self.stopping = asyncio.Event()

    @asynccontextmanager
    async def running(self, _: Litestar) -> AsyncIterator[None]:
        """Follows the alerts meanwhile, and closes the clients at the end."""
        try:
            async with self.alerts.following(), self.ingest.running():
                yield
        finally:
            self.stopping.set()
            await self.redis.aclose()
            await self.people.close()
            await self.leaders.close()
