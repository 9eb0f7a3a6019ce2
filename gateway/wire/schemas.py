"""JSON schemas of answers and tools: which of them OpenAI keeps to the letter, and closed ones, as Anthropic wants."""

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]
_NAMED = frozenset({"properties", "$defs", "definitions", "patternProperties"})  # schemas by name
# One schema, or a list.
_HELD = frozenset({"items", "prefixItems", "additionalProperties", "anyOf", "oneOf", "allOf", "not"})
# What strict mode knows no place for (platform.openai.com/docs, "Structured outputs, Supported schemas").
_LOOSE = frozenset(
    {"allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
     "prefixItems", "propertyNames", "minProperties", "maxProperties", "uniqueItems", "contains", "default"}
)  # fmt: skip
_TELLING = frozenset({"type", "anyOf", "$ref", "enum", "const"})


def changed(schema: Json, change: Callable[[Json], Json]) -> Json:
    """A copy with each schema within it changed; `true` and `false` are none."""
    made = dict(schema)
    for name, value in schema.items():
        if name in _NAMED and isinstance(value, dict):
            made[name] = {key: _one(one, change) for key, one in value.items()}
        elif name in _HELD:
            made[name] = (
                [_one(one, change) for one in value] if isinstance(value, list) else _one(value, change)
            )
    return made


def closed(schema: Any) -> Any:
    """The same, objects that name their members having no others. What may have any stays so: closed it would be
    empty. So do the parts of an `allOf`, which complete each other."""
    if not isinstance(schema, dict) or "allOf" in schema:
        return schema
    made = changed(schema, closed)
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def is_strict(schema: Any) -> bool:
    """Whether OpenAI takes it as strict: an object whose every member must be there, down to the last."""
    return isinstance(schema, dict) and schema.get("type") == "object" and _fits(schema)


def _fits(schema: Any) -> bool:
    if not isinstance(schema, dict) or schema.keys() & _LOOSE or not schema.keys() & _TELLING:
        return False
    if _is_object(schema):
        members, required = schema.get("properties") or {}, schema.get("required") or []
        if schema.get("additionalProperties") is not False or members.keys() - set(required):
            return False
    return all(map(_fits, _inner(schema)))


def _inner(schema: Json) -> Iterator[Any]:
    for name, value in schema.items():
        if name in _NAMED and isinstance(value, dict):
            yield from value.values()
        elif name in _HELD and not isinstance(value, bool):
            yield from value if isinstance(value, list) else [value]


def _one(value: Any, change: Callable[[Json], Json]) -> Any:
    return change(value) if isinstance(value, dict) else value


def _is_object(schema: Json) -> bool:
    kind = schema.get("type")
    return kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in schema
