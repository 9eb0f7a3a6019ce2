"""Answers that keep to schemas, grammars and demanded tools, over HTTP: the bundled model, which was never taught them,
with the official SDK, straight and through the gateway."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel, Field

pytest.importorskip("torch", reason="torch is not installed: make .make/local")
pytest.importorskip("llguidance", reason="llguidance is not installed: make .make/local")

from tests.local_backend.reciting import client_of, sdk, serving
from tests.running import ACCESS, KEY, Running, gateway


class Step(BaseModel, extra="forbid"):
    kind: Literal["add", "drop"]
    count: int = Field(ge=0, le=99)


class Order(BaseModel, extra="forbid"):
    steps: list[Step] = Field(max_length=2)
    word: str = Field(max_length=8)
    note: Literal["x"] | None


TOOL: Any = {
    "type": "function",
    "function": {"name": "order", "strict": True, "parameters": Order.model_json_schema()},
}
NOW: Any = {"type": "function", "function": {"name": "now"}}
MESSAGES: Any = [{"role": "user", "content": "order something"}]


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("bundled", tmp_path_factory.mktemp("engine")) as socket:
        yield socket


@pytest.fixture
def client(socket: str) -> Iterator[openai.OpenAI]:
    with sdk(socket) as client:
        yield client


@pytest.fixture
def raw(socket: str) -> Iterator[httpx.Client]:
    with client_of(socket) as client:
        yield client


def ask(raw: httpx.Client, **more: Any) -> Any:
    return raw.post("/v1/chat/completions", json={"model": "bundled", "messages": MESSAGES, **more})


def test_the_sdk_parses_answers_to_a_model(client: openai.OpenAI) -> None:
    for seed in range(4):
        answer = client.chat.completions.parse(
            model="bundled", messages=MESSAGES, response_format=Order, temperature=1.8, seed=seed
        )
        assert isinstance(answer.choices[0].message.parsed, Order)
        assert answer.choices[0].finish_reason == "stop"


def test_the_sdk_parses_demanded_calls(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(Order)
    answer = client.chat.completions.parse(
        model="bundled", messages=MESSAGES, tools=[tool], tool_choice="required", parallel_tool_calls=False
    )
    (call,) = answer.choices[0].message.tool_calls or []
    assert isinstance(call.function.parsed_arguments, Order)
    assert answer.choices[0].finish_reason == "tool_calls"


def test_the_sdk_gathers_streamed_calls(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="bundled",
        messages=MESSAGES,
        tools=[TOOL, NOW],
        tool_choice="required",
        parallel_tool_calls=False,
    ) as stream:
        events = [event.type for event in stream]
        message = stream.get_final_completion().choices[0].message
    assert "tool_calls.function.arguments.delta" in events
    assert "tool_calls.function.arguments.done" in events
    assert message.tool_calls
    for call in message.tool_calls:
        assert call.function.name in ("order", "now")
        json.loads(call.function.arguments)


@pytest.mark.parametrize("name", ["order", "now"])
def test_a_named_tool_is_called_once(client: openai.OpenAI, name: str) -> None:
    answer = client.chat.completions.create(
        model="bundled", messages=MESSAGES, tools=[TOOL, NOW], n=3, temperature=1.5,
        tool_choice={"type": "function", "function": {"name": name}},
    )  # fmt: skip
    for choice in answer.choices:
        (call,) = choice.message.tool_calls or []
        assert call.type == "function"
        assert call.function.name == name
        if name == "order":
            Order.model_validate_json(call.function.arguments)
        assert choice.message.content is None


def test_tools_that_may_be_called_are(raw: httpx.Client) -> None:
    said = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
    asked = {"tools": [TOOL, NOW], "structured_outputs": {"choice": [f"Now: {said}"]}}
    choice = ask(raw, **asked).json()["choices"][0]
    if choice["message"]["content"]:  # it chose the text, which holds a call
        assert choice["message"]["content"] == "Now:"
    assert choice["finish_reason"] == "tool_calls"
    assert {one["function"]["name"] for one in choice["message"]["tool_calls"]} <= {"now", "order"}


def test_any_object_will_do(raw: httpx.Client) -> None:
    answer = ask(raw, response_format={"type": "json_object"}, max_tokens=300).json()["choices"][0]
    assert answer["message"]["content"].startswith("{")
    if answer["finish_reason"] == "stop":
        assert isinstance(json.loads(answer["message"]["content"]), dict)


@pytest.mark.parametrize(
    ("asked", "pattern"),
    [
        ({"choice": ["yes", "no"]}, "yes|no"),
        ({"regex": "[0-9]{2}/[a-f]{1,3}!"}, "[0-9]{2}/[a-f]{1,3}!"),
        ({"grammar": 'start: word ("," word)?\nword: /[xy]{3}/'}, "[xy]{3}(,[xy]{3})?"),
        ({"json": {"enum": [1, "a"]}}, '1|"a"'),
    ],
)
def test_vllms_names_are_known_in_chat_and_in_completions(
    raw: httpx.Client, asked: dict[str, Any], pattern: str
) -> None:
    text = ask(raw, structured_outputs=asked, temperature=1.5).json()["choices"][0]["message"]["content"]
    assert re.fullmatch(pattern, text)
    body = {"model": "bundled", "prompt": "x", "structured_outputs": asked, "n": 2, "max_tokens": 60}
    for choice in raw.post("/v1/completions", json=body).json()["choices"]:
        assert re.fullmatch(pattern, choice["text"])


SCHEMA = "response_format.json_schema"


def schema(value: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": value}}}


BAD_TOOL: Any = {
    "type": "function",
    "function": {"name": "x", "parameters": {"properties": {"a": {"not": {}}}}},
}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"json_schema": {}}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, SCHEMA),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}, f"{SCHEMA}.name"),
        (schema({"type": "frob"}), f"{SCHEMA}.schema"),
        (schema({"enum": ["y" * 300_000]}), f"{SCHEMA}.schema"),
        ({"structured_outputs": {"regex": "(a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "start: ("}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs"),
        (
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
            "structured_outputs",
        ),
        ({"tools": [NOW, BAD_TOOL], "tool_choice": "required"}, "tools[1].function.parameters"),
        ({"logit_bias": {"100000": 1}}, "logit_bias"),
    ],
)  # fmt: skip
def test_what_cannot_be_kept_is_named(raw: httpx.Client, more: dict[str, Any], param: str) -> None:
    response = ask(raw, **more)
    assert (response.status_code, response.json()["error"]["param"]) == (400, param)


@pytest.fixture
async def behind(socket: str, tmp_path: Path) -> AsyncIterator[Running]:
    text = f"""
kind: providers
providers: {{local: {{type: local, address: "unix:{socket}"}}}}
---
kind: models
models: {{smart: {{targets: [{{provider: local, model: bundled}}]}}}}
---
{ACCESS}
"""
    async with gateway(tmp_path, text) as running:
        yield running


async def test_all_of_it_works_through_the_gateway(behind: Running) -> None:
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{behind.url}/v1") as client:
        answer = await client.chat.completions.parse(
            model="smart", messages=MESSAGES, response_format=Order, logprobs=True, top_logprobs=2
        )
        assert isinstance(answer.choices[0].message.parsed, Order)
        scored = answer.choices[0].logprobs
        assert scored and scored.content and {len(token.top_logprobs) for token in scored.content} == {2}
        assert "".join(token.token for token in scored.content) == answer.choices[0].message.content
        async with client.chat.completions.stream(
            model="smart", messages=MESSAGES, tools=[TOOL, NOW], max_tokens=400, logprobs=True,
            tool_choice={"type": "function", "function": {"name": "order"}},
        ) as stream:  # fmt: skip
            async for _ in stream:
                pass
            choice = (await stream.get_final_completion()).choices[0]
        (call,) = choice.message.tool_calls or []
        assert choice.logprobs and choice.logprobs.content
        Order.model_validate_json(call.function.arguments)
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(
                model="smart", messages=MESSAGES, tool_choice="required",
                tools=[{"type": "function", "function": {"name": "x", "parameters": {"not": {}}}}],
            )  # fmt: skip
        assert refused.value.param == "tools[0].function.parameters"
