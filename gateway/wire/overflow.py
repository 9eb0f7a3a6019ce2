"""Errors that say that a conversation has outgrown its model. Coding agents sum it up and go on, where they know the
error for what it is: clients of OpenAI's dialects by its code (Codex 0.171), those of Messages by how it begins (Claude
Code 2.1)."""

import re
from collections.abc import Mapping
from typing import Any

CODE = "context_length_exceeded"
OPENING = "prompt is too long"  # Anthropic: "prompt is too long: 250000 tokens > 200000 maximum"
# Of Anthropic; of OpenAI, Mistral, vLLM and their kin; of Responses; of llama.cpp; of xAI; of Gemini; of Bedrock.
_WORDS = re.compile(
    rf"{OPENING}|exceed context limit|maximum context length|context window|available context size"
    r"|maximum prompt length|input token count.* exceeds|input is too long",
    re.IGNORECASE | re.DOTALL,
)


def is_overflow(status: int, error: Mapping[str, Any]) -> bool:
    """Whether an error object of chat, which came with this status, says so."""
    if status not in (400, 413, 422):
        return False
    return error.get("code") == CODE or _WORDS.search(str(error.get("message") or "")) is not None
