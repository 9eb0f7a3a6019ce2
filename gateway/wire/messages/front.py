"""A call in Anthropic's Messages as a chat call, and a chat completion as its answer."""

from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.failure import BadRequest
from gateway.wire.crossing import Json
from gateway.wire.fields import member, members, text
from gateway.wire.messages.teller import MessagesTeller
from gateway.wire.messages.words import ERRORS, FORMAT, effort
from gateway.wire.refusals import refused
from gateway.wire.thoughts import unpacked

CHAT = "chat completions"  # as refusals call it
# Fields with a meaning of their own here; all others go on to the provider under their own names.
_TURNED = frozenset(
    {"messages", "system", "max_tokens", "stop_sequences", "tools", "tool_choice", "metadata", "thinking",
     "output_config", "model", "stream"}
)  # fmt: skip
# What only says how Anthropic is to keep, bill or trim: left out.
LEFT_OUT = frozenset({"cache_control", "context_management", "service_tier", "inference_geo"})
NOT_CARRIED = ("container", "mcp_servers")


class MessagesFront:
    def to_chat(self, payload: Mapping[str, Any]) -> Json:
        for name in NOT_CARRIED:
            if payload.get(name):
                raise refused(name, CHAT)
        unknown = payload.keys() - _TURNED - LEFT_OUT
        chat: Json = {name: payload[name] for name in payload if name in unknown}
        chat["messages"] = _messages(payload)
        if payload.get("max_tokens") is not None:
            chat["max_completion_tokens"] = payload["max_tokens"]
        if payload.get("stop_sequences"):
            chat["stop"] = payload["stop_sequences"]
        if user := member(payload, "metadata").get("user_id"):
            chat["user"] = user
        if asked := _effort(payload):
            chat["reasoning_effort"] = asked
        if schema := member(member(payload, "output_config"), "format", "output_config."):
            named = {"name": "answer", "strict": True, "schema": schema.get("schema")}
            chat["response_format"] = {"type": "json_schema", "json_schema": named}
        _set_tools(chat, payload)
        return chat

    def teller(self, asked: Mapping[str, Any], moment: int, ident: str = "") -> MessagesTeller:
        return MessagesTeller(f"msg_{ident}", asked.get("model", ""))

    def refusal(self, status: int, message: str, error: Mapping[str, Any]) -> bytes:
        kind = ERRORS.get(status) or ("invalid_request_error" if status < 500 else "api_error")
        return orjson.dumps({"type": "error", "error": {"type": kind, "message": message}})


def _effort(payload: Mapping[str, Any]) -> str | None:
    if said := member(payload, "output_config").get("effort"):
        return str(said)
    thinking = member(payload, "thinking")
    budget = thinking.get("budget_tokens")
    return effort(budget) if thinking.get("type") == "enabled" and isinstance(budget, int) else None


def _set_tools(chat: Json, payload: Mapping[str, Any]) -> None:
    tools = []
    for place, tool in enumerate(members(payload.get("tools"), "tools")):
        if tool.get("type", "custom") != "custom" or "name" not in tool:
            raise refused(f"tools[{place}]", CHAT)
        made = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
        made["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
        tools.append({"type": "function", "function": made})
    if not tools:
        return
    chat["tools"] = tools
    choice = member(payload, "tool_choice")
    if choice.get("type") == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice:
        chat["tool_choice"] = "required" if choice.get("type") == "any" else choice.get("type")
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False


def _messages(payload: Mapping[str, Any]) -> list[Json]:
    found: list[Json] = []
    if payload.get("system"):
        found.append(_system(payload["system"], "system"))
    for place, message in enumerate(members(payload["messages"], "messages")):
        where, role = f"messages[{place}]", message.get("role")
        content = message.get("content")
        if role == "assistant":
            found.append(_assistant(content, f"{where}.content"))
        elif role == "user":
            found += _user(content, f"{where}.content")
        elif role == "system":
            found.append(_system(content, f"{where}.content"))
        else:
            raise BadRequest(f"{where}.role must be user or assistant", code="invalid_value", param=where)
    return found


def _system(content: Any, where: str) -> Json:
    parts = _parts(content, where)
    for place, part in enumerate(parts):
        if part["type"] != "text":
            raise refused(f"{where}[{place}]", CHAT)
    return {"role": "system", "content": _plain(parts)}


def _plain(parts: list[Json]) -> str | list[Json]:
    """Text as chat writes it: one string where there is one."""
    return str(parts[0]["text"]) if len(parts) == 1 and parts[0]["type"] == "text" else parts


def _user(content: Any, where: str) -> list[Json]:
    """Results of tools are messages of their own in chat, before what the user says with them. Pictures among
    the results are shown with the user's words: chat takes only text from a tool."""
    if isinstance(content, str):
        return [{"role": "user", "content": content}]
    results: list[Json] = []
    parts: list[Json] = []
    for place, block in enumerate(members(content, where)):
        at = f"{where}[{place}]"
        if block.get("type") == "tool_result":
            shown = _parts(block.get("content"), f"{at}.content")
            texts = [part["text"] for part in shown if part["type"] == "text"]
            parts += [part for part in shown if part["type"] != "text"]
            results.append(
                {"role": "tool", "tool_call_id": block.get("tool_use_id", ""), "content": "\n".join(texts)}
            )
        else:
            parts += _part(block, at)
    return [*results, {"role": "user", "content": _plain(parts)}] if parts else results


def _parts(content: Any, where: str) -> list[Json]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    blocks = enumerate(members(content, where))
    return [part for place, block in blocks for part in _part(block, f"{where}[{place}]")]


def _part(block: Mapping[str, Any], where: str) -> list[Json]:
    if block.get("type") == "text":
        return [{"type": "text", "text": text(block, "text", f"{where}.")}]
    source = member(block, "source", f"{where}.")
    match block.get("type"), source.get("type"):
        case "image", "base64" | "url":
            return [{"type": "image_url", "image_url": {"url": _url(source)}}]
        case "document", "base64":
            name = block.get("title") or "document.pdf"
            return [{"type": "file", "file": {"filename": name, "file_data": _url(source)}}]
        case "document", "text":
            return [{"type": "text", "text": text(source, "data", f"{where}.source.")}]
        case "document", "content":
            return _parts(source.get("content"), f"{where}.source.content")
    raise refused(where, CHAT)


def _url(source: Mapping[str, Any]) -> str:
    if source["type"] == "url":
        return str(source.get("url", ""))
    return f"data:{source.get('media_type', '')};base64,{source.get('data', '')}"


def _assistant(content: Any, where: str) -> Json:
    if isinstance(content, str):
        return {"role": "assistant", "content": content}
    message: Json = {"role": "assistant", "content": None}
    for place, block in enumerate(members(content, where)):
        at = f"{where}[{place}]"
        match block.get("type"):
            case "text":
                message["content"] = (message["content"] or "") + text(block, "text", f"{at}.")
            case "tool_use":
                given = orjson.dumps(member(block, "input", f"{at}.")).decode()
                function = {"name": block.get("name", ""), "arguments": given}
                call = {"id": block.get("id", ""), "type": "function", "function": function}
                message.setdefault("tool_calls", []).append(call)
            case "thinking":
                thought = text(block, "thinking", f"{at}.")
                signature = block.get("signature", "")
                _add(message, {"type": "reasoning.text", "text": thought, "signature": signature})
                message["reasoning_content"] = message.get("reasoning_content", "") + thought
            case "redacted_thinking":
                data = str(block.get("data", ""))
                _add(message, unpacked(data) or {"type": "reasoning.encrypted", "data": data})
            case _:
                raise refused(at, CHAT)
    return message


def _add(message: Json, detail: Json) -> None:
    details = message.setdefault("reasoning_details", [])
    details.append({"format": FORMAT, **detail, "index": len(details)})
