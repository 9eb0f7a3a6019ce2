"""What of an answer reaches the client, and how its stream ends."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import gateway, policies
from tests.scripted import Provider, answer, event, stream, word

SECRET = "sk-the-key-of-the-provider"
LEAK = {"message": f"bad key {SECRET}", "type": "authentication_error"}
STARTED = event(type="message_start", message={"id": "m", "model": "c", "usage": {"input_tokens": 7}})
SAID = event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"})
ASKED: dict[str, Any] = {
    "model": "smart", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], "stream": True,
}  # fmt: skip
CHAT, MESSAGES, RESPONSES = "/v1/chat/completions", "/v1/messages", "/v1/responses"
IMAGES = "/v1/images/generations"
PARTIAL = event(type="image_generation.partial_image", b64_json="AAAA")
FAILED = event(type="response.failed", response={"status": "failed", "error": LEAK})
DELTA = event(type="response.output_text.delta", delta="hello")


def with_key(url: str, kind: str = "openai") -> str:
    """A provider of a kind that shows a key, asked once."""
    text = policies(url, model="retry: {attempts: 1}")
    text = text.replace("type: compatible", f"type: {kind}, api_key: {SECRET}")
    return text.replace('/v1"', '"') if kind == "anthropic" else text


def asked(path: str, **more: Any) -> dict[str, Any]:
    return {"model": "smart", "stream": True, "input": "hi", **more} if path == RESPONSES else ASKED | more


async def read(client: httpx.AsyncClient, path: str, body: Any, go_on: asyncio.Event | None = None) -> str:
    """All of a stream; the provider goes on once the client has its beginning."""
    async with client.stream("POST", path, json=body) as response:
        assert response.status_code == 200
        text = ""
        async for piece in response.aiter_text():
            text += piece
            if go_on is not None:
                go_on.set()
        return text


# An error in the middle of a stream


@pytest.mark.parametrize(
    ("path", "kind", "begun", "failed"),
    [
        (CHAT, "openai", word("hello"), event(error=LEAK)),
        (MESSAGES, "openai", word("hello"), event(error=LEAK)),
        (MESSAGES, "anthropic", STARTED + SAID, b"event: error\n" + event(type="error", error=LEAK)),
        (CHAT, "anthropic", STARTED + SAID, b"event: error\n" + event(type="error", error=LEAK)),
        (RESPONSES, "openai", DELTA, b"event: error\n" + event(**LEAK | {"type": "error"})),
        (RESPONSES, "openai", DELTA, FAILED),
        (RESPONSES, "openai", b"", FAILED),
        (IMAGES, "openai", PARTIAL, event(type="error", error=LEAK)),
        (IMAGES, "openai", PARTIAL, event(type="error", error=LEAK)[:-2]),
    ],
)
async def test_an_error_in_a_stream_does_not_show_the_providers_key(
    tmp_path: Path, path: str, kind: str, begun: bytes, failed: bytes
) -> None:
    go_on = asyncio.Event()
    told = [begun, go_on, failed] if begun else [failed]
    async with Provider([stream(*told)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            text = await read(client, path, asked(path), go_on)
            assert "bad key ***" in text
            assert SECRET not in text


async def test_a_response_that_failed_as_a_whole_does_not_show_it_either(tmp_path: Path) -> None:
    failed = {"id": "r", "object": "response", "status": "failed", "output": [], "error": LEAK}
    async with Provider([answer(failed)]) as provider:
        async with gateway(tmp_path, with_key(provider.url)) as running, running.client() as client:
            came = await client.post(RESPONSES, json=asked(RESPONSES, stream=False))
            assert came.json()["error"]["message"] == "bad key ***"
