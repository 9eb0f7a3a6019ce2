"""A chat call as Converse takes it, and its answer as a chat completion."""

from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.base import Changes
from gateway.wire.converse.back import ConverseBack
from gateway.wire.sse import BadStream

HI = [{"role": "user", "content": "hi"}]
CLAUDE, NOVA = "us.anthropic.claude-x-v1:0", "us.amazon.nova-2-lite-v1:0"
OLD = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
FUNCTION = {"name": "f", "description": "d", "strict": True, "parameters": {"x": 1}}
TOOL = {"type": "function", "function": FUNCTION}
SPEC = {"toolSpec": {"name": "f", "description": "d", "strict": True, "inputSchema": {"json": {"x": 1}}}}
NAMED = {"type": "function", "function": {"name": "f"}}


def body(model: str = CLAUDE, params: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    asks = {"model": model, "messages": HI, **more}
    return ConverseBack().from_chat(asks, Changes(model, params=params or {}))


def more_of(model: str = CLAUDE, **more: Any) -> Any:
    return body(model, **more).get("additionalModelRequestFields")


def test_bounds_and_sampling_stand_in_the_inference_config() -> None:
    made = body(
        max_completion_tokens=9, max_tokens=8, temperature=0, top_p=0.5, stop="x", user="u", seed=None
    )
    config = {"maxTokens": 9, "temperature": 0, "topP": 0.5, "stopSequences": ["x"]}
    assert made == {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": config}
    assert body(stop=["a", "b"])["inferenceConfig"] == {"stopSequences": ["a", "b"]}
    assert "inferenceConfig" not in body(stop=[])


def test_defaults_of_the_provider_give_way_to_the_call() -> None:
    params = {
        "max_tokens": 5,
        "temperature": 1,
        "inferenceConfig": {"topP": 0.1},
        "guardrailConfig": {"a": "b"},
    }
    made = body(params=params, max_completion_tokens=7)
    assert made["inferenceConfig"] == {"topP": 0.1, "maxTokens": 7, "temperature": 1}
    assert made["guardrailConfig"] == {"a": "b"}
    assert body(params=params)["inferenceConfig"]["maxTokens"] == 5


def test_fields_nobody_here_knows_are_the_models() -> None:
    made = body(additionalModelRequestFields={"a": 1}, requestMetadata={"k": "v"}, top_k=3)
    assert made["additionalModelRequestFields"] == {"a": 1, "top_k": 3}
    assert made["requestMetadata"] == {"k": "v"}


@pytest.mark.parametrize(
    ("field", "value"),
    [("n", 2), ("seed", 1), ("logprobs", True), ("response_format", {"type": "json_object"})],
)
def test_what_cannot_be_carried_is_refused_by_name_or_left_out_by_it(field: str, value: Any) -> None:
    with pytest.raises(BadRequest, match=f"'{field}' cannot be carried over"):
        body(**{field: value})
    dropped: list[str] = []
    ConverseBack().from_chat({"messages": HI, field: value}, Changes("m", dropped=dropped))
    assert dropped == [field]


def test_an_effort_is_told_as_each_maker_takes_it() -> None:
    assert more_of(OLD, reasoning_effort="low") == {"thinking": {"type": "enabled", "budget_tokens": 2048}}
    assert more_of(OLD, reasoning_effort="high", max_tokens=4000)["thinking"]["budget_tokens"] == 3000
    assert more_of(OLD, reasoning_effort="high", max_tokens=400) is None
    assert more_of(OLD, reasoning_effort="none") is None
    assert more_of("anthropic.claude-opus-5", reasoning_effort="none") == {"thinking": {"type": "disabled"}}
    shown = {"type": "adaptive", "display": "summarized"}
    assert more_of(reasoning_effort="low") == {"thinking": shown, "output_config": {"effort": "low"}}
    own = {"type": "adaptive"}
    assert more_of(reasoning_effort="low", thinking=own) == {
        "thinking": own,
        "output_config": {"effort": "low"},
    }
    nova = {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}
    assert more_of(NOVA, reasoning_effort="low") == nova
    assert more_of(NOVA) is None
    assert more_of("openai.gpt-oss-20b", reasoning_effort="low") == {"reasoning_effort": "low"}
    for model in (CLAUDE, NOVA):
        with pytest.raises(BadRequest, match="reasoning_effort"):
            body(model, reasoning_effort="minimum")


def test_what_cannot_go_with_thinking_is_left_out_by_name() -> None:
    left: list[str] = []

    def sent(model: str, **more: Any) -> tuple[Any, Any]:
        left.clear()
        call = {"id": "t", "function": {"name": "f"}}
        loop = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "t"}]
        asks = {"model": model, "messages": loop, "tools": [TOOL], "reasoning_effort": "low", "temperature": 0.2,
                "top_k": 3, **more}  # fmt: skip
        made = ConverseBack().from_chat(asks, Changes(model, left_out=left))
        return made.get("inferenceConfig"), made["additionalModelRequestFields"].keys()

    assert sent(OLD) == ({"temperature": 0.2}, {"top_k"})
    assert left == ["reasoning_effort"]
    assert sent(CLAUDE) == (None, {"thinking", "output_config"})
    assert set(left) == {"temperature", "top_k"}
    assert sent(CLAUDE, tool_choice=NAMED) == ({"temperature": 0.2}, {"top_k", "output_config"})
    assert sent("us.anthropic.claude-sonnet-5", tool_choice=NAMED) == (None, {"output_config"})
    assert set(left) == {"temperature", "top_k"}


def test_a_schema_is_a_text_in_the_output_config() -> None:
    schema: Any = {"name": "a", "description": "d", "schema": {"type": "object"}, "strict": True}
    made = body(response_format={"type": "json_schema", "json_schema": schema})["outputConfig"]["textFormat"]
    told = {"name": "a", "description": "d", "schema": '{"type":"object"}'}
    assert made == {"type": "json_schema", "structure": {"jsonSchema": told}}
    schema["schema"] = {"type": "object", "properties": {}}
    made = body(response_format={"type": "json_schema", "json_schema": schema})["outputConfig"]["textFormat"]
    closed = '{"type":"object","properties":{},"additionalProperties":false}'
    assert made["structure"]["jsonSchema"]["schema"] == closed
    assert "outputConfig" not in body(response_format={"type": "text"})


def test_tools_and_which_of_them_is_to_be_called() -> None:
    cached = {**TOOL, "cache_control": {"type": "ephemeral"}}
    bare = {"type": "function", "function": {"name": "g"}}
    tools = body(tools=[cached, bare])["toolConfig"]["tools"]
    assert tools[:2] == [SPEC, {"cachePoint": {"type": "default"}}]
    assert tools[2]["toolSpec"]["inputSchema"] == {"json": {"type": "object", "properties": {}}}
    for asked, kind in (("auto", "auto"), ("required", "any")):
        made = body(tools=[TOOL], tool_choice=asked)["toolConfig"]
        assert made == {"tools": [SPEC], "toolChoice": {kind: {}}}
    assert body(tools=[TOOL], tool_choice=NAMED)["toolConfig"]["toolChoice"] == {"tool": {"name": "f"}}
    for odd in ({"type": "custom"}, "sometimes"):
        with pytest.raises(BadRequest, match="tool_choice"):
            body(tools=[TOOL], tool_choice=odd)
    with pytest.raises(BadRequest, match=r"tools\[0\]"):
        body(tools=[{"type": "custom", "custom": {}}])


def test_tools_that_must_not_be_called_are_left_out_unless_calls_are_to_be_read() -> None:
    assert "toolConfig" not in body(tools=[TOOL], tool_choice="none")
    called = [*HI, {"role": "assistant", "tool_calls": [{"id": "t", "function": {"name": "f"}}]}]
    with pytest.raises(BadRequest, match="tool_choice"):
        body(tools=[TOOL], tool_choice="none", messages=called)


def test_one_call_at_a_time_is_asked_of_claude_and_refused_of_others() -> None:
    alone = {"disable_parallel_tool_use": True}
    assert more_of(tools=[TOOL], parallel_tool_calls=False) == {"tool_choice": {"type": "auto", **alone}}
    named = more_of(tools=[TOOL], parallel_tool_calls=False, tool_choice=NAMED)
    assert named == {"tool_choice": {"type": "tool", "name": "f", **alone}}
    assert more_of(tools=[TOOL], parallel_tool_calls=True) is None
    with pytest.raises(BadRequest, match="parallel_tool_calls"):
        body(NOVA, tools=[TOOL], parallel_tool_calls=False)


def test_tools_that_were_called_stand_in_where_a_call_has_none_any_more() -> None:
    calls = [{"id": "t", "function": {"name": name}} for name in ("f", "g", "f")]
    said = [*HI, {"role": "assistant", "tool_calls": calls}]
    specs = [one["toolSpec"] for one in body(messages=said)["toolConfig"]["tools"]]
    assert [spec["name"] for spec in specs] == ["f", "g"]
    assert specs[0]["inputSchema"] == {"json": {"type": "object", "properties": {}}}
    assert body(messages=said, tools=[TOOL])["toolConfig"] == {"tools": [SPEC]}
    assert "toolConfig" not in body()


def test_what_a_fallback_leaves_out_is_named() -> None:
    dropped: list[str] = []
    asks = {
        "model": NOVA, "messages": [{"role": "system", "content": "be brief"}, *HI], "reasoning_effort": "minimum",
        "tools": [TOOL, {"type": "custom"}], "tool_choice": "sometimes", "parallel_tool_calls": False,
    }  # fmt: skip
    made = ConverseBack().from_chat(asks, Changes(NOVA, dropped=dropped))
    assert dropped == ["tools[1]", "tool_choice", "parallel_tool_calls", "reasoning_effort"]
    assert made.keys() == {"system", "messages", "toolConfig"}
    assert made["toolConfig"] == {"tools": [SPEC]}


def answer(*blocks: dict[str, Any], **more: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": list(blocks)}
    return {"output": {"message": said}, "stopReason": "end_turn", **more}


def test_a_whole_answer_is_a_completion() -> None:
    place = {"documentChar": {"documentIndex": 0, "start": 1, "end": 2}}
    cited = {"content": [{"text": "b"}], "citations": [{"title": "t", "location": place}]}
    told = answer(
        {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s"}}},
        {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
        {"text": "a"}, {"citationsContent": cited}, {"citationsContent": {}},
        {"toolUse": {"toolUseId": "t", "name": "f", "input": {"a": 1}}},
        {"toolUse": {"toolUseId": "s", "name": "web", "type": "server_tool_use"}},
        usage={"inputTokens": 1, "outputTokens": 2},
    )  # fmt: skip
    completion = ConverseBack().completion(told)
    message = completion["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("ab", "hm")
    assert [one["index"] for one in message["reasoning_details"]] == [0, 1]
    assert message["annotations"][0]["type"] == "char_location"
    function = {"name": "f", "arguments": '{"a":1}'}
    assert message["tool_calls"] == [{"id": "t", "type": "function", "function": function}]
    assert message["other_blocks"] == [told["output"]["message"]["content"][-1]]
    assert completion["choices"][0]["finish_reason"] == "stop"
    assert completion["usage"]["prompt_tokens"] == 1
    assert "usage" not in ConverseBack().completion(answer())


@pytest.mark.parametrize("told", [None, {}, {"output": None}, {"output": {"message": {}}}])
def test_what_is_no_answer_is_refused(told: Any) -> None:
    with pytest.raises(BadStream, match="no content"):
        ConverseBack().completion(told)


@pytest.mark.parametrize(
    ("told", "message"),
    [
        (b'{"message": "no"}', "no"), (b'{"Message": "no"}', "no"), (b"<html>", "the provider gave no reason"),
        (b"", "the provider gave no reason"), (b"[]", "[]"), (b"{}", "{}"),
    ],
)  # fmt: skip
def test_a_refusal_is_told_by_its_message(told: bytes, message: str) -> None:
    assert ConverseBack().error(told) == {"message": message}


def test_a_reader_is_made_for_each_stream() -> None:
    assert ConverseBack().reader() is not ConverseBack().reader()


def test_a_message_that_is_to_be_cached_is_followed_by_a_mark() -> None:
    marked = {"cache_control": {"type": "ephemeral"}}
    chat = {
        "messages": [{"role": role, "content": "a", **marked} for role in ("system", "user", "assistant")]
    }
    made = ConverseBack().from_chat(chat, Changes(NOVA))
    said = [{"text": "a"}, {"cachePoint": {"type": "default"}}]
    assert made["system"] == said
    assert [one["content"] for one in made["messages"]] == [said, said]
