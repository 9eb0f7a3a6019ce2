"""A call in Anthropic's Messages as a chat call, and a chat completion as its answer."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire.crossing import Json
from gateway.wire.messages.teller import MessagesTeller
from gateway.wire.messages.words import ERRORS, FORMAT, effort
from gateway.wire.refusals import Refusals

# Fields with a meaning of their own here; all others go on to the provider under their own names.
_TURNED = frozenset(
    {"messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "thinking",
     "output_config", "model", "stream"}
)  # fmt: skip
# What only says how Anthropic is to keep, bill or trim: left out.
_LEFT_OUT = frozenset({"cache_control", "context_management", "service_tier", "inference_geo"})
_NOT_CARRIED = ("container", "mcp_servers")


class MessagesFront:
    def to_chat(self, payload: Mapping[str, Any]) -> Json:
        refusals = Refusals("chat completions", None)
        for name in _NOT_CARRIED:
            if payload.get(name):
                refusals.add(name)
        unknown = payload.keys() - _TURNED - _LEFT_OUT
        chat: Json = {name: payload[name] for name in payload if name in unknown}
        chat["messages"] = _messages(payload, refusals)
        if payload.get("max_tokens") is not None:
            chat["max_completion_tokens"] = payload["max_tokens"]
        if payload.get("stop_sequences"):
            chat["stop"] = payload["stop_sequences"]
        if user := (payload.get("metadata") or {}).get("user_id"):
            chat["user"] = user
        if asked := _effort(payload):
            chat["reasoning_effort"] = asked
        schema = (payload.get("output_config") or {}).get("format")
        if schema:
            named = {"name": "answer", "strict": True, "schema": schema.get("schema")}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        _set_tools(chat, payload, refusals)
        return chat

    def teller(self, asked: Mapping[str, Any], moment: int) -> MessagesTeller:
        return MessagesTeller()

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        kind = ERRORS.get(status) or ("invalid_request_error" if status < 500 else "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _effort(payload: Mapping[str, Any]) -> str | None:
    if said := (payload.get("output_config") or {}).get("effort"):
        return str(said)
    thinking = payload.get("thinking") or {}
    return effort(thinking.get("budget_tokens") or 0) if thinking.get("type") == "enabled" else None


def _set_tools(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    tools = []
    for place, tool in enumerate(payload.get("tools") or []):
        if not isinstance(tool, dict) or tool.get("type", "custom") != "custom" or "name" not in tool:
            refusals.add(f"tools[{place}]")
            continue
        made = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
        made["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
        tools.append({"type": "function", "function": made})
    if not tools:
        return
    chat["tools"] = tools
    choice = payload.get("tool_choice") or {}
    if choice.get("type") == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice:
        chat["tool_choice"] = "required" if choice.get("type") == "any" else choice.get("type")
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


def _messages(payload: Mapping[str, Any], refusals: Refusals) -> list[Json]:
    found: list[Json] = []
    if system := payload.get("system"):
        found.append({"role": "system", "content": _texts(system, "system", refusals)})
    for place, message in enumerate(payload["messages"]):
        where = f"messages[{place}]"
        role = message.get("role") if isinstance(message, dict) else None
        if role == "assistant":
            found.append(_assistant(message.get("content"), where, refusals))
        elif role == "user":
            found += _user(message.get("content"), where, refusals)
        elif role == "system":
            found.append({"role": "system", "content": _texts(message.get("content"), where, refusals)})
        else:
            raise BadRequest(f"{where}.role must be user or assistant", code="invalid_value", param=where)
    return found


def _texts(content: Any, where: str, refusals: Refusals) -> str | list[Json]:
    """Text as chat writes it: one string where there is one."""
    if isinstance(content, str):
        return content
    parts = [{"type": "text", "text": block.get("text", "")} for _, block in _of(content, where, refusals)]
    return str(parts[0]["text"]) if len(parts) == 1 else parts


def _of(content: Any, where: str, refusals: Refusals) -> Iterable[tuple[str, Json]]:
    """The blocks of a content, each with its place."""
    for place, block in enumerate(content if isinstance(content, list) else []):
        if isinstance(block, dict):
            yield f"{where}.content[{place}]", block
        else:
            refusals.add(f"{where}.content[{place}]")


def _user(content: Any, where: str, refusals: Refusals) -> list[Json]:
    """Results of tools are messages of their own in chat, before what the user says with them. Pictures among
    the results are shown with the user's words: chat takes only text from a tool."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    parts: list[Json] = []
    for place, block in _of(content, where, refusals):
        if block.get("type") == "tool_result":
            shown = _parts(block.get("content"), place, refusals)
            texts = [part["text"] for part in shown if part["type"] == "text"]
            parts += [part for part in shown if part["type"] != "text"]
            results.append(
                {"role": "tool", "tool_call_id": block.get("tool_use_id", ""), "content": "\n".join(texts)}
            )
        else:
            parts += _part(block, place, refusals)
    if len(parts) == 1 and parts[0]["type"] == "text":
        return [*results, {"role": "user", "content": parts[0]["text"]}]
    return [*results, {"role": "user", "content": parts}] if parts else results


def _parts(content: Any, where: str, refusals: Refusals) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [part for place, block in _of(content, where, refusals) for part in _part(block, place, refusals)]


def _part(block: Json, where: str, refusals: Refusals) -> list[Json]:
    source = block.get("source") or {}
    match block.get("type"), source.get("type"):
        case "text", _:
            return [{"type": "text", "text": block.get("text", "")}]
        case "image", "base64" | "url":
            return [{"type": "image_url", "image_url": {"url": _url(source)}}]
        case "document", "base64":
            name = block.get("title") or "document.pdf"
            return [{"type": "file", "file": {"filename": name, "file_data": _url(source)}}]
        case "document", "text":
            return [{"type": "text", "text": source.get("data", "")}]
        case "document", "content":
            return _parts(source.get("content"), where, refusals)
    refusals.add(where)
    return []


def _url(source: Json) -> str:
    if source["type"] == "url":
        return str(source.get("url", ""))
    return f"data:{source.get('media_type', '')};base64,{source.get('data', '')}"


def _assistant(content: Any, where: str, refusals: Refusals) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    message: Json = {"role": "assistant", "content": None}
    for place, block in _of(content, where, refusals):
        match block.get("type"):
            case "text":
                message["content"] = (message["content"] or "") + block.get("text", "")
            case "tool_use":
                function = {
                    "name": block.get("name", ""),
                    "arguments": orjson.dumps(block.get("input") or {}).decode(),
                }
                call = {"id": block.get("id", ""), "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
            case "thinking":
                _add(message, {"type": "reasoning.text", "text": block.get("thinking", ""),
                               "signature": block.get("signature", "")})  # fmt: skip
                message["reasoning_content"] = message.get("reasoning_content", "") + block.get(
                    "thinking", ""
                )
            case "redacted_thinking":
                _add(message, {"type": "reasoning.encrypted", "data": block.get("data", "")})
            case _:
                refusals.add(place)
    return message


def _add(message: Json, detail: Json) -> None:
    details = message.setdefault("reasoning_details", [])
    details.append({**detail, "format": FORMAT, "index": len(details)})
