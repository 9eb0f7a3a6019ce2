"""About how many tokens a call has its provider read: what limits reserve, and what a call is charged that nobody else
counted, as where its client leaves early. So all that is text counts, wherever it stands."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.failure import BadRequest

IMAGE_TOKENS = 1000  # what an image costs, about: providers count 85 to 1,600
# What of a message is said to no model.
_UNSAID = frozenset({"cache_control", "content", "id", "role", "status", "type"})
# Their size says little: a second of sound may be 2 KB or 200, a page of a file, too.
_MEDIA = ("audio", "file", "image", "video")
_IN_FULL = frozenset({"base64", "file", "url"})  # sources of documents that are files


def estimate(asked: Any) -> tuple[int, int]:
    """(tokens, images) of messages or a prompt: a quarter of the characters, three more per message."""
    if isinstance(asked, str):
        return len(asked) // 4 + 1, 0
    if not isinstance(asked, list):
        return 1, 0
    tokens = images = 0
    for item in asked:
        if isinstance(item, str):
            tokens += len(item) // 4 + 1
        elif isinstance(item, int):
            tokens += 1
        elif isinstance(item, dict):
            more, seen = _of_message(item)
            tokens += more + 3
            images += seen
        elif isinstance(item, list):
            tokens += len(item)
    return tokens, images


def beside(payload: Mapping[str, Any], names: frozenset[str]) -> int:
    """Tokens of those members of a call that are said beside its messages. Raises BadRequest."""
    if names.isdisjoint(payload):
        return 0
    return sum(json_tokens(payload[name]) for name in names.intersection(payload) if payload[name])


def json_tokens(value: Any) -> int:
    """About how many tokens this is as JSON. Raises BadRequest for what no provider would read either."""
    try:
        return len(orjson.dumps(value)) // 4
    except TypeError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def text_tokens(encoded: str) -> int:
    """Of a text that comes in base64."""
    return len(encoded) * 3 // 16 + 1


def weigh(content: Any) -> tuple[int, int]:
    """(tokens, images) of a message's content, with what tools were given and gave back."""
    if isinstance(content, str):
        return len(content) // 4 + 1, 0
    tokens = images = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict):
            continue
        kind, text = str(part.get("type", "")), part.get("text")
        if isinstance(text, str):
            tokens += len(text) // 4 + 1
            if not kind or "text" in kind:
                continue
        if "image" in kind:
            images += 1
            tokens += IMAGE_TOKENS
        elif kind == "tool_result":
            more, seen = weigh(part.get("content"))
            tokens, images = tokens + more, images + seen
        else:
            tokens += _of_part(kind, part)
    return tokens, images


def _of_message(message: Mapping[str, Any]) -> tuple[int, int]:
    """Also of what stands between messages in Responses: a call, its output, a thought."""
    tokens, images = weigh(message.get("content"))
    if len(message) > 2 or "content" not in message:
        for name, value in message.items():
            if name in _UNSAID or not value:
                continue
            if name == "output" and isinstance(value, list):
                more, seen = weigh(value)
                tokens, images = tokens + more, images + seen
            else:
                tokens += json_tokens(value)
    return tokens, images


def _of_part(kind: str, part: Mapping[str, Any]) -> int:
    """Of one that is neither a text nor a picture."""
    if kind == "tool_use":
        return json_tokens(part.get("input"))
    if kind == "thinking":  # what it is signed with is read by nobody
        return json_tokens(part.get("thinking"))
    if kind == "redacted_thinking":
        return 0
    source = part.get("source")
    if kind == "document" and isinstance(source, dict) and source.get("type") in _IN_FULL:
        return IMAGE_TOKENS
    if not any(one in kind for one in _MEDIA):
        return json_tokens(part)
    file = part.get("file", part)
    data = file.get("file_data") if isinstance(file, dict) else None
    return text_tokens(data) if isinstance(data, str) and data.startswith("data:text/") else IMAGE_TOKENS
