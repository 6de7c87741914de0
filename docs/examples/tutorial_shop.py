"""A small shop's reviews, as JSON lines that ``reviewpulse ingest`` takes: what the first tutorial sends.

``python docs/examples/tutorial_shop.py`` prints an ordinary hour; with ``--bad-batch`` what customers write
after a delivery of kettles with a bad handle.
"""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta

PRODUCTS = ("kettle", "lamp", "mug")
CONTENT = (
    "Works well, I am happy with it.",
    "Lovely colour and quick delivery.",
    "Great value, would buy again.",
)
UNHAPPY = "Not for me, it is too small."
COMPLAINTS = ("The handle broke off and I burnt my hand.", "The handle is loose, terrible quality.",
              "Handle broke after two days. I want a refund.", "Dangerous, the handle came off.")  # fmt: skip


def main() -> None:
    """Prints the events, oldest first; the last is of now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bad-batch", action="store_true", help="Complaints about the kettle.")
    bad_batch = parser.parse_args().bad_batch
    rows = [("kettle", COMPLAINTS[n % 4], 1) for n in range(28)] if bad_batch else list(_ordinary())
    now = datetime.now(UTC)
    for number, (product, text, rating) in enumerate(rows):
        moment = now - timedelta(seconds=10 * (len(rows) - number))
        event = {
            "event_id": f"{product}-{'bad' if bad_batch else 'usual'}-{number}",
            "product_id": product,
            "category": "kitchen",
            "author_id": f"customer-{number}{bad_batch}",
            "text": text,
            "rating": rating,
            "event_time": moment.isoformat(),
        }
        print(json.dumps(event))


def _ordinary() -> list[tuple[str, str, int]]:
    return [
        (product, UNHAPPY if number % 12 == 11 else CONTENT[number % 3], 2 if number % 12 == 11 else 5)
        for number in range(36)
        for product in PRODUCTS
    ]


if __name__ == "__main__":
    main()
