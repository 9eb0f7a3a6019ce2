"""The official openai SDK before a whole gateway and a provider that does what it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from openai import AsyncOpenAI, AsyncStream
from openai.types.chat import ChatCompletionChunk, ChatCompletionUserMessageParam

from tests.running import ACCESS, KEY, Running, gateway
from tests.scripted import Act, Provider

HI: list[ChatCompletionUserMessageParam] = [{"role": "user", "content": "hi"}]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "smart",
    "output": [
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "hello", "annotations": []}],
        }
    ],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {"input_tokens": 7, "output_tokens": 3, "total_tokens": 10},
}


class Scene(NamedTuple):
    client: AsyncOpenAI
    provider: Provider
    running: Running

    def provides(self, *acts: Act) -> None:
        self.provider.script[:] = acts


@asynccontextmanager
async def scene(
    tmp_path: Path, key: str = KEY, retries: int = 0, model: str = "", more: str = "", **settings: Any
) -> AsyncIterator[Scene]:
    """The SDK, the gateway and a provider. Nobody tries again unless `retries` lets the SDK: each failure shows."""
    async with Provider() as provider:
        text = f"""
kind: providers
providers: {{o: {{type: openai, base_url: "{provider.url}", api_key: provider-secret-key}}}}
---
kind: models
models:
  smart: {{targets: [{{provider: o, model: gpt-5}}], retry: {{attempts: 1}}{model}}}
  mini: {{targets: [{{provider: o}}], retry: {{attempts: 1}}}}
---
{ACCESS}
{more}
"""
        async with gateway(tmp_path, text, **settings) as running:
            base_url = f"{running.url}/v1"
            async with AsyncOpenAI(base_url=base_url, api_key=key, max_retries=retries) as client:
                yield Scene(client, provider, running)


async def streamed(here: Scene) -> AsyncStream[ChatCompletionChunk]:
    return await here.client.chat.completions.create(model="smart", messages=HI, stream=True)
