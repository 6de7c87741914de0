"""Who may do what: bearer tokens with scopes, and the page's session.

Rules:
- Scopes: ``read`` sees counters and alerts, ``ingest`` sends events, ``operate`` silences and acknowledges.
  None implies another.
- Without tokens everybody whom the server lets in may do everything; ``server`` then listens on loopback
  only.
- A token is compared in constant time with every known one, and never logged, shown or sent back.
- A session is the page's way to carry a token: a signed cookie that scripts cannot read and that other sites'
  requests do not carry. It is signed with the token itself, so it outlives a restart of the server, holds for
  several servers alike, and ends with the token. Logging out is remembered by the server that was asked.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from litestar.exceptions import NotAuthorizedException, PermissionDeniedException

from stream.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from litestar.connection import ASGIConnection
    from litestar.handlers.base import BaseRouteHandler

Scope = Literal["read", "ingest", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

SHORTEST_TOKEN = 16
"""Characters. `openssl rand -hex 24` makes 48; what a person thinks up is guessed."""
SESSION_S = 12 * 3600
COOKIE = "reviewpulse_session"
REVOKED_KEPT = 10_000

_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)
_TOKEN = re.compile(r"[!-+\--~]+", re.ASCII)
"""What a header can carry without quoting, and no comma, which divides tokens in the setting."""


class Identity(NamedTuple):
    """Whoever asks."""

    name: str | None
    """The token's name; None for nobody."""
    scopes: frozenset[Scope]
    by_cookie: bool = False


NOBODY = Identity(None, frozenset())
EVERYBODY = Identity(None, frozenset(SCOPES))


class _Known(NamedTuple):
    name: str
    scopes: frozenset[Scope]
    secret: bytes


class Tokens:
    """The tokens there are.

    >>> tokens = Tokens.of("shop:ingest:0123456789abcdef, wall:read:fedcba9876543210")
    >>> identity = tokens.bearer("0123456789abcdef")
    >>> identity.name, sorted(identity.scopes), tokens.bearer("0123456789abcdeX")
    ('shop', ['ingest'], None)
    """

    def __init__(self, known: list[_Known], now_s: Callable[[], float] = time.time) -> None:
        self._known = known
        self._now_s = now_s
        self._revoked: dict[str, float] = {}

    @classmethod
    def of(cls, written: str | None, now_s: Callable[[], float] = time.time) -> Tokens:
        """Tokens as the setting writes them.

        Args:
            written: ``name:scope+scope:token``, by commas or lines; lines that begin with ``#`` are remarks.
            now_s: the clock that sessions end by, s since the epoch.

        Raises:
            UsageError: one is not written so, is too short, or its name is there twice. The message names it
                without the token.
        """
        known: dict[str, _Known] = {}
        lines = (line for line in (written or "").splitlines() if not line.lstrip().startswith("#"))
        parts = (part.strip() for line in lines for part in line.split(","))
        for number, part in enumerate((part for part in parts if part), start=1):
            each = _read(number, part)
            if each.name in known:
                raise _wrong(f"the name {each.name!r} is there twice")
            known[each.name] = each
        if written is not None and not known:
            raise _wrong("it holds no token; leave it unset to go without")
        return cls(list(known.values()), now_s)

    def __bool__(self) -> bool:
        return bool(self._known)

    def bearer(self, token: str) -> Identity | None:
        """Whose token it is; None for nobody's."""
        found = None
        for each in self._known:  # all of them, whichever fits: the time tells nothing
            if hmac.compare_digest(_digest(each.secret), _digest(token.encode("utf-8", "surrogatepass"))):
                found = each
        return None if found is None else Identity(found.name, found.scopes)

    def open_session(self, token: str) -> str | None:
        """What the cookie is to hold; None for nobody's token."""
        identity = self.bearer(token)
        if identity is None or identity.name is None:
            return None
        ends_s = int(self._now_s()) + SESSION_S
        return f"{identity.name}~{ends_s}~{self._signature(identity.name, ends_s)}"

    def session(self, cookie: str) -> Identity | None:
        """Whose session it is; None for one that is over, revoked or made up."""
        name, _, rest = cookie.partition("~")
        ends, _, signature = rest.partition("~")
        known = next((each for each in self._known if each.name == name), None)
        if known is None or not re.fullmatch(r"\d{1,12}", ends, re.ASCII):
            return None
        signed = self._signature(name, int(ends)).encode()
        if not hmac.compare_digest(signed, signature.encode("utf-8", "surrogatepass")):
            return None
        if int(ends) <= self._now_s() or signature in self._revoked:
            return None
        return Identity(known.name, known.scopes, by_cookie=True)

    def end_session(self, cookie: str) -> None:
        """Takes a session back."""
        if self.session(cookie) is None:
            return
        _, ends, signature = cookie.split("~")
        self._revoked[signature] = float(ends)
        if len(self._revoked) > REVOKED_KEPT:
            del self._revoked[next(iter(self._revoked))]

    def _signature(self, name: str, ends_s: int) -> str:
        secret = next(each.secret for each in self._known if each.name == name)
        return hmac.new(secret, f"session~{name}~{ends_s}".encode(), hashlib.sha256).hexdigest()


def needs(
    scope: Scope,
) -> Callable[[ASGIConnection[Any, Any, Any, Any], BaseRouteHandler], Awaitable[None]]:
    """A guard: only who has this scope passes.

    Raises:
        NotAuthorizedException: nobody asks (401).
        PermissionDeniedException: somebody without the scope asks (403).
    """

    # A coroutine, though it waits for nothing: Litestar runs a plain function on a thread, at every request.
    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        identity: Identity = connection.scope["state"].get("identity", NOBODY)
        if scope in identity.scopes:
            return
        if identity.name is None:
            raise NotAuthorizedException(
                "This needs a token: send `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": 'Bearer realm="reviewpulse"'},
            )
        raise PermissionDeniedException(
            f"The token {identity.name!r} has not the scope {scope!r} that this needs."
        )

    guard.scope = scope  # type: ignore[attr-defined]  # for the OpenAPI document
    return guard


def scope_of(guard: Any) -> Scope | None:
    """The scope that a guard of ``needs`` asks for; None for another guard.

    >>> scope_of(needs("operate")), scope_of(print)
    ('operate', None)
    """
    scope: Scope | None = getattr(getattr(guard, "func", guard), "scope", None)  # Litestar may wrap it
    return scope


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()  # of one length, so that comparing tells no length either


def _read(number: int, part: str) -> _Known:
    name, _, rest = part.partition(":")
    scopes, _, token = rest.partition(":")
    if not _NAME.fullmatch(name) or not scopes or not token:
        raise _wrong(f"entry {number} is not written name:scope+scope:token")
    wanted = scopes.split("+")
    strange = [each for each in wanted if each not in SCOPES]
    if strange:
        raise _wrong(f"{name!r} has a scope that is none: take {', '.join(SCOPES)}")
    if len(token) < SHORTEST_TOKEN:
        raise _wrong(f"the token of {name!r} has fewer than {SHORTEST_TOKEN} characters")
    if not _TOKEN.fullmatch(token):
        raise _wrong(f"the token of {name!r} has a character that a header cannot carry, or a blank")
    return _Known(name, frozenset(each for each in SCOPES if each in wanted), token.encode())


def _wrong(what: str) -> UsageError:
    return UsageError(f"REVIEWPULSE_WEB_TOKENS: {what}.")
