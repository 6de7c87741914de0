"""The web server's own rules, without a server: tokens, sessions, alerts, a connection's bounds."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import builders
import pytest
from uvicorn import Config
from uvicorn.server import ServerState

from stream.core.events import Alert, rfc3339
from stream.errors import UsageError
from stream.settings import load
from stream.web.alerts import AlertBook
from stream.web.connection import BODY_WINDOW_S, FIRST_S, HEAD_S, LINGER_S, STALLED_S, Connection
from stream.web.errors import Unavailable
from stream.web.ingest import Ingest
from stream.web.tokens import SESSION_S, Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "0123456789abcdef"  # noqa: S105


class Clock:
    """Seconds since the epoch, as far as a test has come."""

    now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> Tokens:
    return Tokens.of(f"wall:read:{TOKEN}, duty:read+operate:fedcba9876543210", clock)


def test_a_session_is_its_tokens_as_long_as_it_lasts(tokens: Tokens, clock: Clock) -> None:
    cookie = tokens.open_session(TOKEN)
    assert cookie is not None
    identity = tokens.session(cookie)
    assert identity is not None
    assert (identity.name, identity.scopes) == ("wall", {"read"})
    clock.now_s += SESSION_S - 1
    assert tokens.session(cookie) is not None
    clock.now_s += 1
    assert tokens.session(cookie) is None


def test_a_session_outlives_the_server_and_not_its_token(tokens: Tokens, clock: Clock) -> None:
    cookie = tokens.open_session(TOKEN)
    assert cookie is not None
    assert Tokens.of(f"wall:read:{TOKEN}", clock).session(cookie) is not None
    assert Tokens.of("wall:read:another-token-0000", clock).session(cookie) is None
    assert Tokens.of(f"hall:read:{TOKEN}", clock).session(cookie) is None


def test_a_session_takes_the_scopes_that_its_token_has_now(tokens: Tokens, clock: Clock) -> None:
    cookie = tokens.open_session(TOKEN)
    assert cookie is not None
    identity = Tokens.of(f"wall:ingest:{TOKEN}", clock).session(cookie)
    assert identity is not None
    assert identity.scopes == {"ingest"}


@pytest.mark.parametrize(
    "forge",
    [
        lambda cookie: cookie.replace("wall", "duty"),
        lambda cookie: cookie.replace("~1", "~2"),
        lambda cookie: cookie[:-1] + ("0" if cookie[-1] != "0" else "1"),
        lambda cookie: cookie.rpartition("~")[0] + "~",
        lambda cookie: "",
        lambda cookie: "~~",
        lambda cookie: cookie.replace("~1", "~-1"),
        lambda cookie: cookie + "é\ud800",
    ],
)
def test_a_session_that_was_made_up_is_nobodys(tokens: Tokens, forge: Any) -> None:
    cookie = tokens.open_session(TOKEN)
    assert cookie is not None
    assert tokens.session(forge(cookie)) is None


def test_a_session_that_was_ended_holds_no_longer_and_others_do(tokens: Tokens, clock: Clock) -> None:
    ended = tokens.open_session(TOKEN)
    clock.now_s += 1
    other = tokens.open_session(TOKEN)
    assert ended is not None
    assert other is not None
    tokens.end_session(ended)
    tokens.end_session("made up")
    assert tokens.session(ended) is None
    assert tokens.session(other) is not None


def test_tokens_stand_in_lines_with_remarks() -> None:
    tokens = Tokens.of(f"# the wall\nwall:read:{TOKEN}\n\n  shop:ingest:ab:cd:0123456789\n")
    wall, shop = tokens.bearer(TOKEN), tokens.bearer("ab:cd:0123456789")
    assert wall is not None
    assert shop is not None
    assert (wall.name, shop.name) == ("wall", "shop")


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("", "it holds no token; leave it unset to go without"),
        ("# only a remark", "it holds no token; leave it unset to go without"),
        (f"wall:read:{TOKEN},wall:read:{TOKEN}", "the name 'wall' is there twice"),
        (f"wa ll:read:{TOKEN}", "entry 1 is not written name:scope+scope:token"),
        (f"ok:read:{TOKEN},wall::{TOKEN}", "entry 2 is not written name:scope+scope:token"),
        (f"wall:read+:{TOKEN}", "'wall' has a scope that is none: take read, ingest, operate"),
        ("wall:read:0123456789 abcdef", "the token of 'wall' has a character that a header cannot carry"),
    ],
)
def test_a_wrong_token_is_named_and_not_shown(written: str, problem: str) -> None:
    with pytest.raises(UsageError, match=r"REVIEWPULSE_WEB_TOKENS: ") as raised:
        Tokens.of(written)
    assert problem in str(raised.value)
    assert "0123456789" not in str(raised.value)


def alert(alert_id: str, sequence: int, at_ms: int, state: str = "firing") -> Alert:
    return builders.alert(id=alert_id, sequence=sequence, at=rfc3339(at_ms), state=state)


def ids(alerts: Iterator[Alert]) -> list[tuple[str, int]]:
    return [(each.id, each.sequence) for each in alerts]


async def test_the_book_shows_each_alert_by_its_last_transition_the_newest_first() -> None:
    book = AlertBook(load())
    book.add(alert("a", 1, 1_000))
    book.add(alert("b", 1, 2_000))
    book.add(alert("a", 2, 3_000, "resolved"))
    book.add(alert("c", 1, 2_500))
    assert ids(book.newest_first()) == [("a", 2), ("c", 1), ("b", 1)]
    assert ids(book.newest_first((rfc3339(2_500), "c"))) == [("b", 1)]
    assert ids(iter(book.firing())) == [("c", 1), ("b", 1)]
    assert ids(iter(book.transitions("a"))) == [("a", 1), ("a", 2)]
    assert book.transitions("nobody") == []


async def test_the_book_passes_over_what_it_knows_and_what_is_older() -> None:
    book = AlertBook(load())
    for each in (alert("a", 2, 2_000), alert("a", 1, 1_000), alert("a", 2, 2_000)):
        book.add(each)
    assert ids(book.newest_first()) == [("a", 2)]
    assert len(book) == 1


async def test_the_book_forgets_the_oldest_and_what_is_older_still_is_none() -> None:
    book = AlertBook(load(), kept=2)
    for n in (3, 1, 2):
        book.add(alert(f"a{n}", 1, n * 1_000))
    assert ids(book.newest_first()) == [("a3", 1), ("a2", 1)]
    book.add(alert("a1", 2, 9_000))
    assert ids(book.newest_first()) == [("a1", 2), ("a3", 1)]


async def test_listeners_hear_what_comes_after_the_book_has_caught_up() -> None:
    book = AlertBook(load())
    heard: list[str] = []
    end = book.listen(lambda each: heard.append(each.id))
    book.add(alert("before", 1, 1_000))
    book.caught_up = True
    book.add(alert("news", 1, 2_000))
    book.add(alert("news", 1, 2_000))
    end()
    book.add(alert("later", 1, 3_000))
    assert heard == ["news"]


async def test_what_a_caller_held_is_given_back_whatever_happens() -> None:
    ingest = Ingest(load(web_batch_bytes=1_024, web_inflight_bytes=2_048))
    with ingest.holding() as first:
        first.add(1_500)
        with ingest.holding() as second:
            second.add(500)
            with pytest.raises(Unavailable, match="send these again soon"):
                second.add(49)
            assert ingest.waiting_bytes == 2_000
        assert ingest.waiting_bytes == 1_500
    assert ingest.waiting_bytes == 0


async def test_while_no_producer_is_connected_events_are_refused_at_once() -> None:
    ingest = Ingest(load())
    with ingest.holding() as holding, pytest.raises(Unavailable) as raised:
        await ingest.take("reviews", [(1, b"{}")], holding)
    assert raised.value.status == 503


class Transport:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.ended = self.closed = self.aborted = False

    def get_extra_info(self, name: str) -> Any:
        return None

    def write(self, piece: bytes) -> None:
        self.written += piece

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    @property
    def answer(self) -> tuple[int, str]:
        head, _, body = self.written.partition(b"\r\n\r\n")
        return int(head.split(b" ")[1]), json.loads(body)["error"]


async def _reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass


def connected() -> tuple[Connection, Transport, float]:
    """A connection, what it writes to, and the loop's time."""
    connection = Connection(Config(_reads_all, http=Connection, log_config=None), ServerState(), {})
    transport = Transport()
    connection.connection_made(transport)  # type: ignore[arg-type]
    return connection, transport, asyncio.get_running_loop().time()


async def test_a_head_that_does_not_end_is_answered_408() -> None:
    connection, transport, now_s = connected()
    connection.data_received(b"GET / HTTP/1.1\r\n")
    connection.look(now_s + HEAD_S - 1)
    assert transport.written == b""
    connection.data_received(b"X: y\r\n")  # that something comes does not help
    connection.look(now_s + HEAD_S + 1)
    assert transport.answer == (408, "The request's head did not come within 10 s.")
    assert transport.ended


async def test_whoever_says_nothing_is_cut_off() -> None:
    connection, transport, now_s = connected()
    connection.look(now_s + FIRST_S - 1)
    assert not transport.closed
    connection.look(now_s + FIRST_S + 1)
    assert (transport.closed, transport.written) == (True, b"")


@pytest.mark.parametrize(("size", "is_cut_off"), [(1_000, True), (20_000, False)])
async def test_a_body_must_come_at_some_speed(size: int, is_cut_off: bool) -> None:
    connection, transport, now_s = connected()
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    await asyncio.sleep(0)  # the application begins to read
    connection.data_received(b"x" * size)
    connection.look(now_s + BODY_WINDOW_S + 1)
    assert bool(transport.written) == is_cut_off
    if is_cut_off:
        assert transport.answer == (408, "The body came slower than 1,024 bytes a second.")


async def test_a_body_that_we_do_not_read_is_not_the_senders_fault() -> None:
    connection, transport, now_s = connected()
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")
    connection.data_received(b"x" * 70_000)  # beyond what waits for the application: reading is paused
    for n in range(1, 4):
        connection._body_bytes = 0
        connection.look(now_s + n * (BODY_WINDOW_S + 1))
    assert transport.written == b""


async def test_whoever_does_not_take_the_answer_is_cut_off() -> None:
    connection, transport, now_s = connected()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    connection.pause_writing()
    connection.look(now_s)
    connection.look(now_s + STALLED_S - 1)
    assert not transport.aborted
    connection.look(now_s + STALLED_S)
    assert transport.aborted


async def test_what_is_refused_is_read_and_dropped_for_a_while_so_that_the_answer_arrives() -> None:
    connection, transport, now_s = connected()
    connection.data_received(b"GET /" + b"a" * 40_000)
    assert transport.answer == (431, "The request's head is larger than 32,768 bytes.")
    connection.data_received(b"a" * 40_000)
    connection.look(now_s + LINGER_S - 1)
    assert not transport.closed
    connection.look(now_s + LINGER_S + 1)
    assert transport.closed


async def test_what_closes_and_never_ends_is_aborted() -> None:
    connection, transport, now_s = connected()
    transport.close()
    connection.look(now_s)
    connection.look(now_s + STALLED_S)
    assert transport.aborted
