"""An asyncio service's way in: what was awaited is in Kafka.

python docs/examples/send_events_async.py
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from stream.client import AsyncEventProducer, DependencyError, EventError


async def take(producer: AsyncEventProducer, event: dict[str, Any]) -> tuple[int, str]:
    """What a web handler does with a posted review: status and sentence."""
    try:
        await producer.send("reviews", event)
    except EventError as refused:
        return 400, str(refused)
    except DependencyError:
        return 503, "try again later"
    return 202, "accepted"


async def main() -> None:
    """Makes one producer for the service, and lets its handlers run at once."""
    now = datetime.now(UTC)
    posted = [
        {"event_id": f"example-a{n}", "product_id": "B00004TZTZ", "text": "Works.", "event_time": now}
        for n in range(3)
    ]
    async with AsyncEventProducer() as producer:
        for status, said in await asyncio.gather(*(take(producer, each) for each in [*posted, {}])):
            print(status, said)


if __name__ == "__main__":
    asyncio.run(main())
