"""A chat call in Cohere's words."""

import base64
from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.cohere.back import CohereBack
from gateway.wire.cohere.reader import CohereReader

BACK = CohereBack()
HI = [{"role": "user", "content": "hi"}]


def turned(
    dropped: list[str] | None = None, params: dict[str, Any] | None = None, **chat: Any
) -> dict[str, Any]:
    asked = {"model": "command-a", "messages": HI} | chat
    return BACK.from_chat(asked, Changes("m", params=params or {}, dropped=dropped))


def said(*messages: dict[str, Any], dropped: list[str] | None = None) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = turned(dropped, messages=[*messages])["messages"]
    return made


def test_what_both_call_otherwise_is_called_as_cohere_does() -> None:
    body = turned(
        stream=True, max_tokens=1, max_completion_tokens=9, temperature=0.5, top_p=0.9, top_k=3, n=1, seed=7, stop="x",
        presence_penalty=0.1, frequency_penalty=0.2, logprobs=True, user="u", store=False, parallel_tool_calls=True,
        logit_bias={}, safety_mode="STRICT", stream_options={"include_usage": True}, verbosity=None,
    )  # fmt: skip
    assert body == {
        "model": "command-a", "stream": True, "messages": HI, "max_tokens": 9, "temperature": 0.5, "p": 0.9, "k": 3,
        "seed": 7, "stop_sequences": ["x"], "presence_penalty": 0.1, "frequency_penalty": 0.2, "logprobs": True,
        "safety_mode": "STRICT",
    }  # fmt: skip
    assert turned() == {"model": "command-a", "messages": HI}


def test_the_providers_defaults_and_the_teams_cap_stand_below_the_calls_own() -> None:
    params = {"max_tokens": 5, "safety_mode": "OFF"}
    assert turned(params=params)["max_tokens"] == 5
    body = turned(params=params, max_tokens=2, stop=["a", "b"])
    assert (body["max_tokens"], body["safety_mode"], body["stop_sequences"]) == (2, "OFF", ["a", "b"])


@pytest.mark.parametrize("name", ["n", "logit_bias", "top_logprobs", "prediction", "parallel_tool_calls"])
def test_what_cohere_has_no_place_for_is_refused_or_left_out_by_name(name: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        turned(None, None, **{name: 3})
    assert refusal.value.param == name
    dropped: list[str] = []
    assert turned(dropped, None, **{name: 3}) == {"model": "command-a", "messages": HI}
    assert dropped == [name]


def test_an_effort_is_a_budget_unless_the_call_has_its_own() -> None:
    assert turned(reasoning_effort="low")["thinking"] == {"type": "enabled", "token_budget": 1024}
    own = {"type": "enabled", "token_budget": 7}
    assert turned(reasoning_effort="low", thinking=own)["thinking"] == own
    dropped: list[str] = []
    assert "thinking" not in turned(dropped, reasoning_effort="utmost")
    assert dropped == ["reasoning_effort"]


def test_a_schema_is_one_of_json() -> None:
    schema = {"type": "object"}
    asked = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    assert turned(response_format=asked)["response_format"] == {"type": "json_object", "json_schema": schema}
    assert turned(response_format={"type": "json_object"})["response_format"] == {"type": "json_object"}
    assert "response_format" not in turned(response_format={"type": "text"})
    dropped: list[str] = []
    assert "response_format" not in turned(dropped, response_format={"type": "grammar"})
    assert dropped == ["response_format"]


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, **more}}


def test_tools_are_as_in_chat_with_parameters_always() -> None:
    body = turned(tools=[tool("f", description="d", strict=True), tool("g", parameters={"type": "x"})])
    assert body["tools"] == [
        tool("f", description="d", parameters={"type": "object", "properties": {}}),
        tool("g", parameters={"type": "x"}),
    ]
    assert body["strict_tools"] is True
    assert "tool_choice" not in body
    dropped: list[str] = []
    assert "tools" not in turned(dropped, tools=[{"type": "custom", "custom": {}}], tool_choice="required")
    assert dropped == ["tools[0]"]


def test_the_choice_of_a_tool_is_said_as_far_as_cohere_has_words() -> None:
    tools = [tool("f", parameters={"a": 1}), tool("g", parameters={"a": 1})]
    assert turned(tools=tools, tool_choice="required")["tool_choice"] == "REQUIRED"
    assert turned(tools=tools, tool_choice="none")["tool_choice"] == "NONE"
    assert "tool_choice" not in turned(tools=tools, tool_choice="auto")
    assert "tool_choice" not in turned(tool_choice="required"), "without tools there is no choice"
    named = turned(tools=tools, tool_choice=tool("g"))
    assert (named["tools"], named["tool_choice"]) == ([tools[1]], "REQUIRED"), "the only one shown"


@pytest.mark.parametrize("choice", ["any", {"type": "function", "function": {"name": "h"}}, 3])
def test_the_choice_of_a_tool_that_is_not_there_is_refused(choice: Any) -> None:
    tools = [tool("f", parameters={"a": 1})]
    with pytest.raises(BadRequest, match="tool_choice"):
        turned(tools=tools, tool_choice=choice)
    body = turned([], tools=tools, tool_choice=choice)
    assert body["tools"] == tools
    assert "tool_choice" not in body


def test_each_role_says_what_it_may() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}}
    text = {"type": "text", "text": "t"}
    found = {"type": "document", "document": {"data": {"output": "60"}}}
    assert said(
        {"role": "developer", "content": "d"},
        {"role": "system", "content": [text]},
        {"role": "user", "content": [text, picture, {"type": "image_url", "image_url": "https://c"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "assistant", "refusal": "never"},
        {"role": "tool", "tool_call_id": "a", "content": [found]},
        {"role": "function", "name": "f"},
    ) == [
        {"role": "system", "content": "d"},
        {"role": "system", "content": [text]},
        {
            "role": "user",
            "content": [text, picture, {"type": "image_url", "image_url": {"url": "https://c"}}],
        },
        {"role": "assistant", "content": [{"type": "text", "text": "no"}]},
        {"role": "assistant", "content": "never"},
        {"role": "tool", "tool_call_id": "a", "content": [found]},
        {"role": "tool", "tool_call_id": "f", "content": ""},
    ]
    with pytest.raises(BadRequest, match=r"messages\[0\].role"):
        said({"role": "critic", "content": "x"})


def test_what_a_role_may_not_say_is_refused_by_its_place() -> None:
    picture = {"type": "image_url", "image_url": {"url": "https://a/b"}}
    for role in ("system", "assistant", "tool"):
        with pytest.raises(BadRequest) as refusal:
            said({"role": role, "content": [picture]})
        assert refusal.value.param == "messages[0].content[0]"
    dropped: list[str] = []
    assert said({"role": "tool", "content": [picture]}, dropped=dropped)[0]["content"] == []
    assert dropped == ["messages[0].content[0]"]


def test_what_was_said_before_calls_is_their_plan_and_thoughts_come_first() -> None:
    function = {"name": "f", "arguments": '{"x":1}'}
    calls = [{"id": "a", "type": "function", "function": function, "index": 0}]
    made = [{"id": "a", "type": "function", "function": function}]
    thinking = {"type": "thinking", "thinking": "hm"}
    text = {"type": "text", "text": "t"}
    legacy = {"name": "g", "arguments": ""}
    assert said(
        {"role": "assistant", "content": "I will", "tool_calls": calls},
        {"role": "assistant", "content": [text, text], "tool_calls": calls, "reasoning_content": "hm"},
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "assistant", "content": "t", "reasoning_content": "hm"},
        {"role": "assistant", "content": [text], "reasoning_content": "hm"},
        {"role": "assistant", "content": None, "function_call": legacy},
        {"role": "assistant", "content": None},
    ) == [
        {"role": "assistant", "tool_plan": "I will", "tool_calls": made},
        {"role": "assistant", "tool_plan": "tt", "tool_calls": made, "content": [thinking]},
        {"role": "assistant", "tool_calls": made},
        {"role": "assistant", "content": [thinking, text]},
        {"role": "assistant", "content": [thinking, text]},
        {
            "role": "assistant",
            "tool_calls": [{"id": "g", "type": "function", "function": {"name": "g", "arguments": "{}"}}],
        },
    ]


def file(kind: str, data: bytes | str, **more: str) -> dict[str, Any]:
    told = base64.b64encode(data).decode() if isinstance(data, bytes) else data
    return {"type": "file", "file": {"file_data": f"data:{kind};base64,{told}", **more}}


def test_files_that_are_texts_are_documents_to_be_cited() -> None:
    asked = [{"type": "text", "text": "t"}, file("text/plain", "é".encode(), filename="a.txt")]
    body = turned(
        messages=[{"role": "user", "content": [*asked, file("text/csv", b"b")]}], documents=["as it came"]
    )
    assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "t"}]}]
    assert body["documents"] == [
        "as it came",
        {"data": {"text": "é", "title": "a.txt"}},
        {"data": {"text": "b"}},
    ]


@pytest.mark.parametrize(
    "part",
    [
        file("application/pdf", b"x"),
        file("text/plain", b"\xff"),
        file("text/plain", "not base64"),
        {"type": "file", "file": {"file_id": "x"}},
    ],
)
def test_a_file_that_is_no_text_is_refused_by_its_place(part: dict[str, Any]) -> None:
    with pytest.raises(BadRequest) as refusal:
        said({"role": "user", "content": [part]})
    assert refusal.value.param == "messages[0].content[0]"


@pytest.mark.parametrize(
    ("body", "message", "code"),
    [
        (b'{"id":"i","message":"no such model"}', "no such model", None),
        (b'{"message":"m","error_type":"TOO_MANY_TOKENS"}', "m", "TOO_MANY_TOKENS"),
        (b"<html>", "the provider gave no reason", None),
        (b"[]", "[]", None),
        (b"", "the provider gave no reason", None),
    ],
)
def test_an_error_is_told_as_openais(body: bytes, message: str, code: str | None) -> None:
    told = BACK.error(body)
    assert (told["message"], told.get("code")) == (message, code)


def test_answers_are_read_whole_or_as_streams() -> None:
    assert isinstance(BACK.reader(), CohereReader)
    whole = BACK.completion({"message": {"content": [{"type": "text", "text": "a"}]}})
    assert whole["choices"][0]["message"]["content"] == "a"


def test_thoughts_that_stand_in_details_alone_go_back_as_their_text() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "format": "anthropic-claude-v1", "signature": "s"}]
    assert said({"role": "assistant", "content": "a", "reasoning_details": details}) == [
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}],
        }
    ]
