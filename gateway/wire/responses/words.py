"""Which word of Responses stands for which of chat's, and the ids that answers of ours are known by."""

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.wire.fields import is_count, part

OURS = "resp_gh"  # begins the ids of answers made here; OpenAI's go on in hex, which knows neither g nor h
SEALED = "gh1."  # begins `encrypted_content` that was made here: chat's `reasoning_details`, or a summary
PENDING = ("queued", "in_progress")  # states of a response that has not ended
FOREIGN = "openai-responses-v1"  # of thoughts that a provider of Responses encrypted, as OpenRouter names it
_PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc",
             "function_call_output": "fco", "custom_tool_call_output": "ctco"}  # fmt: skip

Json = dict[str, Any]


def item_id(kind: str, ident: str, place: int | str) -> str:
    """The id of an item of the answer `ident`: it says which answer it is part of."""
    return f"{_PREFIXES.get(kind, 'item')}_{ident}_{place}"


def answer_of(item: str) -> str:
    """The id of the answer whose item this is, "" for ids of others."""
    parts = item.split("_")
    return OURS + parts[1] if len(parts) == 3 and len(parts[1]) == 32 else ""


def seal(details: list[Json]) -> str:
    """Signed or encrypted thoughts as one word, for the client to bring back."""
    return SEALED + base64.b64encode(orjson.dumps(details)).decode()


def unseal(sealed: str, ident: str = "") -> list[Json]:
    """Chat's `reasoning_details`. What was not sealed here is kept as the provider's own."""
    if not sealed.startswith(SEALED):
        return [{"type": "reasoning.encrypted", "data": sealed, "format": FOREIGN, "id": ident}]
    try:
        details = orjson.loads(base64.b64decode(sealed.removeprefix(SEALED), validate=True))
    except ValueError:
        return []
    return [one for one in details if isinstance(one, dict)] if isinstance(details, list) else []


def chat_name(item: Mapping[str, Any]) -> str:
    """A function's name in chat, which knows no namespaces."""
    name, namespace = str(item.get("name") or ""), item.get("namespace")
    return f"{namespace}__{name}" if namespace else name


def ending(reason: Any) -> tuple[str, Json | None]:
    """(status, incomplete_details) for a finish reason of chat's."""
    if reason == "length":
        return "incomplete", {"reason": "max_output_tokens"}
    if reason == "content_filter":
        return "incomplete", {"reason": "content_filter"}
    return "completed", None


def finish(response: Mapping[str, Any]) -> str:
    """The finish reason, in chat's words, of a whole response."""
    if why := part(response, "incomplete_details").get("reason"):
        return "length" if why == "max_output_tokens" else str(why)
    if response.get("status") not in (None, "completed"):
        return str(response["status"])
    output = response.get("output")
    kinds = (
        [item.get("type") for item in output if isinstance(item, dict)] if isinstance(output, list) else ()
    )
    return "tool_calls" if "function_call" in kinds or "custom_tool_call" in kinds else "stop"


def responses_usage(counts: Mapping[str, Any] | None) -> Json | None:
    """Chat's usage in the words of Responses; None where none was reported."""
    if not counts:
        return None
    prompt, completion = counts.get("prompt_tokens") or 0, counts.get("completion_tokens") or 0
    read, wrote = counts.get("prompt_tokens_details") or {}, counts.get("completion_tokens_details") or {}
    return {
        "input_tokens": prompt,
        "input_tokens_details": {
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": read.get("cache_write_tokens") or 0,
        },
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": wrote.get("reasoning_tokens") or 0},
        "total_tokens": counts.get("total_tokens") or prompt + completion,
    }


def chat_usage(counts: Mapping[str, Any]) -> Json:
    """The usage of a response in chat's words."""
    prompt, completion, total = (
        value if is_count(value := counts.get(name)) else 0
        for name in ("input_tokens", "output_tokens", "total_tokens")
    )
    read, wrote = part(counts, "input_tokens_details"), part(counts, "output_tokens_details")
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": total or prompt + completion,
        "prompt_tokens_details": {
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": read.get("cache_write_tokens") or 0,
        },
        "completion_tokens_details": {"reasoning_tokens": wrote.get("reasoning_tokens") or 0},
    }
