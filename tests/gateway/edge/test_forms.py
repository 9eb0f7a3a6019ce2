"""What is read of a form's fields, and which objects they name."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.edge.forms import held, names_object, references_of
from gateway.edge.multipart import Field, Held, Part

DEPTH = 200_000  # past what the readers of all Pythons go to


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("file_id", True),
        ("file_ids[]", True),
        ("file_ids[0]", True),
        ("mask[file_id]", True),
        ("images[0][file_id]", True),
        ("images[][file_id]", True),
        ("video[id]", True),
        ("video.id", True),
        ("id", False),
        ("metadata[file_id]", False),
        ("image[]", False),
        ("[]", False),
    ],
)
def test_a_forms_field_names_an_object_however_deep_it_lies(field: str, names: bool) -> None:
    assert names_object(field) is names
    assert (held(Part(field, is_file=False, is_json=False), named=True) is Held.VALUE) is names


@pytest.mark.parametrize(
    ("part", "what"),
    [
        (Part("model", False, False), Held.MODEL),
        (Part("model", False, True), Held.MODEL),
        (Part("input_reference", False, False), Held.JSON),
        (Part("input_reference", True, False), Held.JSON),
        (Part("image[]", True, True), Held.JSON),
        (Part("file", False, False), Held.JSON),
        (Part("file", True, True), Held.NOTHING),
        (Part("files[]", True, False), Held.NOTHING),
        (Part("files[0]", True, False), Held.NOTHING),
        (Part("data", True, False), Held.NOTHING),
        (Part("x[file]", True, False), Held.JSON),
        (Part("prompt", False, False), Held.NOTHING),
        (Part("prompt", False, True), Held.JSON),
    ],
)
def test_contents_and_words_of_the_clients_own_are_not_held(part: Part, what: Held) -> None:
    assert held(part, named=True) is what


@pytest.mark.parametrize("name", ["MODEL", "Model[]", "\u017ftream"])
def test_a_field_that_is_read_is_written_in_its_own_letters(name: str) -> None:
    with pytest.raises(BadRequest, match=r"must be written '(model|stream)'"):
        held(Part(name, is_file=False, is_json=False), named=True)


def test_a_model_is_held_where_one_may_be_named() -> None:
    assert held(Part("model", False, False), named=False) is Held.JSON


def named(name: str, value: str, *, is_json: bool = True) -> set[tuple[str, bool]]:
    field = Field(name, value, 0, len(value), Held.JSON, is_json)
    return {(one.id, one.strict) for one in references_of(field)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("input_reference", '{"file_id": "a"}'),
        ("input_reference", ' {"x": 1, "file_id": "a"}\r\n'),
        ("input_reference", '{"image_url": "https://x.googleapis.com/v1/files/a"}'),
        ("video", '{"id": "a"}'),
        ("x[video]", '{"id": "a"}'),
        ("characters", '[{"id": "a"}]'),
        ("file_ids", '["a"]'),
        ("file_id", '"a"'),
        ("[]", '{"file_id": "a"}'),
    ],
)
def test_the_json_of_a_field_is_read_as_that_member_of_a_body(name: str, value: str) -> None:
    assert {one.removeprefix("files/") for one, strict in named(name, value) if strict} == {"a"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("metadata", '{"file_id": "a"}'),
        ("tools[0][parameters]", '{"file_id": "a"}'),
        ("expires_after", '{"anchor": "created_at", "seconds": 3600}'),
        ("name", "[draft] mine"),
        ("hotwords", """[Anna's "id" card]"""),
        ("instructions", "{see files/readme}"),
        ("x", "1"),
    ],
)
def test_json_that_names_nothing_names_nothing(name: str, value: str) -> None:
    assert named(name, value) == set()


@pytest.mark.parametrize("value", ["a", '["a"', '{"a"}'])
def test_what_is_no_json_is_an_id_where_the_field_is_one(value: str) -> None:
    assert named("file_id", value, is_json=False) == {(value, True)}
    assert named("file_id", value) == {(value, True)}


@pytest.mark.parametrize(
    "value",
    [
        '{"file_id": "a",}',
        '{"file_id": "a", "x": NaN}',
        '{"file_id": "a"} {}',
        '\ufeff{"file_id": "a"}',
        '{"file_id": "a"}'.encode("utf-16-le").decode(),
        '{"file_id":' * DEPTH + "1" + "}" * DEPTH,
    ],
)
def test_what_another_reader_could_take_for_json_is_refused(value: str) -> None:
    with pytest.raises(BadRequest) as refused:
        named("input_reference", value)
    assert refused.value.code == "invalid_json"


def test_a_name_that_nests_past_all_depth_is_refused() -> None:
    name: Any = "[a" * DEPTH + "[file_id"
    with pytest.raises(BadRequest):
        names_object(name)
