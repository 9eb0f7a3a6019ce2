"""Text weighs what it holds, in whatever part it stands, pictures by their number."""

import base64
from typing import Any

import pytest

from gateway.wire.gemini.weights import declared, estimate
from gateway.wire.weights import IMAGE_TOKENS

SAID = "word " * 800  # 1,000 tokens
PACKED = base64.b64encode(SAID.encode()).decode()
PICTURE = {"inline_data": {"mime_type": "image/png", "data": "J" * 99_999}}


@pytest.mark.parametrize(
    "part",
    [
        {"text": SAID},
        {"thought": True, "text": SAID},
        {"functionCall": {"name": "f", "args": {"x": SAID}}},
        {"function_response": {"name": "f", "response": {"x": SAID}}},
        {"functionResponse": {"name": "f", "parts": [{"text": SAID}]}},
        {"executableCode": {"code": SAID}},
        {"inlineData": {"mimeType": "text/csv", "data": PACKED}},
        {"nobody": {"knows": SAID}},
    ],
)
def test_text_weighs_what_it_holds_in_whatever_part_it_stands(part: dict[str, Any]) -> None:
    tokens, images = estimate([{"role": "user", "parts": [part]}])
    assert (1000 <= tokens < 1050, images) == (True, 0)


def test_pictures_are_counted_in_what_a_tool_gave_back_too() -> None:
    given_back = {"functionResponse": {"name": "f", "response": {"ok": True}, "parts": [PICTURE]}}
    tokens, images = estimate([{"parts": [PICTURE, given_back, {"fileData": {"fileUri": "gs://a/b"}}]}])
    assert (3 * IMAGE_TOKENS < tokens < 3 * IMAGE_TOKENS + 50, images) == (True, 3)


def test_what_is_no_content_weighs_nothing() -> None:
    assert estimate("hi") == (0, 0)
    assert estimate([3, {"role": "user"}, {"parts": "hi"}]) == (9, 0)


def test_functions_are_counted() -> None:
    tools = [{"function_declarations": [{}, {}]}, {"googleSearch": {}}, {"functionDeclarations": 3}]
    assert declared(tools) == 2
    assert declared(None) == 0
