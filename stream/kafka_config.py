"""How every Kafka client of ours connects: addresses, TLS, SASL. Said once.

Rules:
- The settings are checked here, with the setting's name in the message, before a client turns a missing file
  into a puzzling one of its own.
- The password leaves its ``SecretStr`` only here, as a string that shows itself as ``***``: kafka-python and
  aiokafka write their configuration into debug logs.
- Certificates are always verified, host names too.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from stream.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from stream.settings import Settings

CLIENT_ID = "reviewpulse"


class MaskedStr(str):
    """A secret that libraries may use and no log shows.

    >>> password = MaskedStr("pässword")
    >>> {"sasl_plain_password": password}, password.encode() == "pässword".encode()
    ({'sasl_plain_password': '***'}, True)
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def kafka_python_config(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for kafka-python's consumer, producer and admin client.

    Raises:
        UsageError: a certificate cannot be read, or SASL lacks its user or password.
    """
    return {
        "bootstrap_servers": settings.kafka.split(","),
        "client_id": CLIENT_ID,
        **_security(settings),
    }


def aiokafka_config(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for aiokafka's consumer and producer.

    Raises:
        UsageError: a certificate cannot be read, or SASL lacks its user or password.
    """
    return {"bootstrap_servers": settings.kafka, "client_id": CLIENT_ID, **_security(settings)}


def _security(settings: Settings) -> dict[str, Any]:
    # Both libraries name these alike.
    security: dict[str, Any] = {"security_protocol": settings.kafka_security}
    if (context := ssl_context(settings)) is not None:
        security["ssl_context"] = context
    if (login := sasl_login(settings)) is not None:
        security["sasl_mechanism"] = settings.kafka_sasl_mechanism
        security["sasl_plain_username"], security["sasl_plain_password"] = login
    return security


def sasl_login(settings: Settings) -> tuple[str, str] | None:
    """User and password, or None where the security protocol has no SASL.

    Raises:
        UsageError: SASL is asked for, and one of them is missing.
    """
    if not settings.kafka_security.startswith("SASL"):
        return None
    if not settings.kafka_username or settings.kafka_password is None:
        raise UsageError(
            f"REVIEWPULSE_KAFKA_SECURITY={settings.kafka_security} needs REVIEWPULSE_KAFKA_USERNAME and"
            " REVIEWPULSE_KAFKA_PASSWORD (or a file reviewpulse_kafka_password in REVIEWPULSE_SECRETS_DIR)."
        )
    return settings.kafka_username, MaskedStr(settings.kafka_password.get_secret_value())


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """The TLS context, or None where the security protocol has no TLS.

    Raises:
        UsageError: a certificate or key file cannot be read, or is not what it should be.
    """
    if "SSL" not in settings.kafka_security:
        return None
    if settings.kafka_key_file and not settings.kafka_cert_file:
        raise UsageError("REVIEWPULSE_KAFKA_KEY_FILE is set without REVIEWPULSE_KAFKA_CERT_FILE: set both.")
    try:
        context = ssl.create_default_context(cafile=_text(settings.kafka_ca_file))
    except OSError as error:
        raise UsageError(f"REVIEWPULSE_KAFKA_CA_FILE {settings.kafka_ca_file}: {_why(error)}.") from None
    if settings.kafka_cert_file:
        try:
            context.load_cert_chain(settings.kafka_cert_file, settings.kafka_key_file)
        except OSError as error:
            raise UsageError(
                f"REVIEWPULSE_KAFKA_CERT_FILE {settings.kafka_cert_file} with REVIEWPULSE_KAFKA_KEY_FILE"
                f" {settings.kafka_key_file}: {_why(error)}."
            ) from None
    return context


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _why(error: OSError) -> str:
    # ssl.SSLError is an OSError whose strerror names the OpenSSL fault.
    return error.strerror or str(error)
