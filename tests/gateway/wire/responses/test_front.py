"""What of a call in Responses reaches chat, and what is refused by name."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.failure import BadRequest
from gateway.wire.refusals import Refusals
from gateway.wire.responses.front import ResponsesFront
from gateway.wire.responses.items import listed
from gateway.wire.responses.tools import set_tools
from gateway.wire.responses.words import FOREIGN, item_id, seal
from gateway.wire.responses.writer import ResponsesWriter

FUNCTION = {
    "type": "function",
    "name": "f",
    "description": "d",
    "strict": True,
    "parameters": {"type": "object"},
}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}


def chat(**payload: Any) -> Any:
    return ResponsesFront().to_chat({"model": "m", "input": "hi", **payload}, Refusals("chat", None))


def said(*items: Any) -> Any:
    return chat(input=list(items))["messages"]


def user(*parts: Any) -> Any:
    return {"role": "user", "content": list(parts)}


def test_every_field_that_chat_knows_is_carried_in_its_words() -> None:
    schema = {"type": "json_schema", "name": "n", "strict": True, "schema": {}}
    asked = chat(
        instructions="be kind", max_output_tokens=50, temperature=0.5, top_p=0.9, top_logprobs=2, user="u",
        service_tier="flex", reasoning={"effort": "low", "summary": "auto"}, tools=[FUNCTION],
        parallel_tool_calls=False, tool_choice="required", text={"format": schema, "verbosity": "low"},
        include=["reasoning.encrypted_content"], unknown=1,
    )  # fmt: skip
    function = {name: FUNCTION[name] for name in ("name", "description", "parameters", "strict")}
    assert asked == {
        "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
        "max_completion_tokens": 50, "temperature": 0.5, "top_p": 0.9, "top_logprobs": 2, "logprobs": True,
        "user": "u", "service_tier": "flex", "reasoning_effort": "low", "verbosity": "low", "unknown": 1,
        "tools": [{"type": "function", "function": function}], "parallel_tool_calls": False,
        "tool_choice": "required", "response_format": {"type": "json_schema", "json_schema": {
            "name": "n", "strict": True, "schema": {}}},
    }  # fmt: skip


def test_what_chat_has_no_use_for_is_left_out() -> None:
    asked = chat(
        store=True, previous_response_id=None, metadata={"a": "b"}, stream_options={}, prompt_cache_key="k",
        prompt_cache_retention="24h", prompt_cache_options={}, max_tool_calls=1, truncation="auto",
        context_management=[], client_metadata={}, background=False, conversation=None, service_tier="auto",
        text={"format": {"type": "text"}}, tool_choice="auto", tools=[], instructions=None, reasoning=None,
    )  # fmt: skip
    assert asked == {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize(
    ("payload", "param"),
    [
        ({"conversation": "conv_1"}, "conversation"),
        ({"n": 100}, "n"),
        ({"best_of": 2}, "best_of"),
        ({"moderation": {"model": "m"}}, "moderation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": [1]}, "input[0]"),
        ({"input": [{"role": "dog", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user", "content": None}]}, "input[0].content"),
        ({"input": [user(1)]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_file", "file_url": "u"})]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_image", "file_id": "f"})]}, "input[0].content[0]"),
        ({"input": [user({"type": "input_audio"})]}, "input[0].content[0]"),
        ({"input": [{"role": "assistant", "content": [{"type": "sound"}]}]}, "input[0].content[0]"),
        ({"input": [{"type": "dance"}]}, "input[0].type"),
        ({"input": [{"type": ["dance"]}]}, "input[0].type"),
        ({"input": [{"id": "msg_1"}]}, "input[0]"),
        ({"input": [{"type": "computer_call"}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0]"),
        ({"instructions": 1}, "instructions"),
        ({"reasoning": 1}, "reasoning"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"text": {"format": 1}}, "text.format"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"include": ["all"]}, "include[0]"),
        ({"include": "all"}, "include[0]"),
        ({"tools": {}}, "tools"),
        ({"input": [{**CALL, "arguments": {}}]}, "input[0].arguments"),
        ({"tools": [1]}, "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"tools": [{"type": "web_search"}], "tool_choice": "required"}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"tools": [FUNCTION], "tool_choice": 1}, "tool_choice"),
    ],
)
def test_what_cannot_be_carried_is_refused_by_its_name(payload: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        chat(**payload)
    assert refused.value.param == param
    assert param in refused.value.message


def test_parts_of_a_message_become_chats() -> None:
    parts = user(
        {"type": "input_text", "text": "look"},
        {"type": "input_image", "image_url": "https://x/y.png", "detail": "low"},
        {"type": "input_image", "image_url": "https://x/z.png"},
        {"type": "input_file", "file_data": "data:,x", "filename": "a.pdf"},
        {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
    )
    assert said(parts, {"role": "developer", "content": "obey"}) == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png", "detail": "low"}},
                {"type": "image_url", "image_url": {"url": "https://x/z.png"}},
                {"type": "file", "file": {"file_data": "data:,x", "filename": "a.pdf"}},
                {"type": "input_audio", "input_audio": {"data": "", "format": "wav"}},
            ],
        },
        {"role": "system", "content": "obey"},
    ]


def test_what_a_model_said_at_once_is_one_message() -> None:
    details = [{"type": "reasoning.text", "text": "hm", "signature": "s", "format": "x", "index": 0}]
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "hm"}]}
    custom = {"type": "custom_tool_call", "call_id": "c2", "name": "g", "namespace": "n", "input": "raw"}
    spoken = {"role": "assistant", "content": [{"type": "output_text", "text": "well"}]}
    picture = {"type": "input_image", "image_url": "u"}
    found = said(
        {**thought, "encrypted_content": seal(details)},
        spoken,
        CALL,
        custom,
        {"role": "assistant", "content": "more"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_text", "text": "r"}, picture],
        },
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "q"},
        {**thought, "encrypted_content": "theirs"},
        spoken,
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        thought,
    )
    function = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    foreign = {"type": "reasoning.encrypted", "data": "theirs", "format": FOREIGN, "id": "rs_1", "index": 0}
    assert found == [
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "reasoning_details": details,
            "content": "well\n\nmore",
            "tool_calls": [
                {**function, "after": 4},
                {"id": "c2", "type": "custom", "custom": {"name": "n__g", "input": "raw"}, "after": 4},
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
        {"role": "tool", "tool_call_id": "c2", "content": "q"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "reasoning_content": "hm", "reasoning_details": [foreign], "content": "well"},
        {"role": "assistant", "content": None, "refusal": "no"},
        {"role": "assistant", "reasoning_content": "hm", "content": ""},
    ]


@pytest.mark.parametrize("sealed", ["gh1.%", "gh1.e30=", "gh1.bm8="])
def test_a_seal_that_was_tampered_with_holds_nothing(sealed: str) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": sealed}
    assert said(thought, CALL)[0]["reasoning_details"] == []


def test_tools_of_namespaces_and_free_text_are_offered() -> None:
    grammar = {"type": "grammar", "syntax": "lark", "definition": "x"}
    asked = chat(
        tools=[
            {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "f"}]},
            {"type": "custom", "name": "g", "format": grammar},
            {"type": "custom", "name": "h", "format": {"type": "text"}},
            {"type": "custom", "name": "i"},
        ],
        tool_choice={"type": "function", "name": "f", "namespace": "n"},
    )
    wrapped = {"type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}
    assert asked["tools"] == [
        {
            "type": "function",
            "function": {"name": "n__f", "parameters": {"type": "object", "properties": {}}},
        },
        {"type": "custom", "custom": {"name": "g", "format": wrapped}},
        {"type": "custom", "custom": {"name": "h", "format": {"type": "text"}}},
        {"type": "custom", "custom": {"name": "i"}},
    ]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "n__f"}}


def test_tools_that_a_provider_runs_itself_are_left_out_and_told_of() -> None:
    within = {"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}
    left_out: list[str] = []
    asked: dict[str, Any] = {}
    refusals = Refusals("chat", None, left_out)
    set_tools(asked, {"tools": [{"type": "web_search"}, FUNCTION, within]}, refusals)
    assert (left_out, len(asked["tools"])) == (["tools[0]", "tools[2].tools[0]"], 1)


def test_allowed_tools_are_the_only_ones_offered() -> None:
    tools = [{**FUNCTION, "name": name} for name in "abc"]
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "b"}]}
    asked = chat(tools=tools, tool_choice=choice)
    assert ([one["function"]["name"] for one in asked["tools"]], asked["tool_choice"]) == (["b"], "required")


def test_an_object_is_asked_for_and_likelihoods_are_included() -> None:
    asked = chat(text={"format": {"type": "json_object"}}, include=["message.output_text.logprobs"])
    assert (asked["response_format"], asked["logprobs"]) == ({"type": "json_object"}, True)


def test_a_refusal_is_told_in_openais_words() -> None:
    told = orjson.loads(ResponsesFront().refusal(400, "no", {"type": "t"}))
    assert told == {"error": {"message": "no", "type": "t", "param": None, "code": None}}


def test_an_input_is_listed_with_an_id_for_each_item() -> None:
    items = listed([{"role": "assistant", "content": "x"}, {"role": "user", "content": []}, CALL], "i")
    assert [one["id"] for one in items] == ["msg_i_i0", "msg_i_i1", "fc_i_i2"]
    assert items[0]["content"] == [{"type": "output_text", "text": "x"}]
    assert listed("hi", "i")[0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert (listed(None, "i"), item_id("other", "i", 0)) == ([], "item_i_0")


WORDS = st.sampled_from(
    ["type", "message", "role", "user", "assistant", "content", "input_text", "text", "reasoning", "summary",
     "function_call", "function_call_output", "call_id", "output", "name", "function", "namespace", "tools",
     "custom", "format", "json_schema", "allowed_tools", "mode", "arguments", "encrypted_content", "effort"]
)  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(["input", "tools", "tool_choice", "text", "reasoning", "include", "instructions"])


@given(st.dictionaries(FIELDS, JSON))
def test_nonsense_is_refused_and_never_breaks_the_gateway(payload: dict[str, Any]) -> None:
    try:
        ResponsesFront().to_chat(payload, Refusals("chat", None))
        ResponsesWriter(payload, 1, "i")
        listed(payload.get("input"), "i")
    except BadRequest as refused:
        assert refused.message


TEXT = st.text(min_size=1, max_size=20)
DETAIL = st.fixed_dictionaries({"type": st.just("reasoning.text"), "text": TEXT, "signature": TEXT})
CALLS = st.lists(st.tuples(TEXT, TEXT, st.dictionaries(TEXT, st.integers(-(2**53), 2**53))), max_size=3)


@given(thought=st.none() | TEXT, details=st.lists(DETAIL, max_size=2), text=st.none() | TEXT, calls=CALLS)
def test_what_is_told_of_an_answer_comes_back_as_the_same_message(
    thought: str | None, details: list[Any], text: str | None, calls: list[Any]
) -> None:
    """A chat answer -> items -> a chat message: thoughts with their signatures, text, calls."""
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if thought:
        message["reasoning_content"] = thought
        if details:
            message["reasoning_details"] = [{**one, "index": place} for place, one in enumerate(details)]
    made = []
    for place, (ident, name, asked) in enumerate(calls):
        function = {"name": name, "arguments": orjson.dumps(asked).decode()}
        made.append({"id": f"c{place}{ident}", "type": "function", "function": function})
    if made:
        message["tool_calls"] = made
    response = ResponsesWriter({"model": "m"}, 1, "i").whole({"choices": [{"message": message}]})
    asked = {"input": [{"role": "user", "content": "q"}, *response["output"]]}
    back = ResponsesFront().to_chat(asked, Refusals("chat", None))["messages"][1:]
    if not (thought or text or made):
        assert back == []
        return
    assert back == [{**message, "content": text if text or made else ""}]


def left(**payload: Any) -> list[str]:
    found: list[str] = []
    refusals = Refusals("chat", None, found)
    ResponsesFront().to_chat({"model": "m", "input": "hi", **payload}, refusals)
    return found


def test_what_tools_that_run_elsewhere_would_show_is_left_out_and_told() -> None:
    assert left(include=["reasoning.encrypted_content", "message.output_text.logprobs"]) == []
    assert left(include=["web_search_call.results"]) == ["include"]
    with pytest.raises(BadRequest, match="include"):
        left(include=[{}])


def test_of_two_names_for_a_user_the_one_that_is_left_out_is_told() -> None:
    assert chat(user="u", safety_identifier="s")["user"] == "s"
    assert left(user="u", safety_identifier="s") == ["user"]
    assert left(user="s", safety_identifier="s") == []
    assert left(user="u") == []


def test_what_chat_has_no_word_for_is_told_once_for_all_of_its_kind() -> None:
    item = {"role": "assistant", "phase": "commentary", "content": [
        {"type": "output_text", "text": "a", "annotations": [{"url": "u"}], "logprobs": []}]}  # fmt: skip
    space = {
        "type": "namespace",
        "name": "n",
        "description": "d",
        "tools": [{**FUNCTION, "defer_loading": True}],
    }
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f", "odd": 1}]}
    assert left(input=[item], tools=[space], tool_choice=choice, reasoning={"summary": "auto"}) == [
        "reasoning.summary", "input.phase", "input.annotations", "tools.defer_loading",
        "tools.namespace.description", "tool_choice.tools.odd",
    ]  # fmt: skip


def test_one_answer_is_what_there_is() -> None:
    assert {"n", "best_of"}.isdisjoint(chat(n=1, best_of=1))
