"""What every request passes first: host, origin, who asks; and the headers that every answer carries.

Rules:
- The ``Host`` must be one of ours where there are no tokens: else a page on another site could rebind its own
  name to this address (DNS rebinding) and read as if it were ours.
- What changes something and comes from a browser must come from our own pages: its ``Origin`` is this host, and
  ``Sec-Fetch-Site`` says so too. A bearer token proves more than that: no other site can send it.
- A wrong token is refused, never taken for none.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.middleware import ASGIMiddleware

from stream.web.errors import refusal
from stream.web.tokens import COOKIE, EVERYBODY, NOBODY, Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from litestar.types import ASGIApp, Message, Receive, Scope, Send

    from stream.settings import Settings
    from stream.web.tokens import Tokens

SAFE = {"GET", "HEAD", "OPTIONS"}
HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
}
"""Of every answer that does not say otherwise itself, as the pages do."""


class Gate(ASGIMiddleware):
    """The way in.

    Args:
        settings: its host names.
        tokens: who may do what.
    """

    def __init__(self, settings: Settings, tokens: Tokens) -> None:
        self._tokens = tokens
        self._names = names_of(settings)
        self._checks_host = not tokens or bool(settings.web_names)

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Lets a request in, or answers why not."""

        headers = Headers.from_scope(scope)
        why = self._why_not(scope, headers)
        if why is None:
            identity = self._identity(headers)
            if identity is None:
                challenge = {"WWW-Authenticate": 'Bearer realm="reviewpulse", error="invalid_token"'}
                why = 401, "There is no such token.", challenge
            else:
                scope["state"]["identity"] = identity
                await next_app(scope, receive, send)
                return
        status, sentence, more = why
        answer = refusal(status, sentence, more).to_asgi_response(app=None, request=None)  # type: ignore[arg-type]
        await answer(scope, receive, send)

    def _why_not(self, scope: Scope, headers: Headers) -> tuple[int, str, Mapping[str, str]] | None:
        host = headers.get("host", "")
        if self._checks_host and not self._is_ours(host):
            return (
                421,
                f"This server does not answer to the host {host[:100]!r}: see REVIEWPULSE_WEB_NAMES.",
                {},
            )
        if scope["method"] in SAFE or headers.get("authorization", "").lower().startswith("bearer "):
            return None
        origin = headers.get("origin")
        from_elsewhere = headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
        if from_elsewhere or (origin is not None and urlsplit(origin).netloc.lower() != host.lower()):
            return 403, "This came from another site's page: only our own pages may change something.", {}
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_loopback(name)

    def _identity(self, headers: Headers) -> Identity | None:
        if not self._tokens:
            return EVERYBODY
        authorization = headers.get("authorization")
        if authorization is not None:
            scheme, _, token = authorization.partition(" ")
            return self._tokens.bearer(token.strip()) if scheme.lower() == "bearer" else None
        for part in headers.get("cookie", "").split(";"):
            name, _, value = part.strip().partition("=")
            if name == COOKIE:
                return self._tokens.session(value.strip('"')) or NOBODY
        return NOBODY


async def add_headers(message: Message, _: Scope) -> None:
    """Puts ``HEADERS`` on an answer, whoever makes it."""
    if message["type"] == "http.response.start":
        headers = MutableScopeHeaders(message)
        for name, value in HEADERS.items():
            headers.setdefault(name, value)


def names_of(settings: Settings) -> frozenset[str]:
    """Host names that the server answers to, beside loopback addresses.

    >>> from stream.settings import load
    >>> sorted(names_of(load(web_host="10.0.0.7", web_names="pulse.example.com")))
    ['10.0.0.7', 'localhost', 'pulse.example.com']
    """
    given = (each.strip().lower() for each in settings.web_names.split(","))
    return frozenset({"localhost", settings.web_host.lower(), *(each for each in given if each)})


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
