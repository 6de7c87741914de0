"""What is left of an alert, a message or a notifier's memory when a product or a customer is forgotten.

Rules:
- A product is removed with all that is about it alone. An incident of many products goes on without it.
- A customer has no name in an alert, only words: of an alert that quotes one, or that is of a state which
  held the customer's hash, all words go. Figures stay: they name nobody.
- Pure: who reads and writes is ``stream/erasure/``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Collection

    from stream.core.events import Alert
    from stream.core.messages import Message


class Customer(NamedTuple):
    """Who is to be forgotten, as far as Redis and Kafka can tell."""

    author: int | None
    """``stream.core.damping.author_hash``."""
    events: frozenset[str]
    """Ids of the customer's events."""
    alerts: frozenset[str] = frozenset()
    """Ids of alerts whose states held something of the customer."""


def is_quoted(alert: Alert, customer: Customer) -> bool:
    """Whether an alert has words in it that are, or may be, the customer's."""
    has_words = bool(alert.quotes or alert.summary or alert.phrases)
    return has_words and (
        alert.id in customer.alerts or any(quote.event_id in customer.events for quote in alert.quotes)
    )


def without_words(alert: Alert) -> Alert:
    """The alert with its figures alone."""
    return replace(alert, quotes=[], summary=[], phrases=[])


def message_without_customer(message: Message, customer: Customer) -> Message | None:
    """The message without the customer's words; None where it has none."""
    if message.alert is None or not is_quoted(message.alert, customer):
        return None
    return replace(message, alert=without_words(message.alert))


def message_without_product(message: Message, product_id: str, alerts: Collection[str]) -> Message | None:
    """The message of an incident without a product; None where it does not name it, or is of one product."""
    incident = message.incident
    if incident is None or (
        product_id not in incident.products and not set(alerts).intersection(incident.alerts)
    ):
        return None
    kept = replace(
        incident,
        products=[each for each in incident.products if each != product_id],
        alerts=[each for each in incident.alerts if each not in alerts],
    )
    return replace(message, incident=kept)
