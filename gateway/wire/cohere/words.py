"""Which word of Cohere's stands for which of chat's."""

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.wire.fields import part

# A failed generation is an `error`, as OpenRouter calls it: chat has no word for it, and `stop` would be a lie.
FINISH: Mapping[str, str] = {
    "COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls",
    "ERROR": "error", "TIMEOUT": "error",
}  # fmt: skip
# Tokens of thinking for an effort. One that is not bounded here has no budget: the model thinks as long as it likes.
BUDGETS: Mapping[str, int] = {"minimal": 1024, "low": 1024, "medium": 8192}
UNBOUNDED = ("high", "xhigh")


def finish(reason: Any) -> str | None:
    """A finish reason in chat's words; one nobody here knows stays as it is."""
    return FINISH.get(str(reason), str(reason)) if reason is not None else None


def thinking(effort: str) -> dict[str, Any] | None:
    """The `thinking` of an effort; None for one that nobody here knows."""
    if effort == "none":
        return {"type": "disabled"}
    if effort in BUDGETS:
        return {"type": "enabled", "token_budget": BUDGETS[effort]}
    return {"type": "enabled"} if effort in UNBOUNDED else None


def count(counts: Mapping[str, Any], name: str) -> int:
    """A number of tokens or units, 0 where there is none: Cohere's schema allows for fractions."""
    value = counts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        return 0
    return int(value)


def chat_usage(counts: Mapping[str, Any]) -> dict[str, Any]:
    """What the model read and wrote. What of it is billed (less: Cohere's own prompts are not) stands beside it,
    as it came. Pictures are counted beside the text (cohere-chat_v2-01ae14c5d2)."""
    billed = part(counts, "billed_units")
    tokens = part(counts, "tokens") or billed
    images = count(tokens, "image_tokens")
    prompt, completion = count(tokens, "input_tokens") + images, count(tokens, "output_tokens")
    details = {"cached_tokens": count(counts, "cached_tokens")}
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": details | ({"image_tokens": images} if images else {}),
        "completion_tokens_details": {"reasoning_tokens": count(tokens, "reasoning_tokens")},
    } | ({"billed_units": billed} if billed else {})


def annotations(citations: Sequence[Mapping[str, Any]], plan: int = 0) -> list[dict[str, Any]]:
    """A citation for each of its sources, which stands beside it as it came. Both count in characters; `plan` are
    those of the plan that chat has before the text. What is cited in thoughts has no place in chat."""
    found = []
    for one in citations:
        kind = one.get("type") or "TEXT_CONTENT"
        if kind not in ("TEXT_CONTENT", "PLAN"):
            continue
        before = plan if kind == "TEXT_CONTENT" else 0
        for source in one.get("sources") or []:
            cited = {
                "start_index": before + (one.get("start") or 0),
                "end_index": before + (one.get("end") or 0),
                **_shown(source),
            }
            found.append({"type": "url_citation", "url_citation": cited, "source": source})
    return found


def _shown(source: Mapping[str, Any]) -> dict[str, str]:
    """The address and title that a document or a tool's output may name; its id where it names no title."""
    held = source.get("document") or source.get("tool_output") or {}
    return {
        "url": str(held.get("url") or ""),
        "title": str(held.get("title") or source.get("id") or ""),
    }


def logprobs(items: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """By pieces of text: that of a piece is the sum over its tokens."""
    content = []
    for one in items:
        text = str(one.get("text") or "")
        chance = sum(one.get("logprobs") or [])
        content.append({"token": text, "logprob": chance, "bytes": list(text.encode()), "top_logprobs": []})
    return {"content": content, "refusal": None} if content else None
