"""Where a provider lives, and the request that is about to go there."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from gateway.core.fact import fact


class Origin(NamedTuple):
    """One place connections go to; `path` is the socket's where the scheme is "unix"."""

    scheme: str  # http | https | unix
    host: str
    port: int
    path: str = ""


@fact
class WireRequest:
    """`head` is the request line and headers, each ended by CRLF, without framing and the blank line.

    `length` is the body's size in bytes; None for a streamed body of unknown size (sent chunked).
    """

    origin: Origin
    head: bytes
    body: bytes | AsyncIterator[bytes]
    length: int | None
