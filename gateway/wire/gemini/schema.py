"""Gemini's own schema of parameters and answers (a part of OpenAPI 3.0, types in capitals) as JSON Schema."""

from typing import Any

from gateway.wire.schemas import changed

_COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
_SNAKE = {"any_of": "anyOf", "prefix_items": "prefixItems", "additional_properties": "additionalProperties",
          "min_items": "minItems", "max_items": "maxItems", "min_length": "minLength",
          "max_length": "maxLength", "min_properties": "minProperties",
          "max_properties": "maxProperties"}  # fmt: skip
# In JSON the properties' own order says what the ordering does.
_LEFT_OUT = frozenset({"type", "nullable", "propertyOrdering", "property_ordering"})


def json_schema(schema: Any) -> dict[str, Any]:
    """What both know passes as it is."""
    if not isinstance(schema, dict):
        return {}
    made: dict[str, Any] = {
        _SNAKE.get(str(name), str(name)): one for name, one in schema.items() if name not in _LEFT_OUT
    }
    for name in _COUNTS:  # 64-bit numbers are text in Google's JSON
        if isinstance(made.get(name), str) and made[name].isdigit():
            made[name] = int(made[name])
    kind = str(schema.get("type") or "").lower()
    if kind and kind != "type_unspecified":
        made["type"] = [kind, "null"] if schema.get("nullable") else kind
    if schema.get("nullable") and isinstance(made.get("enum"), list) and None not in made["enum"]:
        made["enum"] = [*made["enum"], None]
    return changed(made, json_schema)
