"""One WebSocket after its handshake: whole messages in and out, pings, and an orderly end. What the messages mean is
its talk's business.

It takes the connection's place in uvicorn's list, so that the server's sweep and shutdown reach it too.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

from uvicorn.server import ServerState
from websockets import protocol
from websockets.frames import Frame, Opcode
from websockets.utils import accept_key

from gateway.core.failure import BadRequest
from gateway.edge.unread import Unread

PING_AFTER = 20.0  # seconds of a client's silence
PONG_WITHIN = 20.0  # seconds until a client that does not answer is taken for gone
CLOSE_WITHIN = 1.0  # seconds that a client has to say goodbye
OLDEST = 3600.0  # seconds that a connection may live, as at OpenAI
GOING_AWAY, UNSUPPORTED, POLICY, TOO_BIG, TRY_LATER = 1001, 1003, 1008, 1009, 1013


class Talk(Protocol):
    def hear(self, message: bytes) -> None: ...

    def comes(self, size: int) -> None:
        """So many bytes of the next message are here."""
        ...

    def leave(self) -> None:
        """The client is gone, or says goodbye."""
        ...

    def end(self, *, aged: bool = False) -> None:
        """What is under way may finish; nothing more is begun."""
        ...


def is_asked(head: Mapping[bytes, bytes]) -> bool:
    return head.get(b"upgrade", b"").strip().lower() == b"websocket"


def welcome(head: Mapping[bytes, bytes], request_id: str) -> bytes:
    """The head that accepts a handshake (RFC 6455, 4.2). Raises BadRequest."""
    if head.get(b"sec-websocket-version") != b"13":
        raise BadRequest(
            "sec-websocket-version must be 13", code="invalid_header", param="sec-websocket-version"
        )
    key = head.get(b"sec-websocket-key", b"")
    if len(key) != 24 or not key.endswith(b"=="):
        message = "sec-websocket-key must be 16 bytes in base64"
        raise BadRequest(message, code="invalid_header", param="sec-websocket-key")
    lines = (
        "HTTP/1.1 101 Switching Protocols", "upgrade: websocket", "connection: Upgrade",
        f"sec-websocket-accept: {accept_key(key.decode('latin-1'))}", f"x-request-id: {request_id}",
    )  # fmt: skip
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class Socket(asyncio.Protocol):
    """Compression is not offered: a megabyte of it may hold a gigabyte."""

    def __init__(self, state: ServerState, most: int) -> None:
        """Messages of more than `most` bytes end the connection."""
        self.talk: Talk | None = None
        self._state, self._most = state, most
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._transport: Any = None
        self._frames = protocol.Protocol(protocol.SERVER, max_size=most)
        self._message = bytearray()
        self._coming = 0  # bytes since the last message
        self._writable: asyncio.Future[None] | None = None
        self._hears = True  # whether the socket is read
        self._unread = Unread()
        self._opened = self._last_data = self._loop.time()
        self._pinged = False
        self._closing_since = 0.0

    # the talk's side

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Those that the server waits for when it ends, and cancels in the end."""
        return self._state.tasks

    @property
    def reads(self) -> bool:
        """Whether the client takes what is written."""
        return self._writable is None

    async def send(self, text: bytes) -> None:
        while self._writable is not None and not self.gone.done():
            await asyncio.shield(self._writable)
        self.write(text)

    def write(self, text: bytes) -> None:
        """One message, whether or not the client reads; none once the connection closes."""
        if self._is_open():
            self._frames.send_text(text)
            self._flush()

    def close(self, code: int, reason: str = "") -> None:
        if self._is_open():
            self._frames.send_close(code, reason)
            self._flush()
            self._closing_since = self._loop.time()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn lists its own classes

    def data_received(self, data: bytes) -> None:
        self._last_data, self._pinged = self._loop.time(), False
        self._coming += len(data)
        self._frames.receive_data(data)
        for frame in self._frames.events_received():
            assert isinstance(frame, Frame)
            self._take(frame)
        if self._coming and self.talk is not None:
            self.talk.comes(self._coming)
        self._flush()
        if self._frames.close_expected():
            self._leave()
            self._closing_since = self._closing_since or self._last_data
        if not self.reads:  # what it makes us say, pongs for one, would pile up
            self._hears = False
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._state.connections.discard(self)
        if not self.gone.done():
            self.gone.set_result(None)
        self.resume_writing()
        self._leave()

    def pause_writing(self) -> None:
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)
        if not self._hears and not self.gone.done():
            self._hears, self._last_data = True, self._loop.time()
            self._transport.resume_reading()

    # the server's side

    def shutdown(self) -> None:
        if self.talk is not None:
            self.talk.end()

    def is_stalled(self, now: float, header_timeout: float, body_timeout: float) -> bool:
        """Whether the client is gone without a word. Asked every second, it is the clock of pings and age, too."""
        if self._closing_since:
            return now - self._closing_since > CLOSE_WITHIN
        if self.talk is not None and now - self._opened > OLDEST:
            self.talk.end(aged=True)
        if self._unread.lasts(self._transport.get_write_buffer_size(), now, body_timeout):
            return True
        if not self._hears:
            return False  # it may well have said something
        silent = now - self._last_data
        if silent > PING_AFTER and not self._pinged:
            self._pinged = True
            self._frames.send_ping(b"")
            self._flush()
        return silent > PING_AFTER + PONG_WITHIN

    def drop(self) -> None:
        self._transport.abort()

    def _is_open(self) -> bool:
        return self._frames.state is protocol.OPEN and not self.gone.done()

    def _take(self, frame: Frame) -> None:
        if frame.opcode is Opcode.BINARY:
            self.close(UNSUPPORTED, "messages are JSON texts")
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._message += frame.data
            if frame.fin:
                message, self._message, self._coming = bytes(self._message), bytearray(), 0
                if self.talk is not None and self._is_open():
                    self.talk.hear(message)

    def _flush(self) -> None:
        """An empty piece stands for the end of what we say."""
        for piece in self._frames.data_to_send():
            if piece:
                self._transport.write(piece)
            else:
                self._transport.close()

    def _leave(self) -> None:
        talk, self.talk = self.talk, None
        if talk is not None:
            talk.leave()
