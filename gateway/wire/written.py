"""JSON as others write it, where orjson takes it for none: Python's clients read it, and an answer is paid for."""

import re
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


def read(data: bytes) -> Any:
    """Half a character is told as U+FFFD, a number that is none as null. Raises JSONDecodeError."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        whole = _HALF.sub(lambda found: found[1] or rb"\ufffd", data)
        mended = _NO_NUMBER.sub(lambda found: found[1] or b"null", whole)
        if mended == data:
            raise
    return orjson.loads(mended)
