"""How every Redis client of ours connects: to what, with which password, TLS and timeouts. Said once.

Rules:
- No retries in the library: a caller that may not repeat itself (an apply is fenced, a plain increment would
  not be) decides, and says so in its own room.
- Nothing waits for ever: connecting and answering are both bounded.
- Certificates are always verified, host names too. Their files are looked at here, with the setting's name in
  the message, before a client turns a missing one into a puzzle of its own.
- Replies are bytes; who wants text decodes it.
- A lost connection is redis-py's ``ConnectionError``, whatever the event loop calls it.
- What goes out in one round trip, to whatever there is, goes through ``stream.redis_trip``.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, TypeAlias

import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError,  # noqa: A004
    RedisClusterException,
)
from redis.retry import Retry

from stream.errors import UsageError
from stream.redis_errors import failure
from stream.redis_url import Topology, has_stray_at, scheme_of, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from stream.settings import Settings

Client: TypeAlias = "redis.Redis | redis.RedisCluster"
AsyncClient: TypeAlias = "redis.asyncio.Redis | redis.asyncio.RedisCluster"

CONNECT_TIMEOUT_S = 5.0
ANSWER_TIMEOUT_S = 15.0
"""Above a slow apply or an AOF rewrite's stall, below a session timeout: a hung Redis is noticed first."""
SENTINEL_TIMEOUT_S = 1.0
"""Sentinels are asked one after another until one knows the primary, and answer from memory."""
STRAY_AT = "an @ stands where none belongs; a password with /, ? or # goes into REVIEWPULSE_REDIS_PASSWORD"
HEALTH_CHECK_S = 30
"""A connection idle for longer is pinged before use: load balancers drop idle ones without a word."""


def connect(settings: Settings) -> Client:
    """A synchronous client. It connects on first use; that of a cluster asks the cluster for its shape here.

    Raises:
        UsageError: the URL is no Redis URL, its TLS settings do not fit, or a cluster's nodes refuse us.
        DependencyError: no node of the cluster answers.
    """
    kwargs = redis_kwargs(settings) | {"retry": Retry(NoBackoff(), 0)}
    topology = _topology(settings)
    if topology is None:
        return redis.Redis.from_url(settings.redis, **kwargs)
    kwargs |= _login(topology, kwargs)
    if topology.kind == "sentinel":
        sentinels = redis.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            topology.addresses, sentinel_kwargs=_sentinel_kwargs(settings, kwargs), **kwargs
        )
        primary: redis.Redis = sentinels.master_for(topology.service, db=topology.db)  # type: ignore[no-untyped-call]
        return primary
    nodes = [redis.cluster.ClusterNode(*each) for each in topology.addresses]  # type: ignore[no-untyped-call]
    try:
        # Keys whose slots nobody serves are told one by one, by their commands.
        return redis.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **kwargs)
    except RedisClusterException as error:
        raise failure(error, settings.redis, at_start=True) from error


def connect_async(settings: Settings) -> AsyncClient:
    """An asynchronous client; it connects on first use.

    Raises:
        UsageError: the URL is no Redis URL, or its TLS settings do not fit.
    """
    kwargs = redis_kwargs(settings) | {"retry": AsyncRetry(NoBackoff(), 0)}
    topology = _topology(settings)
    if topology is None:
        return _on_uvloop(redis.asyncio.Redis.from_url(settings.redis, **kwargs))
    kwargs |= _login(topology, kwargs)
    if topology.kind == "sentinel":
        sentinels = redis.asyncio.sentinel.Sentinel(  # type: ignore[no-untyped-call]
            topology.addresses, sentinel_kwargs=_sentinel_kwargs(settings, kwargs), **kwargs
        )
        return _on_uvloop(sentinels.master_for(topology.service, db=topology.db))
    nodes = [redis.asyncio.cluster.ClusterNode(*address) for address in topology.addresses]
    cluster = redis.asyncio.RedisCluster(startup_nodes=nodes, require_full_coverage=False, **kwargs)
    connection_class = TlsConnection if topology.tls else TcpConnection
    cluster.connection_kwargs["connection_class"] = connection_class  # of the nodes it will find
    for node in cluster.startup_nodes:
        node.connection_class = connection_class
    return cluster


def _on_uvloop(client: redis.asyncio.Redis) -> redis.asyncio.Redis:
    pool = client.connection_pool  # what chose the class here heeds no argument
    pool.connection_class = _ON_UVLOOP.get(pool.connection_class, pool.connection_class)
    return client


class _OnUvloop(AbstractConnection):
    """For readers that run on uvloop, as web servers do.

    It refuses to write to a transport that was closed meanwhile with a bare ``RuntimeError``; asyncio's own
    loop does not, and redis-py (8.1) knows no other.
    """

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        try:
            await super().send_packed_command(command, check_health)
        except RuntimeError as error:
            raise ConnectionError(f"The connection was closed: {error}") from error


class TcpConnection(_OnUvloop, Connection):
    """``redis://`` and ``redis+cluster://``."""


class TlsConnection(_OnUvloop, SSLConnection):
    """``rediss://`` and ``rediss+cluster://``."""


class SentinelConnection(_OnUvloop, SentinelManagedConnection):
    """``redis+sentinel://``."""


class SentinelTlsConnection(_OnUvloop, SentinelManagedSSLConnection):
    """``rediss+sentinel://``."""


_ON_UVLOOP: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: TcpConnection,
    SSLConnection: TlsConnection,
    SentinelManagedConnection: SentinelConnection,
    SentinelManagedSSLConnection: SentinelTlsConnection,
}


def redis_kwargs(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of every client, beside where it connects to.

    Raises:
        UsageError: a certificate's file cannot be read, or is given for a URL without TLS.
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
    return kwargs | _certificates(settings)


def _topology(settings: Settings) -> Topology | None:
    """What a URL of ours leads to, or None for one of redis-py's.

    Raises:
        UsageError: it is neither.
    """
    try:
        if "+" in scheme_of(settings.redis):
            return Topology.of(settings.redis)
        redis.connection.parse_url(settings.redis)  # type: ignore[no-untyped-call]
    except ValueError as error:
        # What the parser says may quote half a password, where it took one for something else.
        why = STRAY_AT if has_stray_at(settings.redis) else error
        raise UsageError(f"REVIEWPULSE_REDIS={shown_url(settings.redis)} is no Redis URL: {why}.") from None
    return None


def _login(topology: Topology, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "username": topology.username,
        "password": topology.password or kwargs.get("password"),
        "ssl": topology.tls,
    }


def _sentinel_kwargs(settings: Settings, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """For the sentinels themselves: their own password, the same certificates, a short wait."""
    password = settings.redis_sentinel_password
    return {
        **{name: value for name, value in kwargs.items() if name not in {"username", "password"}},
        "password": None if password is None else password.get_secret_value(),
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "socket_timeout": SENTINEL_TIMEOUT_S,
    }


def _certificates(settings: Settings) -> dict[str, str]:
    given = {
        "REVIEWPULSE_REDIS_CA_FILE": ("ssl_ca_certs", settings.redis_ca_file),
        "REVIEWPULSE_REDIS_CERT_FILE": ("ssl_certfile", settings.redis_cert_file),
        "REVIEWPULSE_REDIS_KEY_FILE": ("ssl_keyfile", settings.redis_key_file),
    }
    scheme = scheme_of(settings.redis)
    kwargs = {}
    for variable, (argument, path) in given.items():
        if path is None:
            continue
        if not scheme.startswith("rediss"):
            with_tls = scheme.replace("redis", "rediss", 1)
            raise UsageError(f"{variable} needs TLS: write {with_tls}:// in REVIEWPULSE_REDIS.")
        if not path.is_file():
            raise UsageError(f"{variable}: there is no file {path}.")
        kwargs[argument] = str(path)
    if "ssl_keyfile" in kwargs and "ssl_certfile" not in kwargs:
        raise UsageError("REVIEWPULSE_REDIS_KEY_FILE is set without REVIEWPULSE_REDIS_CERT_FILE: set both.")
    _check_certificates(settings)
    return kwargs


def _check_certificates(settings: Settings) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if settings.redis_ca_file:
            context.load_verify_locations(settings.redis_ca_file)
    except OSError as error:
        raise UsageError(
            f"REVIEWPULSE_REDIS_CA_FILE {settings.redis_ca_file}: {error.strerror or error}."
        ) from None
    try:
        if settings.redis_cert_file:
            context.load_cert_chain(settings.redis_cert_file, settings.redis_key_file)
    except OSError as error:
        raise UsageError(
            f"REVIEWPULSE_REDIS_CERT_FILE {settings.redis_cert_file} with REVIEWPULSE_REDIS_KEY_FILE"
            f" {settings.redis_key_file}: {error.strerror or error}."
        ) from None
