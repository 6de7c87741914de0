"""One POST: bounded, verified, without redirects, and told in words that carry no secret.

Rules:
- The address may be a secret (a chat robot's is), so no error repeats it: at most host and port are said.
- Certificates are always verified. Redirects are not followed: what is signed or secret for one host is not
  for another. No cookies, no proxy from the environment.
- Of an answer at most ``MOST_ANSWER_BYTES`` are read, and shown is less.
"""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from stream import __version__
from stream.core.delivery import Outcome, of_status, retry_after_ms
from stream.deliver.writing import shortened
from stream.pages import visible

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_ANSWER_BYTES = 65_536
SHOWN_CHARS = 160
USER_AGENT = f"reviewpulse/{__version__}"


class Answer(NamedTuple):
    """What came of a POST."""

    outcome: Outcome
    """By the status alone."""
    body: bytes = b""


class Post:
    """POSTs to one host.

    Args:
        timeout_s: longest an attempt may take, all in all.
        tls: whom to trust.
        secrets: what an answer may repeat and must not be shown.
    """

    def __init__(self, timeout_s: float, tls: ssl.SSLContext, secrets: tuple[str, ...] = ()) -> None:
        self._timeout_s = timeout_s
        self._tls = tls
        self._secrets = tuple(each for each in secrets if each)
        self._session: aiohttp.ClientSession | None = None

    async def send(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends a body; whatever goes wrong is in the answer."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": USER_AGENT},
                auto_decompress=False,
                connector=aiohttp.TCPConnector(ssl=self._tls),
            )
        where = URL(url, encoded=True)  # as it is: a signature in it must not be written in another way
        try:
            async with self._session.post(
                where, data=body, headers=headers, allow_redirects=False
            ) as response:
                answer = await _beginning(response.content)
                wait_ms = retry_after_ms(response.headers.get("Retry-After"), time.time_ns() // 1_000_000)
                said = "" if response.status < 300 else self._shown(answer)
                return Answer(of_status(response.status, wait_ms, said), answer)
        except TimeoutError:
            return Answer(Outcome("failed", f"it did not answer within {self._timeout_s:g} s"))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(Outcome("failed", _told(error, url)))

    async def close(self) -> None:
        """Ends the connections."""
        if self._session is not None:
            await self._session.close()

    def _shown(self, answer: bytes) -> str:
        text = answer[: 4 * SHOWN_CHARS].decode("utf-8", "replace")
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return shortened(" ".join(visible(text).split()), SHOWN_CHARS)


async def _beginning(content: aiohttp.StreamReader) -> bytes:
    parts, length = [], 0
    while length < MOST_ANSWER_BYTES and (part := await content.read(MOST_ANSWER_BYTES - length)):
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _told(error: Exception, url: str) -> str:
    """What went wrong, without the address but for host and port."""
    where = urlsplit(url)
    host = f"{where.hostname}:{where.port or (443 if where.scheme == 'https' else 80)}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        certificate = error.certificate_error
        why = getattr(certificate, "verify_message", "") or "it is not trusted"
        return f"{host} shows a certificate that is not trusted: {why}"
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return f"{host} does not agree on TLS"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"the name {where.hostname} is not known"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot connect to {host}: {error.strerror or 'no answer'}"
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return f"{host} closed the connection without an answer"
    return f"the exchange with {host} broke off ({type(error).__name__})"
