"""Lines to events: which are sent, which are named."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.decode import Limits
from stream.errors import UsageError
from stream.ingest import LINES_A_STEP, Ingested, ingest
from stream.reading import NAMED, Flaws, open_file

if TYPE_CHECKING:
    from pathlib import Path

    from stream.core.events import Channel

NOW_MS = 1_700_000_000_000
LIMITS = Limits()


class Collected:
    """A sender that keeps what it is given; gives up everything from the ``fails_at``-th on."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.sent: list[tuple[str, str, bytes]] = []
        self.flushed_at: list[int] = []
        self._fails_at = fails_at

    @property
    def lost(self) -> int:
        return max(0, len(self.sent) - self._fails_at) if self._fails_at is not None else 0

    def send_encoded(self, channel: str, product_id: str, value: bytes) -> None:
        self.sent.append((channel, product_id, value))

    def flush(self) -> None:
        self.flushed_at.append(len(self.sent))


def review(**changes: Any) -> bytes:
    fields = {"event_id": "1", "product_id": "B001", "text": "Broken.", "event_time": 1_600_000_000}
    return json.dumps(fields | changes).encode()


def run(
    data: bytes, channel: Channel = "reviews", *, limits: Limits = LIMITS, sender: Collected | None = None
) -> tuple[Collected, Ingested]:
    sender = sender or Collected()
    progress = Ingested()
    ingest(io.BytesIO(data), channel, sender, limits, progress, now_ms=lambda: NOW_MS)
    return sender, progress


def test_good_lines_go_as_they_came_keyed_by_product() -> None:
    line = b'{"product_id": "B7",  "event_id": "1", "text": "x", "event_time": 1, "mine": [1]}'
    sender, progress = run(line + b"\r\n")
    assert sender.sent == [("reviews", "B7", line)]
    assert (progress.lines, progress.sent, progress.bad.count) == (1, 1, 0)


def test_bad_lines_are_named_and_the_good_ones_still_go() -> None:
    lines = [review(), b"{", review(text=" "), b"", review(product_id=None), review(event_time=2e9), review()]
    sender, progress = run(b"\n".join(lines))
    assert len(sender.sent) == 2
    assert [flaw.number for flaw in progress.bad.named] == [2, 3, 5, 6]
    reasons = " | ".join(flaw.reason for flaw in progress.bad.named)
    assert "not JSON" in reasons
    assert "the text is empty" in reasons
    assert "product_id" in reasons
    assert "ahead" in reasons
    assert (progress.lines, progress.sent, progress.last_line) == (6, 2, 7)


def test_a_shops_own_chat_line_is_sent_for_the_worker_to_skip() -> None:
    chat = review(conversation_id="c", role="agent")
    sender, progress = run(chat, "chats")
    assert sender.sent == [("chats", "B001", chat)]
    assert progress.bad.count == 0


def test_a_line_longer_than_an_event_may_be_is_passed_over() -> None:
    lines = [review(), review(text="x" * 5_000), review()]
    sender, progress = run(b"\n".join(lines), limits=Limits(max_event_bytes=1_024))
    assert len(sender.sent) == 2
    (flaw,) = progress.bad.named
    assert flaw == (2, f"the line has {len(lines[1]):,} bytes, more than 1,024")


def test_a_line_of_exactly_the_largest_size_goes() -> None:
    line = review()
    sender, _ = run(line + b"\n", limits=Limits(max_event_bytes=len(line)))
    assert len(sender.sent) == 1


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    sender, _ = run(b"\xef\xbb\xbf" + review())
    assert sender.sent == [("reviews", "B001", review())]


def test_only_the_first_bad_lines_are_named_and_all_are_counted() -> None:
    _, progress = run(b"x\n" * (NAMED + 30))
    assert (len(progress.bad.named), progress.bad.count) == (NAMED, NAMED + 30)


def test_sending_stops_when_kafka_gives_up() -> None:
    sender, progress = run((review() + b"\n") * (3 * LINES_A_STEP), sender=Collected(fails_at=10))
    assert progress.sent == LINES_A_STEP
    assert sender.flushed_at == [LINES_A_STEP]


def test_everything_is_flushed_at_the_end() -> None:
    sender, progress = run((review() + b"\n") * (LINES_A_STEP + 1))
    assert sender.flushed_at == [LINES_A_STEP + 1] == [progress.sent]


@given(st.lists(st.binary(max_size=60).filter(lambda line: b"\n" not in line), max_size=40))
def test_no_input_breaks_it_and_every_line_is_accounted_for(lines: list[bytes]) -> None:
    mixed = [line for pair in zip(lines, [review()] * len(lines), strict=True) for line in pair]
    sender, progress = run(b"\n".join(mixed), limits=Limits(max_event_bytes=1_024))
    assert len(sender.sent) >= len(lines)
    assert progress.sent + progress.bad.count == progress.lines


def test_gzip_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(gzip.compress(review()))
    with open_file(str(path)) as opened:
        assert opened.lines.read() == review()
    assert opened.size == path.stat().st_size


def test_a_broken_gzip_and_a_missing_file_are_said_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "broken.gz"
    path.write_bytes(gzip.compress(review() * 1_000)[:-20])
    with pytest.raises(UsageError, match="broken gzip"), open_file(str(path)) as opened:
        opened.lines.read()
    with pytest.raises(UsageError, match="No such file"), open_file(str(tmp_path / "none")):
        pass


def test_flaws_keep_their_order() -> None:
    flaws = Flaws()
    flaws.add(3, "a")
    flaws.add(9, "b")
    assert flaws.named == [(3, "a"), (9, "b")]
