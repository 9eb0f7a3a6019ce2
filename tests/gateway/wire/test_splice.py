"""A body is changed in single members: all other bytes stay the client's own, whatever its JSON looks like."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.splice import SHORT, Member, duplicated, is_crowded, members, set_members

NAMES = ("model", "stream")

# Names and texts made of what a scanner could trip over.
texts = st.text(st.sampled_from('model"\\{}[],: \n\u00e9\u2028\U0001f600'), max_size=12)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.just("model"), inner, max_size=4),
    max_leaves=12,
)
others = st.lists(
    st.tuples(texts.filter(lambda name: name not in NAMES), values),
    max_size=5,
    unique_by=lambda pair: pair[0],
)
styles = st.sampled_from(
    [
        {},
        {"indent": 2},
        {"separators": (",", ":")},
        {"separators": (" ,\r\n", "\t: ")},
        {"ensure_ascii": False},
    ]
)


@given(others, st.integers(0, 5), texts, texts, styles)
def test_any_object_keeps_all_but_its_model_wherever_that_stands(
    pairs: list[tuple[str, Any]], place: int, model: str, other: str, style: dict[str, Any]
) -> None:
    def body(name: str, **more: Any) -> bytes:
        told = [*pairs[:place], ("model", name), *pairs[place:]]
        return json.dumps(dict(told), **style, **more).encode()

    ours = orjson.dumps(other).decode()
    expected = body("\0").replace(b'"\\u0000"', ours.encode(), 1)
    assert set_members(body(model), {"model": other}, {}) == expected
    assert orjson.loads(expected) == {**dict(pairs), "model": other}


@given(others, styles, texts, values)
def test_any_object_takes_further_members_in_front(
    pairs: list[tuple[str, Any]], style: dict[str, Any], model: str, added: Any
) -> None:
    body = json.dumps(dict(pairs), **style).encode()
    wider = set_members(body, {}, {"model": model, "stream": added})
    assert orjson.loads(wider) == {"model": model, "stream": added, **dict(pairs)}
    assert wider.endswith(body.lstrip(b"{"))


@given(others, styles)
def test_the_members_of_any_object_are_found_with_the_bytes_of_their_values(
    pairs: list[tuple[str, Any]], style: dict[str, Any]
) -> None:
    body = json.dumps(dict(pairs), **style).encode()
    assert [(one.name, orjson.loads(body[one.start : one.end])) for one in members(body)] == pairs


def test_of_an_object_that_is_cut_off_the_whole_members_are_found() -> None:
    body = b'{"a" : {"b":[1,"}"]}, "c":-1.5e3 , "d":"x\\"y","e":[ ],"f":null}'
    whole = [(one.name, body[one.start : one.end]) for one in members(body)]
    assert [name for name, _ in whole] == ["a", "c", "d", "e", "f"]
    for end in range(1, len(body)):
        found = members(body[:end])
        assert [(one.name, body[one.start : one.end]) for one in found] == whole[: len(found)]
    assert [len(members(body[:end])) for end in (1, 20, 21, 35, 36, len(body) - 1)] == [0, 1, 1, 2, 2, 4]


def test_a_value_is_bounded_without_the_blanks_around_it() -> None:
    body = b'{"a" :\t 1 ,"b":[ {"a": ","} ] }'
    assert members(body) == [Member("a", 8, 9), Member("b", 15, 29)]
    assert members(b"{}") == []


@pytest.mark.parametrize("depth", [1, 4, 5, 6, 50])
def test_a_value_may_be_nested_deeply(depth: int) -> None:
    value = b'[{"a]": "[", "b": [1, {}]}, ' * depth + b'{"c": "}"}' + b', "\\"]"]' * depth
    body = b'{"a": %b, "b": %b}' % (value, value)
    assert members(body) == [
        Member("a", 6, 6 + len(value)),
        Member("b", len(body) - 1 - len(value), len(body) - 1),
    ]


def test_members_are_replaced_and_added_in_one_pass() -> None:
    body = b'{"model": "m", "x": {"model": "inner"}, "stream": false}'
    assert set_members(body, {"model": "n", "stream": True}, {"user": "u"}) == (
        b'{"user":"u","model": "n", "x": {"model": "inner"}, "stream": true}'
    )


@pytest.mark.parametrize(
    ("body", "renamed"),
    [
        (b'{"x": {"model": 1}, "model": "m"}', b'{"x": {"model": 1}, "model": "n"}'),
        (b'{"x": "model", "model": "m"}', b'{"x": "model", "model": "n"}'),
        (b'{"x": {"model": "no"}, "mod\\u0065l": "m"}', b'{"x": {"model": "no"}, "mod\\u0065l": "n"}'),
        (b'{"x": "\\"model\\": \\"no\\"", "model": "m"}', b'{"x": "\\"model\\": \\"no\\"", "model": "n"}'),
        (b'{"model"\n:\t"a \\"quoted\\" \\\\"}', b'{"model"\n:\t"n"}'),
    ],
)
def test_only_the_models_own_place_is_taken_for_the_model(body: bytes, renamed: bytes) -> None:
    assert set_members(body, {"model": "n"}, {}) == renamed


@pytest.mark.parametrize("blanks", [0, SHORT], ids=["short", "long"])
@pytest.mark.parametrize(
    ("body", "twice"),
    [
        (b'{"model": "a", "model": "b"}', "model"),
        (b'{"model": "a", "mod\\u0065l": "b"}', "model"),
        (b'{"model": "a", "x": 1, "s\\u0074ream": true, "stream": false}', "stream"),
        (b'{"model": "a", "x": 1, "x": 2}', None),
        (b'{"model": "model", "x": {"model": "b", "stream": 1}}', None),
        (b'{"model": "a", "x": "\\u0065"}', None),
        (b'{"model": "a", "held": {"stream": 1, "str\\u0065am": 2}}', "stream"),
        (b'{"held": {"stream": 1, "x": [{"stream": 2}]}, "stream": 3}', None),
        (b'{"model": "a", "x": {"stream": 1, "stream": 2}, "held": [{"stream": 1}, {"stream": 2}]}', None),
        (b'{"model": "a"}', None),
        (b"{}", None),
    ],
)
def test_a_watched_name_that_stands_twice_is_found_even_when_it_is_disguised(
    body: bytes, twice: str | None, blanks: int
) -> None:
    assert duplicated(body + b" " * blanks, NAMES, NAMES, ("held",)) == twice


@given(others, st.sampled_from(NAMES), styles, st.sampled_from([b"", b" " * SHORT]))
def test_any_object_is_found_out_when_a_watched_name_is_repeated(
    pairs: list[tuple[str, Any]], name: str, style: dict[str, Any], blanks: bytes
) -> None:
    body = json.dumps({name: 1, **dict(pairs)}, **style).encode()
    assert duplicated(body + blanks, NAMES, NAMES) is None
    assert duplicated(body[:-1] + b',"' + name.encode() + b'": 2}' + blanks, NAMES, NAMES) == name


def marks(value: Any) -> int:
    """Of a value as JSON: its brackets that open, its colons and its commas."""
    if isinstance(value, dict):
        return 1 + len(value) + max(0, len(value) - 1) + sum(map(marks, value.values()))
    return 1 + max(0, len(value) - 1) + sum(map(marks, value)) if isinstance(value, list) else 0


@given(values, styles)
def test_marks_are_counted_outside_of_texts(value: Any, style: dict[str, Any]) -> None:
    body, there = json.dumps(value, **style).encode(), marks(value)
    assert not is_crowded(body, there)
    assert not there or is_crowded(body, there - 1)


@pytest.mark.parametrize("end", [b"", b"]", b'"', b'"x', b"}}"])
def test_what_is_crowded_need_not_be_valid(end: bytes) -> None:
    assert is_crowded(b'["[[[", 1, 2, 3, ' + end, 3)
    assert not is_crowded(b'["[[[[[[' + end, 3)
