"""What a provider that speaks chat lacks of the house language, and a message in its words."""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from gateway.wire.base import Quirks
from gateway.wire.idents import fitted
from gateway.wire.lacks import Lacks, always
from gateway.wire.sides import Json
from gateway.wire.thoughts import bare, is_plain, plain

# What other formats need kept and OpenAI's chat has no field for; a chat provider would refuse it.
EXTRAS = frozenset({"reasoning_content", "reasoning_details", "other_blocks", "annotations", "is_error"})
# What it takes whole of what it has fields for.
_OWN = frozenset(
    {
        "image_url",
        "video_url",
        "file",
        "input_audio",
        "function",
        "response_format",
        "json_schema",
        "tool_choice",
    }
)
# No reason to refuse a call: what says nothing of the answer, and a bound on how tokens are drawn that Gemini's command
# line sets in every call.
HINTS = frozenset({"user", "stream_options", "top_k"})


@cache
def lacks(quirks: Quirks) -> Lacks:
    """Beside what is refused by name. That a stream is to carry its usage is the gateway's own wish."""
    takes: dict[str, Callable[[Json], bool]] = {}
    if quirks.thought:
        takes |= {"reasoning_content": always, "reasoning_details": is_plain}
    if quirks.signed:
        takes |= {"reasoning_details": always}
    return Lacks({}, (HINTS - {"stream_options"}) & quirks.refuses, takes, _OWN)


def fit(message: Mapping[str, Any], quirks: Quirks) -> Json:
    """A message without what this provider has no field for."""
    made = {name: value for name, value in message.items() if name not in EXTRAS}
    if quirks.thought and (thought := plain(message)):
        made[quirks.thought] = thought
    if quirks.signed and "reasoning_details" in message:
        made["reasoning_details"] = list(map(bare, message["reasoning_details"]))
    if any("after" in call for call in made.get("tool_calls") or ()):
        made["tool_calls"] = list(map(bare, made["tool_calls"]))
    content = made.get("content")
    if quirks.ident:
        _fit_idents(made, quirks.ident)
    if quirks.flat and isinstance(content, list) and all(part.get("type") == "text" for part in content):
        made["content"] = "\n".join(part["text"] for part in content)
    return made


def _fit_idents(message: Json, size: int) -> None:
    form = re.compile(rf"[a-zA-Z0-9]{{{size}}}")
    if "tool_call_id" in message:
        message["tool_call_id"] = fitted(message["tool_call_id"], form, size)
    if message.get("tool_calls"):
        message["tool_calls"] = [
            {**call, "id": fitted(call.get("id"), form, size)} for call in message["tool_calls"]
        ]
