"""Dead letters: who they are, which wait, and that none goes twice."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from stream.dead_letters import LETTERS_A_STEP, DeadLetter, distinct, from_record, redrive, waiting
from stream.errors import DependencyError


class Record(NamedTuple):
    headers: list[tuple[str, bytes]]
    partition: int = 0
    offset: int = 0
    key: bytes | None = b"B001"
    value: bytes | None = b"{"


def record(offset: int = 12, *, value: bytes | None = b"{", **headers: str) -> Record:
    named = {
        "stage": "decode",
        "reason": "not JSON",
        "source_topic": "reviews",
        "source_partition": "3",
        "source_offset": str(offset),
        "failed_at": "2024-01-17T10:00:00Z",
    } | headers
    return Record([(name, text.encode()) for name, text in named.items()], value=value)


def letter(offset: int, value: bytes | None = b"{") -> DeadLetter:
    return from_record(record(offset, value=value), "reviews")


class Memory:
    """What was redriven, in a set."""

    def __init__(self) -> None:
        self.known: set[str] = set()

    def among(self, letters: list[DeadLetter]) -> list[bool]:
        return [each.identity in self.known for each in letters]

    def remember(self, letters: list[DeadLetter]) -> None:
        self.known |= {each.identity for each in letters}


class Broker:
    """Takes records; ``fails_after`` that many, flushing fails."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.sent: list[tuple[str, bytes | None, bytes | None, list[tuple[str, bytes]] | None]] = []
        self._fails_after = fails_after

    def send_record(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: list[tuple[str, bytes]] | None = None,
    ) -> None:
        self.sent.append((topic, key, value, headers))

    def flush(self) -> None:
        if self._fails_after is not None and len(self.sent) > self._fails_after:
            raise DependencyError("Kafka is away")


def test_a_letter_says_where_it_came_from_and_why() -> None:
    found = letter(12)
    assert (found.source, found.stage, found.reason) == ("reviews/3/12", "decode", "not JSON")
    assert (found.key, found.value) == (b"B001", b"{")


def test_a_record_without_our_headers_is_known_by_its_own_place() -> None:
    found = from_record(Record([("source_offset", b"x")], partition=0, offset=5), "reviews")
    assert (found.source, found.stage) == ("reviews/0/5", "unknown")


def test_a_header_cannot_send_a_letter_to_another_topic() -> None:
    assert from_record(record(source_topic="payments"), "reviews").topic == "reviews"


def test_headers_that_are_no_utf8_do_no_harm() -> None:
    found = from_record(Record([("reason", b"\xff\xfe"), ("stage", b"decode")]), "reviews")
    assert found.reason == "\ufffd\ufffd"


def test_a_letter_published_twice_is_one() -> None:
    copies = [record(1), record(2), record(1, failed_at="2024-01-17T10:00:09Z"), record(2)]
    assert [each.offset for each in distinct(copies, "reviews")] == [1, 2]


def test_a_topic_made_anew_has_letters_of_its_own() -> None:
    again = [record(1, value=b"{"), record(1, value=b"[")]
    assert len(list(distinct(again, "reviews"))) == 2


def test_bytes_and_key_go_back_as_they_were_with_a_header() -> None:
    broker = Broker()
    odd = DeadLetter(
        topic="chats",
        partition=1,
        offset=7,
        stage="decode",
        reason="r",
        failed_at="",
        key=None,
        value=b"\xff\0",
    )
    assert redrive([odd], broker, Memory()) == 1
    assert broker.sent == [("chats", None, b"\xff\0", [("redriven_from", b"chats/1/7")])]


def test_none_goes_twice() -> None:
    letters = [letter(n) for n in range(2 * LETTERS_A_STEP + 5)]
    memory, broker = Memory(), Broker()
    for _ in range(3):
        redrive(waiting(letters, memory), broker, memory)
    assert len(broker.sent) == len(letters)
    assert list(waiting(letters, memory)) == []


def test_only_acknowledged_letters_are_remembered() -> None:
    letters = [letter(n) for n in range(2 * LETTERS_A_STEP)]
    memory = Memory()
    with pytest.raises(DependencyError):
        redrive(letters, Broker(fails_after=LETTERS_A_STEP), memory)
    assert [each.offset for each in waiting(letters, memory)] == list(
        range(LETTERS_A_STEP, 2 * LETTERS_A_STEP)
    )


def test_a_letter_that_was_cut_says_so() -> None:
    assert from_record(record(12, cut_from="2000000"), "reviews").is_cut
    assert not letter(12).is_cut
