"""AWS event streams: binary messages, each with headers and a payload, both under a checksum.

    total length | length of the headers | CRC of these two | headers | payload | CRC of all before

Lengths and CRCs are 32 bits, big-endian; a header is its name (8-bit length), a type, and a value.
Source: the event stream encoding of the Amazon Transcribe and Smithy specifications.
"""

import struct
from binascii import crc32
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from gateway.wire.sse import MOST_EVENT, BadStream, EventTooLarge

CONTENT_TYPE = b"application/vnd.amazon.eventstream"

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_LEAST = _PRELUDE.size + _CRC.size
_SIZED = (6, 7)  # bytes and text, with a length of 16 bits before the value
_TEXT = 7
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # bytes of the values of all other types


class Message(NamedTuple):
    """`headers` are those whose value is text: no AWS service tells anything of an answer in others."""

    headers: Mapping[str, str]
    payload: bytes

    @property
    def exception(self) -> str:
        """The name of what went wrong; empty for an event."""
        kind = self.headers.get(":message-type", "event")
        if kind == "event":
            return ""
        return self.headers.get(":exception-type") or self.headers.get(":error-code") or kind


class Splitter:
    """Feed it chunks of any size; it returns the messages that are whole by then."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> list[Message]:
        """Raises BadStream for what its checksums do not bear out, EventTooLarge."""
        rest, at, found = self._rest, 0, []
        rest += chunk
        while len(rest) - at >= _PRELUDE.size:
            size, head = _lengths(rest, at)
            if len(rest) - at < size:
                break
            found.append(_message(bytes(rest[at : at + size]), head))
            at += size
        del rest[:at]
        return found

    @property
    def held(self) -> int:
        """Bytes of a message that is not whole yet."""
        return len(self._rest)


def _lengths(buffer: bytearray, at: int) -> tuple[int, int]:
    size, head, checksum = _PRELUDE.unpack_from(buffer, at)
    if crc32(buffer[at : at + 8]) != checksum:
        raise BadStream("the lengths of an event do not match their checksum")
    if size > MOST_EVENT:
        raise EventTooLarge(f"an event of more than {MOST_EVENT >> 20} MiB")
    if size < _LEAST + head:
        raise BadStream("an event is shorter than its headers")
    return size, head


def _message(message: bytes, head: int) -> Message:
    if crc32(message[:-4]) != _CRC.unpack_from(message, len(message) - 4)[0]:
        raise BadStream("an event does not match its checksum")
    end = _PRELUDE.size + head
    try:
        headers = dict(_headers(message[_PRELUDE.size : end]))
    except (struct.error, KeyError, IndexError, UnicodeDecodeError):
        raise BadStream("the headers of an event make no sense") from None
    return Message(headers, message[end:-4])


def _headers(block: bytes) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(block):
        start, at = at + 1, at + 1 + block[at]
        name, kind = block[start:at].decode(), block[at]
        at += 1
        if kind not in _SIZED:
            at += _SIZES[kind]
            continue
        (size,) = _LENGTH.unpack_from(block, at)
        at += 2 + size
        if kind == _TEXT:
            yield name, block[at - size : at].decode()
    if at > len(block):
        raise IndexError("the last value is cut")
