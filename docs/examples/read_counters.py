"""Reads a product's counters, the leaders and the totals.

python docs/examples/read_counters.py B00004TZTZ
"""

from __future__ import annotations

import sys

from stream.client import LiveCounters


def main(product_id: str) -> None:
    """Prints them."""
    with LiveCounters() as counters:
        for each in counters.windows(product_id):
            share = "-" if each.negative_share is None else f"{each.negative_share:.0%}"
            print(f"{product_id} {each.window}: {each.events} events, {share} negative")
        for leader in counters.leaders("24h", by="negative_share", min_events=20, limit=3):
            print(f"leader: {leader.product_id} {leader.negative} of {leader.events}")
        print(f"reviews counted so far: {counters.totals()['reviews'].counted}")


if __name__ == "__main__":
    main(sys.argv[1])
