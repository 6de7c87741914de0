"""How an error is answered: ``{"error": "one sentence"}`` with the status that fits.

Rules:
- Whose fault it is decides: the caller's 4xx, a server's that is away 503, ours 500.
- Of our own faults the caller hears no detail; the log has it.
- 503 and 429 say when to come again (``Retry-After``).
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException

from stream.errors import DependencyError, EventError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

SENTENCES = {404: "There is nothing at this path.", 413: "The body is larger than this takes."}
"""Where Litestar knows no more than the status."""

RETRY_AFTER_S = 2
"""A server that is back is used at once; asking it more often would not help."""


class Error(msgspec.Struct, frozen=True):
    """What went wrong."""

    error: str
    """One sentence, for people."""


class Unavailable(Exception):  # noqa: N818  # named as the status is
    """Not now: 503, or 429 where the caller asks too much.

    Args:
        sentence: why.
        status: 503 or 429.
    """

    def __init__(self, sentence: str, status: int = 503) -> None:
        super().__init__(sentence)
        self.status = status


def refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response[Error]:
    """An answer that says no."""
    more = dict(headers or {})
    if status in (429, 503):
        more.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(Error(sentence), status_code=status, headers=more, media_type="application/json")


def of_http(request: Request[Any, Any, Any], error: HTTPException) -> Response[Error]:
    """Litestar's own: no such path, wrong method, wrong parameter..."""
    headers = {name: value for name, value in (error.headers or {}).items() if name.lower() != "content-type"}
    status = error.status_code
    if status == 405:
        return refusal(status, f"This path does not take {request.method}.", headers)
    if status in SENTENCES and error.detail == HTTPStatus(status).phrase:
        return refusal(status, SENTENCES[status], headers)
    if status >= 500:
        # A sender that goes away in the midst of its body is an everyday thing, and nobody's to mend.
        level = logging.DEBUG if "disconnected" in str(error.detail) else logging.ERROR
        logger.log(level, "answered %d: %s", status, error.detail)
        return refusal(status, "Something is wrong here; the server's log says what.", headers)
    return refusal(status, _sentence(error), headers)


def of_usage(_: Request[Any, Any, Any], error: UsageError | EventError) -> Response[Error]:
    """The caller's."""
    return refusal(400, str(error))


def of_dependency(_: Request[Any, Any, Any], error: DependencyError) -> Response[Error]:
    """A server's that is away."""
    return refusal(503, str(error))


def of_unavailable(_: Request[Any, Any, Any], error: Unavailable) -> Response[Error]:
    """Too much at once."""
    return refusal(error.status, str(error))


def of_ours(request: Request[Any, Any, Any], error: Exception) -> Response[Error]:
    """Ours."""
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return refusal(500, "Something is wrong here; the server's log says what.")


HANDLERS: dict[int | type[Exception], Callable[[Request[Any, Any, Any], Any], Response[Any]]] = {
    HTTPException: of_http,
    UsageError: of_usage,
    EventError: of_usage,
    DependencyError: of_dependency,
    Unavailable: of_unavailable,
    Exception: of_ours,
}


_NO_BODY = "data: 'data'"
"""How Litestar tells that there is none."""


def _sentence(error: HTTPException) -> str:
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        flaws = [
            f"{each.get('key', 'the body')}: {each.get('message', 'is wrong')}"
            for each in error.extra
            if isinstance(each, dict)
        ]
        if flaws == [_NO_BODY]:
            return "The body is empty."
        if flaws:
            return "; ".join(flaws)[:1_000]
    return str(error.detail)[:1_000]
