"""Whatever text a call holds has its weight: who hangs up early is charged for no less."""

import base64
from typing import Any

import pytest

from gateway.core.failure import BadRequest
from gateway.wire.registry import DIALECTS
from gateway.wire.weights import IMAGE_TOKENS, beside, estimate, json_tokens

SAID = "word " * 800  # 1,000 tokens
PACKED = base64.b64encode(SAID.encode()).decode()


@pytest.mark.parametrize(
    ("asked", "tokens", "images"),
    [
        ("12345678", 3, 0),
        ({"no": "prompt"}, 1, 0),
        (["12345678", ""], 4, 0),
        ([1, 2, 3], 3, 0),
        ([[1, 2, 3], [4]], 4, 0),
        ([None, 1.5], 0, 0),
        ([{"role": "user", "content": "12345678"}], 6, 0),
        ([{"role": "assistant", "content": None}], 3, 0),
        ([{"content": [{"type": "text", "text": "12345678"}, "no part"]}], 6, 0),
        ([{"content": [{"type": "image_url"}, {"type": "input_image"}]}], 2 * IMAGE_TOKENS + 3, 2),
        ([{"role": "assistant", "content": None, "tool_calls": [{"x": "12345678"}]}], 7, 0),
        ([{"content": [{"type": "tool_use", "input": {"a": "1234"}}]}], 6, 0),
        ([{"content": [{"type": "tool_result", "content": "12345678"}]}], 6, 0),
        ([{"content": [{"type": "tool_result", "content": [{"type": "image"}]}]}], IMAGE_TOKENS + 3, 1),
        ([{"content": [{"type": "thinking", "thinking": "x" * 38, "signature": SAID}]}], 13, 0),
        ([{"content": [{"type": "redacted_thinking", "data": SAID}]}], 3, 0),
        ([{"type": "function_call_output", "output": [{"type": "input_image"}]}], IMAGE_TOKENS + 3, 1),
    ],
)
def test_the_size_of_what_is_asked_is_estimated(asked: Any, tokens: int, images: int) -> None:
    assert estimate(asked) == (tokens, images)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "input_audio", "input_audio": {"data": SAID}},
        {"type": "video_url", "video_url": {"url": "https://a.example/b.mp4"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64," + SAID}},
        {"type": "file", "file": {"file_id": "file-1"}},
        {"type": "input_file", "file_url": "https://a.example/b.pdf"},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": SAID}},
        {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
    ],
)
def test_sound_films_and_files_weigh_as_much_as_a_picture(part: dict[str, Any]) -> None:
    assert estimate([{"role": "user", "content": [part]}]) == (IMAGE_TOKENS + 3, 0)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": SAID}},
        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": SAID}]}},
        {"type": "document", "document": {"data": SAID}},
        {"type": "search_result", "content": [{"type": "text", "text": SAID}]},
        {"type": "file", "file": {"file_data": "data:text/plain;base64," + PACKED}},
        {"type": "input_file", "file_data": "data:text/csv;base64," + PACKED},
        {"type": "refusal", "refusal": SAID},
        {"type": "document", "text": "", "document": {"data": SAID}},
        {"type": "web_search_tool_result", "content": [{"title": SAID}]},
        {"nobody": {"knows": SAID}},
    ],
)
def test_text_weighs_what_it_holds_in_whatever_part_it_stands(part: dict[str, Any]) -> None:
    tokens, images = estimate([{"role": "user", "content": [part]}])
    assert (1000 <= tokens < 1050, images) == (True, 0)


@pytest.mark.parametrize(
    "said",
    [
        {"content": "", "reasoning_content": SAID},
        {"content": "", "refusal": SAID},
        {"content": None, "function_call": {"arguments": SAID}},
        {"type": "function_call", "arguments": SAID},
        {"type": "function_call_output", "content": [], "output": SAID},
        {"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": SAID}]},
        {"type": "reasoning", "content": [], "summary": [{"text": SAID}]},
    ],
)
def test_text_weighs_what_it_holds_beside_the_content_of_a_message(said: dict[str, Any]) -> None:
    tokens, images = estimate([{"role": "assistant", **said}])
    assert (1000 <= tokens < 1050, images) == (True, 0)


CHAT: dict[str, Any] = {"messages": []}
MESSAGES: dict[str, Any] = {"messages": [], "max_tokens": 1}


@pytest.mark.parametrize(
    ("dialect", "call"),
    [
        ("openai.chat", {**CHAT, "functions": [{"name": "f", "description": SAID}]}),
        ("openai.chat", {**CHAT, "response_format": {"json_schema": {"schema": {"description": SAID}}}}),
        ("openai.chat", {**CHAT, "documents": [SAID]}),
        ("openai.chat", {**CHAT, "prediction": {"type": "content", "content": SAID}}),
        ("openai.chat", {**CHAT, "chat_template_kwargs": {"x": SAID}}),
        ("openai.completions", {"prompt": "", "suffix": SAID}),
        ("openai.responses", {"input": "", "text": {"format": {"schema": {"description": SAID}}}}),
        ("openai.responses", {"input": "", "prompt": {"variables": {"x": SAID}}}),
        ("anthropic.messages", {**MESSAGES, "system": SAID}),
        ("anthropic.messages", {**MESSAGES, "output_config": {"format": {"schema": {"title": SAID}}}}),
        ("gemini.generate", {"contents": [], "generationConfig": {"responseSchema": {"title": SAID}}}),
        (
            "gemini.generate",
            {"contents": [{"parts": [{"inline_data": {"mime_type": "text/plain", "data": PACKED}}]}]},
        ),
    ],
)
def test_what_is_said_beside_the_messages_weighs_too(dialect: str, call: dict[str, Any]) -> None:
    assert 1000 <= DIALECTS[dialect].shape({"model": "m", **call}, 0).input_tokens < 1050


def test_what_stands_nowhere_weighs_nothing() -> None:
    assert beside({"model": "m", "tools": None}, frozenset({"tools", "functions"})) == 0


def test_what_is_nested_past_all_depth_is_refused() -> None:
    value: Any = []
    for _ in range(300):
        value = [value]
    with pytest.raises(BadRequest):
        json_tokens(value)
