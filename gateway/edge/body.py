"""Request bodies: whole within a bound, or as a stream."""

from collections.abc import AsyncIterator, Callable, Mapping

from gateway.core.failure import BadRequest, BodyTooLarge, UnsupportedEncoding
from gateway.edge.asgi import Receive


class ClientLeft(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


def check_head(head: Mapping[bytes, bytes], most: int) -> int | None:
    """The declared length in bytes. Raises BodyTooLarge before a byte is read, UnsupportedEncoding for
    compressed bodies (a megabyte of them may hold a gigabyte)."""
    encoding = head.get(b"content-encoding")
    if encoding is not None and encoding.strip().lower() not in (b"", b"identity"):
        raise UnsupportedEncoding("request bodies must come uncompressed; leave out content-encoding")
    declared = head.get(b"content-length")
    if declared is None:
        return None
    if not declared.isdigit():
        raise BadRequest("content-length must be a number")
    length = int(declared)
    if length > most:
        raise too_large(most)
    return length


async def read_body(receive: Receive, most: int, hold: Callable[[int], None]) -> bytes:
    """The whole body. `hold` is told of the bytes of one that comes in pieces, and may raise. Raises BodyTooLarge,
    ClientLeft."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientLeft
    body: bytes = message["body"]
    if not message["more_body"]:
        if len(body) > most:
            raise too_large(most)
        return body
    hold(len(body))
    parts = [body]
    async for part in stream_body(receive, most - len(body)):
        hold(len(part))
        parts.append(part)
    return b"".join(parts)


async def stream_body(receive: Receive, most: int) -> AsyncIterator[bytes]:
    """The body as it arrives; what is not taken is not read from the client either. Raises BodyTooLarge,
    ClientLeft."""
    left = most
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft
        more = message["more_body"]
        part: bytes = message["body"]
        left -= len(part)
        if left < 0:
            raise too_large(most)
        if part:
            yield part


def too_large(most: int) -> BodyTooLarge:
    return BodyTooLarge(f"the body is larger than {most} bytes, the most this gateway takes here")
