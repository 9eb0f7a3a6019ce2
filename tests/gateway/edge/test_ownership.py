"""Which ids a body uses and an answer mints, and whose they are."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.core.failure import BadRequest, NotFound
from gateway.edge.ownership import Ownership, Reference, files, minted, minted_in, references
from gateway.state.owners import Owners
from gateway.state.sql import open_engine


def used(body: Any) -> set[tuple[str, bool]]:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)
    return {(one.id, one.strict) for one in references(raw)}


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "a"},
        {"conversation": "a"},
        {"conversation": {"id": "a"}},
        {"input": [{"content": [{"type": "input_file", "file_id": "a"}]}]},
        {"input": [{"type": "item_reference", "id": "a"}]},
        {"input": [{"id": "a"}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["a"]}]},
        {"tools": [{"type": "code_interpreter", "container": "a"}]},
        {"tools": [{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["a"]}}]},
        {"tool_resources": {"file_search": {"vector_stores": [{"file_ids": ["a"]}]}}},
        {"training_file": "a"},
        {"validation_file": "a"},
        {"input_file_id": "a", "endpoint": "/v1/chat/completions"},
        {"data_source": {"source": {"type": "file_id", "id": "a"}}},
        {"prompt": {"id": "pmpt_1", "variables": {"x": {"type": "input_file", "file_id": "a"}}}},
        {"part_ids": ["a"]},
        {"video": {"id": "a"}},
        {"file_id": "a", "x": [[[[[[[[[[[[[[[[{}]]]]]]]]]]]]]]]]},
        b'{"file\\u005fid": "a"}',
        b'{"file_id": "\\u0061"}',
    ],
)
def test_every_place_of_a_body_that_names_an_object_counts(body: Any) -> None:
    assert used(body) == {("a", True)}


def test_both_of_two_members_with_one_name_count() -> None:
    assert used(b'{"previous_response_id": "a", "previous_response_id": "b"}') == {("a", True), ("b", True)}


def test_items_sent_back_need_not_be_known() -> None:
    body = {"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}
    assert used(body) == {("rs_1", False)}


@pytest.mark.parametrize(
    "body",
    [
        {"metadata": {"file_id": "a"}},
        {"tools": [{"parameters": {"properties": {"file_id": {"type": "string", "default": "a"}}}}]},
        {"text": {"format": {"schema": {"file_ids": ["a"]}}}},
        {"container": "auto", "file_id": "", "previous_response_id": None},
        {"prompt": {"id": "pmpt_1"}},
        {"id": "a"},
        {"input": "my file_id is a"},
    ],
)
def test_words_of_the_clients_own_are_no_ids(body: Any) -> None:
    assert used(body) == set()


def test_nesting_past_all_depth_is_refused() -> None:
    with pytest.raises(BadRequest):
        references(b'{"file_id":' * 5000 + b"1" + b"}" * 5000)


def test_files_of_a_chat_are_found() -> None:
    body = {"messages": [{"content": [{"type": "file", "file": {"file_id": "a"}}]}]}
    assert files(orjson.dumps(body)) == [Reference("a")]
    assert files(orjson.dumps(body).replace(b"file_id", b"fil\\u0065_id")) == [Reference("a")]
    assert files(b'{"messages": []}') == []


@pytest.mark.parametrize(
    ("named", "found"),
    [
        (
            {"fileUri": "https://generativelanguage.googleapis.com/v1beta/files/ab-1"},
            [Reference("files/ab-1")],
        ),
        ({"file_uri": "https://generativelanguage.googleapis.com/v1beta/files/a"}, [Reference("files/a")]),
        ({"fileUri": "https://example.com/files/a"}, []),
        ({"fileUri": "gs://bucket/files/a"}, []),
    ],
)
def test_files_in_geminis_own_store_are_found(named: dict[str, str], found: list[Reference]) -> None:
    body = orjson.dumps({"contents": [{"parts": [{"fileData": {"mimeType": "video/mp4", **named}}]}]})
    assert files(body) == found
    assert files(body.replace(b"fileUri", b"fileU\\u0072i").replace(b"file_uri", b"file_u\\u0072i")) == found


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"id": "a"}, ["a"]),
        ({"id": "a", "output_file_id": "b", "error_file_id": None}, ["a", "b"]),
        ({"id": "a", "conversation": {"id": "c"}}, ["a", "c"]),
        ({"id": "a", "file": {"id": "f"}}, ["a", "f"]),
        ({"id": "a", "output": [{"id": "m"}, {"id": "c", "container_id": "k"}]}, ["a", "m", "c", "k"]),
        ({"id": "a", "result_files": ["r"]}, ["a", "r"]),
        ({"id": 7}, []),
        ([], []),
    ],
)
def test_ids_of_an_answer_are_found(answer: Any, ids: list[str]) -> None:
    assert minted(orjson.dumps(answer), nested=False) == ids


def test_parts_of_an_owned_object_are_found_in_lists_of_them_alone() -> None:
    body = orjson.dumps({"object": "list", "data": [{"id": "a"}, {"id": "b"}]})
    assert minted(body, nested=True) == ["a", "b"]
    assert minted(body, nested=False) == []


def test_an_answer_that_is_cut_off_tells_the_id_at_its_beginning() -> None:
    body = orjson.dumps({"id": "resp_1", "object": "response", "output": [{"id": "x", "result": "y" * 999}]})
    assert minted(body[:500], nested=False) == ["resp_1"]
    assert minted(b"\x00not json", nested=False) == []


def test_ids_of_events_are_found() -> None:
    block = (
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"r"}}\n\n'
        b'data: {"type":"response.output_item.added","item":{"id":"m","container_id":"k"}}\n\n'
        b": a comment with an _id\n\ndata: [DONE]\n\n"
    )
    assert minted_in(block) == ["r", "m", "k"]


@pytest.fixture
def book(tmp_path: Path) -> Any:
    engine = open_engine(f"sqlite:///{tmp_path}/owners.db")
    yield lambda: Ownership(Owners(engine, lambda: 0.0))
    engine.dispose()


async def test_an_object_is_its_teams_alone(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a", "a", "b" * 300], "red", "p1", "files")
    assert await ownership.provider_of([Reference("a")], "red") == "p1"
    for wanted, team in (("a", "blue"), ("unknown", "red"), ("b" * 300, "red")):
        with pytest.raises(NotFound) as refused:
            await ownership.provider_of([Reference(wanted)], team)
        assert refused.value.code == "not_found"


async def test_whoever_was_first_stays_the_owner(book: Any) -> None:
    one, other = book(), book()
    await one.remember(["a"], "red", "p1", "files")
    await other.remember(["a"], "blue", "p2", "files")
    for ownership in (one, other, book()):
        assert await ownership.provider_of([Reference("a")], "red") == "p1"
        with pytest.raises(NotFound):
            await ownership.provider_of([Reference("a")], "blue")


async def test_what_is_forgotten_is_gone(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a"], "red", "p1", "files")
    await ownership.forget("a")
    with pytest.raises(NotFound):
        await ownership.provider_of([Reference("a")], "red")


async def test_an_item_sent_back_must_only_not_be_another_teams(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a"], "red", "p1", "responses")
    assert await ownership.provider_of([Reference("new", False), Reference("a", False)], "red") is None
    with pytest.raises(NotFound):
        await ownership.provider_of([Reference("a", False)], "blue")
    with pytest.raises(NotFound):
        await ownership.provider_of([Reference("new"), Reference("new", False)], "red")


async def test_objects_of_two_providers_cannot_be_used_together(book: Any) -> None:
    ownership = book()
    await ownership.remember(["a"], "red", "p1", "files")
    await ownership.remember(["b"], "red", "p2", "files")
    with pytest.raises(BadRequest):
        await ownership.provider_of([Reference("a"), Reference("b")], "red")
    with pytest.raises(BadRequest):
        await ownership.provider_of([Reference(str(i)) for i in range(6000)], "red")


async def test_a_list_keeps_the_teams_own_in_their_order(book: Any) -> None:
    ownership = book()
    await ownership.remember([f"f{i}" for i in range(1200)], "red", "p1", "files")
    data = [{"id": f"f{i}"} for i in range(1200)]
    mixed = [{"id": "x"}, *data, {"id": 7}, "y"]
    assert await book().own(mixed, "red") == data
    assert await ownership.own(mixed, "blue") == []
