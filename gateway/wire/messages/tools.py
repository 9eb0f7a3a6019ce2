"""The functions of a chat call as Anthropic's tools, which of them is to be called, and both the other way."""

from collections.abc import Mapping
from typing import Any

from gateway.core.failure import BadRequest
from gateway.wire.fields import member, members
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json

# What chat has words for; all else is told once for all of its kind: some agents have hundreds of tools.
_OF_TOOLS = frozenset({"type", "name", "description", "strict", "input_schema"})


def set_tools(body: Json, chat: Json, refusals: Refusals) -> None:
    tools = []
    for place, tool in enumerate(members(chat.get("tools"), "tools")):
        function = member(tool, "function", f"tools[{place}].")
        if "name" not in function:
            refusals.add(f"tools[{place}]")
            continue
        made: Json = {"name": function["name"]}
        made |= {name: function[name] for name in ("description", "strict") if function.get(name) is not None}
        made["input_schema"] = function.get("parameters") or {"type": "object", "properties": {}}
        made |= {name: tool[name] for name in ("cache_control",) if name in tool}
        tools.append(made)
    if tools:
        body["tools"] = tools
    choice = _choice(chat.get("tool_choice"), refusals)
    if chat.get("parallel_tool_calls") is False and tools:
        choice = {**(choice or {"type": "auto"}), "disable_parallel_tool_use": True}
    if choice is not None and tools:
        body["tool_choice"] = choice


def _choice(asked: Any, refusals: Refusals) -> Json | None:
    if asked is None:
        return None
    if isinstance(asked, str) and asked in ("auto", "none", "required"):
        return {"type": "any" if asked == "required" else asked}
    name = member(asked, "function", "tool_choice.").get("name") if isinstance(asked, dict) else None
    if name is None:
        refusals.add("tool_choice")
        return None
    return {"type": "tool", "name": name}


def take_tools(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    """Tools that Anthropic has defined itself (web_search_20250305, bash_20250124 ...) are known by their models
    alone: they are left out, which coding agents that always offer them live with. Raises BadRequest."""
    tools, missing = [], []
    for place, tool in enumerate(members(payload.get("tools"), "tools")):
        where = f"tools[{place}]"
        if tool.get("type", "custom") != "custom":
            refusals.leave_out(where)
            missing.append(tool.get("name"))
            continue
        if "name" not in tool:
            raise BadRequest(f"'{where}' has no name", code="invalid_value", param=where)
        made = {name: tool[name] for name in ("name", "description", "strict") if tool.get(name) is not None}
        refusals.leave_out_rest(tool, _OF_TOOLS, "tools.")
        made["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
        tools.append(refusals.stands_for({"type": "function", "function": made}, where))
    choice = member(payload, "tool_choice")
    is_any = choice.get("type") == "any" and missing and not tools
    if is_any or (choice.get("type") == "tool" and choice.get("name") in missing):
        refusals.add("tool_choice")  # demands a call of what was left out
        choice = {}
    if tools:
        chat["tools"] = tools
        _choose(chat, choice)


def _choose(chat: Json, choice: Mapping[str, Any]) -> None:
    if choice.get("type") == "tool":
        chat["tool_choice"] = {"type": "function", "function": {"name": choice.get("name")}}
    elif choice:
        chat["tool_choice"] = "required" if choice.get("type") == "any" else choice.get("type")
    if choice.get("disable_parallel_tool_use"):
        chat["parallel_tool_calls"] = False
