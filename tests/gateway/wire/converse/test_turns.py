"""A conversation in chat's words, as Converse takes it."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.converse.turns import Turns
from gateway.wire.refusals import Refusals

PNG = "data:image/png;base64,iVBO"
CACHED = {"cache_control": {"type": "ephemeral"}}
POINT = {"cachePoint": {"type": "default"}}


def turns(*messages: Any, dropped: list[str] | None = None) -> Turns:
    made = Turns(Refusals("Bedrock's Converse", dropped))
    made.take(list(messages))
    return made


def said(**content: Any) -> dict[str, Any]:
    return {"role": "user", "content": [content]}


def test_turns_alternate_and_results_open_the_users() -> None:
    call = {"id": "t", "function": {"name": "f", "arguments": '{"a":1}'}}
    made = turns(
        {"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t", "content": "1"},
        {"role": "function", "name": "g", "content": [{"type": "text", "text": "2"}], "is_error": True},
        {"role": "user", "content": [{"type": "text", "text": "so?"}, {"type": "text", "text": ""}]},
        {"role": "assistant", "content": None},
        {"role": "assistant", "content": "a", "refusal": "no", "function_call": {"name": "g"}},
    )  # fmt: skip
    assert made.system == [{"text": "be brief"}]
    assert made.messages == [
        {"role": "user", "content": [{"text": "hi"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}}]},
        {"role": "user", "content": [
            {"toolResult": {"toolUseId": "t", "content": [{"text": "1"}]}},
            {"toolResult": {"toolUseId": "g", "content": [{"text": "2"}], "status": "error"}},
            {"text": "so?"},
        ]},
        {"role": "assistant", "content": [
            {"text": "a"}, {"text": "no"}, {"toolUse": {"toolUseId": "g", "name": "g", "input": {}}},
        ]},
    ]  # fmt: skip


def file(data: str, **more: str) -> dict[str, Any]:
    return {"type": "file", "file": {"file_data": data, **more}}


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "refusal", "refusal": "no"}, {"text": "no"}),
        (
            {"type": "image_url", "image_url": {"url": PNG}},
            {"image": {"format": "png", "source": {"bytes": "iVBO"}}},
        ),
        (
            {"type": "image_url", "image_url": PNG},
            {"image": {"format": "png", "source": {"bytes": "iVBO"}}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "s3://b/k.JPG"}},
            {"image": {"format": "jpeg", "source": {"s3Location": {"uri": "s3://b/k.JPG"}}}},
        ),
        (
            {"type": "video_url", "video_url": {"url": "data:video/3gpp;base64,AA"}},
            {"video": {"format": "three_gp", "source": {"bytes": "AA"}}},
        ),
        (
            file("data:application/pdf;base64,J", filename="Q3_report (v2).pdf"),
            {"document": {"format": "pdf", "source": {"bytes": "J"}, "name": "Q3 report (v2)"}},
        ),
        (
            file("data:text/markdown;base64,J"),
            {"document": {"format": "md", "source": {"bytes": "J"}, "name": "document"}},
        ),
    ],
)
def test_parts_of_a_content(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert turns(said(**part)).messages[0]["content"] == [block]


def test_documents_of_one_name_are_numbered() -> None:
    pdf = "data:application/pdf;base64,J"
    shown = [file(pdf, filename=name) for name in ("a.pdf", "b.pdf", "a.txt", "a 2.pdf")]
    made = turns({"role": "user", "content": [*shown, file(pdf)]}, said(**file(pdf)))
    names = [block["document"]["name"] for block in made.messages[0]["content"]]
    assert names == ["a", "b", "a 2", "a 2 2", "document", "document 2"]


def test_ids_of_calls_are_as_bedrock_takes_them() -> None:
    call = {"id": "functions.f:0", "function": {"name": "f"}}
    said, told = turns(
        {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "functions.f:0"}
    ).messages
    ident = said["content"][0]["toolUse"]["toolUseId"]
    assert ident.isalnum() and told["content"][0]["toolResult"]["toolUseId"] == ident


def test_a_tool_that_failed_without_a_word_has_one() -> None:
    made = turns(
        {"role": "tool", "tool_call_id": "t", "content": "", "is_error": True},
        {"role": "tool", "tool_call_id": "u", "content": ""},
    )
    assert [block["toolResult"] for block in made.messages[0]["content"]] == [
        {"toolUseId": "t", "content": [{"text": "failed"}], "status": "error"},
        {"toolUseId": "u", "content": []},
    ]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}},
        {"type": "image_url", "image_url": {"url": "s3://b/k"}},
        {"type": "file", "file": {"file_id": "x"}},
        {"type": "input_audio", "input_audio": {}},
    ],
)
def test_what_has_no_block_is_refused_by_its_place_or_left_out_by_it(part: dict[str, Any]) -> None:
    with pytest.raises(
        BadRequest, match=r"'messages\[0\]\.content\[0\]' cannot be carried over to Bedrock's"
    ):
        turns(said(**part))
    dropped: list[str] = []
    assert turns(said(**part), dropped=dropped).messages == []
    assert dropped == ["messages[0].content[0]"]


def test_what_is_to_be_cached_has_a_point_behind_it() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    made = turns(
        {"role": "system", "content": [{"type": "text", "text": "long", **hour}]},
        said(type="text", text="hi", **CACHED),
        {"role": "assistant", "content": "a", **CACHED},
        {"role": "tool", "tool_call_id": "t", "content": "r", **CACHED},
    )
    assert made.system == [{"text": "long"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert [one["content"][-1] for one in made.messages] == [POINT, POINT, POINT]


def test_thoughts_and_blocks_of_bedrocks_go_back_and_those_of_others_do_not() -> None:
    ours = {"type": "reasoning.text", "format": "anthropic-claude-v1", "text": "hm", "signature": "s"}
    theirs = {"type": "reasoning.encrypted", "format": "google-gemini-v1", "data": "d"}
    server = {"toolUse": {"name": "web", "toolUseId": "t", "type": "server_tool_use", "input": {}}}
    others = [server, {"type": "server_tool_use"}, {"executableCode": {}}]
    made = turns(
        {"role": "assistant", "content": "a", "reasoning_details": [ours, theirs], "other_blocks": others}
    )
    thought = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}}
    assert made.messages[0]["content"] == [thought, {"text": "a"}, server]


@pytest.mark.parametrize("arguments", ["{", "[]"])
def test_arguments_that_are_no_object_are_refused_by_their_place(arguments: str) -> None:
    call = {"id": "t", "function": {"name": "f", "arguments": arguments}}
    with pytest.raises(BadRequest, match=r"messages\[0\]\.tool_calls\[0\]\.function\.arguments is not"):
        turns({"role": "assistant", "tool_calls": [call]})


def test_a_role_that_there_is_not_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"messages\[0\]\.role"):
        turns({"role": "narrator", "content": "x"})
