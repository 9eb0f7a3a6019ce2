"""Pictures, sounds and documents inside a body: data URLs, and what an address lets one guess."""

import mimetypes
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Inline(NamedTuple):
    kind: str  # a media type
    data: str  # base64


def inline(url: str) -> Inline | None:
    """The contents of a base64 data URL; None for any other address."""
    head, comma, data = url.partition(",")
    if not (url.startswith("data:") and comma and head.endswith(";base64")):
        return None
    return Inline(head[5:-7], data)


def is_shown(message: Mapping[str, Any]) -> bool:
    """Whether an answer in chat's words, or a piece of one, holds pictures or sound: as OpenRouter tells them, or in
    Gemini's own parts."""
    if message.get("images"):
        return True
    if not (others := message.get("other_blocks")):
        return False
    return any("inlineData" in one for one in others if isinstance(one, dict))


def kind_of(url: str) -> str:
    """The media type by the end of the address; "" where it says nothing."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return ""
    return mimetypes.guess_type(path)[0] or ""
