"""What may be told of an error that is not in the words of its format."""

import re

import orjson

from gateway.wire import sse
from gateway.wire.written import MARK, read

LONGEST = 1000  # characters
NO_REASON = "the provider gave no reason"

_TAG = re.compile(r"<[a-zA-Z!/?]")
_TITLE = re.compile(rb"<title[^>]{0,100}>([^<]{1,200})</title>", re.IGNORECASE)


def is_json(body: bytes) -> bool:
    """Whether it may be an API's own; a bare number is the status once more."""
    try:
        return isinstance(read(body), dict | list | str)
    except orjson.JSONDecodeError:
        return False


def is_framed(body: bytes) -> bool:
    """Whether there is something around it: a mark of its encoding, or the lines of an event."""
    return body.startswith((MARK, b"data:", b"event:", b":"))


def unframed(body: bytes) -> bytes:
    """The JSON of a body that may be framed; where there is none in its events, what stands behind its mark."""
    said = (sse.data(event) for event in sse.events(body))
    return next(filter(is_json, said), body.removeprefix(MARK))


def reason(body: bytes) -> str:
    """Plain text, on one line and no longer than it may be. "" for what is empty or no text, and for pages: servers
    before the provider write them, and name what stands behind."""
    text = " ".join(body.decode("utf-8", "replace").split())
    return text[:LONGEST] if text.isprintable() and not _TAG.search(text) else ""


def title(body: bytes) -> str:
    """What a page says that it is, for operators: it may name what stands behind. "" for what is none."""
    found = _TITLE.search(body)
    text = " ".join(found[1].decode("utf-8", "replace").split()) if found else ""
    return text if text.isprintable() else ""
