"""Sends one review and one chat line, and says what is wrong with a bad one before it leaves.

``python docs/examples/send_events.py``.
Addresses come from ``REVIEWPULSE_*``; ``reviewpulse local`` prints them.
"""

from __future__ import annotations

from datetime import UTC, datetime

from stream.client import EventError, EventProducer


def main() -> None:
    """Sends them; leaving the block waits until Kafka has both."""
    with EventProducer() as producer:
        producer.send_review(
            event_id="example-r1",
            product_id="B00004TZTZ",
            text="The battery died after two days.",
            rating=1,
            event_time=datetime.now(UTC),
        )
        producer.send_chat(
            event_id="example-c1",
            conversation_id="77",
            role="customer",
            product_id="B00004TZTZ",
            text="It will not charge.",
            event_time=datetime.now(UTC),
        )
        try:
            producer.send("reviews", {"event_id": "example-r2", "text": "No product, no time."})
        except EventError as refused:
            print(f"refused: {refused}")
    print(f"delivered: {producer.delivered}")


if __name__ == "__main__":
    main()
