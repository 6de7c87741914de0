"""Who am I; the page's way to carry a token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec
from litestar import Request, Response, delete, get, post
from litestar.datastructures import Cookie
from litestar.exceptions import NotAuthorizedException

from stream.web.shared import Shared  # noqa: TC001  # Litestar reads the annotations
from stream.web.tokens import COOKIE, SESSION_S, Identity, Scope

if TYPE_CHECKING:
    from typing import Any


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What whoever asks may do."""

    scopes: list[Scope]
    needs_token: bool
    """Whether this server has tokens at all."""


class Login(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token."""

    token: Annotated[str, msgspec.Meta(min_length=1, max_length=1_000)]


@get("/api/v1/session", tags=["session"], summary="What you may do")
async def session(shared: Shared, request: Request[Any, Any, Any]) -> Session:
    """Open to everybody: the page asks whether it needs a token."""
    return _session(shared, request.scope["state"]["identity"])


@post("/api/v1/session", tags=["session"], summary="Opens a session with a token", status_code=200)
async def open_session(shared: Shared, request: Request[Any, Any, Any], data: Login) -> Response[Session]:
    """Sets a cookie that scripts cannot read, for 12 hours."""
    cookie = shared.tokens.open_session(data.token)
    identity = shared.tokens.bearer(data.token)
    if cookie is None or identity is None:
        raise NotAuthorizedException(
            "There is no such token." if shared.tokens else "This server has no tokens: everybody may use it."
        )
    kept = Cookie(
        COOKIE,
        value=cookie,
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return Response(_session(shared, identity), cookies=[kept])


@delete("/api/v1/session", tags=["session"], summary="Ends the session", status_code=200)
async def end_session(shared: Shared, request: Request[Any, Any, Any]) -> Response[Session]:
    """Removes the cookie; it no longer holds on this server either."""
    shared.tokens.end_session(request.cookies.get(COOKIE, ""))
    left = _session(shared, Identity(None, frozenset()))
    answer = Response(left)
    answer.delete_cookie(COOKIE)
    return answer


def _session(shared: Shared, identity: Identity) -> Session:
    return Session(scopes=sorted(identity.scopes), needs_token=bool(shared.tokens))


HANDLERS = [session, open_session, end_session]
