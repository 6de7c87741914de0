"""Dead letters: what could not be counted, why, and sending it again after a fix.

Rules:
- A letter is known by where it came from: topic, partition, offset, and a hash of its bytes, since a topic
  made anew starts its offsets over. The worker publishes letters at least once; repeats are one letter here.
- Redriving sends the bytes and key as they were received, with a header ``redriven_from``, to the topic they
  came from. The event passes the worker like any other: fixed, it is counted; still bad, it becomes a new
  letter of its own. A letter that was cut, because the record was too large for one, stays where it is.
- Which letters went is remembered in Redis, so that none goes twice. A letter is remembered when Kafka has
  acknowledged it: a redrive that is killed between the two (at most ``LETTERS_A_STEP`` letters) sends those
  again next time. Within the horizon of duplicates their events are counted once all the same, beyond it
  twice. The other order would lose them.
- Letters stay in their topic until its retention ends; the memory of redriven ones is kept longer than that.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import msgspec

from stream.client.log import read_topic
from stream.errors import DependencyError
from stream.redis_errors import REDIS_ERRORS, told
from stream.redis_trip import exchange
from stream.settings import dead_letter_topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from stream.redis_config import Client
    from stream.settings import Settings

LETTERS_A_STEP = 100


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One record that could not be counted."""

    topic: str
    """Where it was sent to first."""
    partition: int
    offset: int
    stage: str
    """The room that refused it."""
    reason: str
    failed_at: str
    """RFC 3339."""
    key: bytes | None
    value: bytes | None
    is_cut: bool = False
    """The record was too large for a letter, and only its beginning is here: it cannot be redriven."""

    @property
    def identity(self) -> str:
        """Same for every copy of this letter, another for every other letter.

        >>> letter(b"{").identity
        'reviews/3/12/5fcf2a3d'
        """
        value_hash = hashlib.blake2b(self.value or b"", digest_size=4).hexdigest()
        return f"{self.source}/{value_hash}"

    @property
    def source(self) -> str:
        """Topic, partition and offset it came from."""
        return f"{self.topic}/{self.partition}/{self.offset}"


class RecordSender(Protocol):
    """What redriving needs of ``stream.client.EventProducer``."""

    def send_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        """Queues a record."""
        ...

    def flush(self) -> None:
        """Waits until all is acknowledged."""
        ...


class Memory(Protocol):
    """Which letters were sent again; ``Redriven`` is the real one."""

    def among(self, letters: list[DeadLetter]) -> list[bool]:
        """Whether each of ``letters`` was redriven."""
        ...

    def remember(self, letters: list[DeadLetter]) -> None:
        """Notes that ``letters`` were redriven."""
        ...


class Redriven:
    """Remembers in Redis which letters were sent again."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._settings = settings
        self._client = client
        self._key = f"{settings.namespace}:redriven"
        # Letters outlive the events' own retention by as much as they were late; twice it covers both.
        self._kept_s = 2 * settings.retention_h * 3600

    def among(self, letters: list[DeadLetter]) -> list[bool]:
        """Whether each of ``letters`` was redriven.

        Raises:
            DependencyError: Redis is away.
        """
        if not letters:
            return []
        try:
            (known,) = exchange(
                self._client, [("SMISMEMBER", self._key, *(letter.identity for letter in letters))]
            )
        except REDIS_ERRORS as error:
            raise self._failed(error) from error
        return [bool(each) for each in known]

    def remember(self, letters: list[DeadLetter]) -> None:
        """Notes that ``letters`` were redriven.

        Raises:
            DependencyError: Redis is away.
        """
        try:
            exchange(
                self._client,
                [
                    ("SADD", self._key, *(letter.identity for letter in letters)),
                    ("EXPIRE", self._key, self._kept_s),
                ],
            )
        except REDIS_ERRORS as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> DependencyError:
        return DependencyError(
            "Which dead letters were redriven is remembered in Redis, and that cannot be asked."
            f" {told(error, self._settings.redis)}"
        )


def read_letters(settings: Settings, topics: Iterable[str]) -> Iterator[DeadLetter]:
    """Every letter there is now, without repeats, topic by topic and oldest first.

    Args:
        settings: where Kafka is.
        topics: source topics, e.g. ``reviews``.

    Raises:
        DependencyError: no broker answers, or there is no dead-letter topic.
    """
    for topic in topics:
        yield from distinct(read_topic(settings, dead_letter_topic(topic)), topic)


def distinct(records: Iterable[Any], topic: str) -> Iterator[DeadLetter]:
    """Letters from records of a dead-letter topic, without repeats.

    Args:
        records: kafka-python's.
        topic: the source topic.
    """
    seen: set[str] = set()
    for record in records:
        letter = from_record(record, topic)
        if letter.identity not in seen:
            seen.add(letter.identity)
            yield letter


def from_record(record: Any, topic: str) -> DeadLetter:
    """The letter that a record of the dead-letter topic of ``topic`` is."""
    headers = {name: value.decode("utf-8", "replace") for name, value in record.headers if value is not None}
    try:
        partition, offset = int(headers["source_partition"]), int(headers["source_offset"])
    except (KeyError, ValueError):
        # Not the worker's: its own place in the dead-letter topic must do.
        partition, offset = record.partition, record.offset
    return DeadLetter(
        topic=topic,
        partition=partition,
        offset=offset,
        stage=headers.get("stage", "unknown"),
        reason=headers.get("reason", "the record has no reason header"),
        failed_at=headers.get("failed_at", ""),
        key=record.key,
        value=record.value,
        is_cut="cut_from" in headers,
    )


def waiting(letters: Iterable[DeadLetter], redriven: Memory) -> Iterator[DeadLetter]:
    """Those of ``letters`` that were not redriven yet."""
    for step in _steps(letters):
        yield from (letter for letter, gone in zip(step, redriven.among(step), strict=True) if not gone)


def redrive(
    letters: Iterable[DeadLetter],
    sender: RecordSender,
    redriven: Memory,
    *,
    on_step: Callable[[int], None] = lambda _: None,
) -> int:
    """Sends letters to where they came from, and remembers it.

    Args:
        letters: those that wait.
        sender: takes them.
        redriven: the memory.
        on_step: called with the number sent so far.

    Returns:
        How many were sent.

    Raises:
        DependencyError: Kafka did not take some of them, or Redis is away; those sent before are remembered.
    """
    sent = 0
    for step in _steps(letters):
        for letter in step:
            sender.send_record(
                letter.topic, letter.key, letter.value, [("redriven_from", letter.source.encode())]
            )
        sender.flush()
        redriven.remember(step)
        sent += len(step)
        on_step(sent)
    return sent


def _steps(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    step: list[DeadLetter] = []
    for letter in letters:
        step.append(letter)
        if len(step) == LETTERS_A_STEP:
            yield step
            step = []
    if step:
        yield step
