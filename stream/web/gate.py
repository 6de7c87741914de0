"""What every request passes first: host, origin, who asks; and the headers that every answer carries.

Rules:
- The ``Host`` must be one of ours where there are no tokens: else a page on another site could rebind its own
  name to this address (DNS rebinding) and read as if it were ours.
- What changes something and comes from a browser must come from our own pages: its ``Origin`` is this host,
  and ``Sec-Fetch-Site`` says so too. A bearer token proves more than that: no other site can send it.
- A wrong token is refused, never taken for none.
- A parameter that does not exist is refused: ``windw=1h`` must not be answered as if nothing had been asked.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping  # noqa: TC003  # the named tuple's annotation
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from urllib.parse import parse_qsl, urlsplit

from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.middleware import ASGIMiddleware
from litestar.routes import HTTPRoute

from stream.web.errors import refusal
from stream.web.tokens import COOKIE, EVERYBODY, NOBODY, Identity

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

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


CONTENT_TYPES = ("application/json", "application/x-ndjson")
"""A page of another site can send neither without asking first (a preflight request); nobody answers that."""


class _No(NamedTuple):
    """Why a request is not let in."""

    status: int
    sentence: str
    headers: Mapping[str, str] = {}


_NO_SUCH_TOKEN = _No(
    401,
    "There is no such token.",
    {"WWW-Authenticate": 'Bearer realm="reviewpulse", error="invalid_token"'},
)


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
        self._parameters: dict[int, frozenset[str]] | None = None

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Lets a request in, or answers why not."""
        http = cast("HTTPScope", scope)  # there are no websockets
        headers = Headers.from_scope(scope)
        no = self._wrong_host(headers) or self._from_elsewhere(http, headers)
        identity = None
        if no is None:
            identity = self._identity(headers)
            no = _NO_SUCH_TOKEN if identity is None else self._wrong_request(http, headers)
        if no is None:
            scope["state"]["identity"] = identity
            await next_app(scope, receive, send)
            return
        answer: Any = refusal(no.status, no.sentence, no.headers)
        answer = answer.to_asgi_response(None, None)  # it needs neither the application nor the request
        await answer(scope, receive, send)

    def _wrong_host(self, headers: Headers) -> _No | None:
        host = headers.get("host", "")
        if not self._checks_host or self._is_ours(host):
            return None
        sentence = f"This server does not answer to the host {host[:100]!r}: see REVIEWPULSE_WEB_NAMES."
        return _No(421, sentence)

    def _from_elsewhere(self, scope: HTTPScope, headers: Headers) -> _No | None:
        if scope["method"] in SAFE or headers.get("authorization", "").lower().startswith("bearer "):
            return None
        origin = headers.get("origin")
        is_ours = origin is None or _place(origin) == headers.get("host", "").lower()
        if is_ours and headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
            return None
        return _No(403, "This came from another site's page: only our own pages may change something.")

    def _wrong_request(self, scope: HTTPScope, headers: Headers) -> _No | None:
        if not scope["path"].startswith("/api/"):
            return None
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] not in SAFE | {"DELETE"} and kind not in CONTENT_TYPES:
            return _No(415, f"Send a body of the type {' or '.join(CONTENT_TYPES)}.")
        if not scope["query_string"]:
            return None
        known = self._known_parameters(scope)
        given = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
        strange = next((name for name, _ in given if name not in known), None)
        if strange is None:
            return None
        listed = f": take {', '.join(sorted(known))}" if known else ""
        return _No(400, f"There is no parameter {strange[:100]!r} here{listed}.")

    def _known_parameters(self, scope: HTTPScope) -> frozenset[str]:
        if self._parameters is None:
            self._parameters = {
                id(handler): frozenset(each.field_alias for each in model.expected_query_params)
                for route in scope["litestar_app"].routes
                if isinstance(route, HTTPRoute)
                for handler, model in route.route_handler_map.values()
            }
        return self._parameters.get(id(scope["route_handler"]), frozenset())

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


def _place(origin: str) -> str | None:
    """Host and port of an origin; none of what is no address.

    >>> _place("http://Shop.example:8000"), _place("http://[half")
    ('shop.example:8000', None)
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None
