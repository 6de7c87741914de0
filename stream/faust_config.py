"""How Faust connects to Kafka. Apart from ``kafka_config``, because the clients must not import Faust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faust.auth import SASLCredentials, SSLCredentials

from stream.kafka_config import sasl_login, ssl_context

if TYPE_CHECKING:
    from faust.types.auth import CredentialsT

    from stream.settings import Settings


def faust_broker(settings: Settings, scheme: str) -> list[str]:
    """Broker URLs for ``faust.App(broker=...)``; the scheme names the transport."""
    return [f"{scheme}://{address}" for address in settings.kafka.split(",")]


def faust_credentials(settings: Settings) -> CredentialsT | None:
    """For ``faust.App(broker_credentials=...)``: None for plain text.

    Raises:
        UsageError: a certificate cannot be read, or SASL lacks its user or password.
    """
    context = ssl_context(settings)
    if (login := sasl_login(settings)) is not None:
        username, password = login
        return SASLCredentials(
            username=username,
            password=password,
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return None if context is None else SSLCredentials(context)
