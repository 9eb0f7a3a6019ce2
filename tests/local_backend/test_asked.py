"""What an answer must look like, as a body says it: read whole or refused by its place."""

import json
from typing import Any

import pytest

from local_backend.fields import Refused
from local_backend.template import ChatTemplate
from local_backend.wire import Request, read
from tests.shared import shared

F: dict[str, Any] = {"type": "function", "function": {"name": "f"}}
G: dict[str, Any] = {
    "type": "function",
    "function": {"name": "g", "parameters": {"properties": {}}, "strict": True},
}
NAMED_F = {"type": "function", "function": {"name": "f"}}


def chat(**more: Any) -> Request:
    body = {"messages": [{"role": "user", "content": "hi"}], **more}
    return read(json.dumps(body).encode(), chat=True, default_tokens=9)


def refused(**more: Any) -> str | None:
    with pytest.raises(Refused) as error:
        chat(**more)
    return error.value.param


def test_tools_are_read_with_their_schemas() -> None:
    tools = chat(tools=[F, G]).tools
    assert tools is not None
    assert tools.schemas["f"] == {"type": "object", "properties": {}, "additionalProperties": False}
    assert tools.schemas["g"] == {"type": "object", "properties": {}}
    assert (tools.strict, tools.forced, tools.most) == (frozenset({"g"}), False, None)


def test_a_template_is_shown_what_a_tool_leaves_out() -> None:
    whole = {
        "type": "function",
        "function": {"strict": False, "parameters": {"a": 1}, "description": "d", "name": "w"},
    }
    bare = {"type": "function", "function": {"name": "h", "description": None, "parameters": {}}}
    tools = chat(tools=[F, G, whole, bare]).tools
    assert tools is not None
    f, g, same, h = (one["function"] for one in tools.told)
    none = {"type": "object", "properties": {}, "additionalProperties": False}
    assert list(f.items()) == [("name", "f"), ("description", ""), ("parameters", none)]
    assert g == {"name": "g", "description": "", "parameters": {"properties": {}}, "strict": True}
    assert list(same.items()) == list(whole["function"].items()), "in its own order"  # type: ignore[attr-defined]
    assert h == {"name": "h", "description": "", "parameters": none}


@pytest.mark.parametrize(
    "name",
    [
        "meta-llama-Llama-3.1-8B-Instruct",
        "Qwen-Qwen3-0.6B",
        "mistralai-Mistral-Nemo-Instruct-2407",
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
        "openai-gpt-oss-120b",
        "CohereForAI-c4ai-command-r-plus-tool_use",
    ],
)
def test_published_templates_take_a_tool_of_which_only_the_name_is_told(name: str) -> None:
    request = chat(tools=[{"type": "function", "function": {"name": "ping"}}])
    assert request.tools is not None
    template = ChatTemplate(
        shared(f"templates/{name}.jinja").read_text(), {"bos_token": "<s>", "eos_token": "</s>"}
    )
    text = template.render(request.messages, tools=request.tools.told, add_generation_prompt=True)
    assert "ping" in text


def allowed(mode: str, *tools: Any) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


@pytest.mark.parametrize(
    ("choice", "parallel", "names", "forced", "most"),
    [
        ("auto", None, ["f", "g"], False, None),
        ("auto", False, ["f", "g"], False, 1),
        ("required", True, ["f", "g"], True, None),
        ("required", False, ["f", "g"], True, 1),
        (NAMED_F, True, ["f"], True, 1),
        (allowed("auto", NAMED_F), None, ["f"], False, None),
        (allowed("required", NAMED_F), None, ["f"], True, None),
    ],
)
def test_a_choice_tells_which_may_be_called(
    choice: Any, parallel: bool | None, names: list[str], forced: bool, most: int | None
) -> None:
    tools = chat(tools=[F, G], tool_choice=choice, parallel_tool_calls=parallel).tools
    assert tools is not None
    assert (list(tools.schemas), tools.forced, tools.most) == (names, forced, most)


def test_where_no_call_is_wanted_there_are_no_tools() -> None:
    assert chat(tools=[F], tool_choice="none").tools is None
    assert chat(tools=[], tool_choice="auto", parallel_tool_calls=True).tools is None
    assert chat(tool_choice="none").tools is None


def tool(**function: Any) -> dict[str, Any]:
    return {"tools": [F, {"type": "function", "function": {"name": "x", **function}}]}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"tools": "f"}, "tools"),
        ({"tools": [F] * 129}, "tools"),
        ({"tools": [F, F]}, "tools"),
        ({"tools": [5]}, "tools[0].type"),
        ({"tools": [F, {"type": "function"}]}, "tools[1].function"),
        (tool(name="ä"), "tools[1].function.name"),
        (tool(description=5), "tools[1].function.description"),
        (tool(strict="yes"), "tools[1].function.strict"),
        (tool(parameters=[]), "tools[1].function.parameters"),
        (tool(parameters={"type": "array"}), "tools[1].function.parameters"),
        (tool(parameters={"properties": [1]}), "tools[1].function.parameters.properties"),
        (tool(parameters={"required": 1}), "tools[1].function.parameters.required"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [F], "tool_choice": "any"}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"tools": [F], "tool_choice": allowed("auto", 5)}, "tool_choice"),
        ({"tools": [F], "tool_choice": allowed("some", NAMED_F)}, "tool_choice"),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": {}, "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "assistant", "tool_calls": "x"}]}, "messages[0].tool_calls"),
        ({"messages": [{"role": "assistant", "tool_calls": [NAMED_F]}]}, "messages[0].tool_calls[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema", "json_schema": 1}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "strict": 1}}},
            "response_format.json_schema.strict",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": []}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": []}, "structured_outputs"),
        ({"structured_outputs": {"json": "{}"}}, "structured_outputs.json"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"regex": ""}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": 5}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"choice": [""]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs.whitespace_pattern"),
    ],
)
def test_what_is_wrong_is_named_by_its_place(more: dict[str, Any], param: str) -> None:
    assert refused(**more) == param


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {}, "structured_outputs": {"regex": None}}, None),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {"json_object": True}}, "structured_outputs.json_object"),
        ({"structured_outputs": {"choice": ["a"]}}, "structured_outputs.choice"),
    ],
)
def test_a_form_knows_the_field_that_asked_for_it(more: dict[str, Any], field: str | None) -> None:
    form = chat(**more).form
    assert (form.field if form else None) == field
