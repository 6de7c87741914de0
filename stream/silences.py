"""Silences and acknowledgements, in Redis: ``<ns>:silences`` and ``<ns>:acks``, hashes of JSON by id.

Rules:
- They belong to no generation of counters: a rebuild or a reshard leaves them alone.
- Reading writes nothing. Whoever adds one removes what has been over for ``KEPT_MS``, so that the list stays
  short and last night's can still be looked up.
- What cannot be read (a newer version's) is passed over, with a word in the log: it silences nothing.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec.structs import replace

from stream.core.silence import Acknowledgement, Said, Silence
from stream.errors import DependencyError, UsageError
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.redis_config import Client
    from stream.redis_trip import Command
    from stream.settings import Settings

logger = logging.getLogger(__name__)

KEPT_MS = 86_400_000
ACKNOWLEDGED_MS = 30 * 86_400_000
"""After so long an acknowledgement is removed: what fires still then is told again."""

T = TypeVar("T", Silence, Acknowledgement)


class Silences:
    """What people said about alerts.

    Args:
        settings: whose namespace.
        client: from ``stream.redis_config.connect``; stays the caller's to close.
    """

    def __init__(self, settings: Settings, client: Client) -> None:
        self._url = settings.redis
        self._client = client
        self._silences = f"{settings.namespace}:silences"
        self._acknowledged = f"{settings.namespace}:acks"
        self._passed_over: set[bytes] = set()

    def read(self) -> Said:
        """All that was said, silences by their start; those over since yesterday included.

        Raises:
            DependencyError: Redis is away or refuses.
        """
        silences, acknowledged = self._trip(("HGETALL", self._silences), ("HGETALL", self._acknowledged))
        found = sorted(self._decoded(silences, Silence), key=lambda each: (each.start_ms, each.id))
        return Said(found, {each.alert_id: each for each in self._decoded(acknowledged, Acknowledgement)})

    def add(self, silence: Silence, now_ms: int) -> None:
        """Adds a silence.

        Args:
            silence: it.
            now_ms: the time, for the removal of old ones.

        Raises:
            UsageError: a text is too long, or no text.
            DependencyError: Redis is away or refuses.
        """
        self._put(self._silences, silence.id, silence)
        ended = [each.id for each in self.read().silences if each.end_ms + KEPT_MS <= now_ms]
        self._remove(self._silences, ended)

    def end(self, silence_id: str, now_ms: int) -> Silence:
        """Ends a silence now.

        Returns:
            It, as it was.

        Raises:
            UsageError: there is none of this id, or it is over.
            DependencyError: Redis is away or refuses.
        """
        silence = next((each for each in self.read().silences if each.id == silence_id), None)
        if silence is None or silence.end_ms <= now_ms:
            what = "There is no silence" if silence is None else "Over already is the silence"
            raise UsageError(f"{what} {silence_id!r}: `reviewpulse silences` lists those there are.")
        ended = replace(silence, start_ms=min(silence.start_ms, now_ms), end_ms=now_ms)
        self._put(self._silences, silence_id, ended)
        return silence

    def acknowledge(self, acknowledgement: Acknowledgement) -> None:
        """Notes that somebody looks after an alert or an incident; the last one to say so counts.

        Raises:
            UsageError: a text is too long, or no text.
            DependencyError: Redis is away or refuses.
        """
        self._put(self._acknowledged, acknowledgement.alert_id, acknowledgement)
        old_ms = acknowledgement.at_ms - ACKNOWLEDGED_MS
        known = self.read().acknowledged.values()
        self._remove(self._acknowledged, [each.alert_id for each in known if each.at_ms <= old_ms])

    def _put(self, key: str, id_: str, said: T) -> None:
        try:
            encoded = msgspec.json.encode(said)
            msgspec.json.decode(encoded, type=type(said))
        except ValueError as error:  # MsgspecError is one, and so is what says that it is no Unicode
            raise UsageError(f"That cannot be noted: {error}.") from None
        self._trip(("HSET", key, id_, encoded))

    def _remove(self, key: str, ids: list[str]) -> None:
        if ids:
            self._trip(("HDEL", key, *ids))

    def _decoded(self, found: Mapping[bytes, bytes], kind: type[T]) -> list[T]:
        said = []
        for id_, value in found.items():
            try:
                said.append(msgspec.json.decode(value, type=kind))
            except ValueError as error:
                if id_ not in self._passed_over:
                    self._passed_over.add(id_)
                    logger.warning("passed over what is no %s: %r: %r", kind.__name__, id_, str(error))
        return said

    def _trip(self, *commands: Command) -> list[Any]:
        try:
            return exchange(self._client, commands)
        except REDIS_ERRORS as error:
            where = f"Cannot reach silences and acknowledgements. {told(error, self._url)}"
            raise DependencyError(where) from error
