"""A chat call, as Anthropic takes it; Anthropic's whole answer, as a chat completion."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.messages.back import MessagesBack
from gateway.wire.sse import BadStream

BACK = MessagesBack()
URL = "data:image/png;base64,iVBO"
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBO"}


def asked(
    dropped: list[str] | None = None, params: dict[str, Any] | None = None, **chat: Any
) -> dict[str, Any]:
    changes = Changes("m", params=params or {}, dropped=dropped)
    return BACK.from_chat({"messages": [], **chat}, changes)


def turns(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = asked(messages=list(messages))["messages"]
    return told


def completion(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    told: dict[str, Any] = BACK.completion({"id": "i", "model": "m", "content": list(blocks), **more})
    return told


def test_a_call_with_all_its_settings() -> None:
    assert asked(
        model="m",
        messages=[{"role": "developer", "content": "be brief"}, {"role": "user", "content": "hi"}],
        max_completion_tokens=9,
        stop="END",
        user="u",
        temperature=0.5,
        n=1,
        stream=True,
        stream_options={"include_usage": True},
        top_k=3,
    ) == {
        "model": "m",
        "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "max_tokens": 9,
        "stop_sequences": ["END"],
        "metadata": {"user_id": "u"},
        "temperature": 0.5,
        "stream": True,
        "top_k": 3,
    }


def test_the_bound_that_anthropic_needs_is_there_in_any_case() -> None:
    assert asked()["max_tokens"] == 4096
    assert asked(params={"max_tokens": 7})["max_tokens"] == 7
    assert asked(max_tokens=5, params={"max_tokens": 7})["max_tokens"] == 5


def test_a_response_format_is_an_output_config() -> None:
    schema = {"type": "object"}
    format_ = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    assert asked(response_format=format_, output_config={"effort": "low"})["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }
    assert "output_config" not in asked(response_format={"type": "text"})


def test_an_open_schema_is_closed_as_anthropic_wants_it() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    schema = {"type": "object", "properties": {"a": inner}}
    told = asked(response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": schema}})
    shut = {"additionalProperties": False}
    made = {**schema, "properties": {"a": {**inner, **shut}}, **shut}
    assert told["output_config"]["format"]["schema"] == made


def test_turns_alternate_and_results_open_the_users() -> None:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    assert turns(
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "", "tool_calls": [call, {"id": "u", "function": {"name": "g"}}]},
        {"role": "tool", "tool_call_id": "t", "content": "r", "is_error": True},
        {"role": "tool", "tool_call_id": "u", "content": ""},
        {"role": "user", "content": ""},
    ) == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
                                          {"type": "tool_use", "id": "u", "name": "g", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r", "is_error": True},
                                     {"type": "tool_result", "tool_use_id": "u"}]},
    ]  # fmt: skip
    assert turns({"role": "user", "content": []}) == []


def test_ids_of_calls_are_as_anthropic_takes_them() -> None:
    call = {"id": "functions.f:0", "function": {"name": "f"}}
    said, told = turns(
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "functions.f:0", "content": ""},
    )
    ident = said["content"][0]["id"]
    assert ident.isalnum() and told["content"][0]["tool_use_id"] == ident


def test_a_tool_that_failed_without_a_word_has_one() -> None:
    [turn] = turns({"role": "tool", "tool_call_id": "t", "content": "", "is_error": True})
    result = {"type": "tool_result", "tool_use_id": "t", "content": "failed", "is_error": True}
    assert turn["content"] == [result]


def test_parts_are_blocks_and_cache_marks_stay() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    pdf = "data:application/pdf;base64,JVBE"
    parts = [
        {"type": "text", "text": "a", **mark},
        {"type": "text", "text": ""},
        {"type": "image_url", "image_url": {"url": URL}},
        {"type": "image_url", "image_url": "https://a/b"},
        {"type": "file", "file": {"filename": "n", "file_data": pdf}},
        {"type": "file", "file": {"file_data": pdf}},
    ]
    document = {"type": "document", "source": {**PNG, "media_type": "application/pdf", "data": "JVBE"}}
    assert turns({"role": "user", "content": parts})[0]["content"] == [
        {"type": "text", "text": "a", **mark},
        {"type": "image", "source": PNG},
        {"type": "image", "source": {"type": "url", "url": "https://a/b"}},
        {**document, "title": "n"},
        document,
    ]
    system = asked(messages=[{"role": "system", "content": parts[:1]}])["system"]
    assert system == [{"type": "text", "text": "a", **mark}]


def test_what_claude_signed_goes_back_and_what_others_signed_does_not() -> None:
    signed = {"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1"}
    hidden = {"type": "reasoning.encrypted", "data": "d", "format": "anthropic-claude-v1"}
    message = {
        "role": "assistant",
        "content": "a",
        "refusal": "no",
        "reasoning_details": [
            signed,
            {**signed, "signature": ""},
            hidden,
            {**signed, "format": "openai-responses-v1"},
        ],
        "other_blocks": [{"type": "server_tool_use", "id": "x"}],
        "function_call": {"name": "f", "arguments": "{}"},
    }
    assert turns(message, {"role": "function", "name": "f", "content": "r"}) == [
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "redacted_thinking", "data": "d"},
                {"type": "text", "text": "a"},
                {"type": "text", "text": "no"},
                {"type": "server_tool_use", "id": "x"},
                {"type": "tool_use", "id": "f", "name": "f", "input": {}},
            ],
        },
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "f", "content": "r"}]},
    ]


@pytest.mark.parametrize(
    ("chat", "field"),
    [
        ({"n": 2}, "n"),
        ({"seed": 1}, "seed"),
        ({"reasoning_effort": "colossal"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0]"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": 5}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "x"}}]}]},
         "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_anthropic_has_no_word_for_is_refused_or_left_out_by_name(
    chat: dict[str, Any], field: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        asked(**chat)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", field)
    dropped: list[str] = []
    asked(dropped, **chat)
    assert dropped == [field]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "narrator"}, "messages[0]"),
        ({"role": "user", "content": 5}, "messages[0].content"),
        ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{"}}]},
         "messages[0].tool_calls[0].function.arguments"),
        ({"role": "assistant", "function_call": {"arguments": "[]"}}, "messages[0].function.arguments"),
    ],
)  # fmt: skip
def test_what_is_no_chat_call_is_refused_even_where_things_may_be_left_out(message: Any, field: str) -> None:
    with pytest.raises(BadRequest) as caught:
        asked([], messages=[message])
    assert caught.value.param == field


def test_an_answer_is_a_completion() -> None:
    told = completion(
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "redacted_thinking", "data": "d"},
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "citations": [{"url": "u"}]},
        {"type": "tool_use", "id": "t", "name": "f", "input": {"x": 1}},
        {"type": "web_search_tool_result", "content": []},
        stop_reason="tool_use",
        usage={"input_tokens": 2, "output_tokens": 3, "cache_read_input_tokens": 5},
    )
    [choice] = told["choices"]
    assert (told["id"], choice["finish_reason"], "stop_reason" in choice) == ("i", "tool_calls", False)
    message = choice["message"]
    assert (message["content"], message["reasoning_content"]) == ("ab", "hm")
    assert [detail.get("signature", detail.get("data")) for detail in message["reasoning_details"]] == [
        "s",
        "d",
    ]
    assert message["annotations"] == [{"url": "u"}]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"x":1}'}
    assert message["other_blocks"] == [{"type": "web_search_tool_result", "content": []}]
    assert (told["usage"]["prompt_tokens"], told["usage"]["prompt_tokens_details"]["cached_tokens"]) == (7, 5)


def test_a_stream_has_a_reader_of_its_own() -> None:
    assert BACK.reader() is not BACK.reader()


def test_the_sequence_that_stopped_an_answer_is_told() -> None:
    told = completion(stop_reason="stop_sequence", stop_sequence="END")
    assert (told["choices"][0]["finish_reason"], told["choices"][0]["stop_reason"]) == ("stop", "END")
    assert "usage" not in told


@pytest.mark.parametrize("answer", [[], {}, {"content": "text"}])
def test_an_answer_without_content_is_none(answer: Any) -> None:
    with pytest.raises(BadStream):
        BACK.completion(answer)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"type": "overloaded_error", "message": "busy"}}', "busy"),
        (b'{"error": "busy"}', '{"error": "busy"}'),
        (b"busy", "busy"),
        (b"", "the provider gave no reason"),
    ],
)
def test_an_error_always_has_a_message(body: bytes, message: str) -> None:
    assert BACK.error(body)["message"] == message


def test_of_two_names_for_a_user_the_one_that_is_left_out_is_told() -> None:
    left: list[str] = []
    for user in ("u", "s", None):
        asks: dict[str, Any] = {"messages": [], "safety_identifier": "s", "user": user}
        assert BACK.from_chat(asks, Changes("m", left_out=left))["metadata"] == {"user_id": "s"}
    assert left == ["user"]
