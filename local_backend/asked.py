"""The members of a body that say what an answer must look like: tools, response_format, structured_outputs. Each is
read whole or refused by its place. Torch-free."""

import re
from collections.abc import Callable
from typing import Any

from local_backend.constraint import Form, of_choice, of_lark, of_regex, of_schema
from local_backend.fields import Fields, Refused
from local_backend.tools import Tools

MOST_TOOLS = 128  # what OpenAI takes
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_NO_PARAMETERS = {"type": "object", "properties": {}, "additionalProperties": False}


def read_tools(fields: Fields) -> Tools | None:
    """None where no call is wanted. Raises Refused."""
    parallel = fields.flag("parallel_tool_calls", default=True)
    told = fields.payload.get("tools")
    choice = fields.payload.get("tool_choice")
    if not told:
        if told not in (None, []):
            raise _wrong("tools", "must be a list of tools")
        if choice not in (None, "none", "auto"):
            raise _wrong("tool_choice", "needs 'tools' to choose from")
        return None
    if not isinstance(told, list) or len(told) > MOST_TOOLS:
        raise _wrong("tools", f"must be a list of at most {MOST_TOOLS} tools")
    read = [_tool(tool, f"tools[{place}]") for place, tool in enumerate(told)]
    schemas = dict(read)
    if len(schemas) < len(read):
        raise _wrong("tools", "must have a name of its own each")
    strict = frozenset(one["function"]["name"] for one in told if one["function"].get("strict"))
    forced, wanted = _choice(choice, schemas)
    if wanted is None:
        return None
    most = None if parallel else 1
    if isinstance(choice, dict) and choice["type"] == "function":
        most = 1  # the named one, once
    return Tools(
        [_shown(tool) for tool in told], {name: schemas[name] for name in wanted}, strict, forced, most
    )


def _tool(tool: Any, where: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        raise _wrong(f"{where}.type", "must be 'function': no other tools are known here")
    function = tool.get("function")
    if not isinstance(function, dict):
        raise _wrong(f"{where}.function", "must be an object")
    name = function.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise _wrong(f"{where}.function.name", "must have 1 to 64 letters, digits, '_' or '-'")
    if not isinstance(function.get("description", ""), str | None):
        raise _wrong(f"{where}.function.description", "must be a text")
    if not isinstance(function.get("strict", False), bool | None):
        raise _wrong(f"{where}.function.strict", "must be true or false")
    parameters = function.get("parameters")
    if parameters is None:
        parameters = _NO_PARAMETERS
    if not isinstance(parameters, dict) or parameters.get("type", "object") != "object":
        raise _wrong(f"{where}.function.parameters", "must be the JSON schema of an object")
    if not isinstance(parameters.get("properties", {}), dict):
        raise _wrong(f"{where}.function.parameters.properties", "must be an object")
    if not isinstance(parameters.get("required", []), list):
        raise _wrong(f"{where}.function.parameters.required", "must be a list of names")
    return name, {"type": "object", **parameters}


def _shown(tool: dict[str, Any]) -> dict[str, Any]:
    """With all that a chat template may count on: what a call may leave out of a tool is written down."""
    function = tool["function"]
    description, parameters = function.get("description"), function.get("parameters")
    if description is not None and parameters:
        return tool
    full = {
        "name": function["name"],
        "description": description or "",
        "parameters": parameters or _NO_PARAMETERS,
    }
    return {**tool, "function": {**full, **{key: one for key, one in function.items() if key not in full}}}


def _choice(choice: Any, schemas: dict[str, Any]) -> tuple[bool, list[str] | None]:
    """Whether a tool must be called, and which may be; None for none."""
    match choice:
        case None | "auto":
            return False, list(schemas)
        case "none":
            return False, None
        case "required":
            return True, list(schemas)
        case {"type": "function", "function": {"name": str(name)}}:
            return True, [_offered(name, schemas)]
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*listed]},
        }:
            names = [_offered(_name_of(one), schemas) for one in listed]
            return mode == "required", list(dict.fromkeys(names)) or None
    raise _wrong("tool_choice", "must be 'auto', 'none', 'required' or an object that names tools")


def _name_of(listed: Any) -> str:
    match listed:
        case {"type": "function", "function": {"name": str(name)}}:
            return name
    raise _wrong("tool_choice", "must list tools as {'type': 'function', 'function': {'name': …}}")


def _offered(name: str, schemas: dict[str, Any]) -> str:
    if name not in schemas:
        raise _wrong("tool_choice", f"names {name[:64]!r}, which 'tools' does not hold")
    return name


def read_form(fields: Fields) -> Form | None:
    """What the answer's text must be; None where it is free. Raises Refused."""
    form = _response_format(fields.table("response_format"))
    other = _structured(fields.table("structured_outputs"))
    if form and other:
        raise _wrong("structured_outputs", "excludes 'response_format'")
    return form or other


def _response_format(found: dict[str, Any]) -> Form | None:
    match found.get("type"):
        case None if not found:
            return None
        case "text":
            return None
        case "json_object":
            return Form(of_schema({"type": "object"}), "response_format")
        case "json_schema":
            return _json_schema(found.get("json_schema"))
    raise _wrong("response_format.type", "must be 'text', 'json_object' or 'json_schema'")


def _json_schema(found: Any) -> Form:
    where = "response_format.json_schema"
    if not isinstance(found, dict):
        raise _wrong(where, "must be an object")
    if not isinstance(found.get("name"), str) or not _NAME.fullmatch(found["name"]):
        raise _wrong(f"{where}.name", "must have 1 to 64 letters, digits, '_' or '-'")
    if not isinstance(found.get("strict", False), bool | None):
        raise _wrong(f"{where}.strict", "must be true or false")
    schema = found.get("schema", {"type": "object"})
    if not isinstance(schema, dict):
        raise _wrong(f"{where}.schema", "must be a JSON schema")
    return Form(of_schema(schema), f"{where}.schema")


def _structured(found: dict[str, Any]) -> Form | None:
    """vLLM's names. Exactly one of them."""
    asked = {name: value for name, value in found.items() if value is not None}
    for name in asked:
        if name not in _WAYS:
            raise _wrong(f"structured_outputs.{name}", "is not supported by this engine")
    if not asked:
        return None
    if len(asked) > 1:
        raise _wrong("structured_outputs", f"must have one of {', '.join(_WAYS)}")
    ((name, value),) = asked.items()
    where = f"structured_outputs.{name}"
    return Form(_WAYS[name](value, where), where)


def _schema(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _wrong(where, "must be a JSON schema")
    return of_schema(value)


def _any_object(value: Any, where: str) -> dict[str, Any]:
    if value is not True:
        raise _wrong(where, "must be true")
    return of_schema({"type": "object"})


def _regex(value: Any, where: str) -> dict[str, Any]:
    return of_regex(_text(value, where))


def _lark(value: Any, where: str) -> dict[str, Any]:
    return of_lark(_text(value, where))


def _texts(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, list) or not value or not all(isinstance(one, str) and one for one in value):
        raise _wrong(where, "must be a list of texts")
    return of_choice(value)


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise _wrong(where, "must be a text")
    return value


_WAYS: dict[str, Callable[[Any, str], dict[str, Any]]] = {
    "json": _schema, "regex": _regex, "choice": _texts, "grammar": _lark, "json_object": _any_object,
}  # fmt: skip


def _wrong(name: str, what: str) -> Refused:
    return Refused(f"'{name}' {what}", param=name, code="invalid_value")
