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
