"""The functions of a chat call as Anthropic's tools, and which of them is to be called."""

from typing import Any

from gateway.wire.fields import member, members
from gateway.wire.refusals import Refusals
from gateway.wire.sides import Json


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
