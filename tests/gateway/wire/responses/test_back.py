"""A chat call as Responses takes it, and what it answers as a chat completion."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.responses.back import ResponsesBack
from gateway.wire.sse import BadStream

BACK = ResponsesBack()
SCHEMA = {"type": "object", "properties": {}}
FOREIGN = {
    "type": "reasoning.encrypted",
    "data": "gAAA",
    "format": "openai-responses-v1",
    "id": "rs_1",
    "index": 0,
}


def turned(dropped: list[str] | None = None, **chat: Any) -> dict[str, Any]:
    asked = {"model": "m", "messages": [], **chat}
    return BACK.from_chat(asked, Changes("m", params={"temperature": 1.0}, dropped=dropped))


def items(*messages: Any) -> Any:
    return turned(messages=list(messages))["input"]


def test_a_call_with_all_its_settings() -> None:
    schema = {"name": "a", "schema": SCHEMA, "strict": True}
    assert turned(
        messages=[{"role": "user", "content": "hi"}],
        max_completion_tokens=9,
        temperature=0.5,
        stream=True,
        stream_options={"include_usage": True},
        response_format={"type": "json_schema", "json_schema": schema},
        verbosity="low",
        reasoning_effort="low",
        logprobs=True,
        top_logprobs=2,
        user="u",
        metadata={"a": "b"},
    ) == {
        "model": "m",
        "input": [{"type": "message", "role": "user", "content": "hi"}],
        "max_output_tokens": 9,
        "temperature": 0.5,
        "stream": True,
        "text": {"format": {"type": "json_schema", **schema}, "verbosity": "low"},
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
        "top_logprobs": 2,
        "user": "u",
        "metadata": {"a": "b"},
        "store": False,
    }
    assert turned(response_format={"type": "json_object"})["text"] == {"format": {"type": "json_object"}}
    assert turned(response_format={"type": "text"}, max_tokens=5) == {
        "model": "m", "input": [], "max_output_tokens": 5, "temperature": 1.0, "store": False,
    }  # fmt: skip


def test_tools_stand_beside_their_type_and_are_not_strict_unless_they_say_so() -> None:
    grammar = {"definition": "start: x", "syntax": "lark"}
    asked = turned(
        tools=[
            {"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}},
            {"function": {"name": "g"}},
            {"type": "custom", "custom": {"name": "h", "format": {"type": "grammar", "grammar": grammar}}},
            {"type": "custom", "custom": {"name": "i"}},
        ],
        tool_choice={"type": "function", "function": {"name": "f"}},
        parallel_tool_calls=False,
    )
    assert asked["tools"] == [
        {"type": "function", "name": "f", "parameters": SCHEMA, "strict": True},
        {"type": "function", "name": "g", "parameters": SCHEMA, "strict": False},
        {"type": "custom", "name": "h", "format": {"type": "grammar", **grammar}},
        {"type": "custom", "name": "i"},
    ]
    assert (asked["tool_choice"], asked["parallel_tool_calls"]) == ({"type": "function", "name": "f"}, False)
    assert turned(tools=[{"function": {"name": "g"}}], tool_choice="required")["tool_choice"] == "required"
    assert "tool_choice" not in turned(tool_choice="auto")


def test_what_users_show() -> None:
    shown = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}},
        {"type": "image_url", "image_url": "https://a/c"},
        {"type": "file", "file": {"filename": "f", "file_data": "data:x"}},
        {"type": "input_audio", "input_audio": {"data": "J", "format": "wav"}},
    ]
    assert items({"role": "developer", "content": "be brief"}, {"role": "user", "content": shown}) == [
        {"type": "message", "role": "developer", "content": "be brief"},
        {"type": "message", "role": "user", "content": [
            {"type": "input_text", "text": "see"},
            {"type": "input_image", "image_url": "https://a/b", "detail": "low"},
            {"type": "input_image", "image_url": "https://a/c"},
            {"type": "input_file", "filename": "f", "file_data": "data:x"},
            {"type": "input_audio", "input_audio": {"data": "J", "format": "wav"}}]},
    ]  # fmt: skip


def test_what_was_thought_said_and_called_are_items_of_their_own() -> None:
    message = {
        "role": "assistant",
        "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
        "refusal": "never",
        "reasoning_details": [{**FOREIGN, "format": "anthropic-claude-v1"}, FOREIGN, {**FOREIGN, "id": ""}],
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "raw"}},
        ],
        "function_call": {"name": "old", "arguments": ""},
    }
    results = [
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "s"}]},
        {"role": "function", "name": "old", "content": "t"},
    ]
    assert items(message, *results) == [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"},
        {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"type": "message", "role": "assistant", "content": [
            {"type": "output_text", "text": "a", "annotations": []}, {"type": "refusal", "refusal": "no"},
            {"type": "refusal", "refusal": "never"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "raw"},
        {"type": "function_call", "call_id": "old", "name": "old", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "r"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "s"}]},
        {"type": "function_call_output", "call_id": "old", "output": "t"},
    ]  # fmt: skip
    assert items({"role": "assistant", "content": None}, {"role": "assistant", "content": ""}) == []


@pytest.mark.parametrize(
    ("chat", "field"),
    [
        ({"n": 2}, "n"),
        ({"stop": ["x"]}, "stop"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"tools": [{"type": "function"}]}, "tools[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "content": [{"type": "video_url"}]}]}, "messages[0].content[0]"),
    ],
)
def test_what_has_no_place_is_refused_or_dropped_by_name(chat: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        turned(**chat)
    assert refused.value.param == field
    dropped: list[str] = []
    turned(dropped, **chat)
    assert dropped == [field]


def test_a_role_nobody_knows_is_refused() -> None:
    with pytest.raises(BadRequest, match="role is none that can be translated"):
        items({"role": "narrator"})


def test_a_whole_answer() -> None:
    citation = {"type": "url_citation", "url": "https://a", "start_index": 0, "end_index": 1, "title": "t"}
    told = BACK.completion(
        {
            "id": "resp_1", "model": "m", "status": "completed",
            "output": [
                {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAA",
                 "summary": [{"type": "summary_text", "text": "hm"}, {"type": "summary_text", "text": "so"}]},
                {"type": "reasoning", "id": "rs_2", "summary": []},
                {"type": "message", "role": "assistant", "content": [
                    {"type": "output_text", "text": "a", "annotations": [citation, {"type": "file_path"}],
                     "logprobs": [{"token": "a"}]},
                    {"type": "refusal", "refusal": "no"}]},
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
                {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"x":1}'},
                {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "raw"},
                {"type": "web_search_call", "id": "ws_1"},
            ],
            "usage": {"input_tokens": 7, "output_tokens": 3, "input_tokens_details": {"cached_tokens": 2},
                      "output_tokens_details": {"reasoning_tokens": 1}},
        }
    )  # fmt: skip
    [choice] = told["choices"]
    named = {name: value for name, value in citation.items() if name != "type"}
    assert choice["message"] == {
        "role": "assistant", "content": "ab", "refusal": "no", "reasoning_content": "hm\n\nso",
        "reasoning_details": [FOREIGN],
        "annotations": [{"type": "url_citation", "url_citation": named}, {"type": "file_path"}],
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
            {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "raw"}},
        ],
        "other_blocks": [{"type": "web_search_call", "id": "ws_1"}],
    }  # fmt: skip
    assert choice["finish_reason"] == "tool_calls"
    assert choice["logprobs"] == {"content": [{"token": "a"}], "refusal": None}
    assert told["usage"] == {
        "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }  # fmt: skip


def test_an_answer_that_failed_or_has_no_output_is_the_providers_fault() -> None:
    with pytest.raises(BadStream, match="no output"):
        BACK.completion({"id": "x"})
    with pytest.raises(BadStream, match="the response failed: down"):
        BACK.completion({"output": [], "status": "failed", "error": {"message": "down"}})
    assert BACK.completion({"output": [], "status": "incomplete", "incomplete_details": {
        "reason": "max_output_tokens"}})["choices"][0]["finish_reason"] == "length"  # fmt: skip
    assert not BACK.reader().finished
    assert BACK.error(b'{"error": {"message": "no", "code": "x"}}')["code"] == "x"
