"""Follows alerts beside other work of an asyncio service.

python docs/examples/follow_alerts_async.py 2   # for two seconds
"""

from __future__ import annotations

import asyncio
import sys

from stream.client import AsyncAlertSubscriber


async def follow(alerts: AsyncAlertSubscriber) -> None:
    """A task of the service."""
    async for alert in alerts:
        print(alert.state, alert.product_id, flush=True)


async def main(seconds: float) -> None:
    """Runs the task for a while; a service would run it until it stops."""
    async with AsyncAlertSubscriber(group="example-async", from_beginning=True) as alerts:
        following = asyncio.create_task(follow(alerts))
        await asyncio.sleep(seconds)
        alerts.stop()
        await following


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
