"""Redis, as an erasure talks to it: what it removes is counted, and a dry one only counts."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from stream.redis_errors import REDIS_ERRORS, failure
from stream.redis_trip import exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from stream.erasure.report import Tally
    from stream.redis_config import Client
    from stream.redis_trip import Command
    from stream.settings import Settings

REWRITE_SCRIPT = files("stream.erasure").joinpath("rewrite.lua").read_text("utf-8")


class Redis:
    """One run's commands.

    Args:
        settings: where Redis is.
        client: from ``stream.redis_config.connect``; stays the caller's to close.
        tally: what is removed is added to it.
        dry: changes nothing, and only counts.
    """

    def __init__(self, settings: Settings, client: Client, tally: Tally, *, dry: bool) -> None:
        self.namespace = settings.namespace
        self.dry = dry
        self._redis = settings.redis
        self._client = client
        self._tally = tally

    def trip(self, *commands: Command) -> list[Any]:
        """Sends commands; their replies.

        Raises:
            UsageError: Redis refuses us.
            DependencyError: it is away.
        """
        try:
            return exchange(self._client, commands)
        except REDIS_ERRORS as error:
            raise failure(error, self._redis, at_start=True) from error

    def keys(self, *patterns: str) -> list[str]:
        """Keys of the namespace, sorted; raises as ``trip``."""
        try:
            found = {
                key.decode()
                for pattern in patterns
                for key in self._client.scan_iter(f"{self.namespace}:{pattern}", count=1000)
            }
        except REDIS_ERRORS as error:
            raise failure(error, self._redis, at_start=True) from error
        return sorted(found)

    def entries(self, key: str) -> dict[bytes, dict[bytes, bytes]]:
        """The fields of a stream's entries, by id."""
        (entries,) = self.trip(("XRANGE", key, "-", "+"))
        return {place: _fields(fields) for place, fields in entries}

    def rewrite(self, what: str, key: str, field: bytes, change: Callable[[bytes], bytes | None]) -> None:
        """Changes a field of a stream's entries, where ``change`` gives another value."""
        edits = {}
        for place, fields in self.entries(key).items():
            raw = fields.get(field)
            changed = None if raw is None else change(raw)
            if changed is not None and changed != raw:
                edits[place] = changed
        self._tally.removed[what] += len(edits)
        if edits and not self.dry:
            flat = [part for pair in edits.items() for part in pair]
            self.trip(("EVAL", REWRITE_SCRIPT, 1, key, field, *flat))

    def drop_fields(self, what: str, key: str, fields: Iterable[str | bytes]) -> None:
        """Drops those fields of a hash that are there."""
        wanted = list(fields)
        if not wanted:
            return
        if self.dry:
            (held,) = self.trip(("HMGET", key, *wanted))
            self._tally.removed[what] += sum(each is not None for each in held)
        else:
            (gone,) = self.trip(("HDEL", key, *wanted))
            self._tally.removed[what] += gone


def _fields(fields: Any) -> dict[bytes, bytes]:
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))
