from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.gemini.front import GeminiFront
from gateway.wire.refusals import Refusals
from gateway.wire.thoughts import packed

FRONT = GeminiFront()
HI = {"contents": [{"parts": [{"text": "hi"}]}]}


def chat(**asked: Any) -> dict[str, Any]:
    return FRONT.to_chat(HI | asked, Refusals("chat", None))


def messages(*contents: Any, **more: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = chat(contents=[*contents], **more)["messages"]
    return found


def refused(**asked: Any) -> str | None:
    with pytest.raises(BadRequest) as error:
        chat(**asked)
    return error.value.param


def test_what_both_call_otherwise_is_called_as_chat_does() -> None:
    config = {
        "maxOutputTokens": 9, "temperature": 0.5, "topP": 0.9, "topK": 3, "candidateCount": 2, "seed": 7,
        "stopSequences": ["x"], "presencePenalty": 0.1, "frequencyPenalty": 0.2, "responseLogprobs": True,
        "logprobs": 4, "responseModalities": ["Text"], "thinkingConfig": {"thinkingBudget": 0}, "speechConfig": None,
    }  # fmt: skip
    assert chat(generationConfig=config, labels={"a": "b"}, unknown=1) == {
        "messages": [{"role": "user", "content": "hi"}], "unknown": 1,
        "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "n": 2, "seed": 7, "stop": ["x"],
        "presence_penalty": 0.1, "frequency_penalty": 0.2, "logprobs": True, "top_logprobs": 4,
        "reasoning_effort": "none",
    }  # fmt: skip
    assert chat(generation_config={"max_output_tokens": 1})["max_completion_tokens"] == 1


@pytest.mark.parametrize(
    ("config", "effort"),
    [
        ({"thinkingLevel": "HIGH"}, "high"),
        ({"thinking_budget": 500}, "low"),
        ({"thinkingBudget": 8192}, "medium"),
        ({"thinkingBudget": 32000}, "high"),
        ({"thinkingBudget": -1}, None),
        ({"includeThoughts": True}, None),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED"}, None),
        ({"thinkingLevel": "THINKING_LEVEL_UNSPECIFIED", "thinkingBudget": 0}, "none"),
    ],
)
def test_thinking_is_an_effort(config: dict[str, Any], effort: str | None) -> None:
    assert chat(generationConfig={"thinkingConfig": config}).get("reasoning_effort") == effort


def test_an_answer_in_json_is_asked_with_its_schema() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {"a": {"type": "STRING", "nullable": True}},
        "propertyOrdering": ["a"],
    }
    config: Any = {"responseMimeType": "application/json", "responseSchema": schema}
    told = chat(generationConfig=config)["response_format"]["json_schema"]
    made = {
        "type": "object",
        "properties": {"a": {"type": ["string", "null"]}},
        "additionalProperties": False,
    }
    assert (told["schema"], told["strict"]) == (made, False)
    config["responseSchema"] = {**schema, "required": ["a"]}
    told = chat(generationConfig=config)["response_format"]["json_schema"]
    assert (told["schema"], told["strict"]) == ({**made, "required": ["a"]}, True)
    plain = chat(generationConfig={"responseMimeType": "application/json"})
    assert plain["response_format"] == {"type": "json_object"}
    assert (
        refused(generationConfig={"responseMimeType": "text/x.enum"}) == "generationConfig.responseMimeType"
    )
    assert refused(generationConfig={"responseSchema": schema}) == "generationConfig.responseMimeType"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"contents": [{"parts": [{"fileData": {"fileUri": "gs://a/b", "mimeType": "video/mp4"},
                                   "videoMetadata": {"startOffset": "5s"}}]}]}, "contents[0].parts[0].videoMetadata"),
        ({"cachedContent": "c"}, "cachedContent"),
        ({"n": 100}, "n"),
        ({"best_of": 2}, "bestOf"),
        ({"safetySettings": [{"threshold": "OFF"}, {"threshold": "BLOCK_ALL"}]}, "safetySettings[1]"),
        ({"generationConfig": {"imageConfig": {}}}, "generationConfig.imageConfig"),
        ({"generationConfig": {"responseModalities": ["AUDIO"]}}, "generationConfig.responseModalities"),
        ({"tools": [{"google_search": {}}]}, "tools[0].googleSearch"),
        ({"tools": [{"functionDeclarations": [{"behavior": "X"}]}]}, "tools[0].functionDeclarations[0].behavior"),
        ({"toolConfig": {"retrievalConfig": {}}}, "toolConfig.retrievalConfig"),
        ({"tools": [{"functionDeclarations": [{"name": "f"}]}], "toolConfig": {"functionCallingConfig": {"mode": "X"}}},
         "toolConfig.functionCallingConfig.mode"),
        ({"contents": [{"role": "tool", "parts": []}]}, "contents[0]"),
        ({"contents": [{"parts": ["x"]}]}, "contents[0]"),
        ({"contents": [3]}, "contents[0]"),
        ({"contents": [{"parts": [{"executableCode": {}}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"role": "model", "parts": [{"toolCall": {}}]}]}, "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"fileData": {"mimeType": "application/pdf", "fileUri": "u"}}]}]},
         "contents[0].parts[0]"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f", "parts": [{}]}}]}]},
         "contents[0].parts[0].functionResponse"),
    ],
)  # fmt: skip
def test_what_chat_cannot_carry_is_refused_by_its_own_name(asked: dict[str, Any], field: str) -> None:
    assert refused(**asked) == field


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ({"inlineData": {"mimeType": "image/png", "data": "AA=="}},
         {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}),
        ({"file_data": {"mime_type": "image/png", "file_uri": "u"}}, {"type": "image_url", "image_url": {"url": "u"}}),
        ({"fileData": {"mimeType": "video/mp4", "fileUri": "u"}}, {"type": "video_url", "video_url": {"url": "u"}}),
        ({"inlineData": {"mimeType": "audio/mpeg", "data": "AA=="}},
         {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}}),
        ({"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
         {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,AA=="}}),
    ],
)  # fmt: skip
def test_parts_are_told_as_chat_tells_them(part: dict[str, Any], made: dict[str, Any]) -> None:
    assert messages({"parts": [part]}) == [{"role": "user", "content": [made]}]


def test_a_member_that_is_null_is_none() -> None:
    unset = {"functionCall": None, "functionResponse": None, "inlineData": None, "thoughtSignature": None}
    said = [{"role": role, "parts": [{"text": "a", **unset}]} for role in ("user", "model")]
    assert messages(*said) == [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}]


def test_a_system_instruction_is_the_first_message() -> None:
    assert messages(systemInstruction="be brief") == [{"role": "system", "content": "be brief"}]
    two = {"parts": [{"text": "a"}, {"text": "b"}]}
    [system] = messages(system_instruction=two)
    assert system["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]


def test_results_belong_to_calls_by_id_or_by_name_and_order() -> None:
    call, result = (
        {"functionCall": {"name": "f"}},
        {"functionResponse": {"name": "f", "response": {"output": "1"}}},
    )
    named = {"functionResponse": {"id": "x", "name": "g", "response": {"a": 1}}}
    picture = {"inlineData": {"mimeType": "image/png", "data": "AA=="}}
    lost = {"functionResponse": {"name": "h", "parts": [picture]}}
    found = messages(
        {
            "role": "model",
            "parts": [call, call, {"functionCall": {"name": "g", "id": "x", "args": {"b": 2}}}],
        },
        {"role": "function", "parts": [named, result, result]},
        {"role": "user", "parts": [lost, {"text": "and?"}]},
    )
    assert [(one["id"], one["function"]["arguments"]) for one in found[0]["tool_calls"]] == [
        ("call_0", "{}"),
        ("call_1", "{}"),
        ("x", '{"b":2}'),
    ]
    assert [(one["tool_call_id"], one["content"]) for one in found[1:5]] == [
        ("x", '{"a":1}'),
        ("call_0", "1"),
        ("call_1", "1"),
        ("h", "{}"),
    ]
    assert [part["type"] for part in found[5]["content"]] == ["image_url", "text"]


def test_signatures_are_kept_and_those_of_others_are_unpacked() -> None:
    theirs = {"type": "reasoning.text", "signature": "sig", "format": "anthropic-claude-v1"}
    [message] = messages(
        {
            "role": "model",
            "parts": [
                {"text": "h", "thought": True},
                {"text": "m", "thought": True},
                {
                    "text": "",
                    "thought": True,
                    "thoughtSignature": packed(theirs | {"text": "hm", "index": 0}),
                },
                {"text": "own", "thought": True, "thoughtSignature": "AAAA"},
                {"text": "yes", "thoughtSignature": "BBBB"},
                {"text": "!"},
                {"functionCall": {"name": "f"}, "thoughtSignature": "!?"},
            ],
        }
    )
    assert (message["content"], message["reasoning_content"]) == ("yes!", "hmown")
    google = {"format": "google-gemini-v1"}
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "hm", **theirs, "index": 0},
        {"type": "reasoning.text", "text": "own", "signature": "AAAA", **google, "index": 1},
        {"type": "reasoning.encrypted", "data": "BBBB", **google, "index": 2},
        {"type": "reasoning.encrypted", "id": "call_0", "data": "!?", **google, "index": 3},
    ]


@pytest.mark.parametrize(
    ("status", "named"),
    [(404, "NOT_FOUND"), (418, "INVALID_ARGUMENT"), (500, "INTERNAL"), (429, "RESOURCE_EXHAUSTED")],
)
def test_a_refusal_is_googles(status: int, named: str) -> None:
    assert f'"status":"{named}"'.encode() in FRONT.refusal(status, "no", {})


def test_a_turn_of_thoughts_alone_has_words_all_the_same_and_one_of_calls_none() -> None:
    turns: Any = ([], [{"text": "hm", "thought": True}], [{"functionCall": {"name": "f"}}])
    told = messages(*({"role": "model", "parts": parts} for parts in turns))
    assert [message["content"] for message in told] == ["", "", None]


def test_what_chat_has_no_word_for_is_told_once_for_all_of_its_kind() -> None:
    left: list[str] = []
    asked = {
        "contents": [
            {"parts": [{"text": "a", "mediaResolution": {"level": "low"}}]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}, "will_continue": True}}]},
        ],
        "generationConfig": {"thinkingConfig": {"includeThoughts": True, "thinkingBudget": 0}},
        "labels": {"a": "b"}, "serviceTier": "flex", "model": "models/m",
    }  # fmt: skip
    FRONT.to_chat(asked, Refusals("chat", None, left))
    assert left == [
        "labels", "serviceTier", "contents.mediaResolution", "contents.functionCall.willContinue",
        "generationConfig.thinkingConfig.includeThoughts",
    ]  # fmt: skip


def test_one_answer_is_what_there_is() -> None:
    assert {"n", "bestOf"}.isdisjoint(chat(n=1, best_of=1))
