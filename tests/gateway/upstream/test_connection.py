import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.outbox import Outbox
from gateway.upstream.answer import Answer
from gateway.upstream.client import Timing, Upstream
from gateway.upstream.connection import Connection
from gateway.upstream.failures import BadAnswer, ConnectionCut, TimedOut
from tests.gateway.upstream.scripted import (
    GET,
    HELLO,
    PATIENT,
    POST,
    Peer,
    Wire,
    provider,
    saying,
    saying_once,
)

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


async def asked(upstream: Upstream, answer: bytes, head: bytes = POST) -> tuple[Answer, bytes]:
    """What the client makes of one scripted answer, the connection closed behind it."""
    async with provider(saying_once(answer)) as (_, origin):
        got = await upstream.send(origin, head, b"{}" if head is POST else b"", PATIENT)
        return got, await got.body(2 << 20)


class Owner:
    def __init__(self) -> None:
        self.released = 0

    def release(self, connection: Connection) -> None:
        self.released += 1

    def lost(self, connection: Connection) -> None: ...


def fed(parts: list[bytes], *, eof: bool = False, head: bytes = POST) -> tuple[Answer, Owner]:
    """An answer that came in these parts, read without a socket."""
    loop, owner = asyncio.new_event_loop(), Owner()
    connection = Connection(loop, "provider.test:443", owner, Outbox(loop.call_soon))
    connection.connection_made(Wire())
    answer = Answer(loop, connection, None, False)
    connection.ask(answer, head, b"")
    for part in parts:
        connection.data_received(part)
    if eof:
        connection.connection_lost(None)
    loop.close()
    return answer, owner


def read(answer: Answer) -> bytes:
    """The body of an answer that is all here."""
    step = answer.body(1 << 30)
    try:
        step.send(None)
    except StopIteration as end:
        body: bytes = end.value
        return body
    raise AssertionError("the answer is not all here")


PLAIN = OK + b'Content-Type: application/json\r\ncontent-length: 11\r\n\r\n{"a": true}'
EVENTS = CHUNKED + b"b\r\ndata: one\n\n\r\nd;x=y\r\ndata: [DONE]\n\r\n0\r\nx-trailer: 1\r\n\r\n"
EARLY = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + PLAIN


FRAMINGS = [
    (PLAIN, b'{"a": true}'),
    (EVENTS, b"data: one\n\ndata: [DONE]\n"),
    (EARLY, b'{"a": true}'),
    (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n", b""),
]


@pytest.mark.parametrize(("message", "body"), FRAMINGS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(cuts=st.sets(st.integers(1, 300)))
def test_any_chunking_gives_the_same_answer(message: bytes, body: bytes, cuts: set[int]) -> None:
    for edges in ([*sorted(cut for cut in cuts if cut < len(message))], [*range(1, len(message))]):
        places = [0, *edges, len(message)]
        parts = [message[a:b] for a, b in pairwise(places)]
        answer, owner = fed(parts)
        assert read(answer) == body
        assert owner.released == 1
        assert answer.bytes_received == len(message)


@given(st.lists(st.tuples(st.sampled_from(FRAMINGS), st.integers(1, 30)), min_size=2, max_size=6))
def test_a_connection_reads_one_answer_after_the_other_whatever_their_framings(
    turns: list[tuple[tuple[bytes, bytes], int]],
) -> None:
    loop, owner = asyncio.new_event_loop(), Owner()
    connection = Connection(loop, "provider.test:443", owner, Outbox(loop.call_soon))
    connection.connection_made(Wire())
    for number, ((message, body), size) in enumerate(turns, 1):
        answer = Answer(loop, connection, None, False)
        connection.ask(answer, POST, b"")
        for at in range(0, len(message), size):
            connection.data_received(message[at : at + size])
        assert read(answer) == body
        assert owner.released == number
    loop.close()


@pytest.mark.parametrize(
    "message",
    [
        OK + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"content-length: 2\r\ncontent-length: 3\r\n\r\nhi",
        OK + b"content-length: +2\r\n\r\nhi",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"transfer-encoding: gzip\r\n\r\nhi",
        OK + b"transfer-encoding: chunked, identity\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        CHUNKED + b"0x2\r\nhi\r\n0\r\n\r\n",
        CHUNKED + b"2\r\nhi3\r\nabc\r\n0\r\n\r\n",
        CHUNKED + b"2\nhi\n0\n\n",
        CHUNKED + b"-1\r\nhi\r\n0\r\n\r\n",
        OK + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\nhi",
        OK + b"x : a\r\ncontent-length: 2\r\n\r\nhi",
        OK + b"x: \0\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 200 OK\ncontent-length: 2\n\nhi",
        b"HTTP/2 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 099 Odd\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 600 Odd\r\ncontent-length: 2\r\n\r\nhi",
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
        b"<html>\r\n\r\n",
        b"junkHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
    ],
)
def test_framing_that_can_be_read_in_two_ways_is_refused(message: bytes) -> None:
    for parts in ([message], [message[i : i + 1] for i in range(len(message))]):
        answer, owner = fed(parts, eof=True)
        with pytest.raises(BadAnswer, match=r"^not an answer we accept") as odd:
            read(answer)
        assert odd.value.where == "provider.test:443"
        assert owner.released == 0


@pytest.mark.parametrize(
    "message",
    [
        OK + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 0\r\n\r\n",
        OK + b"x: y\r\n" * 20_000 + b"\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000,
        b"HTTP/1.1 200 " + b"O" * 70_000 + b"\r\n",
        CHUNKED + b"0\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
    ],
    ids=["one long header", "many headers", "endless 100s", "long reason", "long trailers"],
)
@pytest.mark.parametrize("size", [1 << 20, 1000], ids=["at once", "in parts"])
def test_a_head_has_a_bound(message: bytes, size: int) -> None:
    answer, _ = fed([message[i : i + size] for i in range(0, len(message), size)])
    with pytest.raises(BadAnswer, match="above 65536 bytes"):
        read(answer)


def test_a_body_that_comes_with_its_head_does_not_count_as_head() -> None:
    answer, owner = fed([OK + b"content-length: 200000\r\n\r\n" + b"x" * 200_000])
    assert len(read(answer)) == 200_000
    assert owner.released == 1


def test_trailers_do_not_become_headers() -> None:
    answer, _ = fed([EVENTS])
    assert answer.headers == {b"transfer-encoding": b"chunked"}


def test_of_a_header_that_comes_twice_the_first_is_kept() -> None:
    answer, _ = fed([b"HTTP/1.1 200 OK\r\nRetry-After: 5\r\ncontent-length: 0\r\nretry-after: 7\r\n\r\n"])
    assert answer.headers == {b"retry-after": b"5", b"content-length": b"0"}


@pytest.mark.parametrize("surplus", [b"HTTP/1", b"junk", HELLO, HELLO[:30]])
def test_bytes_after_an_answer_end_its_connection_but_not_the_answer(surplus: bytes) -> None:
    for parts in ([HELLO + surplus], [HELLO, surplus]):
        answer, owner = fed(parts)
        assert read(answer) == b"hello"
        assert owner.released == (len(parts) == 2)  # released, and closed as soon as something comes unasked


def test_an_answer_to_head_has_no_body() -> None:
    answer, owner = fed([OK + b"content-length: 1000\r\n\r\n"], head=b"HEAD /v1/files/1 HTTP/1.1\r\n")
    assert read(answer) == b""
    assert answer.header(b"content-length") == b"1000"
    assert owner.released == 0


@pytest.mark.parametrize("connection", [b"connection: close\r\n", b""])
def test_a_body_without_a_length_ends_with_its_connection(connection: bytes) -> None:
    answer, owner = fed([OK + connection + b"\r\nhel", b"lo"], eof=True)
    assert read(answer) == b"hello"
    assert owner.released == 0


@pytest.mark.parametrize("message", [OK + b"content-length: 9\r\n\r\nhello", CHUNKED + b"5\r\nhello\r\n"])
def test_a_framed_body_may_not_end_with_its_connection(message: bytes) -> None:
    answer, _ = fed([message], eof=True)
    with pytest.raises(ConnectionCut) as cut:
        read(answer)
    assert cut.value.response_started


def test_an_answer_with_connection_close_is_its_connections_last() -> None:
    answer, owner = fed([OK + b"connection: close\r\ncontent-length: 5\r\n\r\nhello"])
    assert read(answer) == b"hello"
    assert owner.released == 0


def test_a_connection_lost_before_its_first_call_fails_the_call() -> None:
    loop = asyncio.new_event_loop()
    connection = Connection(loop, "provider.test:443", Owner(), Outbox(loop.call_soon))
    connection.connection_made(Wire())
    connection.connection_lost(None)
    answer = Answer(loop, connection, None, False)
    connection.ask(answer, POST, b"")
    loop.close()
    with pytest.raises(ConnectionCut) as cut:
        read(answer)
    assert not cut.value.response_started


async def test_a_single_event_of_a_megabyte_passes(upstream: Upstream) -> None:
    event = b"data: " + b"x" * (1 << 20) + b"\n\n"
    _, body = await asked(upstream, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event), GET)
    assert body == event


async def test_a_reset_is_no_end_of_a_body(upstream: Upstream) -> None:
    taken = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(OK + b"connection: close\r\n\r\nhalf of it")
        await taken.wait()
        sock: socket.socket = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST instead of FIN
        peer.writer.transport.abort()

    async with provider(script) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT)
        assert await answer.chunk() == b"half of it"
        taken.set()
        with pytest.raises(ConnectionCut, match=r"in mid-call: Connection reset by peer$") as cut:
            await answer.chunk()
    assert cut.value.response_started


async def parts_of(count: int, size: int = 100_000) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * size


@pytest.mark.parametrize("length", [None, 300_000])
async def test_a_streamed_body_arrives_whole(upstream: Upstream, length: int | None) -> None:
    seen: list[bytes] = []

    async def script(peer: Peer) -> None:
        head, body = await peer.request()
        seen.append(body)
        assert (b"transfer-encoding: chunked" in head) == (length is None)
        peer.say(HELLO)

    async with provider(script) as (_, origin):
        answer = await upstream.send(origin, POST, parts_of(3), PATIENT, length=length)
        assert await answer.body(100) == b"hello"
    assert seen == [b"x" * 300_000]


@pytest.mark.parametrize("length", [299_999, 300_001])
async def test_a_streamed_body_of_another_length_is_never_completed(upstream: Upstream, length: int) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        with pytest.raises((EOFError, ConnectionError)):
            await peer.request()
        left.set()

    async with provider(script) as (_, origin):
        with pytest.raises(ValueError, match="not of the"):
            await upstream.send(origin, POST, parts_of(3), PATIENT, length=length)
        await left.wait()


async def test_an_upload_waits_for_a_slow_reader(upstream: Upstream) -> None:
    made, reading = 0, asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        nonlocal made
        for _ in range(500):
            made += 1
            yield b"x" * 100_000

    async def script(peer: Peer) -> None:
        await reading.wait()
        assert len((await peer.request())[1]) == 50_000_000
        peer.say(HELLO)

    async with provider(script) as (_, origin):
        sending = asyncio.ensure_future(upstream.send(origin, POST, body(), PATIENT))
        before = -1
        while before != made:  # until the sockets between the two are full
            before = made
            await asyncio.sleep(0.05)
        assert made < 150
        reading.set()
        assert await (await sending).body(100) == b"hello"


async def test_a_provider_that_stops_reading_an_upload_has_timed_out(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # a stream's transport reads
        await asyncio.sleep(5)

    async with provider(script) as (_, origin):
        with pytest.raises(TimedOut) as late:
            await upstream.send(origin, POST, parts_of(500), Timing(1.0, 5.0, 0.1))
    assert late.value.phase == "upload"


async def test_a_refusal_ends_an_upload_early(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.say(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await asyncio.sleep(5)  # and reads no further

    async with provider(script) as (_, origin):
        answer = await upstream.send(origin, POST, parts_of(500), PATIENT)
        assert (answer.status, await answer.body(100)) == (413, b"no")
        assert upstream.stats()[f"{origin.host}:{origin.port}"] == (0, 0)


async def test_a_connection_whose_request_is_not_read_serves_no_other_call(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]  # what asyncio's streams have
        peer.say(HELLO)
        await over.wait()

    over = asyncio.Event()
    async with provider(script) as (server, origin):
        for turn in (1, 2):
            answer = await upstream.send(origin, POST, b"x" * 20_000_000, PATIENT, whole=True)
            assert await answer.body(100) == b"hello"
            assert len(server.peers) == turn
        assert upstream.stats()[f"127.0.0.1:{origin.port}"] == (0, 0)
        over.set()


async def test_what_a_provider_says_unasked_ends_an_idle_connection(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await peer.writer.drain()
        await asyncio.sleep(0.02)
        peer.say(HELLO.replace(b"hello", b"false"))
        await peer.left()

    async with provider(script) as (server, origin):
        for _ in range(2):
            answer = await upstream.send(origin, POST, b"{}", PATIENT)
            assert await answer.body(100) == b"hello"
            await server.peers[-1].gone.wait()


async def test_a_paused_connection_serves_the_next_call(upstream: Upstream) -> None:
    async with provider(saying(OK + b"content-length: 400000\r\n\r\n" + b"x" * 400_000)) as (server, origin):
        for _ in range(3):
            answer = await upstream.send(origin, POST, b"{}", PATIENT)
            for _ in range(20):
                await asyncio.sleep(0)  # so that it comes while nobody reads
            assert len(await answer.body(1 << 20)) == 400_000
        assert len(server.peers) == 1
