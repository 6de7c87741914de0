"""Why a Kafka broker does not let us in: asked in the open, for the clients keep the reason to their logs.

Rules:
- Asked only after a client has given up: kafka-python and aiokafka tell of a wrong certificate and of a wrong
  password alike, as a broker that does not answer.
- One short conversation with each bootstrap server, until one says why: TLS with the very context of the
  clients, then SASL with their login. Each is given up after ``ASK_S``.
- A server that only hangs up may be starting, or be a proxy before one that does: that is told, but is no
  sure refusal.
- Nothing of a password is in a sentence, whatever the broker answers.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from kafka.errors import KafkaError
from kafka.net.sasl import get_sasl_mechanism

from stream.kafka_config import CLIENT_ID, sasl_login, ssl_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.settings import Settings

ASK_S = 3.0
"""A broker that is well answers in milliseconds; the doctor has nine seconds for all of Kafka."""
SASL_HANDSHAKE, SASL_AUTHENTICATE, API_VERSIONS = (17, 1), (36, 0), (18, 0)
"""Keys and versions of the protocol's requests: of Kafka 1.0 and everything since."""
UNSUPPORTED_MECHANISM = 33
MOST_ANSWER_BYTES = 65_536
MOST_SAID = 200
"""Characters of a broker's own words that are shown."""

_CHECK_LOGIN = (
    "Check REVIEWPULSE_KAFKA_USERNAME, REVIEWPULSE_KAFKA_PASSWORD and REVIEWPULSE_KAFKA_SASL_MECHANISM"
)


class Refusal(NamedTuple):
    """Why a bootstrap server refuses us."""

    sentence: str
    """With what to do."""
    is_sure: bool
    """Whether waiting is of no use: somebody has to change a setting, a certificate or a user."""


NOTHING_SAID = Refusal("", False)


def refusal(settings: Settings) -> Refusal | None:
    """Why a bootstrap server refuses us; None where none does.

    Raises:
        UsageError: the connection's settings are wrong.
    """
    deadline_s = time.monotonic() + ASK_S
    for address in settings.kafka.split(","):
        if time.monotonic() > deadline_s:
            break  # several that do not answer: that is what the client has said
        said, is_sure = _ask(settings, address.strip())
        if said:
            return Refusal(f"Kafka at {address.strip()} ({settings.kafka_security}) {said}", is_sure)
    return None


def no_broker(settings: Settings, otherwise: str) -> str:
    """What to say when no broker let a client in: why it refuses, or else ``otherwise``."""
    found = refusal(settings)
    return found.sentence if found else otherwise


def _ask(settings: Settings, address: str) -> Refusal:
    """What completes "Kafka at ... "; empty where there is nothing to say."""
    host, _, port = address.rpartition(":")
    context = ssl_context(settings)
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=ASK_S)
    except (OSError, ValueError):  # nobody there, or no address: the client has said so
        return NOTHING_SAID
    with closing(plain):
        if context is None:
            return _told(lambda: _talk(plain, settings), settings)
        return _told(lambda: _talk_over_tls(plain, context, host.strip("[]"), settings), settings)


def _talk_over_tls(plain: socket.socket, context: ssl.SSLContext, host: str, settings: Settings) -> str:
    try:
        way = context.wrap_socket(plain, server_hostname=host)
    except TimeoutError:
        raise OSError("it does not know what TLS is") from None
    with closing(way):
        return _talk(way, settings)


def _told(talk: Callable[[], str], settings: Settings) -> Refusal:
    try:
        said, is_sure = talk(), True
    except ssl.SSLCertVerificationError as error:
        said, is_sure = _of_certificate(error), True
    except ssl.SSLEOFError:
        said, is_sure = _of_silence(settings), False
    except ssl.SSLError as error:
        said, is_sure = _of_tls(error), True
    except TimeoutError:  # slow, or stalled: no word on us
        return NOTHING_SAID
    except (OSError, struct.error):
        said, is_sure = _of_silence(settings), False
    return Refusal(said, is_sure)


def _of_certificate(error: ssl.SSLCertVerificationError) -> str:
    return (
        f"shows a certificate that is not trusted: {error.verify_message.rstrip('.')}."
        " Renew it, or check REVIEWPULSE_KAFKA_CA_FILE and the host's name."
    )


def _of_tls(error: ssl.SSLError) -> str:
    reason = (error.reason or str(error)).replace("_", " ").lower()
    if "certificate required" in reason or "handshake failure" in reason:
        return "wants a client certificate: set REVIEWPULSE_KAFKA_CERT_FILE and REVIEWPULSE_KAFKA_KEY_FILE."
    if "alert" in reason and ("certificate" in reason or "unknown ca" in reason):
        return f"does not take our client certificate ({reason}): check REVIEWPULSE_KAFKA_CERT_FILE."
    return f"does not agree on TLS: {reason}. Is it a TLS port? Check REVIEWPULSE_KAFKA_SECURITY."


def _of_silence(settings: Settings) -> str:
    match settings.kafka_security:
        case "PLAINTEXT":
            return "hangs up without a word. Is it a port for TLS or SASL? Check REVIEWPULSE_KAFKA_SECURITY."
        case "SSL":
            return (
                "takes no TLS, or not ours. Is it a TLS port (REVIEWPULSE_KAFKA_SECURITY), and does it ask"
                " for REVIEWPULSE_KAFKA_CERT_FILE?"
            )
    return f"hangs up during the login. Is it such a port (REVIEWPULSE_KAFKA_SECURITY)? {_CHECK_LOGIN}."


def _talk(way: socket.socket, settings: Settings) -> str:
    """What the broker has against us; empty where it lets us in."""
    login = sasl_login(settings)
    if login is None:
        # Over TLS 1.3 a server says only now that it misses a client's certificate.
        _request(way, API_VERSIONS, b"")
        return ""
    mechanism = settings.kafka_sasl_mechanism
    answer = _request(way, SASL_HANDSHAKE, _string(mechanism))
    (error,) = struct.unpack_from(">h", answer)
    if error:
        offered = ", ".join(_strings(answer[2:])) if error == UNSUPPORTED_MECHANISM else ""
        return (
            f"does not know {mechanism}: set REVIEWPULSE_KAFKA_SASL_MECHANISM"
            f" to what it offers{f' ({offered})' if offered else ''}."
        )
    user, password = login
    client = get_sasl_mechanism(mechanism)(
        security_protocol="SASL_SSL",  # whatever it is: for anything else the library warns in the log
        sasl_mechanism=mechanism,
        sasl_plain_username=user,
        sasl_plain_password=password,
    )
    while not client.is_done():
        token = client.auth_bytes()
        answer = _request(way, SASL_AUTHENTICATE, struct.pack(">i", len(token)) + token)
        (error,) = struct.unpack_from(">h", answer)
        message, rest = _nullable(answer[2:])
        if error:
            said = "".join(filter(str.isprintable, message.replace(password, "***")))[:MOST_SAID].rstrip(". ")
            return f"refuses the user {user!r}{f': {said}' if said else ''}. {_CHECK_LOGIN}."
        (length,) = struct.unpack_from(">i", rest)
        try:
            client.receive(rest[4 : 4 + max(length, 0)])
        except (KafkaError, ValueError, KeyError):
            # SCRAM proves both sides: this one did not know the password either.
            return f"does not prove that it knows the password of the user {user!r}. {_CHECK_LOGIN}."
    return ""


def _request(way: socket.socket, api: tuple[int, int], body: bytes) -> bytes:
    """Sends a request; returns its answer without the length and the correlation id."""
    request = struct.pack(">hhi", *api, 1) + _string(CLIENT_ID) + body
    way.sendall(struct.pack(">i", len(request)) + request)
    (length,) = struct.unpack(">i", _exactly(way, 4))
    if not 4 <= length <= MOST_ANSWER_BYTES:
        raise OSError("that is no answer of Kafka's")
    return _exactly(way, length)[4:]


def _exactly(way: socket.socket, number: int) -> bytes:
    got = b""
    while len(got) < number:
        part = way.recv(number - len(got))
        if not part:
            raise OSError("the connection was closed")
        got += part
    return got


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack(">h", len(encoded)) + encoded


def _nullable(data: bytes) -> tuple[str, bytes]:
    """A string that may be null, and what follows it."""
    (length,) = struct.unpack_from(">h", data)
    length = max(length, 0)
    return data[2 : 2 + length].decode("utf-8", "replace"), data[2 + length :]


def _strings(data: bytes) -> list[str]:
    (count,) = struct.unpack_from(">i", data)
    found, rest = [], data[4:]
    for _ in range(min(count, 16)):
        text, rest = _nullable(rest)
        found.append("".join(filter(str.isprintable, text)))
    return found
