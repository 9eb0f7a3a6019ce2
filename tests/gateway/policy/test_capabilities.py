"""Targets that cannot serve a call are passed over where another one can."""

import dataclasses
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.capabilities import Capabilities
from gateway.core.exchange import NO_SHAPE, Exchange, Shape, Target
from gateway.policy.capabilities import able, lacks
from tests.gateway.policy import calls


def asking(shape: Shape = NO_SHAPE, **payload: Any) -> Exchange:
    made = calls.exchange(shape=shape)
    made.call = replace(made.call, payload=payload)
    return made


def model(**facts: Any) -> Target:
    return dataclasses.replace(calls.target("p/m"), capabilities=Capabilities(**facts))


def part(kind: str) -> list[Any]:
    return [
        {"role": "user", "content": [{"type": "text"}, {"type": kind}, "nonsense"]},
        "nonsense",
        {"content": "x"},
    ]


def given_back(kind: str) -> list[Any]:
    """By a tool, in Anthropic's words and in those of Responses."""
    parts: list[Any] = [{"type": "text", "text": "see"}, {"type": kind}]
    return [
        {"role": "user", "content": [{"type": "tool_result", "content": "none"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": parts}]},
        {"type": "function_call_output", "output": parts},
    ]


def gemini_part(media: str) -> list[Any]:
    return [{"role": "user", "parts": [{"text": "see"}, {"inline_data": {"mime_type": media, "data": "J"}}]}]


@pytest.mark.parametrize(
    ("call", "facts", "wish"),
    [
        (asking(tools=[{}]), {"tools": False}, "tools"),
        (asking(tools=[{}]), {"parallel_tools": False}, ""),
        (asking(tools=[{}], parallel_tool_calls=True), {"parallel_tools": False}, "parallel tools"),
        (asking(Shape(images=1)), {"images": False}, "images"),
        (asking(), {"images": False}, ""),
        (asking(messages=part("file")), {"documents": False}, "documents"),
        (asking(messages=part("document")), {"documents": False}, "documents"),
        (asking(messages=part("input_audio")), {"audio": False}, "audio"),
        (asking(messages=part("file")), {"audio": False}, ""),
        (asking(messages=part("input_audio")), {"documents": False}, ""),
        (asking(messages=given_back("document")[:2]), {"documents": False}, "documents"),
        (asking(messages=given_back("document")[:1]), {"documents": False}, ""),
        (asking(input=given_back("input_file")[2:]), {"documents": False}, "documents"),
        (
            asking(contents=[{"parts": [{"functionResponse": gemini_part("application/pdf")[0]}]}]),
            {"documents": False},
            "documents",
        ),
        (asking(modalities=["text", "audio"]), {"audio": False}, "audio"),
        (asking(modalities=["text"]), {"audio": False}, ""),
        (asking(functions=[{"name": "f"}]), {"tools": False}, "tools"),
        (asking(output_config={"effort": "low"}), {"reasoning": False}, "reasoning"),
        (asking(messages="nonsense"), {"audio": False}, ""),
        (asking(response_format={"type": "json_schema"}), {"json_schema": False}, "a JSON schema"),
        (asking(response_format={"type": "json_object"}), {"json_schema": False}, ""),
        (asking(output_config={"format": {"type": "json_schema"}}), {"json_schema": False}, "a JSON schema"),
        (asking(reasoning_effort="low"), {"reasoning": False}, "reasoning"),
        (asking(reasoning_effort="none"), {"reasoning": False}, ""),
        (asking(reasoning={"effort": "low"}), {"reasoning": False}, "reasoning"),
        (asking(reasoning={"summary": "auto"}), {"reasoning": False}, ""),
        (asking(thinking={"type": "adaptive"}), {"reasoning": False}, "reasoning"),
        (asking(thinking={"type": "disabled"}), {"reasoning": False}, ""),
        (asking(thinking="nonsense"), {"reasoning": False}, ""),
        (
            asking(generation_config={"thinking_config": {"thinking_budget": 9}}),
            {"reasoning": False},
            "reasoning",
        ),
        (asking(generationConfig={"thinkingConfig": {"thinkingBudget": 0}}), {"reasoning": False}, ""),
        (
            asking(generationConfig={"thinkingConfig": {"thinkingLevel": "low"}}),
            {"reasoning": False},
            "reasoning",
        ),
        (asking(input=part("input_file")), {"documents": False}, "documents"),
        (asking(input="hi"), {"documents": False}, ""),
        (asking(contents=gemini_part("application/pdf")), {"documents": False}, "documents"),
        (asking(contents=gemini_part("audio/wav")), {"audio": False}, "audio"),
        (
            asking(contents=[{"parts": [{"fileData": {"mimeType": "audio/wav", "fileUri": "gs://b/a"}}]}]),
            {"audio": False},
            "audio",
        ),
        (asking(contents=gemini_part("image/png")), {"audio": False, "documents": False}, ""),
        (asking(text={"format": {"type": "json_schema"}}), {"json_schema": False}, "a JSON schema"),
        (
            asking(generationConfig={"responseSchema": {"type": "OBJECT"}}),
            {"json_schema": False},
            "a JSON schema",
        ),
        (
            asking(generationConfig={"responseJsonSchema": {"type": "object"}}),
            {"json_schema": False},
            "a JSON schema",
        ),
        (asking(contents=[{"role": "model", "parts": []}]), {"prefill": False}, "a prefilled answer"),
        (asking(messages=[{"role": "assistant"}, {"role": "user"}]), {"prefill": False}, ""),
        (asking(messages=[{"role": "assistant"}]), {"prefill": False}, "a prefilled answer"),
        (asking(messages=[{"role": "user"}]), {"prefill": False}, ""),
        (asking(Shape(input_tokens=9)), {"context": 8}, "9 tokens of input"),
        (asking(Shape(8, 8)), {"context": 8, "output": 8}, ""),
        (asking(Shape(max_tokens=9)), {"context": 8, "output": 8}, "9 tokens of output"),
        (asking(Shape(5, 5), tools=[{}]), {}, ""),
    ],
)
def test_what_a_call_wants_and_a_model_cannot(call: Exchange, facts: dict[str, Any], wish: str) -> None:
    assert lacks(model(**facts), call) == wish


def test_of_an_unknown_model_nothing_is_held_against_it() -> None:
    assert lacks(calls.target("p/m"), asking(tools=[{}])) == ""


def test_those_who_cannot_are_passed_over_unless_none_can() -> None:
    able_one, unable, unknown = model(), model(tools=False), calls.target("p/u")
    call = asking(tools=[{}])
    assert able(call, [unable, unknown, able_one]) == [unknown, able_one]
    assert able(call, [unable, unable]) == [unable, unable]
    assert able(asking(), [unable, able_one]) == [unable, able_one]
    some = [unknown, unknown]
    assert able(call, some) is some
