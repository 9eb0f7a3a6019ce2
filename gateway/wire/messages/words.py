"""Which word of Anthropic's stands for which of chat's."""

import re
from collections.abc import Mapping
from typing import Any

from gateway.wire.fields import is_count

FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
STOP = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
# Tokens of thinking that an effort is worth, and the effort that a budget comes nearest to.
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 24576, "xhigh": 32000, "max": 64000}
LEAST_BUDGET = 1024
IDENT = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # of a call, here and at Bedrock
SAID_NOTHING = "failed"  # of a tool that failed without a word, for which there must be one
FORMAT = "anthropic-claude-v1"  # of signed thinking, as OpenRouter's `reasoning_details` name it

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def effort(budget: int) -> str:
    """The effort in chat's words for a budget of thinking tokens."""
    return next((name for name in ("low", "medium") if budget <= BUDGETS[name]), "high")


def finish(reason: Any) -> str | None:
    """A stop reason in chat's words; one nobody here knows stays as it is."""
    return FINISH.get(str(reason), str(reason)) if reason is not None else None


def stopped(reason: str | None, calls: bool) -> str:
    """A finish reason in Anthropic's words; one that nobody here knows ends a turn all the same. Snowflake gives none,
    and OpenAI says `stop` of a call it was made to write: an answer with calls that was not cut ends in `tool_use`."""
    stop = STOP.get(reason or "", "end_turn")
    return "tool_use" if calls and stop == "end_turn" else stop


def citation(annotation: Any) -> dict[str, Any] | None:
    """A source as Anthropic cites it; None for one without an address, which has no type here. Others tell a page's
    address and title, some its words. The mark to search by again only Anthropic could give: it is left empty."""
    if not isinstance(annotation, dict):
        return None
    if str(annotation.get("type", "")).endswith("_location"):
        return annotation
    said = annotation.get("url_citation")
    cited = said if isinstance(said, dict) else annotation
    if not isinstance(cited.get("url"), str) or not cited["url"]:
        return None
    return {
        "type": "web_search_result_location",
        "url": cited["url"],
        "title": cited.get("title") or None,
        "cited_text": cited.get("content") or "",
        "encrypted_index": "",
    }


def prompt_tokens(counts: Mapping[str, Any]) -> tuple[int, int]:
    """(all, cached): Anthropic counts what came from a cache or went into one beside its `input_tokens`."""
    fresh, written, cached = (
        value if is_count(value := counts.get(name)) else 0
        for name in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    )
    return fresh + written + cached, cached


def chat_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Anthropic's usage as OpenAI's: what came from a cache is a part of the prompt there."""
    prompt, cached = prompt_tokens(counts)
    completion, written = (
        value if is_count(value := counts.get(name)) else 0
        for name in ("output_tokens", "cache_creation_input_tokens")
    )
    details = counts.get("output_tokens_details")
    thought = details.get("thinking_tokens") if isinstance(details, dict) else None
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": cached,
            "cache_write_tokens": written,
        },
    }
    if thought is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return usage


def messages_usage(counts: Mapping[str, Any] | None) -> dict[str, Any]:
    """OpenAI's usage as Anthropic's, whose `input_tokens` leave out what came from a cache or went into one."""
    counts = counts or {}
    prompt, details = counts.get("prompt_tokens") or 0, counts.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    # OpenRouter counts tokens as written that it counts as read too; the sum must stay the prompt.
    written = min(details.get("cache_write_tokens") or 0, max(prompt - cached, 0))
    return {
        "input_tokens": max(prompt - cached - written, 0),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": counts.get("completion_tokens") or 0,
    }
