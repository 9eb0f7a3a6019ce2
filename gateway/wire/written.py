"""JSON as others write it: some of it orjson takes for none, though Python's clients read it and the answer is paid
for; and of whole numbers it keeps what 64 bits hold, though a tool may be called with more."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
# Half of a character of two: a model's text may be cut there, and a chunk of a stream may end there.
_HALF = re.compile(
    rb"(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\(?!u[dD][89a-fA-F][0-9a-fA-F]{2}).)"
    rb"|\\u[dD][89a-fA-F][0-9a-fA-F]{2}",
    re.DOTALL,
)
_NO_NUMBER = re.compile(rb"(" + _STRING + rb")|-?Infinity|NaN", re.DOTALL)
MARK = b"\xef\xbb\xbf"  # of UTF-8, which some write before all else

# What turns every digit into one, and all else into none: so a long number is found at the speed of a search.
_DIGITS = bytes(48 if 48 <= one < 58 else 32 for one in range(256))
_MANY, _MORE = b"0" * 16, b"0" * 19  # digits that a float may not hold, or 64 bits


def read(data: bytes) -> Any:
    """Half a character is told as U+FFFD, a number that is none as null, a mark of the encoding not at all. Raises
    JSONDecodeError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        mended = _mended(data)
        if mended == data:
            raise
    return orjson.loads(mended)


def read_exactly(data: bytes) -> Any:
    """The same, for what is written anew: whole numbers beyond 64 bits are kept as they are written. Raises
    JSONDecodeError."""
    value = read(data)
    if _MORE not in data.translate(_DIGITS):
        return value
    try:
        return json.loads(_mended(data), parse_int=_whole)
    except RecursionError:  # nor could it be written anew
        return value


def exactly(payload: Mapping[str, Any], body: bytes) -> Mapping[str, Any]:
    """What was read of a body, with numbers as `read_exactly` has them; members of other values stay as they are."""
    if _MORE not in body.translate(_DIGITS):
        return payload
    plain, exact = read(body), read_exactly(body)
    same = {name for name, value in payload.items() if name in plain and plain[name] == value}
    return {name: exact[name] if name in same else value for name, value in payload.items()}


def as_written(text: str, value: dict[str, Any]) -> dict[str, Any] | orjson.Fragment:
    """The object that a text holds, for orjson to write: in the text's own words where they hold a long number."""
    return orjson.Fragment(text) if _MANY in text.encode().translate(_DIGITS) else value


def _mended(data: bytes) -> bytes:
    whole = _HALF.sub(lambda found: found[1] or rb"\ufffd", data.removeprefix(MARK))
    return _NO_NUMBER.sub(lambda found: found[1] or b"null", whole)


def _whole(text: str) -> int | orjson.Fragment:
    if len(text) > 20:
        return orjson.Fragment(text)
    value = int(text)
    return value if -(2**63) <= value < 2**64 else orjson.Fragment(text)
