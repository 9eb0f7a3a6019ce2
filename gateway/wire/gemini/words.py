"""Which word of Gemini's stands for which of chat's."""

import re
from collections.abc import Mapping
from typing import Any

from gateway.wire.fields import is_count

_FILTERED = (
    "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR",
    "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION",
)  # fmt: skip
_FAILED = (
    "FINISH_REASON_UNSPECIFIED", "OTHER", "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL",
    "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE", "NO_IMAGE", "IMAGE_OTHER",
)  # fmt: skip
# A failed generation is an `error`, as OpenRouter calls it: chat has no word for it, and `stop` would be a lie.
# The numbers are those that `enum-encoding=int` gives and that mean the same in both of Google's services.
FINISH: Mapping[str, str] = {
    "STOP": "stop", "1": "stop", "MAX_TOKENS": "length", "2": "length", "3": "content_filter",
    "4": "content_filter", **dict.fromkeys(_FILTERED, "content_filter"), **dict.fromkeys(_FAILED, "error"),
}  # fmt: skip
STOP: Mapping[str, str] = {
    "stop": "STOP", "tool_calls": "STOP", "function_call": "STOP", "length": "MAX_TOKENS",
    "content_filter": "SAFETY",
}  # fmt: skip
FORMAT = "google-gemini-v1"  # of signed thinking, as OpenRouter's `reasoning_details` name it
# Stands for the signature of a call that another model made: from Gemini 3 on the first call of each step must have one
# (ai.google.dev/gemini-api/docs/thought-signatures).
FOREIGN = "skip_thought_signature_validator"
MADE = "call_gem_"  # begins the ids of calls to which Gemini gave none
# Tokens of thinking for an effort, as Google's own OpenAI endpoint counts them; models from Gemini 3 on take a
# level in words instead.
BUDGETS = {"none": 0, "minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 24576}
LEVELS = {"none": "minimal", "minimal": "minimal", "low": "low", "medium": "medium", "high": "high",
          "xhigh": "high"}  # fmt: skip
_COUNTED_IN_TOKENS = re.compile(r"gemini-(?:1|2)\.")
_SNAKE = re.compile(r"_([a-z])")

STATUSES = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND",
    409: "ABORTED", 413: "INVALID_ARGUMENT", 422: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED", 501: "UNIMPLEMENTED", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
    529: "UNAVAILABLE",
}  # fmt: skip
# What kind of error, in chat's words, a status of Google's tells of; all others are the provider's own.
KINDS = {
    "INVALID_ARGUMENT": "invalid_request_error", "UNAUTHENTICATED": "authentication_error",
    "PERMISSION_DENIED": "permission_error", "NOT_FOUND": "not_found_error",
    "RESOURCE_EXHAUSTED": "rate_limit_error", "UNAVAILABLE": "overloaded_error",
    "DEADLINE_EXCEEDED": "timeout_error",
}  # fmt: skip
_CODES = {named: status for status, named in reversed(STATUSES.items())}
_NAMED = {kind: named for named, kind in KINDS.items()}


def failure(message: str, kind: Any) -> dict[str, Any]:
    """Google's error for one of this kind in the midst of a stream."""
    named = _NAMED.get(str(kind), "INTERNAL")
    return {"code": _CODES.get(named, 500), "message": message, "status": named}


def finish(reason: Any) -> str | None:
    """A finish reason in chat's words; one nobody here knows stays as it is."""
    return FINISH.get(str(reason), str(reason)) if reason is not None else None


def is_signed(model: str) -> bool:
    """Whether a model takes no calls back without a signature."""
    return "gemini" in model and not _COUNTED_IN_TOKENS.search(model)


def thinking(effort: str, model: str) -> dict[str, Any] | None:
    """The `thinkingConfig` of an effort; None for one that nobody here knows."""
    if effort not in BUDGETS:
        return None
    shown = {"includeThoughts": effort != "none"}
    if _COUNTED_IN_TOKENS.search(model):
        return {**shown, "thinkingBudget": BUDGETS[effort]}
    return {**shown, "thinkingLevel": LEVELS[effort]}


def effort(config: Mapping[str, Any]) -> str | None:
    """The effort in chat's words that a `thinkingConfig` asks for; None where it leaves it to the model."""
    level = config.get("thinkingLevel")
    if level and level != "THINKING_LEVEL_UNSPECIFIED":
        return str(level).lower()
    budget = config.get("thinkingBudget")
    if not is_count(budget):
        return None
    if budget == 0:
        return "none"
    return next((name for name in ("low", "medium") if budget <= BUDGETS[name]), "high")


def camel(value: Any) -> dict[str, Any]:
    """One object with its names as Google documents them: its services take snake_case too. Any other value is
    an empty object."""
    if not isinstance(value, dict):
        return {}
    return {_SNAKE.sub(lambda found: found[1].upper(), name): one for name, one in value.items()}


def chat_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Gemini counts thoughts beside the answer and what its own tools read beside the prompt."""
    prompt, tools, cached, answer, thoughts = (
        value if is_count(value := counts.get(name)) else 0
        for name in ("promptTokenCount", "toolUsePromptTokenCount", "cachedContentTokenCount",
                     "candidatesTokenCount", "thoughtsTokenCount")
    )  # fmt: skip
    total = counts.get("totalTokenCount")
    return {
        "prompt_tokens": prompt + tools,
        "completion_tokens": answer + thoughts,
        "total_tokens": total if is_count(total) else prompt + tools + answer + thoughts,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": thoughts},
    }


def gemini_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI's usage as Gemini's."""
    prompt, completion = counts.get("prompt_tokens") or 0, counts.get("completion_tokens") or 0
    cached = (counts.get("prompt_tokens_details") or {}).get("cached_tokens") or 0
    thoughts = (counts.get("completion_tokens_details") or {}).get("reasoning_tokens") or 0
    usage = {
        "promptTokenCount": prompt,
        "candidatesTokenCount": max(completion - thoughts, 0),
        "totalTokenCount": counts.get("total_tokens") or prompt + completion,
    }
    usage |= {"cachedContentTokenCount": cached} if cached else {}
    return usage | ({"thoughtsTokenCount": thoughts} if thoughts else {})
