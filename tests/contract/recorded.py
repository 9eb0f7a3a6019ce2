"""Real exchanges with providers, out of the shared recordings, and how a scripted provider plays them."""

import asyncio
import base64
import gzip
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from tests.scripted import Act, Asked
from tests.shared import shared

Record = dict[str, Any]
Chunking = Callable[[Record], list[bytes]]


@cache
def _all(path: Path) -> list[Record]:
    with gzip.open(path) as lines:
        return [orjson.loads(line) for line in lines]


def recorded(provider: str, *apis: str) -> list[Record]:
    """Skips the test where there are no recordings."""
    return [one for one in every() if one["provider"] == provider and one["api"] in apis]


def every() -> list[Record]:
    return _all(shared("recordings/dev.jsonl.gz"))


def answer_of(record: Record) -> bytes:
    """The body as bytes; that of a binary stream is kept as base64."""
    response = record["response"]
    text: str = response.get("body_text", "")
    return text.encode() or base64.b64decode(response.get("body_base64", ""))


def whole(record: Record) -> list[bytes]:
    return [answer_of(record)]


def per_event(record: Record) -> list[bytes]:
    *events, rest = answer_of(record).split(b"\n\n")
    return [event + b"\n\n" for event in events] + ([rest] if rest else [])


def at_random(record: Record) -> list[bytes]:
    """Pieces of 1 to 40 bytes, the same ones at each run."""
    answer, dice, pieces, at = answer_of(record), random.Random(record["id"]), [], 0
    while at < len(answer):
        size = dice.randint(1, 40)
        pieces.append(answer[at : at + size])
        at += size
    return pieces


def byte_by_byte(record: Record) -> list[bytes]:
    """The first 2,048 and the last 1,024 bytes; what lies between, which is more of the same, by sevens."""
    answer = answer_of(record)
    end = max(2048, len(answer) - 1024)
    alone = [[bytes([byte]) for byte in part] for part in (answer[:2048], answer[end:])]
    return [*alone[0], *(answer[at : min(at + 7, end)] for at in range(2048, end, 7)), *alone[1]]


def replayed(record: Record, pieces: list[bytes]) -> Act:
    """The recorded answer; a stream's pieces each in a chunk and a packet of their own."""
    response = record["response"]
    usual = (
        "text/event-stream" if record["streaming"] else "application/json"
    )  # some recorders kept no headers
    kind = response["headers"].get("content-type", usual)
    head = f"HTTP/1.1 {response['status']} X\r\ncontent-type: {kind}\r\n"

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if not record["streaming"]:
            body = b"".join(pieces)
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            return
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for piece in pieces:
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(0)  # a turn of the loop for the gateway: it reads this chunk alone
        writer.write(b"0\r\n\r\n")

    return act
