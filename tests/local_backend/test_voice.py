"""Thoughts and tool calls over HTTP: models that recite them, told by the official SDK, whole and streamed."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

pytest.importorskip("torch", reason="torch is not installed: make .make/local")

from tests.local_backend.reciting import client_of, reciting, sdk, serving

TEMPLATE = (
    "{% if tools %}{{ tools | tojson }}<tool_call></tool_call>{% endif %}"
    "{% for message in messages %}{{ message.content }}{{ message.tool_calls | default('') }}{% endfor %}"
    "{% if add_generation_prompt %}<|go|>{{ '<think>' if enable_thinking | default(false) }}{% endif %}"
    "{# </think> #}"
)
TOOLS: Any = [
    {
        "type": "function",
        "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
    }
]  # fmt: skip
ASKED: Any = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0}


@pytest.fixture(scope="module")
def qwen_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Thinks, says a word, and calls twice, in the manner of Qwen 3: its marks are tokens, but text."""
    pieces = ["<think>", "\n", "hm", ", 2", "</think>", "\n\n", "I look", ".", "<tool_call>", '{"name": "weather"',
              ', "arguments": ', '{"city": ', '"Köln"', "}", "\n}", "</tool_call>",
              # a second one: other tokens, for each has one successor
              '<tool_call>{"name": "weather", ', '"arguments": {}', "}</tool_call>"]  # fmt: skip
    place = tmp_path_factory.mktemp("qwen")
    with serving(reciting(place / "m", pieces, TEMPLATE), place) as socket:
        yield socket


@pytest.fixture(scope="module")
def mistral_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A template that opens the thoughts itself, and marks that are special tokens and no text."""
    pieces = ["hm", "</think>", "[TOOL_CALLS]", "weather", "[ARGS]", '{"city": ', '"Köln"}']
    template = (
        "{% for message in messages %}{{ message.content }}{% endfor %}{{ tools }}<|go|><think>"
        "{# [TOOL_CALLS] [ARGS] </think> #}"
    )
    place = tmp_path_factory.mktemp("mistral")
    model = reciting(place / "m", pieces, template, ["[TOOL_CALLS]", "[ARGS]"], after="<think>")
    with serving(model, place) as socket:
        yield socket


@pytest.fixture
def qwen(qwen_socket: str) -> Iterator[openai.OpenAI]:
    with sdk(qwen_socket) as client:
        yield client


@pytest.fixture
def mistral(mistral_socket: str) -> Iterator[openai.OpenAI]:
    with sdk(mistral_socket) as client:
        yield client


def streamed(client: openai.OpenAI, **more: Any) -> tuple[dict[str, Any], Any]:
    """What the chunks of a stream add up to, and its usage."""
    found: dict[str, Any] = {"reasoning": "", "content": "", "calls": [], "finish": None}
    usage = None
    for chunk in client.chat.completions.create(
        **ASKED, **more, stream=True, stream_options={"include_usage": True}
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            found["reasoning"] += getattr(choice.delta, "reasoning_content", None) or ""
            found["content"] += choice.delta.content or ""
            found["finish"] = choice.finish_reason or found["finish"]
            for call in choice.delta.tool_calls or []:
                assert call.function is not None
                if call.id:
                    assert (call.index, call.type) == (len(found["calls"]), "function")
                    found["calls"].append([call.function.name, ""])
                found["calls"][call.index][1] += call.function.arguments or ""
    return found, usage


def test_thoughts_are_apart_from_the_answer(qwen: openai.OpenAI) -> None:
    whole = qwen.chat.completions.create(**ASKED)
    message = whole.choices[0].message
    assert getattr(message, "reasoning_content", None) == "hm, 2"
    assert message.content is not None
    assert message.content.startswith("I look.<tool_call>"), "without tools a call is text like any other"
    assert message.tool_calls is None
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 5
    parts, usage = streamed(qwen)
    assert (parts["reasoning"], parts["content"]) == ("hm, 2", message.content)
    assert usage == whole.usage or usage.completion_tokens_details == whole.usage.completion_tokens_details


def test_thoughts_that_do_not_end_are_thoughts(qwen: openai.OpenAI) -> None:
    whole = qwen.chat.completions.create(**ASKED, max_tokens=3)
    assert getattr(whole.choices[0].message, "reasoning_content", None) == "hm"
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("", "length")
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 3


def test_calls_are_told_whole_and_streamed(qwen: openai.OpenAI) -> None:
    whole = qwen.chat.completions.create(**ASKED, tools=TOOLS).choices[0]
    assert (whole.message.content, whole.finish_reason) == ("I look.", "tool_calls")
    calls: Any = whole.message.tool_calls
    told = [[call.function.name, call.function.arguments] for call in calls]
    assert told == [["weather", '{"city": "Köln"}'], ["weather", "{}"]]
    assert len({call.id for call in calls}) == 2
    parts, _ = streamed(qwen, tools=TOOLS)
    assert parts == {"reasoning": "hm, 2", "content": "I look.", "calls": told, "finish": "tool_calls"}


def test_without_parallel_calls_the_first_ends_the_answer(qwen: openai.OpenAI) -> None:
    whole = qwen.chat.completions.create(**ASKED, tools=TOOLS, parallel_tool_calls=False)
    assert [call.id[:5] for call in whole.choices[0].message.tool_calls or []] == ["call_"]
    assert whole.choices[0].finish_reason == "tool_calls"


def test_a_call_that_breaks_off_tells_what_there_was(qwen: openai.OpenAI) -> None:
    parts, _ = streamed(qwen, tools=TOOLS, max_tokens=13)
    assert parts["calls"] == [["weather", '{"city": "Köln"']]
    assert parts["finish"] == "length"


def test_no_tool_is_called_where_none_is_wanted(qwen: openai.OpenAI) -> None:
    whole = qwen.chat.completions.create(**ASKED, tools=TOOLS, tool_choice="none").choices[0]
    assert whole.message.tool_calls is None
    assert whole.finish_reason == "stop"


def test_tools_and_results_are_shown_to_the_model(qwen_socket: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    history = [
        {"role": "user", "content": "I look"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "hm"},
    ]
    with client_of(qwen_socket) as client:
        tokens = client.post("/tokenize", json={"messages": history, "tools": TOOLS}).json()["tokens"]
        shown = client.post("/detokenize", json={"tokens": tokens}).json()["prompt"]
    assert shown.index("</tool_call>") < shown.index("I look") < shown.index("hm") < shown.index("<|go|>")


def test_thoughts_that_the_template_opens_are_thoughts(mistral: openai.OpenAI) -> None:
    whole = mistral.chat.completions.create(**ASKED)
    assert getattr(whole.choices[0].message, "reasoning_content", None) == "hm"
    assert whole.choices[0].message.content == 'weather{"city": "Köln"}'
    assert whole.usage is not None
    assert whole.usage.completion_tokens_details is not None
    assert whole.usage.completion_tokens_details.reasoning_tokens == 2
    parts, _ = streamed(mistral, tools=TOOLS)
    assert parts["reasoning"] == "hm"
    assert parts["calls"] == [["weather", '{"city": "Köln"}']]


def test_scores_go_with_thoughts_and_calls(mistral: openai.OpenAI) -> None:
    whole = mistral.chat.completions.create(**ASKED, tools=TOOLS, logprobs=True).choices[0]
    assert whole.logprobs is not None
    told = [one.token for one in whole.logprobs.content or []]
    assert told == ["hm", "</think>", "[TOOL_CALLS]", "weather", "[ARGS]", '{"city": ', '"Köln"}']


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": TOOLS * 2}, "tools"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "some"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": TOOLS, "parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"id": "x"}]}]}, "messages[0].tool_calls[0]"),
        ({"logit_bias": {"60": 1}}, "logit_bias"),
    ],
)
def test_what_is_wrong_with_a_call_is_named(qwen_socket: str, more: dict[str, Any], param: str) -> None:
    with client_of(qwen_socket) as client:
        response = client.post("/v1/chat/completions", json={**ASKED, **more})
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


def test_a_template_that_would_leave_calls_out_refuses_them(mistral_socket: str) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    with client_of(mistral_socket) as client:
        asked = {**ASKED, "messages": [{"role": "assistant", "tool_calls": [call]}]}
        error = client.post("/v1/chat/completions", json=asked).json()["error"]
    assert (error["param"], error["code"]) == ("messages[0].tool_calls", "unsupported_parameter")


def test_json_arguments_of_a_stream_can_be_parsed(qwen: openai.OpenAI) -> None:
    parts, _ = streamed(qwen, tools=TOOLS)
    assert [json.loads(arguments) for _, arguments in parts["calls"]] == [{"city": "Köln"}, {}]
