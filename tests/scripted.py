"""A provider that does what a test says, on a real socket: it keeps what it got and tells when a client left."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Self

import orjson


@dataclass
class Asked:
    """One request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes
    rest: asyncio.StreamReader

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Act = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


def answer(
    body: bytes | dict[str, Any], status: int = 200, content_type: str = "application/json", **headers: str
) -> Act:
    """A whole answer."""
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        head = (
            f"HTTP/1.1 {status} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(raw)}\r\n{more}\r\n"
        )
        writer.write(head.encode() + raw)

    return act


def stream(
    *chunks: bytes | asyncio.Event,
    end: bool = True,
    then: Callable[[], Awaitable[None]] | None = None,
    content_type: bytes = b"text/event-stream",
) -> Act:
    """Server-sent events, a chunk at a time; cut without an end where `end` is false. An event is waited for."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n"
        writer.write(head % content_type)
        for chunk in chunks:
            if isinstance(chunk, asyncio.Event):
                await chunk.wait()
                continue
            writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            await writer.drain()
        if then is not None:
            await then()
        if end:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()

    return act


def event(**chunk: Any) -> bytes:
    return b"data: " + orjson.dumps(chunk) + b"\n\n"


def word(text: str, **more: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **more)


FINISH = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10})
DONE = b"data: [DONE]\n\n"
CHAT = {
    "id": "c1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
}


@dataclass
class Provider:
    """`script` is consumed from the front; its last act is repeated."""

    script: list[Act] = field(default_factory=lambda: [answer(CHAT)])
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Queue[None] = field(default_factory=asyncio.Queue)  # one for each connection that ended
    url: str = ""
    open: int = 0
    _tasks: list[asyncio.Future[None]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 24)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *gone: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._tasks.append(task)
        await asyncio.wait([task])

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *lines = head.rstrip().split("\r\n")
                headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                asked = Asked(line, headers, body, reader)
                self.asked.append(asked)
                act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                await act(asked, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            self.left.put_nowait(None)
            writer.close()


def hang() -> Act:
    """Never answer; returns when the client is gone."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        while await asked.rest.read(1 << 16):
            pass

    return act
