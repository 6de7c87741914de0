"""What a Redis client's error means: whose fault it is, and what to do.

Rules:
- A server that is away, starts, fails over, is full or moves its slots is a ``DependencyError``: it ends when
  somebody mends the server, or by itself, and callers repeat themselves.
- A server that refuses us (login, permission, certificate), or is of another kind than the URL says, is a
  ``UsageError`` when we start. Later it is waited for: passwords and certificates are renewed under way.
- A server's own words are passed on without what it repeats of ours: one that does not know HELLO or AUTH
  answers "unknown command 'AUTH', with args beginning with: 'ops' 'the password'".
- A missing permission is always a ``UsageError``; anything else is ours, and crashes.
"""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING, Literal

from redis.asyncio.sentinel import MasterNotFoundError as AsyncMasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterError,
    ConnectionError,  # noqa: A004
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TimeoutError,  # noqa: A004
    TryAgainError,
)
from redis.sentinel import MasterNotFoundError

from stream.errors import DependencyError, UsageError
from stream.redis_url import is_cluster, scheme_of, shown_url

if TYPE_CHECKING:
    from collections.abc import Iterator

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""All that a client of redis-py raises for what a server or the way to it does."""

_PASSING = (
    ConnectionError,  # BusyLoadingError is one, too
    TimeoutError,
    OSError,
    ClusterError,
    SlotNotCoveredError,
    AskError,  # MovedError is one, too
    TryAgainError,
    ReadOnlyError,
    OutOfMemoryError,
)
"""Errors that end when somebody mends the server, or when a cluster has agreed: repeat and say so."""

_PASSING_REPLIES = (
    "MISCONF",
    "LOADING",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "MASTERDOWN",
    "NOREPLICAS",
    "BUSY",
    "FAILOVER",
)
_NO_LOGIN = re.compile(r"(ERR )?unknown command .(AUTH|HELLO)\b", re.IGNORECASE)
_SLOT_ON_ITS_WAY = "ttempted to access a non local key"
"""Redis' and Valkey's word to a script in a slot that moves to another master; ours has written nothing then
(see ``apply.lua``)."""


def failure(error: Exception, url: str, *, at_start: bool = False) -> Exception:
    """The error to raise for one of redis-py's; the same one where it is ours.

    Args:
        error: what the client raised, or gave for a reply.
        url: where it is; shown without its password.
        at_start: whether nothing has worked yet, so that a refusal is a wrong setting.
    """
    cause = _cause(error)
    if _refusal(cause, url) is not None:
        is_ours_to_mend = at_start or isinstance(cause, NoPermissionError)
        return UsageError(told(error, url)) if is_ours_to_mend else DependencyError(told(error, url))
    said = str(cause)
    if isinstance(cause, _PASSING) or said.startswith(_PASSING_REPLIES) or _SLOT_ON_ITS_WAY in said:
        return DependencyError(told(error, url))
    return cause


def told(error: Exception, url: str) -> str:
    """What went wrong and where, for people: without a password, with a remedy where we know one."""
    cause = _cause(error)
    if isinstance(cause, OutOfMemoryError):
        remedy = "raise its maxmemory, and never let it evict"
        return f"Redis at {shown_url(url)} is full: {remedy}. It said: {words(cause)}"
    refusal = _refusal(cause, url)
    if refusal:
        return f"Redis at {shown_url(url)} {refusal}"
    said = f"Redis at {shown_url(url)}: {words(cause)}"
    if scheme_of(url).startswith("rediss") and isinstance(cause, ConnectionError | ConnectionResetError):
        # Over TLS 1.3 that comes after the handshake, and whether its alert is read is a matter of luck.
        return f"{said.rstrip('.')}. If it stays so, it may ask for a client's REVIEWPULSE_REDIS_CERT_FILE."
    return said


def words(error: Exception) -> str:
    """What a server, or the way to it, said; without what it repeats of what it was told.

    >>> words(ResponseError("unknown command 'AUTH', with args beginning with: 'ops' 'hunter2' "))
    "unknown command 'AUTH'"
    >>> words(AuthenticationError("invalid username-password pair: hunter2"))
    'the user or the password is wrong, the user is disabled, or a password is missing'
    """
    cause = _cause(error)
    if isinstance(cause, AuthenticationError):
        return "the user or the password is wrong, the user is disabled, or a password is missing"
    return str(cause).partition(", with args beginning with")[0]


def kind_of(error: Exception) -> Literal["away", "full", "refused", "other"]:
    """What kind of trouble an error of ``failure`` is, by what caused it.

    >>> kind_of(DependencyError("Redis is full")), kind_of(UsageError("no"))
    ('other', 'other')
    """
    causes = [_cause(each) for each in _chain(error) if isinstance(each, Exception)]
    if any(isinstance(each, OutOfMemoryError) or str(each).startswith("MISCONF") for each in causes):
        return "full"
    if any(not isinstance(each, AskError) and _refusal(each, "") is not None for each in causes):
        return "refused"
    if any(isinstance(each, _PASSING) or str(each).startswith(_PASSING_REPLIES) for each in causes):
        return "away"
    return "other"


def _refusal(error: Exception, url: str) -> str | None:
    """What completes "Redis at ... " when a server refuses us, or is not what the URL says."""
    if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
        return (
            f"refuses this user: {words(error)}."
            " Check REVIEWPULSE_REDIS, REVIEWPULSE_REDIS_PASSWORD and the ACL (docs/redis.md)."
        )
    if isinstance(error, MasterNotFoundError | AsyncMasterNotFoundError):
        # What each sentinel said is in the message, as reprs.
        if "AuthenticationError" in str(error):
            return "has sentinels that refuse us: check REVIEWPULSE_REDIS_SENTINEL_PASSWORD."
        return None
    for tls_error in (each for each in _chain(error) if isinstance(each, ssl.SSLError)):
        if isinstance(tls_error, ssl.SSLCertVerificationError):
            return (
                f"shows a certificate that is not trusted: {tls_error.verify_message}."
                " Renew it, or check REVIEWPULSE_REDIS_CA_FILE and the host's name."
            )
        return (
            f"does not agree on TLS: {tls_error.reason or tls_error}."
            " Is it a TLS port, and does it ask for REVIEWPULSE_REDIS_CERT_FILE?"
        )
    return _other_kind(error, url)


def _other_kind(error: Exception, url: str) -> str | None:
    if not isinstance(error, ResponseError):
        return None
    if isinstance(error, AskError) and not is_cluster(url):
        return "is a node of a cluster: write redis+cluster:// in REVIEWPULSE_REDIS."
    if "cluster support disabled" in str(error):
        return "is no cluster: write redis:// in REVIEWPULSE_REDIS."
    if _NO_LOGIN.match(str(error)):
        return (
            "knows no login with a user name: upgrade it to Redis 6.2 or Valkey, or leave the user out of"
            " REVIEWPULSE_REDIS."
        )
    if "unknown command 'SENTINEL'" in str(error):
        return "is no sentinel: write redis:// in REVIEWPULSE_REDIS, or the sentinels' addresses."
    return None


def _cause(error: Exception) -> Exception:
    """What kept a cluster's client from learning the cluster; any other error itself.

    redis-py wraps it, and whatever error a node replies with it takes for "no cluster".
    """
    if type(error) is not RedisClusterException:
        return error
    causes = [each for each in _chain(error) if isinstance(each, RedisError)]
    # None: every node answered, and they do not agree or do not serve every slot.
    return causes[-1] if causes else ConnectionError(str(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, what caused that..."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
