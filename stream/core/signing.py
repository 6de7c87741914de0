"""How a receiver knows that a message is ours.

Rules:
- Webhooks are signed as Standard Webhooks says (https://www.standardwebhooks.com): HMAC-SHA256 over id, time
  and body, so libraries for many languages verify them, and an old message cannot be played again.
- Several secrets make several signatures: so a secret is changed without a gap.
- DingTalk's robots have a way of their own: the signature goes into the URL.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX = "whsec_"
LEAST_BYTES = 24
"""Of a secret: what Standard Webhooks asks for."""


def secret_bytes(text: str) -> bytes:
    """The bytes of a signing secret: base64 behind ``whsec_``, or the text itself.

    Raises:
        ValueError: it is too short, or no base64; the message does not quote it.
    """
    if text.startswith(PREFIX):
        try:
            found = base64.b64decode(text.removeprefix(PREFIX), validate=True)
        except binascii.Error:
            raise ValueError(f"behind {PREFIX} it is no base64") from None
    else:
        found = text.encode()
    if len(found) < LEAST_BYTES:
        raise ValueError(f"it has {len(found)} bytes; {LEAST_BYTES} are the least")
    return found


def webhook_headers(secrets: Sequence[bytes], id_: str, at_s: int, body: bytes) -> dict[str, str]:
    """Headers that identify a message, and sign it where there is a secret.

    Args:
        secrets: any number of them.
        id_: the message's id.
        at_s: now, seconds since the epoch.
        body: as sent.

    >>> key = secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    >>> webhook_headers([key], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')[
    ...     "webhook-signature"]
    'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE='
    """
    headers = {"webhook-id": id_, "webhook-timestamp": str(at_s), "idempotency-key": id_}
    signed = f"{id_}.{at_s}.".encode() + body
    signatures = [base64.b64encode(hmac.digest(each, signed, hashlib.sha256)).decode() for each in secrets]
    if signatures:
        headers["webhook-signature"] = " ".join(f"v1,{each}" for each in signatures)
    return headers


def dingtalk_url(url: str, secret: str | None, now_ms: int) -> str:
    """A DingTalk robot's URL with time and signature; as it is without a secret.

    >>> dingtalk_url("https://oapi.dingtalk.com/robot/send?access_token=t", "SEC1", 1_700_000_000_000)
    'https://oapi.dingtalk.com/robot/send?access_token=t&timestamp=1700000000000&sign=\
ukR4%2BWoOOBTGaOauYqugxVrMSFyr92q4hPxJxuOkiio%3D'
    """
    if secret is None:
        return url
    signed = hmac.digest(secret.encode(), f"{now_ms}\n{secret}".encode(), hashlib.sha256)
    sign = base64.b64encode(signed).decode()
    parts = urlsplit(url)
    query = [*parse_qsl(parts.query, keep_blank_values=True), ("timestamp", str(now_ms)), ("sign", sign)]
    return urlunsplit(parts._replace(query=urlencode(query)))
