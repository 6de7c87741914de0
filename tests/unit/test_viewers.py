"""What goes out to those who watch: once encoded, in order, and nobody waited for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from stream.web.viewers import HEARTBEAT, MOST_WAITING, OVERLAP_MS, REMEMBERED, Viewer, Viewers, event

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW_MS = 1_700_000_000_000
FIRST = b"retry: 2000\n\n"


async def opened(viewer: Viewer, **options: float) -> AsyncIterator[bytes]:
    """Its stream, after what every stream begins with."""
    chunks = viewer.chunks(**options)
    assert await anext(chunks) == FIRST
    return chunks


async def _all(chunks: AsyncIterator[bytes]) -> list[bytes]:
    return [each async for each in chunks]


def ids_in(chunk: bytes) -> list[str]:
    return [line[4:].decode() for line in chunk.split(b"\n") if line.startswith(b"id: ")]


async def test_everybody_gets_the_very_same_bytes() -> None:
    viewers = Viewers()
    one, other = viewers.add(), viewers.add("lamp")
    viewers.tell(b'{"id":"a"}', NOW_MS)
    assert one._alerts[0] is other._alerts[0]
    first = await anext(await opened(one))
    assert first == event("alert", b'{"id":"a"}', ids_in(first)[0])


def test_no_text_breaks_a_line_whoever_reads_it() -> None:
    text = "a\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029b"
    lines = event("alert", msgspec.json.encode(text)).decode().splitlines()
    assert len(lines) == 3
    assert msgspec.json.decode(lines[1].removeprefix("data: ")) == text


async def test_of_what_stands_for_itself_only_the_latest_waits() -> None:
    viewers = Viewers()
    viewer = viewers.add()
    for n in range(1000):
        viewers.show("overview", b'{"lag":%d}' % n)
        viewers.show("leaders", b'{"products":[%d]}' % n)
    chunks = await opened(viewer)
    assert await anext(chunks) == event("overview", b'{"lag":999}') + event("leaders", b'{"products":[999]}')


async def test_alerts_come_in_order_and_before_figures_that_are_newer() -> None:
    viewers = Viewers()
    viewer = viewers.add()
    viewers.tell(b"1", NOW_MS)
    viewers.show("overview", b"{}")
    viewers.tell(b"2", NOW_MS)
    chunk = await anext(await opened(viewer))
    assert [each.splitlines()[-1] for each in chunk.split(b"\n\n")[:-1]] == [
        b"data: 1",
        b"data: 2",
        b"data: {}",
    ]


async def test_a_viewer_that_does_not_read_is_let_go_and_the_others_go_on() -> None:
    viewers = Viewers()
    asleep, awake = viewers.add(), viewers.add()
    chunks = await opened(awake)
    received = 0
    for n in range(MOST_WAITING + 1):
        viewers.tell(b"%d" % n, NOW_MS)
        received += len(ids_in(await anext(chunks)))
    assert received == MOST_WAITING + 1
    assert [each async for each in asleep.chunks()] == [FIRST]


async def test_a_viewer_that_comes_back_gets_what_it_missed() -> None:
    viewers = Viewers()
    viewer = viewers.add()
    viewers.tell(b"1", NOW_MS)
    viewers.tell(b"2", NOW_MS)
    last_id = ids_in(await anext(await opened(viewer)))[0]
    viewers.remove(viewer)
    viewers.tell(b"3", NOW_MS)
    chunk = await anext(await opened(viewers.add(last_id=last_id)))
    assert [each.splitlines()[-1] for each in chunk.split(b"\n\n")[:-1]] == [b"data: 2", b"data: 3"]


@pytest.mark.parametrize(
    "last_id", ["", "7", "abc.1.2", "0" * 8 + ".1." + "9" * 40, "x" * 10_000, "٣" * 8 + ".1.1"]
)
def test_what_is_no_id_of_ours_counts_as_none(last_id: str) -> None:
    viewers = Viewers()
    viewers.tell(b"1", NOW_MS)
    assert not viewers.add(last_id=last_id)._alerts
    assert viewers.away_since(last_id) is None


async def test_an_id_of_another_server_says_since_when_alerts_may_be_missed() -> None:
    before, after = Viewers(), Viewers()
    viewer = before.add()
    before.tell(b"1", NOW_MS)
    (last_id,) = ids_in(await anext(await opened(viewer)))
    after.tell(b"2", NOW_MS + 1)
    assert before.away_since(last_id) is None
    assert after.away_since(last_id) == NOW_MS - OVERLAP_MS
    assert not after.add(last_id=last_id)._alerts


def test_what_can_be_told_again_is_bounded() -> None:
    viewers = Viewers()
    for n in range(REMEMBERED + 10):
        viewers.tell(b"%d" % n, NOW_MS)
    assert len(viewers._told) == REMEMBERED
    last_id = f"{viewers._boot}.1.{NOW_MS}"
    assert len(viewers.add(last_id=last_id)._alerts) == MOST_WAITING


async def test_the_stream_begins_with_how_things_are() -> None:
    viewers = Viewers()
    viewers.show("overview", b'{"lag":1}')
    viewers.show("silences", b'{"silences":[]}')
    viewers.show("overview", b'{"lag":2}')
    chunk = await anext(await opened(viewers.add()))
    assert chunk == event("overview", b'{"lag":2}') + event("silences", b'{"silences":[]}')


async def test_when_nothing_happens_a_comment_says_that_the_stream_lives() -> None:
    chunks = await opened(Viewers().add(), heartbeat_s=0.0)
    assert await anext(chunks) == HEARTBEAT
    assert HEARTBEAT.startswith(b":")


def test_a_products_figures_go_to_those_who_watch_it() -> None:
    viewers = Viewers()
    one, other, neither = viewers.add("lamp"), viewers.add("lamp"), viewers.add("kettle")
    assert sorted(viewers.products) == ["kettle", "lamp"]
    viewers.show_product("lamp", b"{}")
    assert (len(one._latest), len(other._latest), len(neither._latest)) == (1, 1, 0)
    viewers.remove(one)
    assert sorted(viewers.products) == ["kettle", "lamp"]
    viewers.remove(other)
    viewers.remove(other)
    assert (viewers.products, len(viewers)) == (["kettle"], 1)


async def test_the_end_of_the_server_ends_every_stream_and_those_to_come() -> None:
    viewers = Viewers()
    chunks = await opened(viewers.add())
    reading = asyncio.create_task(_all(chunks))
    await asyncio.sleep(0)
    viewers.close()
    assert await reading == []
    assert [each async for each in viewers.add().chunks()] == [FIRST]


def test_beyond_so_many_viewers_no_more_are_taken() -> None:
    viewers = Viewers(most=2)
    first = viewers.add()
    assert not viewers.is_full
    viewers.add()
    assert viewers.is_full
    viewers.remove(first)
    assert not viewers.is_full
