"""A provider that does exactly what a test says, byte for byte, over a real socket."""

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from gateway.core.address import Origin
from gateway.upstream.client import Timing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENT = Timing(connect=5.0, first_byte=5.0, idle=5.0)
POST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: provider.test\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nhost: provider.test\r\n"
HELLO = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class Peer:
    """The server's side of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.gone = asyncio.Event()  # the gateway has closed or reset it

    async def head(self) -> bytes:
        """The next request's head. Raises EOFError when the gateway leaves instead."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> tuple[bytes, bytes]:
        """The next request: head and body, chunked bodies joined."""
        head = await self.head()
        if b"transfer-encoding: chunked\r\n" in head:
            parts = []
            while size := int(await self.reader.readline(), 16):
                parts.append((await self.reader.readexactly(size + 2))[:-2])
            assert await self.reader.readline() == b"\r\n"
            return head, b"".join(parts)
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        return head, await self.reader.readexactly(int(length or 0))

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def left(self) -> None:
        """Wait until the gateway has closed or reset the connection."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass
        self.gone.set()


Script = Callable[[Peer], Awaitable[None]]


class Wire(asyncio.Transport):
    """Stands for the socket where only the parsing matters."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = False

    def write(self, data: object) -> None: ...

    def abort(self) -> None:
        self.aborted = True


class Server:
    def __init__(self, script: Script) -> None:
        self._script = script
        self.peers: list[Peer] = []
        self.failures: list[BaseException] = []
        self.arrived = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        self.arrived.set()
        try:
            await self._script(peer)
            if writer.can_write_eof() or not writer.is_closing():
                await writer.drain()
        except (EOFError, ConnectionError):
            peer.gone.set()
        except Exception as error:
            self.failures.append(error)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                await writer.wait_closed()


@asynccontextmanager
async def provider(
    script: Script, *, tls: ssl.SSLContext | None = None, unix: str = ""
) -> "AsyncIterator[tuple[Server, Origin]]":
    """A listening server that runs `script` once per connection; a script that fails, fails the test."""
    server = Server(script)
    if unix:
        listening = await asyncio.start_unix_server(server.serve, unix)
        origin = Origin("unix", "localhost", 0, unix)
    else:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
        port = listening.sockets[0].getsockname()[1]
        origin = Origin("https" if tls else "http", "localhost" if tls else "127.0.0.1", port)
    try:
        yield server, origin
    finally:
        listening.close()
        for peer in server.peers:
            peer.writer.transport.abort()
    if server.failures:
        raise server.failures[0]


def saying(answer: bytes) -> Script:
    """Answer every request of every connection alike."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            peer.say(answer)
            await peer.writer.drain()

    return script


def saying_once(answer: bytes) -> Script:
    """Answer one request and close."""

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(answer)
        await peer.writer.drain()

    return script


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what no event announces; fails after two seconds."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it never came true")
