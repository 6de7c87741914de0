"""What ``REVIEWPULSE_REDIS`` may say: one server, sentinels, or a cluster; over TLS or not.

Rules:
- ``redis://`` leads to one server and is read by redis-py. ``redis+sentinel://host:port,host:port/service/db``
  leads to sentinels that know the primary, ``redis+cluster://host:port,host:port`` to nodes of a cluster;
  these two are read here. ``rediss`` instead of ``redis`` is any of them over TLS.
- Nothing of a password is ever in a message.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, Self
from urllib.parse import SplitResult, unquote, urlunsplit

REDIS_PORT = 6379
SENTINEL_PORT = 26379

SCHEMES = {f"{plain}{more}" for plain in ("redis", "rediss") for more in ("", "+sentinel", "+cluster")}

Address = tuple[str, int]

_URL = re.compile(r"(?:([^:/?#]+):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
"""RFC 3986, appendix B: newer Pythons' ``urlsplit`` refuses a bracketed address in a list of hosts."""


class Topology(NamedTuple):
    """What a URL with several addresses leads to.

    >>> Topology.of("rediss+sentinel://ops@s1.example,s2.example:26380/counters/3")
    ... # doctest: +NORMALIZE_WHITESPACE
    Topology(kind='sentinel', tls=True, addresses=[('s1.example', 26379), ('s2.example', 26380)],
             username='ops', password=None, service='counters', db=3)
    >>> Topology.of("redis+cluster://10.0.0.1:7000,[::1]:7001").addresses
    [('10.0.0.1', 7000), ('::1', 7001)]
    """

    kind: Literal["sentinel", "cluster"]
    tls: bool
    addresses: list[Address]
    username: str | None
    password: str | None
    service: str
    """The name that sentinels know the primary by; empty for a cluster."""
    db: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Takes a URL apart.

        Raises:
            ValueError: it is wrong; the message follows "... is no Redis URL: ".
        """
        parts = _split(url)
        kind = _kind(parts.scheme)
        if parts.query or parts.fragment:
            raise ValueError(f"{parts.scheme}:// takes no options after '?' or '#'")
        credentials, _, hosts = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        default_port = SENTINEL_PORT if kind == "sentinel" else REDIS_PORT
        service, db = _service_and_db(kind, unquote(parts.path))
        return cls(
            kind,
            parts.scheme.startswith("rediss"),
            [_address(each, default_port) for each in hosts.split(",")],
            unquote(username) or None,
            unquote(password) or None,
            service,
            db,
        )


def is_cluster(url: str) -> bool:
    """Whether the URL leads to a cluster.

    >>> is_cluster("rediss+cluster://10.0.0.1:7000"), is_cluster("redis://10.0.0.1:7000")
    (True, False)
    """
    return scheme_of(url).endswith("+cluster")


def scheme_of(url: str) -> str:
    """What stands before ``://``, in lower case; empty where there is none.

    >>> scheme_of("REDISS+cluster://[::1]:7001,10.0.0.1")
    'rediss+cluster'
    """
    return _split(url).scheme


def has_stray_at(url: str) -> bool:
    """Whether an @ stands where it ends no user and password: a password has a /, or the :// is not right.

    >>> has_stray_at("redis://ops:sec/ret@cache"), has_stray_at("redis://ops:secret@cache/0")
    (True, False)
    """
    parts = _split(url)
    return "@" in f"{parts.scheme}{parts.path}{parts.query}{parts.fragment}"


def shown_url(url: str) -> str:
    """The URL as logs and messages may show it: without the password.

    >>> shown_url("rediss://ops:secret@cache.example:6380/2")
    'rediss://ops:***@cache.example:6380/2'
    >>> shown_url("redis://ops:sec/ret@cache.example"), shown_url("redis//ops:secret@cache.example")
    ('redis://***@cache.example', '***@cache.example')
    """
    parts = _split(url)
    if has_stray_at(url):
        # Nobody knows where the password begins and ends: nothing before the last @ is shown.
        place = re.split(r"[/?#]", url.rpartition("@")[2], maxsplit=1)[0]
        return f"{parts.scheme}://***@{place}" if parts.scheme in SCHEMES else f"***@{place}"
    credentials, at, place = parts.netloc.rpartition("@")
    user, colon, _ = credentials.partition(":")
    # A query may carry `password=`, too, and nothing in it helps a reader.
    return urlunsplit((parts.scheme, f"{user}{colon and ':***'}{at}{place}", parts.path, "", ""))


def _split(url: str) -> SplitResult:
    found = _URL.fullmatch(url)
    assert found is not None, "whatever the text, it has these parts"
    scheme, *rest = (part or "" for part in found.groups())
    return SplitResult(scheme.lower(), *rest)


def _kind(scheme: str) -> Literal["sentinel", "cluster"]:
    match scheme.split("+"):
        case ["redis" | "rediss", "sentinel"]:
            return "sentinel"
        case ["redis" | "rediss", "cluster"]:
            return "cluster"
    raise ValueError(
        "it must begin with redis://, redis+sentinel:// or redis+cluster://, or with rediss for TLS"
    )


def _address(text: str, default_port: int) -> Address:
    # An IPv6 address stands in brackets: only a colon behind them begins a port.
    behind_brackets = text.rpartition("]")[2]
    host, _, port = text.rpartition(":") if ":" in behind_brackets else (text, "", str(default_port))
    host = host.strip("[]")
    if not host:
        raise ValueError("an address has no host: write host:port,host:port")
    if not (port.isascii() and port.isdecimal() and 0 < int(port) < 1 << 16):
        raise ValueError(f"'{port}' is no port")
    return host, int(port)


def _service_and_db(kind: str, path: str) -> tuple[str, int]:
    if kind == "cluster":
        if path not in {"", "/", "/0"}:
            raise ValueError(f"a cluster has only database 0: leave out '{path}'")
        return "", 0
    service, _, db = path.removeprefix("/").partition("/")
    if not service:
        raise ValueError("the primary's name is missing: write redis+sentinel://host:port,host:port/name")
    if not (db or "0").isdecimal():
        raise ValueError(f"'{db}' is no database number")
    return service, int(db or 0)
