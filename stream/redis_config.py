"""How every Redis client of ours connects: URL, password, TLS, timeouts. Said once.

Rules:
- No retries in the library: a caller that may not repeat itself (an apply is fenced, a plain increment would
  not be) decides, and says so in its own room.
- Nothing waits for ever: connecting and answering are both bounded.
- Replies are bytes; who wants text decodes it.
- A lost connection is redis-py's ``ConnectionError``, whatever the event loop calls it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import redis
import redis.asyncio
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError  # noqa: A004
from redis.retry import Retry

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from redis.asyncio import Redis as AsyncRedis

    from stream.settings import Settings

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
"""Above a slow apply or an AOF rewrite's stall, below a session timeout: a hung Redis is noticed first."""
HEALTH_CHECK_S = 30
"""A connection idle for longer is pinged before use: load balancers drop idle ones without a word."""


def redis_kwargs(settings: Settings) -> dict[str, Any]:
    """Keyword arguments for ``from_url``, beside ``settings.redis``.

    Raises:
        UsageError: a CA file is given that does not exist, or for a URL without TLS.
    """
    kwargs: dict[str, Any] = {
        "decode_responses": False,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": HEALTH_CHECK_S,
    }
    if settings.redis_password is not None:
        kwargs["password"] = settings.redis_password.get_secret_value()
    if settings.redis_ca_file is not None:
        if not settings.redis.startswith("rediss://"):
            raise UsageError("REVIEWPULSE_REDIS_CA_FILE needs TLS: write rediss:// in REVIEWPULSE_REDIS.")
        if not settings.redis_ca_file.is_file():
            raise UsageError(f"REVIEWPULSE_REDIS_CA_FILE: there is no file {settings.redis_ca_file}.")
        kwargs["ssl_ca_certs"] = str(settings.redis_ca_file)
    return kwargs


def connect(settings: Settings) -> redis.Redis:
    """A synchronous client; it connects on first use.

    Raises:
        UsageError: the URL is no Redis URL, or its TLS settings do not fit.
    """
    try:
        return redis.Redis.from_url(settings.redis, retry=Retry(NoBackoff(), 0), **redis_kwargs(settings))
    except ValueError as error:
        raise UsageError(_wrong_url(settings, error)) from None


def connect_async(settings: Settings) -> AsyncRedis:
    """An asynchronous client; it connects on first use.

    Raises:
        UsageError: the URL is no Redis URL, or its TLS settings do not fit.
    """
    try:
        client = redis.asyncio.Redis.from_url(
            settings.redis, retry=AsyncRetry(NoBackoff(), 0), **redis_kwargs(settings)
        )
    except ValueError as error:
        raise UsageError(_wrong_url(settings, error)) from None
    pool = client.connection_pool  # an URL's scheme decides on the class, above any argument
    pool.connection_class = _ON_UVLOOP.get(pool.connection_class, pool.connection_class)
    return client


class _OnUvloop(AbstractConnection):
    """uvloop refuses to write to a transport that was closed meanwhile with a bare ``RuntimeError``.

    asyncio's own loop does not, and redis-py (8.1) knows no other: the error would pass for one of ours.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise ConnectionError(f"The connection was closed: {error}") from error


class TcpConnection(_OnUvloop, Connection):
    """``redis://``."""


class TlsConnection(_OnUvloop, SSLConnection):
    """``rediss://``."""


_ON_UVLOOP: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: TcpConnection,
    SSLConnection: TlsConnection,
}


def shown_url(url: str) -> str:
    """The URL as logs and messages may show it: without the password.

    >>> shown_url("rediss://ops:secret@cache.example:6380/2")
    'rediss://ops:***@cache.example:6380/2'
    """
    parts = urlsplit(url)
    credentials, at, place = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    # A query may carry `password=`, too, and nothing in it helps a reader.
    return urlunsplit((parts.scheme, f"{user}{colon and ':***'}{at}{place}", parts.path, "", ""))


def _wrong_url(settings: Settings, error: ValueError) -> str:
    return f"REVIEWPULSE_REDIS={shown_url(settings.redis)} is no Redis URL: {error}"
