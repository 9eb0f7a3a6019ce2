"""JSON within a text is read to a value that can be written down again, or not at all."""

import json

import pytest

from local_backend.written import dumps, loads


@pytest.mark.parametrize(
    "text", ["NaN", "Infinity", "-Infinity", "1e999", '"\\ud83d"', '{"\\ude00": 1}', "[" * 10**5, "{", ""]
)
def test_what_has_no_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True]}, "\U0001f600 \n", 10**30, "\\ud83d", [[[[]]]]])
def test_what_was_written_is_read_as_it_was(value: object) -> None:
    assert loads(json.dumps(value)) == loads(dumps(value)) == value


def test_line_breaks_in_texts_are_taken_where_that_is_wanted() -> None:
    assert loads('"a\nb"', strict=False) == "a\nb"
    with pytest.raises(ValueError):
        loads('"a\nb"')
