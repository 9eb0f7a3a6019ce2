"""The functions of a call in Gemini's words, as chat declares them and chooses among them."""

from gateway.wire.gemini.schema import json_schema
from gateway.wire.gemini.words import camel
from gateway.wire.refusals import Refusals
from gateway.wire.schemas import closed, is_strict
from gateway.wire.sides import Json

# What a function gives back: Google's SDKs say it of every one that is annotated. It is told once for all of them.
_DESCRIBES = frozenset({"response", "responseJsonSchema"})
_OF_CALLING = frozenset({"mode", "allowedFunctionNames"})
_MODES = {"AUTO": "auto", "NONE": "none", "ANY": "required", "VALIDATED": "auto"}


def set_tools(chat: Json, asked: Json, refusals: Refusals) -> None:
    tools: list[Json] = []
    for place, tool in enumerate(asked.get("tools") or []):
        named = camel(tool)
        for name in sorted(named.keys() - {"functionDeclarations"}):
            refusals.add(f"tools[{place}].{name}")
        for at, declared in enumerate(named.get("functionDeclarations") or []):
            where = f"tools[{place}].functionDeclarations[{at}]"
            tools.append(refusals.stands_for(_function(camel(declared), where, refusals), where))
    choice = camel(asked.get("toolConfig"))
    calling = camel(choice.pop("functionCallingConfig", None))
    refusals.leave_out_rest(calling, _OF_CALLING, "toolConfig.functionCallingConfig.")
    for name in choice:
        refusals.add(f"toolConfig.{name}")
    if tools:
        chat["tools"] = tools
        _choose(chat, calling, refusals)


def _choose(chat: Json, calling: Json, refusals: Refusals) -> None:
    """Of several allowed functions chat is shown no others: it takes the name of one alone."""
    mode, allowed = calling.get("mode") or "AUTO", calling.get("allowedFunctionNames")
    if mode not in _MODES:
        refusals.add("toolConfig.functionCallingConfig.mode")
    if allowed:
        chat["tools"] = [tool for tool in chat["tools"] if tool["function"]["name"] in allowed]
    if mode == "VALIDATED":
        _validate(chat["tools"], refusals)
    if mode == "ANY" and allowed and len(allowed) == 1:
        chat["tool_choice"] = {"type": "function", "function": {"name": allowed[0]}}
    elif "mode" in calling:
        chat["tool_choice"] = _MODES[mode]


def _validate(tools: list[Json], refusals: Refusals) -> None:
    """Calls that keep to their schemas, where all of those can be kept to the letter."""
    schemas = [closed(tool["function"]["parameters"]) for tool in tools]
    if not all(map(is_strict, schemas)):
        refusals.leave_out("toolConfig.functionCallingConfig.mode")
        return
    for tool, schema in zip(tools, schemas, strict=True):
        tool["function"] |= {"parameters": schema, "strict": True}


def _function(declared: Json, where: str, refusals: Refusals) -> Json:
    made = {name: declared[name] for name in ("name", "description") if declared.get(name) is not None}
    made.setdefault("name", "")
    schema = declared.get("parametersJsonSchema") or json_schema(declared.get("parameters"))
    made["parameters"] = schema or {"type": "object", "properties": {}}
    for name in declared.keys() - {"name", "description", "parameters", "parametersJsonSchema"}:
        if name in _DESCRIBES:
            refusals.leave_out(f"tools.functionDeclarations.{name}")
        else:
            refusals.add(f"{where}.{name}")
    return {"type": "function", "function": made}
