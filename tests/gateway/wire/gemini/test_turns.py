"""A conversation in chat's words, as Gemini takes it."""

from typing import Any

import pytest

from gateway.wire.gemini.turns import Conversation
from gateway.wire.refusals import Refusals

SIGNED = {"format": "google-gemini-v1"}


def said(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    _, contents = Conversation(Refusals("Gemini", None), signed=False).turns(messages)
    return contents


def test_a_system_prompt_stands_apart_and_turns_are_joined() -> None:
    system, contents = Conversation(Refusals("Gemini", None), signed=False).turns(
        [
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": "one"},
            {"role": "user", "content": [{"type": "text", "text": "two"}, {"type": "text", "text": ""}]},
            {"role": "assistant", "content": ""},
            {"role": "assistant", "content": None, "refusal": "no"},
            {"role": "user", "content": None},
        ]
    )
    assert system == [{"text": "a"}, {"text": "b"}]
    assert contents == [
        {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
        {"role": "model", "parts": [{"text": "no"}]},
    ]


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
         {"inlineData": {"mimeType": "image/png", "data": "AA=="}}),
        ({"type": "image_url", "image_url": "https://x/y.jpg?z"},
         {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://x/y.jpg?z"}}),
        ({"type": "video_url", "video_url": {"url": "gs://b/v"}}, {"fileData": {"fileUri": "gs://b/v"}}),
        ({"type": "image_url", "image_url": {"url": "http://[bad"}}, {"fileData": {"fileUri": "http://[bad"}}),
        ({"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
         {"inlineData": {"mimeType": "audio/mp3", "data": "AA=="}}),
        ({"type": "file", "file": {"filename": "a", "file_data": "data:application/pdf;base64,AA=="}},
         {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}}),
        ({"type": "refusal", "refusal": "no"}, {"text": "no"}),
    ],
)  # fmt: skip
def test_parts_are_told_as_gemini_tells_them(part: dict[str, Any], made: dict[str, Any]) -> None:
    assert said({"role": "user", "content": [part]}) == [{"role": "user", "parts": [made]}]


def test_words_behind_a_call_stand_behind_it_and_a_signature_at_the_end_of_the_last() -> None:
    function = {"name": "f", "arguments": "{}"}
    [content] = said({
        "role": "assistant", "content": "abcd",
        "reasoning_details": [{**SIGNED, "type": "reasoning.encrypted", "data": "S"}],
        "tool_calls": [{"id": "c0", "function": function, "after": 2}, {"id": "c1", "function": function}],
    })  # fmt: skip
    calls: list[Any] = [{"functionCall": {"name": "f", "args": {}, "id": one}} for one in ("c0", "c1")]
    assert content["parts"] == [{"text": "ab"}, calls[0], {"text": "cd", "thoughtSignature": "S"}, calls[1]]


def test_results_name_their_function_and_bring_their_pictures() -> None:
    calls = [
        {"id": "c1", "function": {"name": "f", "arguments": '{"a":1}'}},
        {"id": "call_gem_r_1", "function": {"name": "g", "arguments": ""}},
        {"id": "c3", "function": {"name": "h"}},
    ]
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    contents = said(
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": '{"b": 2}'},
        {"role": "tool", "tool_call_id": "call_gem_r_1", "content": "text"},
        {
            "role": "tool",
            "tool_call_id": "c3",
            "content": [{"type": "text", "text": "x"}, picture],
            "is_error": True,
        },
        {"role": "function", "name": "old", "content": "[1]"},
    )
    shown = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    error = {"id": "c3", "name": "h", "response": {"error": "x"}, "parts": [shown]}
    assert contents == [
        {
            "role": "model",
            "parts": [
                {"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}},
                {"functionCall": {"name": "g", "args": {}}},
                {"functionCall": {"id": "c3", "name": "h", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "f", "response": {"b": 2}}},
                {"functionResponse": {"name": "g", "response": {"output": "text"}}},
                {"functionResponse": error},
                {"functionResponse": {"name": "old", "response": {"output": "[1]"}}},
            ],
        },
    ]


def test_signatures_go_back_to_where_they_stood_and_others_stay_here() -> None:
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "s0", **SIGNED},
        {"type": "reasoning.text", "text": "h", **SIGNED},
        {"type": "reasoning.encrypted", "data": "s1", "id": "c1", **SIGNED},
        {"type": "reasoning.encrypted", "data": "s2", **SIGNED},
        {"type": "reasoning.text", "text": "of another", "signature": "x", "format": "anthropic-claude-v1"},
        "nonsense",
    ]
    call = {"id": "c1", "function": {"name": "f"}}
    own = {"id": "c2", "function": {"name": "g"}, "extra_content": {"google": {"thought_signature": "s3"}}}
    other_blocks = [{"executableCode": {"code": "1"}}, {"type": "server_tool_use"}, 3]
    message = {
        "role": "assistant",
        "content": "yes",
        "reasoning_details": details,
        "other_blocks": other_blocks,
    }
    [content] = said(message | {"tool_calls": [call, own]})
    assert content["parts"] == [
        {"text": "hm", "thought": True, "thoughtSignature": "s0"},
        {"text": "h", "thought": True},
        {"text": "yes", "thoughtSignature": "s2"},
        {"executableCode": {"code": "1"}},
        {"functionCall": {"id": "c1", "name": "f", "args": {}}, "thoughtSignature": "s1"},
        {"functionCall": {"id": "c2", "name": "g", "args": {}}, "thoughtSignature": "s3"},
    ]
    [content] = said({"role": "assistant", "content": None, "reasoning_details": details[3:4]})
    assert content["parts"] == [{"text": "", "thoughtSignature": "s2"}]
    [content] = said({"role": "assistant", "function_call": {"name": "old", "arguments": "{}"}})
    assert content["parts"] == [{"functionCall": {"id": "old", "name": "old", "args": {}}}]
