from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.gemini.back import GeminiBack

BACK = GeminiBack()
HI = [{"role": "user", "content": "hi"}]


def turned(
    dropped: list[str] | None = None, params: dict[str, Any] | None = None, **chat: Any
) -> dict[str, Any]:
    asked = {"model": "gemini-2.5-pro", "stream": True, "messages": HI} | chat
    return BACK.from_chat(asked, Changes("m", params=params or {}, dropped=dropped))


def test_what_both_call_otherwise_is_called_as_gemini_does() -> None:
    body = turned(
        max_tokens=1, max_completion_tokens=9, temperature=0.5, top_p=0.9, top_k=3, n=2, seed=7, stop="x",
        presence_penalty=0.1, frequency_penalty=0.2, logprobs=True, top_logprobs=4, modalities=["text", "image"],
        user="u", store=False, parallel_tool_calls=True, logit_bias={}, cachedContent="c",
    )  # fmt: skip
    assert body == {
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
        "cachedContent": "c",
        "generationConfig": {
            "maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "topK": 3, "candidateCount": 2, "seed": 7,
            "stopSequences": ["x"], "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": True,
            "logprobs": 4, "responseModalities": ["TEXT", "IMAGE"],
        },
    }  # fmt: skip
    assert turned() == {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def test_the_providers_defaults_and_the_teams_cap_stand_below_the_calls_own() -> None:
    params = {"maxOutputTokens": 5, "generationConfig": {"topK": 1, "temperature": 0}, "labels": {"a": "b"}}
    body = turned(params=params, temperature=1)
    assert body["generationConfig"] == {"maxOutputTokens": 5, "topK": 1, "temperature": 1}
    assert body["labels"] == {"a": "b"}
    assert turned(params=params, max_tokens=2, stop=["a", "b"])["generationConfig"]["maxOutputTokens"] == 2


@pytest.mark.parametrize(
    ("model", "effort", "config"),
    [
        ("gemini-2.5-pro", "high", {"includeThoughts": True, "thinkingBudget": 24576}),
        ("gemini-2.5-flash", "none", {"includeThoughts": False, "thinkingBudget": 0}),
        ("gemini-3-pro", "low", {"includeThoughts": True, "thinkingLevel": "low"}),
    ],
)
def test_an_effort_is_a_budget_or_a_level(model: str, effort: str, config: dict[str, Any]) -> None:
    assert turned(model=model, reasoning_effort=effort)["generationConfig"]["thinkingConfig"] == config


def test_an_answer_in_json_is_asked_with_its_schema() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    asked = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    config = turned(response_format=asked)["generationConfig"]
    assert config == {"responseMimeType": "application/json", "responseJsonSchema": schema}
    assert turned(response_format={"type": "json_object"})["generationConfig"] == {
        "responseMimeType": "application/json"
    }
    assert "generationConfig" not in turned(response_format={"type": "text"})


TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


@pytest.mark.parametrize(
    ("choice", "config"),
    [
        ("auto", {"mode": "AUTO"}),
        ("none", {"mode": "NONE"}),
        ("required", {"mode": "ANY"}),
        ({"type": "function", "function": {"name": "f"}}, {"mode": "ANY", "allowedFunctionNames": ["f"]}),
    ],
)
def test_tools_are_declared_and_chosen(choice: Any, config: dict[str, Any]) -> None:
    body = turned(tools=[TOOL, {"type": "function", "function": {"name": "g"}}], tool_choice=choice)
    declared = {"name": "f", "description": "d", "parametersJsonSchema": {"type": "object"}}
    assert body["tools"] == [{"functionDeclarations": [declared, {"name": "g"}]}]
    assert body["toolConfig"] == {"functionCallingConfig": config}


def test_strict_tools_are_validated_and_a_search_is_googles() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    assert turned(tools=[strict])["toolConfig"] == {"functionCallingConfig": {"mode": "VALIDATED"}}
    assert "toolConfig" not in turned(tools=[TOOL])
    assert turned(web_search_options={})["tools"] == [{"googleSearch": {}}]


@pytest.mark.parametrize(
    ("chat", "field"),
    [
        ({"logit_bias": {"1": 1}}, "logit_bias"),
        ({"parallel_tool_calls": False}, "parallel_tool_calls"),
        ({"reasoning_effort": "utmost"}, "reasoning_effort"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"response_format": "text"}, "response_format"),
        ({"tools": [{"type": "web_search"}]}, "tools[0]"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"web_search_options": {"user_location": {}}}, "web_search_options.user_location"),
        ({"messages": [{"role": "user", "content": [{"type": "other"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
         "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_cannot_be_carried_is_refused_by_name_or_listed(chat: dict[str, Any], field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        turned(**chat)
    assert refused.value.param == field
    dropped: list[str] = []
    turned(dropped, **chat)
    assert dropped == [field]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ({"role": "critic", "content": "x"}, "messages[0]"),
        ("x", "messages[0]"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]},
         "messages[0].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]},
         "messages[0].tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_by_its_place(message: Any, field: str) -> None:
    with pytest.raises(BadRequest) as refused:
        turned([], messages=[message])
    assert refused.value.param == field


def test_calls_of_another_model_have_a_stand_in_for_the_signature_that_new_ones_want() -> None:
    def signatures(model: str, **more: Any) -> list[Any]:
        calls = [{"id": one, "function": {"name": "f"}} for one in ("a", "b")]
        step = [
            {"role": "assistant", "tool_calls": calls, **more},
            {"role": "tool", "tool_call_id": "a", "content": ""},
        ]
        contents = turned(
            model=model, messages=[*HI, *step, {"role": "assistant", "content": "x"}, *HI, *step]
        )["contents"]
        parts = [part for content in contents for part in content["parts"]]
        return [part.get("thoughtSignature") for part in parts if "functionCall" in part]

    stand_in = "skip_thought_signature_validator"
    assert signatures("gemini-3-pro-preview") == [stand_in, None] * 2
    assert signatures("models/gemini-flash-latest") == [stand_in, None] * 2
    assert signatures("gemini-2.5-pro") == signatures("gemma-3-27b-it") == [None] * 4
    known = {"type": "reasoning.encrypted", "id": "a", "data": "s", "format": "google-gemini-v1"}
    assert signatures("gemini-3-pro-preview", reasoning_details=[known]) == ["s", None] * 2


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"error": {"code": 404, "message": "no", "status": "NOT_FOUND"}}', ("no", "NOT_FOUND")),
        (b'[{"error": {"message": "no"}}]', ("no", None)),
        (b"oops", ("oops", None)),
        (b"[]", ("[]", None)),
        (b"", ("the provider gave no reason", None)),
    ],
)
def test_an_error_is_googles_alone_or_in_a_list(body: bytes, error: tuple[str, str | None]) -> None:
    told = BACK.error(body)
    assert (told["message"], told.get("code")) == error
