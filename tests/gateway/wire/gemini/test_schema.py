from gateway.wire.gemini.schema import json_schema


def test_a_schema_of_googles_is_one_of_json() -> None:
    schema = {
        "type": "OBJECT",
        "required": ["a"],
        "properties": {
            "a": {
                "type": "ARRAY",
                "items": {"type": "INTEGER", "format": "int32"},
                "minItems": "1",
                "max_items": 3,
            },
            "b": {"any_of": [{"type": "STRING"}, {"type": "TYPE_UNSPECIFIED"}], "nullable": True},
        },
    }
    assert json_schema(schema) == {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {
                "type": "array",
                "items": {"type": "integer", "format": "int32"},
                "minItems": 1,
                "maxItems": 3,
            },
            "b": {"anyOf": [{"type": "string"}, {}]},
        },
    }
    assert json_schema(None) == {}


def test_schemas_within_a_schema_are_turned_wherever_they_stand() -> None:
    text = {"type": "STRING"}
    schema = {
        "$defs": {"A": text}, "additional_properties": text, "prefix_items": [text, {"$ref": "#/$defs/A"}],
        "properties": {"enum": {"type": "OBJECT", "additionalProperties": True}},
    }  # fmt: skip
    turned = {"type": "string"}
    assert json_schema(schema) == {
        "$defs": {"A": turned}, "additionalProperties": turned, "prefixItems": [turned, {"$ref": "#/$defs/A"}],
        "properties": {"enum": {"type": "object", "additionalProperties": True}},
    }  # fmt: skip


def test_what_may_be_null_may_be_so_beside_its_words_too() -> None:
    told = json_schema({"type": "STRING", "enum": ["x"], "nullable": True})
    assert told == {"type": ["string", "null"], "enum": ["x", None]}
    assert json_schema({"type": "STRING", "enum": ["x", None], "nullable": True})["enum"] == ["x", None]
    assert json_schema({"type": "STRING", "enum": ["x"]})["enum"] == ["x"]
