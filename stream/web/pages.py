"""The pages for people: shells, scripts and styles, as they ship in the package.

Rules:
- Nothing here knows an event, an alert or a person: all data comes through the API, with its tokens. So the
  pages themselves need none.
- All of it is read once, at the start; a request looks a name up among those, so no path leads elsewhere.
- Scripts and styles lie under a version, the hash of them all, and may be kept for a year; a shell names the
  version and is asked for again each time, which costs a 304.
- The content security policy allows our own files alone: no inline script or style, no other host; no text
  becomes markup (Trusted Types, where the browser has them).
- A shell is in the reader's language and theme before any script runs: by the cookies that the switches set,
  else by ``Accept-Language`` and the system's theme.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from litestar import Request, Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath  # noqa: TC002  # Litestar reads the annotations

from stream.pages import template
from stream.web.shared import Part

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.web.shared import Shared

STATIC = Path(__file__).parent / "static"
SHELLS = Path(__file__).parent / "shells"

Page = Literal["overview", "product", "alerts"]
PAGES: tuple[Page, ...] = ("overview", "product", "alerts")
LANGUAGES = ("en", "zh")
THEMES = ("auto", "light", "dark")
LANGUAGE_COOKIE, THEME_COOKIE = "reviewpulse-language", "reviewpulse-theme"

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    "": "text/plain; charset=utf-8",
}
PUBLISHED = frozenset({".css", ".js", ".svg", ""})

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
"""Of every answer of the pages; ``stream.web.gate`` adds those that every answer has."""

A_YEAR = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """Something to send, plain and compressed."""

    body: bytes
    packed: bytes
    etag: str
    media_type: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> Asset:
        """Compresses it and names it by its hash."""
        return cls(
            body, gzip.compress(body, mtime=0), f'"{hashlib.sha256(body).hexdigest()[:24]}"', media_type
        )


class Site(NamedTuple):
    """All there is to send."""

    version: str
    """Of scripts and styles."""
    files: Mapping[str, Asset]
    """By path below ``/static/<version>/``."""
    shells: Mapping[tuple[Page, str, str], Asset]
    """By page, language and theme."""


def texts(language: str) -> dict[str, str]:
    """The interface's texts in a language, by key."""
    found: dict[str, str] = json.loads((STATIC / "texts" / f"{language}.json").read_text("utf-8"))
    return found


@cache
def site() -> Site:
    """Everything, read and made ready at the first call."""
    bodies = {
        path.relative_to(STATIC).as_posix(): path.read_bytes()
        for path in sorted(STATIC.rglob("*"))
        if path.is_file() and path.suffix in PUBLISHED
    }
    digest = hashlib.sha256()
    for name, body in bodies.items():
        digest.update(f"{name}\0{len(body)}\0".encode() + body)
    version = digest.hexdigest()[:16]
    files = {name: Asset.of(body, MEDIA_TYPES[Path(name).suffix]) for name, body in bodies.items()}
    shells = {
        (page, language, theme): Asset.of(
            _shell(page, language, theme, version, files), "text/html; charset=utf-8"
        )
        for page in PAGES
        for language in LANGUAGES
        for theme in THEMES
    }
    return Site(version, files, shells)


def _shell(page: Page, language: str, theme: str, version: str, files: Mapping[str, Asset]) -> bytes:
    known = texts(language)
    modules = sorted(name for name in files if name.startswith("js/") and not name.startswith("js/pages/"))
    return (
        template(SHELLS / f"{page}.html")
        .render(
            page=page,
            language=language,
            theme=theme,
            static=f"/static/{version}",
            modules=modules,
            t=known.__getitem__,
            # A data block: `<` could end it early or open a comment.
            texts=json.dumps(known, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
        )
        .encode()
    )


def chosen_language(accept_language: str, cookie: str | None) -> str:
    """The interface's language: what the reader chose, else the best that the browser asks for.

    >>> chosen_language("de, zh-CN;q=0.8, en;q=0.5", None), chosen_language("zh", "en")
    ('zh', 'en')
    """
    if cookie in LANGUAGES:
        return cookie
    wanted: list[tuple[float, int, str]] = []
    for place, each in enumerate(accept_language.split(",")[:20]):
        tag, _, weight = each.partition(";")
        found = re.fullmatch(r"\s*q=([01](?:\.\d{0,3})?)\s*", weight)
        quality = float(found[1]) if found else 1.0
        name = tag.strip().lower().partition("-")[0]
        if name in LANGUAGES and quality > 0:
            wanted.append((-quality, place, name))
    return min(wanted, default=(0.0, 0, LANGUAGES[0]))[2]


def _answer(request: Request[Any, Any, Any], asset: Asset, headers: Mapping[str, str]) -> Response[bytes]:
    common = {**HEADERS, **headers, "ETag": asset.etag}
    if asset.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=common)
    is_packed = "gzip" in request.headers.get("accept-encoding", "")
    if is_packed:
        common["Content-Encoding"] = "gzip"
    return Response(asset.packed if is_packed else asset.body, media_type=asset.media_type, headers=common)


def _shell_answer(request: Request[Any, Any, Any], page: Page) -> Response[bytes]:
    language = chosen_language(
        request.headers.get("accept-language", ""), request.cookies.get(LANGUAGE_COOKIE)
    )
    theme = request.cookies.get(THEME_COOKIE, "auto")
    asset = site().shells[page, language, theme if theme in THEMES else "auto"]
    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Language": language,
        "Vary": "Accept-Encoding, Accept-Language, Cookie",
    }
    return _answer(request, asset, headers)


@get("/", include_in_schema=False, sync_to_thread=False)
def overview_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """What goes on, and what needs looking at."""
    return _shell_answer(request, "overview")


@get("/product", include_in_schema=False, sync_to_thread=False)
def product_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """One product; which one, its script reads from the address."""
    return _shell_answer(request, "product")


@get("/alerts", include_in_schema=False, sync_to_thread=False)
def alerts_page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """All alerts, with filters."""
    return _shell_answer(request, "alerts")


@get("/static/{version:str}/{file:path}", include_in_schema=False, sync_to_thread=False)
def static_file(
    request: Request[Any, Any, Any], version: FromPath[str], file: FromPath[Path]
) -> Response[bytes]:
    """A script, style or picture.

    Raises:
        NotFoundException: there is none of this name.
    """
    asset = site().files.get(str(file).lstrip("/"))
    if asset is None:
        raise NotFoundException(f"There is no file {str(file)!r}.")
    # Under another version's name it is not what that name promised for a year.
    kept = A_YEAR if version == site().version else "no-cache"
    return _answer(request, asset, {"Cache-Control": kept, "Vary": "Accept-Encoding"})


@get("/favicon.ico", include_in_schema=False, sync_to_thread=False)
def icon(request: Request[Any, Any, Any]) -> Response[bytes]:
    """Browsers ask for it by this name, whatever a page says."""
    return _answer(
        request,
        site().files["icon.svg"],
        {"Cache-Control": "public, max-age=86400", "Vary": "Accept-Encoding"},
    )


def part(_: Shared) -> Part:
    """The routes of the pages; they need nothing of what is shared."""
    return Part([overview_page, product_page, alerts_page, static_file, icon])
