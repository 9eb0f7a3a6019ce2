"""About how many tokens the contents of a call are, as `wire.weights` reckons for other dialects."""

from collections.abc import Mapping
from typing import Any

from gateway.wire.gemini.words import camel
from gateway.wire.weights import IMAGE_TOKENS, json_tokens, text_tokens

_MEDIA = frozenset({"inlineData", "inline_data", "fileData", "file_data"})


def estimate(contents: Any) -> tuple[int, int]:
    """(tokens, images) of contents: a quarter of the characters, three more per turn."""
    tokens = images = 0
    for content in contents if isinstance(contents, list) else []:
        more, seen = _weigh(content.get("parts")) if isinstance(content, dict) else (0, 0)
        tokens, images = tokens + 3 + more, images + seen
    return tokens, images


def declared(tools: Any) -> int:
    """How many functions; what is none is for the provider to say."""
    lists = [camel(tool).get("functionDeclarations") for tool in tools] if isinstance(tools, list) else []
    return sum(len(one) for one in lists if isinstance(one, list))


def _weigh(parts: Any) -> tuple[int, int]:
    """What a tool gave back may hold parts of its own: pictures, above all."""
    tokens = images = 0
    for part in parts if isinstance(parts, list) else []:
        told = part if isinstance(part, dict) else {}
        if isinstance(text := told.get("text"), str):
            tokens += len(text) // 4 + 1
        elif encoded := _text_of(told):
            tokens += text_tokens(encoded)
        elif not told.keys().isdisjoint(_MEDIA):
            images += 1
            tokens += IMAGE_TOKENS
        elif isinstance(given := told.get("functionResponse") or told.get("function_response"), dict):
            more, seen = _weigh(given.get("parts"))
            tokens += more + json_tokens({**given, "parts": None})
            images += seen
        else:
            tokens += json_tokens(part)
    return tokens, images


def _text_of(part: Mapping[str, Any]) -> str:
    """In base64, where a part is a text that comes as a file; else ""."""
    inline = part.get("inlineData") or part.get("inline_data")
    held = camel(inline) if isinstance(inline, dict) else {}
    is_text = str(held.get("mimeType")).startswith("text/") and isinstance(held.get("data"), str)
    return str(held["data"]) if is_text else ""
