"""A provider of chat that misbehaves at random: what it does to a call is drawn, and what it was asked is kept."""

import asyncio
import json
import random
import re
import socket
import struct
from collections import defaultdict
from collections.abc import Callable

GOOD = "good"
MOODS = (
    "status", "status", "status", "hang", "reset", "close", "half a head", "informed", "switches", "no HTTP",
    "nonsense", "error first", "error in between", "no end", "half an event", "large event", "pause", "bad chunk",
    "hang in the body", "reset in the body", "close in the body", "too short", "too long", "surplus", "stays open",
    "reset after it", "close after it",
)  # fmt: skip
STATUSES = (400, 401, 404, 408, 413, 422, 429, 429, 500, 500, 502, 503, 503, 529, 302, 600)
RETRY_AFTER = (b"", b"", b"0", b"1", b"-1", b"soon", b"9" * 30, b"Wed, 21 Oct 2015 07:28:00 GMT")
MOST_SILENCE = 10.0  # seconds that it keeps silent at most
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_ID = re.compile(rb"<<(\w+)>>")


class Left(Exception):
    """The connection is over."""


def event(delta: dict[str, str], finish: str | None = None, **more: object) -> bytes:
    choices = [{"index": 0, "delta": delta, "finish_reason": finish}]
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": choices, **more}).encode() + b"\n\n"


def whole(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return json.dumps(
        {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


class Moody:
    """One port. `moods` are drawn for a share `bad` of the calls; `asked` tells by a call's id what became of it."""

    def __init__(self, dice: random.Random) -> None:
        self.bad = 0.0
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        self._dice = dice

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", port, limit=1 << 20)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = _LENGTH.search(head)
                body = await reader.readexactly(int(found[1])) if found else b""
                call = _ID.search(body)
                ident = call[1].decode() if call else ""
                mood = self._dice.choice(MOODS) if self._dice.random() < self.bad else GOOD
                self.asked[ident].append(mood)
                await Turn(self._dice, reader, writer, mood).answer(ident, streams=bool(_STREAM.search(body)))
        except (Left, asyncio.IncompleteReadError, ConnectionError, TimeoutError, RuntimeError):
            pass
        finally:
            writer.close()


class Turn:
    """One answer. Raises Left where the connection is over by it."""

    def __init__(
        self, dice: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mood: str
    ) -> None:
        self._dice, self._reader, self._writer, self._mood = dice, reader, writer, mood

    async def answer(self, ident: str, *, streams: bool) -> None:
        await self._ahead()
        blocks = self._blocks(f"<{ident}>", streams=streams)
        sizes = {"too short": -3, "too long": 9}
        chunked = self._mood not in sizes and (streams or self._dice.random() < 0.5)
        length = max(0, sum(map(len, blocks)) + sizes.get(self._mood, 0))
        framing = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % length
        media = b"text/event-stream" if streams else b"application/json"
        await self._write(b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n" % (media, framing))
        stop = self._dice.randrange(len(blocks) + 1)
        for place, block in enumerate(blocks):
            if place == stop:
                await self._within()
            await self._write(b"%x\r\n%b\r\n" % (len(block), block) if chunked else block)
            await asyncio.sleep(self._dice.choice((0, 0, 0.001, 0.02)))
        if stop == len(blocks):
            await self._within()
        if self._mood == "stays open":
            await self._silence()
        await self._write(b"0\r\n\r\n" if chunked else b"")
        await self._after()

    async def _ahead(self) -> None:
        """What comes in the place of an answer, or before it."""
        match self._mood:
            case "status":
                await self._refuse()
            case "hang":
                await self._silence()
            case "reset":
                self._reset()
            case "close":
                raise Left
            case "half a head":
                await self._write(b"HTTP/1.1 200 OK\r\ncontent-ty")
                raise Left
            case "informed":
                await self._write(
                    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * self._dice.choice((1, 40))
                )
            case "switches":
                await self._write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")
            case "no HTTP":
                await self._write(b"SSH-2.0-x\r\n")
                raise Left

    def _blocks(self, text: str, *, streams: bool) -> list[bytes]:
        blocks = [
            *(event({"content": text}) for _ in range(self._dice.choice((1, 3, 10)))),
            event({}, "stop"),
        ]
        blocks = [*blocks, b"data: [DONE]\n\n"] if streams else [whole(text)]
        error = b'data: {"error": {"message": "no more", "code": 503}}\n\n'
        place = self._dice.randrange(len(blocks))
        changed: dict[str, Callable[[], list[bytes]]] = {
            "nonsense": lambda: [
                self._dice.choice((b"", b"null", b"{", b"\xff\xfe", b"data: {\n\n", b"[" * 5000))
            ],
            "error first": lambda: [error],
            "error in between": lambda: [*blocks[:place], error],
            "no end": lambda: blocks[:-2],
            "half an event": lambda: [*blocks[:place], blocks[place][: len(blocks[place]) // 2]],
            "large event": lambda: [
                blocks[0].replace(text.encode(), text.encode() + b"x" * 500_000),
                *blocks[1:],
            ],
        }
        return changed.get(self._mood, lambda: blocks)()

    async def _within(self) -> None:
        match self._mood:
            case "hang in the body":
                await self._silence()
            case "reset in the body":
                self._reset()
            case "close in the body":
                raise Left
            case "pause":
                await asyncio.sleep(self._dice.choice((0.5, 1.9, 2.1)))
            case "bad chunk":
                await self._write(b"zz\r\nhello\r\n")
                raise Left

    async def _after(self) -> None:
        match self._mood:
            case "surplus":
                await self._write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            case "too short" | "too long":
                raise Left
            case "reset after it":
                self._reset()
            case "close after it":
                await self._reader.readexactly(1)  # of the next call, which it leaves unanswered
                raise Left

    async def _refuse(self) -> None:
        status, after = self._dice.choice(STATUSES), self._dice.choice(RETRY_AFTER)
        body = self._dice.choice((b'{"error": {"message": "no", "type": "x"}}', b"<html>", b"", b"{"))
        head = b"HTTP/1.1 %d No\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % (
            status,
            len(body),
        )
        await self._write(head + (b"retry-after: %b\r\n" % after if after else b"") + b"\r\n" + body)
        raise Left

    async def _silence(self) -> None:
        async with asyncio.timeout(MOST_SILENCE):
            await self._reader.read(1)
        raise Left

    def _reset(self) -> None:
        sock = self._writer.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise Left

    async def _write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()
