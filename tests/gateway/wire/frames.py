"""Event streams of AWS, written apart from the code that reads them."""

import struct
from binascii import crc32
from typing import Any

import orjson


def header(name: str, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + bytes([kind]) + value


def text(name: str, value: str) -> bytes:
    raw = value.encode()
    return header(name, 7, len(raw).to_bytes(2, "big") + raw)


def prelude(size: int, head: int) -> bytes:
    told = struct.pack(">II", size, head)
    return told + struct.pack(">I", crc32(told))


def message(payload: bytes, headers: bytes = b"") -> bytes:
    told = prelude(16 + len(headers) + len(payload), len(headers)) + headers + payload
    return told + struct.pack(">I", crc32(told))


def event(kind: str, **members: Any) -> bytes:
    return message(orjson.dumps(members), text(":event-type", kind) + text(":message-type", "event"))


def exception(kind: str, payload: bytes = b'{"message":"too many"}') -> bytes:
    return message(payload, text(":exception-type", kind) + text(":message-type", "exception"))
