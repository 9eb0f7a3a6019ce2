import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.upstream.answer import HIGH_WATER
from gateway.upstream.client import Answer, Timing, Upstream
from gateway.upstream.failures import BodyTooLarge, TimedOut
from tests.gateway.upstream.scripted import PATIENT, POST, Peer, Server, provider, saying, saying_once

STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
MEGABYTE = 1 << 20


def flood(size: int, sent: list[int]) -> Callable[[Peer], Awaitable[None]]:
    """A body of `size` bytes, as fast as it is taken; `sent` counts."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        while sum(sent) < size:
            peer.say(b"x" * 100_000)
            sent.append(100_000)
            await peer.writer.drain()
        await peer.left()

    return script


async def until_still(sent: list[int]) -> None:
    """Wait until the server can send no more."""
    before = -1
    while before != len(sent):
        before = len(sent)
        await asyncio.sleep(0.05)


async def test_a_slow_reader_holds_the_provider_back(upstream: Upstream) -> None:
    sent: list[int] = []
    async with provider(flood(50_000_000, sent)) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT)
        await until_still(sent)
        assert answer.bytes_received < 2 * HIGH_WATER + 65536
        assert sum(sent) < 20_000_000  # the rest would lie in the sockets' own buffers
        total = 0
        while chunk := await answer.chunk():
            assert len(chunk) < 3 * HIGH_WATER
            total += len(chunk)
        assert total == 50_000_000


async def test_an_answer_read_whole_is_held_back_too(upstream: Upstream) -> None:
    sent: list[int] = []
    async with provider(flood(50_000_000, sent)) as (server, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        await until_still(sent)
        assert answer.bytes_received < 2 * HIGH_WATER + 65536
        with pytest.raises(BodyTooLarge, match=r"^an answer above 1000000 bytes$"):
            await answer.body(1_000_000)
        await server.peers[0].gone.wait()


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("size", [0, 5, MEGABYTE])
async def test_a_body_is_read_whole(upstream: Upstream, whole: bool, size: int) -> None:
    message = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
    async with provider(saying(message)) as (server, origin):
        for _ in range(3):
            answer = await upstream.send(origin, POST, b"{}", PATIENT, whole=whole)
            assert await answer.body(size) == b"x" * size
            assert await answer.chunk() == b""
        assert len(server.peers) == 1


@pytest.mark.parametrize("whole", [False, True])
async def test_a_refusal_is_one_though_its_text_breaks_off(upstream: Upstream, whole: bool) -> None:
    refusal = b"HTTP/1.1 413 Content Too Large\r\nretry-after: 7\r\ncontent-length: 99\r\n\r\ntoo la"
    async with provider(saying_once(refusal)) as (server, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT, whole=whole)
        assert (answer.status, await answer.body(100)) == (413, b"too la")
        assert answer.header(b"retry-after") == b"7"
        assert len(server.peers) == 1


async def test_the_first_header_of_a_name_is_found(upstream: Upstream) -> None:
    message = b"HTTP/1.1 200 OK\r\nX-Request-Id: one\r\nX-Request-ID: two\r\ncontent-length: 0\r\n\r\n"
    async with provider(saying(message)) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT)
    assert answer.header(b"x-request-id") == b"one"
    assert answer.header(b"retry-after") == b""


async def silent(peer: Peer) -> None:
    await peer.request()
    await peer.left()


async def stalling(peer: Peer) -> None:
    await peer.request()
    peer.say(STREAM + b"5\r\nhello\r\n")
    await peer.left()


async def whole_stalling(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello")
    await peer.left()


async def dripping_head(peer: Peer) -> None:
    await peer.request()
    peer.say(b"HTTP/1.1 200 OK\r\n")
    while not peer.writer.is_closing():
        peer.say(b"x: y\r\n")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("script", [silent, dripping_head])
@pytest.mark.parametrize("whole", [False, True])
async def test_a_provider_must_answer_in_time(
    upstream: Upstream, script: Callable[[Peer], Awaitable[None]], whole: bool
) -> None:
    async with provider(script) as (server, origin):
        with pytest.raises(TimedOut, match=r"^silent for too long \(first byte\)$") as late:
            await upstream.send(origin, POST, b"{}", Timing(1.0, 0.1, 5.0), whole=whole)
        assert late.value.phase == "first byte"
        assert late.value.told == f"127.0.0.1:{origin.port}: silent for too long (first byte)"
        await gone(server)


async def gone(server: Server) -> None:
    """The gateway has left the first connection."""
    async with asyncio.timeout(5):
        await server.peers[0].gone.wait()


async def test_a_stream_may_not_fall_silent(upstream: Upstream) -> None:
    async with provider(stalling) as (server, origin):
        answer = await upstream.send(origin, POST, b"{}", Timing(1.0, 5.0, 0.1))
        assert await answer.chunk() == b"hello"
        with pytest.raises(TimedOut) as late:
            await answer.chunk()
        assert late.value.phase == "idle"
        await gone(server)


async def test_an_answer_read_whole_may_not_fall_silent(upstream: Upstream) -> None:
    async with provider(whole_stalling) as (server, origin):
        with pytest.raises(TimedOut) as late:
            await upstream.send(origin, POST, b"{}", Timing(1.0, 5.0, 0.1), whole=True)
        assert late.value.phase == "idle"
        await gone(server)


async def test_one_wait_may_have_a_deadline_of_its_own(upstream: Upstream) -> None:
    async with provider(stalling) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT)
        assert await answer.chunk(5.0) == b"hello"
        with pytest.raises(TimedOut):
            await answer.chunk(0.05)


@pytest.mark.parametrize(
    ("first_byte", "idle", "own"), [(0.05, 5.0, None), (None, None, None), (0.05, 0.05, 5.0)]
)
async def test_a_short_wait_does_not_shorten_the_next(
    upstream: Upstream, first_byte: float | None, idle: float | None, own: float | None
) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(STREAM + b"5\r\nhello\r\n")
        await peer.writer.drain()
        await asyncio.sleep(0.15)
        peer.say(b"1\r\n!\r\n0\r\n\r\n")

    async with provider(script) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", Timing(1.0, first_byte, idle))
        assert await answer.chunk(own) == b"hello"
        assert await answer.chunk(own) == b"!"
        assert await answer.chunk(own) == b""


async def test_a_reader_who_is_busy_elsewhere_is_not_the_providers_silence(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(STREAM + b"5\r\nhello\r\n")
        await peer.writer.drain()
        await asyncio.sleep(0.2)
        peer.say(b"0\r\n\r\n")

    async with provider(script) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", Timing(1.0, 5.0, 0.1))
        assert await answer.chunk() == b"hello"
        await asyncio.sleep(0.15)
        assert await answer.chunk() == b""


@pytest.mark.parametrize("leave", ["send", "chunk", "body", "close"])
async def test_leaving_closes_the_connection_at_once(upstream: Upstream, leave: str) -> None:
    async with provider(silent if leave == "send" else stalling) as (server, origin):
        sending = asyncio.ensure_future(upstream.send(origin, POST, b"{}", PATIENT))
        await server.arrived.wait()
        waiting: asyncio.Future[object] = sending  # type: ignore[assignment]  # futures are invariant
        if leave != "send":
            answer = await sending
            assert await answer.chunk() == b"hello"
            reading: dict[str, Callable[[], Awaitable[object]]] = {
                "chunk": answer.chunk,
                "body": lambda: answer.body(100),
            }
            if leave == "close":
                answer.close()
                answer.close()
                assert await answer.chunk() == b""
            else:
                waiting = asyncio.ensure_future(reading[leave]())
        await asyncio.sleep(0.02)
        if leave != "close":
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await gone(server)
        assert upstream.stats() == {f"127.0.0.1:{origin.port}": (0, 0)}


async def test_closing_a_finished_answer_leaves_its_connection_in_the_pool(upstream: Upstream) -> None:
    async with provider(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")) as (server, origin):
        for _ in range(3):
            answer: Answer = await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
            answer.close()
        assert len(server.peers) == 1
        assert upstream.stats() == {f"127.0.0.1:{origin.port}": (1, 1)}
