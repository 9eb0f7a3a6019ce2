"""The JSON Schema of policy files, for completion in editors; made of the models that check the files."""

from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gateway.config.schema import PAPERS, PROVIDER_MODELS

_FILLED = {"type": "string", "pattern": r"\$\{"}  # a value that is filled in may stand for anything plain


def json_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of one policy document."""
    kinds, providers = list(PAPERS.values()), list(PROVIDER_MODELS.values())
    models: list[type[BaseModel]] = [*kinds, *providers]
    refs, schema = models_json_schema(cast(Any, [(model, "validation") for model in models]), by_alias=True)
    places = {model: refs[cast(Any, (model, "validation"))]["$ref"] for model in models}
    definitions = schema["$defs"]
    paper = definitions[places[PAPERS["providers"]].rsplit("/", 1)[1]]
    names = paper["properties"]["providers"]
    names.pop("patternProperties", None)
    names["additionalProperties"] = {"oneOf": [{"$ref": places[model]} for model in providers]}
    for definition in definitions.values():
        for name, field in definition.get("properties", {}).items():
            definition["properties"][name] = _or_filled(field) if name not in ("kind", "type") else field
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Gatehouse policy document",
        "oneOf": [{"$ref": places[model]} for model in kinds],
        "$defs": definitions,
    }


def _or_filled(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value that may be written as ${VAR} too."""
    if "items" in field:
        return {**field, "items": _or_filled(field["items"])}
    plain = "enum" in field or "const" in field or "pattern" in field or "anyOf" in field
    if not plain and field.get("type") not in ("integer", "number", "boolean"):
        return field
    if "anyOf" in field:
        return {**field, "anyOf": [*field["anyOf"], _FILLED]}
    kept: dict[str, Any] = {key: field[key] for key in ("title", "description", "default") if key in field}
    return {**kept, "anyOf": [{key: value for key, value in field.items() if key not in kept}, _FILLED]}
