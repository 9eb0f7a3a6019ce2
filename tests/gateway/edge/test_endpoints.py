"""Each path leads to a collection, an object, an action, or nowhere."""

from typing import get_args

import pytest

from gateway.config.schema import Route
from gateway.core.failure import Forbidden, NotFound, WrongMethod
from gateway.edge.endpoints import FAMILIES, NEVER, Place, check_method, check_open, place_of


@pytest.mark.parametrize(
    ("path", "object_id", "is_object"),
    [
        ("/v1/files/file-1", "file-1", True),
        ("/v1/files/file-1/content", "file-1", False),
        ("/v1/responses/resp_1/input_items", "resp_1", False),
        ("/v1/chat/completions/chatcmpl-1", "chatcmpl-1", True),
        ("/v1/fine_tuning/jobs/ft:a.b-1/events", "ft:a.b-1", False),
        ("/v1/videos/characters/char_1", "char_1", True),
        ("/v1/videos/video_1/remix", "video_1", False),
        ("/v1/threads/thread_1/runs/run_1", "thread_1", False),
    ],
)
def test_objects_are_named_by_the_segment_after_their_collection(
    path: str, object_id: str, is_object: bool
) -> None:
    place = place_of(FAMILIES[path.split("/")[2]], path)
    assert (place.object_id, place.is_object, place.is_collection) == (object_id, is_object, False)
    assert "/v1/" + "/".join(place.segments) == path


@pytest.mark.parametrize(
    "path", ["/v1/files", "/v1/chat/completions", "/v1/fine_tuning/jobs", "/v1/videos/characters"]
)
def test_collections_are_known(path: str) -> None:
    assert place_of(FAMILIES[path.split("/")[2]], path).is_collection


@pytest.mark.parametrize(
    "path", ["/v1/responses/compact", "/v1/threads/runs", "/v1/audio/speech", "/v1/moderations"]
)
def test_actions_name_no_object(path: str) -> None:
    place = place_of(FAMILIES[path.split("/")[2]], path)
    assert place == Place(tuple(path[4:].split("/")))
    check_method(place, "POST")
    with pytest.raises(WrongMethod):
        check_method(place, "GET")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/files/",
        "/v1/files//x",
        "/v1/files/..",
        "/v1/files/../x",
        "/v1/files/a b",
        "/v1/files/a%2fb",
        "/v1/files/" + "a" * 257,
        "/v1/files/ä",
        "/v1/images/x",
        "/v1/moderations/x",
        "/v1/chat",
        "/v1/chat/x/y",
        "/v1/fine_tuning/checkpoints/x/permissions",
    ],
)
def test_all_else_leads_nowhere(path: str) -> None:
    with pytest.raises(NotFound) as refused:
        place_of(FAMILIES[path.split("/")[2]], path)
    assert refused.value.code == "route_not_found"


def test_a_collection_is_told_with_both_its_methods_one_of_a_hot_route_too() -> None:
    with pytest.raises(WrongMethod) as refused:
        check_method(place_of(FAMILIES["chat"], "/v1/chat/completions"), "PUT")
    assert refused.value.message == "/v1/chat/completions does not take PUT; it takes GET, POST"


def test_closed_families_say_what_to_add() -> None:
    with pytest.raises(Forbidden) as refused:
        check_open(FAMILIES["evals"], "red", frozenset({"threads"}))
    assert '"evals"' in refused.value.message
    check_open(FAMILIES["evals"], "red", frozenset({"evals"}))
    check_open(FAMILIES["files"], "red", frozenset())


def test_no_family_is_both_served_and_never() -> None:
    assert not FAMILIES.keys() & set(NEVER)
    assert all(label == family.label for label, family in FAMILIES.items())


def test_policies_can_open_every_closed_family_and_no_other() -> None:
    assert set(get_args(Route)) == {family.label for family in FAMILIES.values() if not family.open}
