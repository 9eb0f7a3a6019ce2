"""HTTP/1.1 as clients speak it, on a real socket, before applications of three lines."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gateway.core.head import Head
from gateway.edge import connection as edge_connection
from gateway.edge import server as edge_server
from gateway.edge.asgi import App, Message, Receive, Scope, Send
from gateway.edge.connection import MOST_HEAD, MOST_PIPELINED, READ_AHEAD
from gateway.edge.cycle import MOST_UNREAD
from gateway.edge.server import Server, server
from tests.running import ended, stop

GET = b"GET /a%20b?c=d HTTP/1.1\r\nHost: x\r\n\r\n"
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(app: App, keep_alive: float = 75) -> AsyncIterator[tuple[Server, int]]:
    sock = socket.create_server(("127.0.0.1", 0))
    one = server(app, keep_alive, 1)
    task = asyncio.ensure_future(one.serve(sockets=[sock]))
    while not one.started:
        await asyncio.sleep(0.002)  # uvicorn tells it by a flag alone
    try:
        yield one, sock.getsockname()[1]
    finally:
        await ended([task])
        await stop(one)


@asynccontextmanager
async def client(app: App) -> AsyncIterator[Streams]:
    async with serving(app) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.timeout(10):
                yield reader, writer
        finally:
            writer.close()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of one answer whose length is announced."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return head, await reader.readexactly(length)


def telling(tell: Callable[[Scope, bytes], bytes]) -> App:
    """An application that reads its whole body and answers in one message."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": [], "body": tell(scope, body)})

    return app


echo = telling(lambda _, body: body)


async def noting_heads(scope: Scope, receive: Receive, send: Send) -> None:
    """`echo` behind a door that finds every head sane."""
    scope["gateway.head"] = Head(scope["headers"])
    await echo(scope, receive, send)


async def test_a_scope_says_what_was_asked() -> None:
    seen: list[Scope] = []

    def note(scope: Scope, _: bytes) -> bytes:
        seen.append(scope)
        return b""

    async with client(telling(note)) as (reader, writer):
        writer.write(GET)
        await answer(reader)
    [scope] = seen
    assert (scope["method"], scope["path"], scope["raw_path"]) == ("GET", "/a b", b"/a%20b")
    assert (scope["query_string"], scope["headers"]) == (b"c=d", [(b"host", b"x")])
    assert scope["client"][0] == scope["server"][0] == "127.0.0.1"
    assert (scope["scheme"], scope["http_version"]) == ("http", "1.1")


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async with client(echo) as (reader, writer):
        writer.write(b"".join(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n%d" % n for n in range(9)))
        assert [(await answer(reader))[1] for _ in range(9)] == [b"%d" % n for n in range(9)]


async def test_too_many_of_them_are_cut_off() -> None:
    held = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await held.wait()

    async with client(app) as (reader, writer):
        writer.write(GET * (MOST_PIPELINED + 2))
        assert await reader.read() == b""
        held.set()


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET http://other/ HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /#a HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * MOST_HEAD, b"431"),
    ],
)
async def test_what_is_malformed_is_told_so_and_the_connection_ends(raw: bytes, status: bytes) -> None:
    async with client(echo) as (reader, writer):
        writer.write(raw)
        told = await reader.read()
        assert told.split(b" ", 2)[1] == status
        assert told.endswith(b"\r\n\r\n")


async def test_a_malformed_request_is_no_answer_to_the_one_before_it() -> None:
    left = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.hangup"] = left.set
        await left.wait()

    async with client(app) as (reader, writer):
        writer.write(GET + b"nonsense\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            assert await reader.read() == b""
            raise ConnectionResetError  # a close without a word is as good
        await left.wait()


async def test_a_client_that_leaves_is_told_of_by_call_and_by_message() -> None:
    called, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.hangup"] = called.set
        assert (await receive())["body"] == b""
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.start", "status": 200, "headers": []})  # goes nowhere
        told.set()

    async with client(app) as (_, writer):
        writer.write(GET)
        await writer.drain()
        writer.close()
        await called.wait()
        await told.wait()


async def test_a_client_that_asked_for_more_is_told_of_when_it_leaves() -> None:
    begun, called = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.hangup"] = called.set
        begun.set()
        await called.wait()

    async with client(app) as (_, writer):
        writer.write(GET * READ_AHEAD)
        await begun.wait()
        writer.close()
        await called.wait()


async def test_of_requests_that_wait_only_a_few_are_read() -> None:
    held = asyncio.Event()
    size = MOST_UNREAD // 2

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await held.wait()

    async with client(app) as (_, writer):
        writer.write((b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)) * 512)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await writer.drain()
        held.set()


async def test_a_client_that_leaves_is_told_of_even_after_a_body_that_was_held_back() -> None:
    called, taken = asyncio.Event(), asyncio.Event()
    size = MOST_UNREAD + 1

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.hangup"] = called.set
        message = await receive()
        assert (len(message["body"]), message["more_body"]) == (size, False)
        taken.set()
        await called.wait()

    async with client(app) as (_, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await taken.wait()
        writer.close()
        await called.wait()


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Without a look at the body."""
    await send({"type": "http.response.start", "status": 401, "headers": [], "body": b"who are you?"})


@pytest.mark.parametrize("ends", [b"HTTP/1.0\r\n", b"HTTP/1.1\r\nConnection: close\r\n"])
async def test_who_is_refused_in_mid_body_can_send_on_and_reads_why(ends: bytes) -> None:
    piece = bytes(1 << 20)
    async with client(refuse) as (reader, writer):
        writer.write(b"POST / %bContent-Length: %d\r\n\r\n" % (ends, 20 * len(piece)))
        for _ in range(20):
            writer.write(piece)
            await writer.drain()
        assert (await answer(reader))[1] == b"who are you?"
        assert await reader.read() == b"", "the connection ends"


async def test_what_follows_the_last_answer_is_no_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge_connection, "LINGER", 0.1)
    async with client(refuse) as (reader, writer):
        writer.write(b"POST / HTTP/1.0\r\nContent-Length: 4\r\n\r\n")
        await answer(reader)
        writer.write(b"body" + GET)
        assert await reader.read() == b""


async def test_a_client_that_waits_to_be_invited_is_invited_once() -> None:
    async with client(echo) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"bo")
        await writer.drain()
        writer.write(b"dy")
        assert (await answer(reader))[1] == b"body"


async def test_a_body_nobody_reads_is_not_taken_in() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()
    size = 32 << 20

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await count(scope, receive, send)

    count = telling(lambda _, body: b"%d" % len(body))
    async with client(app) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % size)
        writer.write(bytes(size))
        await begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await writer.drain()
        go_on.set()
        assert (await answer(reader))[1] == b"%d" % size


async def test_a_reader_that_does_not_read_holds_the_writer_back() -> None:
    sent = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(512):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    async with serving(app) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 12)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.05)  # until no more goes out
        assert sent < 512
        async with asyncio.timeout(20):
            while b"0\r\n\r\n" not in await reader.read(1 << 20):
                pass
        assert sent == 512
        writer.close()


@pytest.mark.parametrize(
    ("raw", "stays"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", True),
    ],
)
async def test_a_connection_stays_where_the_client_wants_it_to(raw: bytes, stays: bool) -> None:
    async with client(echo) as (reader, writer):
        writer.write(raw)
        head, _ = await answer(reader)
        assert (b"connection: close" in head) is not stays
        if not stays:
            assert await reader.read() == b""


async def test_a_server_that_ends_closes_what_is_idle_and_lets_the_rest_finish() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await go_on.wait()
        await echo(scope, receive, send)

    async with serving(app) as (one, port):
        idle, idle_writer = await asyncio.open_connection("127.0.0.1", port)
        busy, busy_writer = await asyncio.open_connection("127.0.0.1", port)
        busy_writer.write(GET)
        await begun.wait()
        one.should_exit = True
        async with asyncio.timeout(10):
            assert await idle.read() == b""
            go_on.set()
            head, _ = await answer(busy)
            assert b"connection: close" in head
            assert await busy.read() == b""
        for writer in (idle_writer, busy_writer):
            writer.close()


Behave = Callable[[Send], Awaitable[None]]


async def raises(send: Send) -> None:
    raise RuntimeError("a fault")


async def says_nothing(send: Send) -> None:
    return


async def promises(send: Send) -> None:
    await send(start(b"9"))


async def breaks_its_word(send: Send) -> None:
    await send(start(b"9"))
    await send({"type": "http.response.body", "body": b"short"})


async def says_too_much(send: Send) -> None:
    await send(start(b"1"))
    await send({"type": "http.response.body", "body": b"long"})


def start(length: bytes) -> Message:
    return {"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]}


@pytest.mark.parametrize("behave", [raises, says_nothing])
async def test_an_application_that_gives_no_answer_is_a_500(behave: Behave) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await behave(send)

    async with client(app) as (reader, writer):
        writer.write(GET)
        head, body = await answer(reader)
        assert head.startswith(b"HTTP/1.1 500 ")
        assert body == b"Internal Server Error"


@pytest.mark.parametrize("behave", [promises, breaks_its_word, says_too_much])
async def test_an_answer_that_is_not_what_it_announced_is_cut(behave: Behave) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await behave(send)

    async with client(app) as (reader, writer):
        writer.write(GET)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await answer(reader)


async def test_an_application_may_cut_its_answer_off_and_is_not_blamed_for_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(b"9"))
        scope["gateway.abort"]()

    async with client(app) as (reader, writer):
        writer.write(GET)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await answer(reader)
    assert not caplog.records


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
async def test_an_answer_in_pieces_is_chunked_and_one_to_head_has_no_body(method: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(
            {"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")], "lines": b"c: d\r\n"}
        )
        await send({"type": "http.response.body", "body": b"one", "more_body": True})
        await send({"type": "http.response.body", "body": b"two"})

    async with client(app) as (reader, writer):
        for _ in range(2):
            writer.write(GET.replace(b"GET", method))
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"a: b\r\n" in head
            assert b"c: d\r\n" in head
            assert (b"transfer-encoding: chunked" in head) is (method == b"GET")
            if method == b"GET":
                assert await reader.readuntil(b"0\r\n\r\n") == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"


async def test_an_answer_says_once_that_it_is_the_last() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-length", b"0"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 431, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    for asked in (GET, GET.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)):
        async with client(app) as (reader, writer):
            writer.write(asked)
            assert (await reader.read()).count(b"connection: close\r\n") == 1


async def test_who_was_let_in_by_the_kernel_alone_when_the_server_ends_is_answered() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    one = server(echo, 75, 1)
    one.config.load()
    one.lifespan = one.config.lifespan_class(
        one.config
    )  # as `serve` does, which would take the clients at once
    await one.startup([listener])
    clients = [socket.create_connection(listener.getsockname()) for _ in range(20)]
    for client in clients:
        client.sendall(GET)
    await one.shutdown([listener])  # the loop has seen none of them
    for client in clients:
        with client:
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 OK")


async def test_what_a_client_sends_while_the_server_ends_is_answered_and_the_last() -> None:
    async with serving(telling(lambda scope, body: b"well")) as (one, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        idle, other = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            for read, write in ((reader, writer), (idle, other)):
                write.write(GET)
                head, _ = await answer(read)
                assert b"connection: close" not in head
            for connection in list(one.server_state.connections):
                connection.shutdown()
            writer.write(GET)  # before this side has heard of it
            head, body = await answer(reader)
            assert (body, b"connection: close" in head) == (b"well", True)
            assert await reader.read() == await idle.read() == b""
        writer.close()
        other.close()


async def test_requests_that_wait_for_one_another_are_all_answered_when_the_server_ends() -> None:
    asked, go = asyncio.Event(), asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        await go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [], "body": b"well"})

    async with serving(slow) as (one, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            writer.write(GET + GET)
            await asked.wait()
            for connection in list(one.server_state.connections):
                connection.shutdown()
            go.set()
            heads = [(await answer(reader))[0] for _ in range(2)]
            assert [b"connection: close" in head for head in heads] == [False, True]
            assert await reader.read() == b""
        writer.close()


async def test_what_follows_an_early_answer_is_its_body_and_no_request_even_where_it_looks_like_a_known_one() -> (
    None
):
    asked: list[bytes] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["gateway.head"] = Head(scope["headers"])
        body = (await receive())["body"]
        asked.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": [], "body": body})

    small = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
    async with client(app) as (reader, writer):
        for _ in range(2):
            writer.write(small)
            assert (await answer(reader))[1] == b"hi"
        writer.write(b"POST /large HTTP/1.1\r\nContent-Length: %d\r\n\r\nbegun" % (5 + len(small)))
        assert (await answer(reader))[1] == b"begun"
        writer.write(small)
        writer.write_eof()
        assert await reader.read() == b""
    assert asked == [b"hi", b"hi", b"begun"]


async def test_what_follows_an_early_answer_counts_for_no_head() -> None:
    async def early(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "body": b"done"})

    rest = b"x" * 2 * MOST_HEAD
    async with client(early) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(rest))
        assert (await answer(reader))[1] == b"done"
        writer.write(rest)
        await asyncio.sleep(0.05)
        for piece in (GET[:20], GET[20:]):
            writer.write(piece)
            await asyncio.sleep(0.05)  # a head in two pieces
        head, _ = await answer(reader)
        assert head.startswith(b"HTTP/1.1 200 ")
        writer.write(b"GET / HTTP/1.1\r\nX: " + rest)
        assert (await reader.read()).startswith(b"HTTP/1.1 431 "), "of a head all bytes count, as ever"


async def test_a_server_that_ends_says_so_to_a_client_that_repeats_itself() -> None:
    request = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi"
    async with serving(noting_heads) as (one, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for ends in (False, False, True):
            if ends:
                [connection] = one.server_state.connections
                connection.shutdown()
            writer.write(request)
            assert (b"connection: close" in (await answer(reader))[0]) is ends
        assert await reader.read() == b""
        writer.close()


# Other protocols, other versions

UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIA\r\n"
BODIES = {
    "sized": b"Content-Length: 5\r\n\r\nhello",
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("cut", [None, 30, -3], ids=["at once", "in the head", "in the body"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_who_asks_for_http_2_is_answered_by_what_we_speak(body: bytes, cut: int | None) -> None:
    asked = b"POST / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + body
    heard: list[bytes] = []

    def tell(scope: Scope, body: bytes) -> bytes:
        heard.append(body)
        return bytes(scope["method"], "ascii")

    async with client(telling(tell)) as (reader, writer):
        for _ in range(6):  # a head that comes again is known by its bytes
            if cut:
                writer.write(asked[:cut])
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(asked[cut:])
            else:
                writer.write(asked)
            assert (await answer(reader))[1] == b"POST"
        writer.write(asked + GET)
        assert [(await answer(reader))[1] for _ in range(2)] == [b"POST", b"GET"]
    assert heard == [b"hello"] * 7 + [b""]


async def test_a_get_that_asks_for_http_2_has_no_body() -> None:
    async with client(telling(lambda scope, body: body + b"!")) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + UPGRADE + b"\r\n" + GET)
        assert [(await answer(reader))[1] for _ in range(2)] == [b"!", b"!"]


HANDSHAKE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
HIDDEN = {
    "sized": b"Content-Length: %d\r\n\r\n%b" % (len(GET), GET),
    "chunked": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET),
}


@pytest.mark.parametrize("cut", [None, len(HANDSHAKE) + 3, -len(GET), -3])
@pytest.mark.parametrize("body", HIDDEN.values(), ids=HIDDEN)
async def test_the_body_of_a_handshake_is_no_request(body: bytes, cut: int | None) -> None:
    asked = HANDSHAKE + body
    async with client(telling(lambda scope, body: b"%d" % ("gateway.upgrade" in scope) + body)) as streams:
        reader, writer = streams
        for _ in range(3):
            writer.write(asked[:cut])
            if cut:
                await writer.drain()
                await asyncio.sleep(0)
                writer.write(asked[cut:])
            assert (await answer(reader))[1] == b"0" + GET, "what it hides is read, and takes nothing over"
        writer.write(GET)
        assert (await answer(reader))[1] == b"0"


async def test_a_handshake_alone_may_take_the_connection_over() -> None:
    async with client(telling(lambda scope, _: b"%d" % ("gateway.upgrade" in scope))) as (reader, writer):
        for asked, answers in (
            (HANDSHAKE + b"\r\n", [b"1"]),
            (HANDSHAKE + b"Content-Length: 0\r\n\r\n", [b"1"]),
            (GET + HANDSHAKE + b"\r\n", [b"0", b"0"]),
            (HANDSHAKE + b"\r\n" + GET, [b"0", b"0"]),
        ):
            writer.write(asked)
            assert [(await answer(reader))[1] for _ in answers] == answers, asked


async def test_trailers_are_no_headers() -> None:
    async with client(telling(lambda scope, body: repr(scope["headers"]).encode() + body)) as (
        reader,
        writer,
    ):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(head + b"2\r\nhi\r\n0\r\nAuthorization: Bearer k\r\n\r\n" + GET)
        _, told = await answer(reader)
        assert told.endswith(b"hi")
        assert b"uthorization" not in told
        assert b"host" in (await answer(reader))[1]


async def test_http_1_0_gets_no_chunks() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for part in (b"one ", b"two"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with client(app) as (reader, writer):
        writer.write(b"GET / HTTP/1.0\r\nHost: x\r\n\r\n")
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"one two"


async def test_a_connection_that_fails_when_it_is_looked_at_ends_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(edge_server, "SWEEP", 0.0)
    looks: asyncio.Queue[str] = asyncio.Queue()

    class Looked:
        def __init__(self, name: str, error: Exception | None) -> None:
            self.name, self.error = name, error

        def is_stalled(self, *bounds: float) -> bool:
            looks.put_nowait(self.name)
            if self.error is not None:
                raise self.error
            return False

        def drop(self) -> None:
            one.server_state.connections.discard(self)

    one = server(echo, 75, 1)
    one.server_state.connections |= {Looked("bad", KeyError("x")), Looked("good", None)}  # type: ignore[arg-type]
    sweep = asyncio.ensure_future(one.sweep(10, 30))
    async with asyncio.timeout(5):
        seen = [await looks.get() for _ in range(4)]
    await ended([sweep])
    assert sorted(seen) == ["bad", "good", "good", "good"]


async def test_who_takes_nothing_of_an_answer_is_dropped() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(64):
            await send({"type": "http.response.body", "body": b"x" * (1 << 20), "more_body": True})

    async with serving(app) as (one, port):
        sock = socket.create_connection(("127.0.0.1", port))
        sock.sendall(GET)
        connections = one.server_state.connections
        async with asyncio.timeout(10):
            while not (connections and next(iter(connections)).transport.get_write_buffer_size()):
                await asyncio.sleep(0.002)  # the kernel's buffers fill: there is no event
        (connection,) = connections
        now = asyncio.get_running_loop().time()
        assert not connection.is_stalled(now, 10, 30)  # type: ignore[union-attr]
        assert not connection.is_stalled(now + 29, 10, 30)  # type: ignore[union-attr]
        assert connection.is_stalled(now + 31, 10, 30)  # type: ignore[union-attr]
        sock.close()


async def test_the_body_of_a_request_is_not_missed_while_the_one_before_it_is_answered() -> None:
    asked, held, invited = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            asked.set()
            await held.wait()
        else:
            invited.set()
        await echo(scope, receive, send)

    async with serving(app) as (one, port):
        loop = asyncio.get_running_loop()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(10):
            writer.write(GET + b"POST / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            await asked.wait()
            connection: Any = next(iter(one.server_state.connections))
            assert not connection.is_stalled(loop.time() + 31, 10, 30)
            held.set()
            await invited.wait()
            begun = loop.time()
            assert not connection.is_stalled(begun + 29, 10, 30)
            assert connection.is_stalled(begun + 31, 10, 30)
            await answer(reader)
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            assert (await answer(reader))[1] == b"body"
        writer.close()


async def test_answers_of_one_round_all_arrive_whole_and_in_order_also_those_that_are_the_last() -> None:
    go, asked = asyncio.Event(), asyncio.Semaphore(0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.release()
        await go.wait()
        start = {"type": "http.response.start", "status": 200, "headers": []}
        if scope["path"] == "/whole":
            await send({**start, "body": scope["path"].encode()})
            return
        await send(start)
        for part in (b"a", b"b", b"c"):
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def ask(port: int, number: int) -> bytes:
        path = b"/whole" if number % 2 else b"/parts"
        last = number % 3 == 0
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(
                b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (path, b"connection: close\r\n" if last else b"")
            )
            if last:
                return (await reader.read()).partition(b"\r\n\r\n")[2]
            head = await reader.readuntil(b"\r\n\r\n")
            return await (
                reader.readexactly(6) if b"content-length" in head else reader.readuntil(b"0\r\n\r\n")
            )
        finally:
            writer.close()

    async with serving(app) as (_, port), asyncio.timeout(10):
        asks = [asyncio.ensure_future(ask(port, number)) for number in range(60)]
        for _ in asks:
            await asked.acquire()
        go.set()
        parts = b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n"
        assert await asyncio.gather(*asks) == [b"/whole" if number % 2 else parts for number in range(60)]
