"""A response as an object: what was asked is told with every answer."""

from collections.abc import Mapping
from typing import Any

from gateway.wire.responses.words import OURS
from gateway.wire.sides import Json


def resource(asked: Mapping[str, Any], moment: int, ident: str) -> Json:
    """One that has just begun. Every member that the format requires is there, in OpenAI's order."""
    text, reasoning = asked.get("text") or {}, asked.get("reasoning") or {}
    return {
        "id": OURS + ident,
        "object": "response",
        "created_at": moment,
        "completed_at": None,
        "status": "in_progress",
        "background": asked.get("background") is True,
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "max_tool_calls": asked.get("max_tool_calls"),
        "model": asked.get("model", ""),
        "output": [],
        "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
        "previous_response_id": asked.get("previous_response_id"),
        "prompt_cache_key": asked.get("prompt_cache_key"),
        "presence_penalty": _or(asked, "presence_penalty", 0.0),
        "frequency_penalty": _or(asked, "frequency_penalty", 0.0),
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "safety_identifier": asked.get("safety_identifier"),
        "service_tier": _or(asked, "service_tier", "auto"),
        "store": asked.get("store") is not False,
        "temperature": _or(asked, "temperature", 1.0),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": _or(asked, "tool_choice", "auto"),
        "tools": [_tool(tool) for tool in asked.get("tools") or []],
        "top_logprobs": _or(asked, "top_logprobs", 0),
        "top_p": _or(asked, "top_p", 1.0),
        "truncation": "disabled",
        "usage": None,
        "metadata": asked.get("metadata") or {},
        **({"user": asked["user"]} if asked.get("user") else {}),
    }


def failed(response: Json, message: str, *, throttled: bool = False) -> Json:
    code = "rate_limit_exceeded" if throttled else "server_error"
    return {**response, "status": "failed", "error": {"code": code, "message": message}}


def _or(asked: Mapping[str, Any], name: str, usual: Any) -> Any:
    value = asked.get(name)
    return usual if value is None else value


def _tool(tool: Json) -> Json:
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}
