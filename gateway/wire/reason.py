"""What may be told of an error that is not in the words of its format."""

import re

import orjson

from gateway.wire.written import read

LONGEST = 1000  # characters
NO_REASON = "the provider gave no reason"

_TAG = re.compile(r"<[a-zA-Z!/?]")


def is_json(body: bytes) -> bool:
    """Whether it may be an API's own; a bare number is the status once more."""
    try:
        return isinstance(read(body), dict | list | str)
    except orjson.JSONDecodeError:
        return False


def reason(body: bytes) -> str:
    """Plain text, on one line and no longer than it may be. "" for what is empty or no text, and for pages: servers
    before the provider write them, and name what stands behind."""
    text = " ".join(body.decode("utf-8", "replace").split())
    return text[:LONGEST] if text.isprintable() and not _TAG.search(text) else ""
