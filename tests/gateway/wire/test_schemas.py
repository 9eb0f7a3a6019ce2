"""JSON schemas of answers and tools."""

from typing import Any

import pytest

from gateway.wire.schemas import changed, closed, is_strict

TEXT = {"type": "string"}
SHUT = {"additionalProperties": False}


def whole(**members: Any) -> dict[str, Any]:
    return {"type": "object", "properties": members, "required": list(members), **SHUT}


def test_each_schema_within_a_schema_is_changed_and_what_is_none_stays() -> None:
    schema = {
        "properties": {"a": TEXT, "b": True}, "$defs": {"c": TEXT}, "items": [TEXT, False], "anyOf": [TEXT],
        "not": TEXT, "additionalProperties": True, "enum": [TEXT], "patternProperties": 5,
    }  # fmt: skip
    assert changed(schema, lambda one: {"was": one}) == {
        "properties": {"a": {"was": TEXT}, "b": True}, "$defs": {"c": {"was": TEXT}}, "items": [{"was": TEXT}, False],
        "anyOf": [{"was": TEXT}], "not": {"was": TEXT}, "additionalProperties": True, "enum": [TEXT],
        "patternProperties": 5,
    }  # fmt: skip


def test_what_names_its_members_has_no_others() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"properties": {"b": TEXT}}}}}
    items = {"properties": {"b": TEXT}, **SHUT}
    assert closed(schema) == {
        "type": "object",
        "properties": {"a": {"type": "array", "items": items}},
        **SHUT,
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": TEXT}, "additionalProperties": TEXT},
        {"allOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]},
        TEXT,
        None,
    ],
)
def test_what_may_have_any_members_and_what_is_made_of_parts_stays_open(schema: Any) -> None:
    assert closed(schema) == schema


@pytest.mark.parametrize(
    "schema",
    [
        whole(a=TEXT),
        whole(),
        whole(a={"anyOf": [whole(b=TEXT), {"type": "null"}]}, c={"type": "array", "items": whole(d=TEXT)}),
        {**whole(a={"$ref": "#/$defs/A"}), "$defs": {"A": whole(b={"enum": ["x"]})}},
    ],
)
def test_what_openai_keeps_to_the_letter_is_strict(schema: Any) -> None:
    assert is_strict(schema)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        TEXT,
        {"anyOf": [whole(a=TEXT)]},
        {**whole(a=TEXT), "required": []},
        {"type": "object", "properties": {"a": TEXT}, "required": ["a"]},
        whole(a={"type": "object"}),
        whole(a={"type": ["object", "null"]}),
        whole(a={}),
        whole(a=True),
        whole(a={"type": "array", "items": {"properties": {"b": TEXT}}}),
        whole(a={**TEXT, "default": "x"}),
        {**whole(a={"$ref": "#/$defs/A"}), "$defs": {"A": {"oneOf": [TEXT]}}},
    ],
)
def test_what_openai_would_refuse_as_strict_is_not(schema: Any) -> None:
    assert not is_strict(schema)
