"""Tools and the choice among them, in chat's words.

A tool that a provider runs by itself (web_search, mcp ...) has none there. It is left out and told of, not refused:
coding agents offer theirs with every call and do without (Codex: function, namespace and web_search).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.core.failure import BadRequest
from gateway.wire.refusals import Refusals
from gateway.wire.responses.words import chat_name
from gateway.wire.sides import Json

# What chat has words for.
_OF_TOOLS = frozenset({"type", "name", "description", "parameters", "strict", "format"})
_OF_CHOSEN = frozenset({"type", "name", "namespace"})
_OF_NAMESPACES = frozenset({"type", "name", "tools"})


def set_tools(chat: Json, payload: Mapping[str, Any], refusals: Refusals) -> None:
    """Raises BadRequest that names a choice that chat has no word for."""
    asked = payload.get("tools")
    if asked is not None and not isinstance(asked, list):
        raise BadRequest("'tools' must be a list", code="invalid_type", param="tools")
    found = [
        made for where, namespace, tool in _flat(asked) if (made := _tool(tool, namespace, where, refusals))
    ]
    for tool in _list(asked):
        if isinstance(tool, dict) and tool.get("type") == "namespace":
            refusals.leave_out_rest(tool, _OF_NAMESPACES, "tools.namespace.")
    choice = payload.get("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        # Chat providers know no allowed tools; to offer no others says the same.
        named = [one for one in _list(choice.get("tools")) if isinstance(one, dict)]
        for one in named:
            refusals.leave_out_rest(one, _OF_CHOSEN, "tool_choice.tools.")
        allowed = set(map(chat_name, named))
        found = [tool for tool in found if tool[tool["type"]]["name"] in allowed]
        choice = choice.get("mode")
    if found:
        chat["tools"] = found
        if payload.get("parallel_tool_calls") is not None:
            chat["parallel_tool_calls"] = payload["parallel_tool_calls"]
    if choice is not None and (found or choice not in ("auto", "none")):
        _choose(chat, choice, refusals)


def names(asked: Any) -> dict[str, tuple[str, str]]:
    """(namespace, name) of the functions in namespaces, by their name in chat."""
    return {
        chat_name({**tool, "namespace": namespace}): (namespace, str(tool.get("name") or ""))
        for _, namespace, tool in _flat(asked)
        if namespace
    }


def _flat(tools: Any) -> Iterable[tuple[str, str, Json]]:
    """(place, namespace, tool) of every tool; {} for what is none."""
    for place, tool in enumerate(_list(tools)):
        where = f"tools[{place}]"
        if not isinstance(tool, dict) or tool.get("type") != "namespace":
            yield where, "", tool if isinstance(tool, dict) else {}
            continue
        for inner, one in enumerate(_list(tool.get("tools"))):
            yield f"{where}.tools[{inner}]", str(tool.get("name") or ""), one if isinstance(one, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tool(tool: Json, namespace: str, where: str, refusals: Refusals) -> Json | None:
    kind = tool.get("type")
    name = chat_name({**tool, "namespace": namespace})
    made: Json = {"name": name}
    if tool.get("description") is not None:
        made["description"] = tool["description"]
    if kind in ("function", "custom"):
        refusals.leave_out_rest(tool, _OF_TOOLS, "tools.")
    if kind == "function" and tool.get("name"):
        made["parameters"] = tool.get("parameters") or {"type": "object", "properties": {}}
        if tool.get("strict") is not None:
            made["strict"] = tool["strict"]
        return refusals.stands_for({"type": "function", "function": made}, where)
    if kind == "custom" and tool.get("name"):
        form = tool.get("format")
        if isinstance(form, dict):
            grammar = {one: form[one] for one in ("definition", "syntax") if one in form}
            made["format"] = (
                {"type": "grammar", "grammar": grammar} if form.get("type") == "grammar" else form
            )
        return refusals.stands_for({"type": "custom", "custom": made}, where)
    if kind in ("function", "custom") or not isinstance(kind, str):
        field = f"{where}.{'name' if kind else 'type'}"
        raise BadRequest(f"'{field}' is missing", code="missing_required_parameter", param=field)
    refusals.leave_out(where)
    return None


def _choose(chat: Json, choice: Any, refusals: Refusals) -> None:
    """A call cannot be demanded where every tool was left out."""
    if isinstance(choice, str) and ("tools" in chat or choice != "required"):
        chat["tool_choice"] = choice
    elif isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        kind = choice["type"]
        chat["tool_choice"] = {"type": kind, kind: {"name": chat_name(choice)}}
    else:
        kind = choice.get("type") if isinstance(choice, dict) else choice
        refusals.add("tool_choice", f"'tool_choice' (of type {str(kind)[:64]})")
