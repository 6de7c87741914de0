"""Which bundle a fleet scores with, in Redis: what was promoted, and what is proposed.

    <ns>:bundle            JSON, a ``Promotion``: every worker scores with it, also one that starts later
    <ns>:bundle:proposed   JSON, a ``Proposal``, for as long as a command stands behind it

Rules:
- Without ``<ns>:bundle`` each worker scores with the bundle it is configured with.
- A bundle is named by its folder and by the SHA-256 of its manifest, which in turn has those of the other
  files. A worker that finds anything else in the folder does not use it.
- A proposal is there for ``LEASE_S``, and its command renews it. So a command that was killed leaves nothing
  behind: the workers drop the candidate. There is one at a time.
- The switch is one compare-and-set of ``<ns>:bundle``: of two commands that would change it one fails.
- Who promotes, the workers and the clocks of their machines need not agree on the time.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import msgspec

from stream import bundle
from stream.core.shadow import Gates
from stream.errors import BundleError, DependencyError, UsageError
from stream.redis_config import connect
from stream.redis_errors import REDIS_ERRORS, failure, words
from stream.redis_trip import exchange, exchange_async
from stream.store.layout import read_written

if TYPE_CHECKING:
    from stream.bundle import Manifest
    from stream.redis_config import AsyncClient
    from stream.redis_trip import Command
    from stream.settings import Settings

LEASE_S = 15.0
"""Thrice what a command lets pass between two renewals, and then some."""

_SET_IF_SAME = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2])
return 1
"""
_RENEW_IF_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
_DROP_IF_SAME = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
"""


class Named(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle, as one program names it to another."""

    path: str
    """Its folder, as every worker's machine has it."""
    version: str
    manifest: bundle.Sha256
    """SHA-256 of its manifest."""


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """What ``<ns>:bundle`` says."""

    bundle: Named | None
    """None: what each worker is configured with."""
    previous: Named | None
    """What it took the place of; `reviewpulse bundle rollback` goes back to it."""
    by: str
    """Who, for people: user@host."""
    at: str
    """RFC 3339."""
    ungated: bool = False
    """Whether it was taken without a comparison: forced, or rolled back to."""


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """What ``<ns>:bundle:proposed`` says."""

    id: str
    bundle: Named | None
    by: str
    at: str
    gates: Gates = Gates()
    compares: bool = True
    """Whether live texts are compared; else it is enough that it loads."""


class Found(NamedTuple):
    """Both keys, as read."""

    promotion: Promotion | None
    proposal: Proposal | None
    raw: bytes
    """Of the promotion; empty where there is none."""


def named(folder: Path, manifest: Manifest) -> Named:
    """A bundle whose manifest was just read from ``folder``."""
    whole = folder.resolve()
    return Named(path=str(whole), version=manifest.version, manifest=bundle.sha256(whole / bundle.MANIFEST))


def check_named(which: Named) -> None:
    """That the folder holds the very bundle that was named; ``stream.bundle.verify`` reads the rest.

    Raises:
        BundleError: it is another one, or none.
    """
    manifest = bundle.load_manifest(Path(which.path))
    if bundle.sha256(Path(which.path) / bundle.MANIFEST) != which.manifest:
        raise BundleError(
            f"{which.path} holds another bundle ({manifest.version}) than {which.version}, which was"
            " promoted: its manifest has another checksum. Copy the promoted one there, or promote this one."
        )


def new_id() -> str:
    """A name for a proposal."""
    return uuid4().hex[:12]


_read_promotion = msgspec.json.Decoder(Promotion).decode
_read_proposal = msgspec.json.Decoder(Proposal).decode
_read_changes = msgspec.json.Decoder(list[tuple[int, str]]).decode


def read_promotion(raw: bytes | None) -> Promotion | None:
    """What ``<ns>:bundle`` holds.

    Raises:
        UsageError: another version of Reviewpulse promoted in other words.
    """
    try:
        return _read_promotion(raw) if raw else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            "Redis does not say which bundle was promoted in words that this version knows"
            f" ({error}): promote with the version that the workers run."
        ) from None


def with_promoted(settings: Settings) -> Settings:
    """Settings whose bundle is what was promoted, where one was: what the workers score with.

    Raises:
        UsageError: another version of Reviewpulse promoted in other words.
        BundleError: the promoted bundle is not on this machine.
        DependencyError: Redis is away.
    """
    if settings.scorer == "constant":
        return settings
    try:
        with connect(settings) as client:
            (raw,) = exchange(client, [("GET", f"{settings.namespace}:bundle")])
    except REDIS_ERRORS as error:
        raise failure(error, settings.redis, at_start=True) from error
    promotion = read_promotion(raw)
    if promotion is None or promotion.bundle is None:
        return settings
    check_named(promotion.bundle)
    return settings.model_copy(update={"bundle": Path(promotion.bundle.path)})


class Promotions:
    """The two keys of a namespace.

    Every call raises ``DependencyError`` when Redis is away.

    Args:
        client: from ``stream.redis_config.connect_async``.
        namespace: prefix of every Redis key.
    """

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._key, self._proposed = f"{namespace}:bundle", f"{namespace}:bundle:proposed"

    async def read(self) -> Found:
        """Both keys.

        Raises:
            UsageError: another version of Reviewpulse promoted in other words.
        """
        promoted, proposed = await self._trip(("GET", self._key), ("GET", self._proposed))
        try:
            proposal = _read_proposal(proposed) if proposed else None
        except msgspec.MsgspecError:
            proposal = None  # of another version: for the workers of that one
        return Found(read_promotion(promoted), proposal, promoted or b"")

    async def propose(self, proposal: Proposal) -> bool:
        """Proposes a bundle; False while another proposal stands."""
        lease_ms = round(LEASE_S * 1000)
        encoded = msgspec.json.encode(proposal)
        (done,) = await self._trip(("SET", self._proposed, encoded, "NX", "PX", lease_ms))
        return bool(done)

    async def renew(self, proposal: Proposal) -> bool:
        """Keeps a proposal for another ``LEASE_S``; False when it is gone."""
        return await self._script(_RENEW_IF_SAME, self._proposed, proposal, round(LEASE_S * 1000))

    async def withdraw(self, proposal: Proposal) -> None:
        """Takes a proposal back."""
        await self._script(_DROP_IF_SAME, self._proposed, proposal)

    async def promote(self, found: Found, promotion: Promotion) -> bool:
        """Makes a bundle the one to score with; False when ``<ns>:bundle`` has changed since ``found``."""
        encoded = msgspec.json.encode(promotion)
        (done,) = await self._trip(("EVAL", _SET_IF_SAME, 1, self._key, found.raw, encoded))
        return bool(done)

    async def changes(self) -> dict[str, list[tuple[int, str]]]:
        """Which model scored from which offset on, by partition, in the live generation; the latest ones."""
        (raw,) = await self._trip(("GET", f"{self._namespace}:layout"))
        if raw is None:
            return {}
        (noted,) = await self._trip(("HGETALL", read_written(raw).layout(self._namespace).models))
        return {name.decode(): _read_changes(value) for name, value in noted.items()}

    async def close(self) -> None:
        """Disconnects."""
        await self._client.aclose()

    async def _script(self, script: str, key: str, proposal: Proposal, *more: int) -> bool:
        (done,) = await self._trip(("EVAL", script, 1, key, msgspec.json.encode(proposal), *more))
        return bool(done)

    async def _trip(self, *commands: Command) -> list[Any]:
        try:
            return await exchange_async(self._client, commands)
        except REDIS_ERRORS as error:
            raise DependencyError(f"Redis: {words(error)}") from error
