"""Requests that mean nothing: what each is answered with, and how soon."""

import asyncio
import time
from collections.abc import Iterator
from typing import NamedTuple

from loadtests.bench import body
from loadtests.children import KEY

MEGABYTE = 1 << 20
_CHAT = body("now")


class Told(NamedTuple):
    """The slowest of so many answers; status 0 for none."""

    name: str
    statuses: set[int]
    worst_ms: float


def requests(port: int, key: str = KEY, usual: str = "/v1/chat/completions") -> Iterator[tuple[str, bytes]]:
    """By name. Host and length are as they should be unless they are what is wrong."""

    def post(payload: bytes = _CHAT, *more: str, path: str = usual, key: str = key) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"host: 127.0.0.1:{port}", f"authorization: Bearer {key}"]
        lines += ["content-type: application/json", f"content-length: {len(payload)}", *more]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + payload

    yield "malformed JSON", post(_CHAT[:-2])
    yield "JSON 100,000 deep", post(b'{"model": "now", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    yield "a number of 1 MB", post(b'{"max_tokens": ' + b"1" * MEGABYTE + b", " + _CHAT[1:])
    yield "a model's name of 1 MB", post(b'{"messages": [], "model": "' + b"m" * MEGABYTE + b'"}')
    yield "a key of 1 MB", post(key="k" * MEGABYTE)
    yield "two hosts", post(_CHAT, "host: other.test")
    yield "a path that climbs", post(path="/v1/../admin/v1/keys")
    yield "an encoded line break", post(path="/v1/files/x%0d%0ay")
    yield "a line break in a header", post(_CHAT, "x-a: b\rc")
    yield "two models", post(b'{"model": "other", ' + _CHAT[1:])
    yield "two models, one escaped", post(b'{"mod\\u0065l": "other", ' + _CHAT[1:])


async def say(port: int, name: str, raw: bytes, times: int) -> Told:
    """Each time over a connection of its own, one after the other."""
    statuses, worst = set(), 0.0
    for _ in range(times):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        began = time.perf_counter()
        try:
            writer.write(raw)
            line = await asyncio.wait_for(reader.readline(), 5)
            statuses.add(int(line.split()[1]) if line else 0)
        except (TimeoutError, ConnectionError):
            statuses.add(0)
        worst = max(worst, time.perf_counter() - began)
        writer.transport.abort()
    return Told(name, statuses, round(worst * 1000, 1))
