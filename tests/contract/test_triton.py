"""OpenAI's client before Triton's generate endpoint. No exchange with one is on record: what answers here keeps to the
documents of its generate extension and of its vLLM backend."""

from pathlib import Path

import openai
import pytest

from tests.running import ACCESS, KEY, gateway
from tests.scripted import Provider, answer, event, stream

COUNTS = {"model_name": "ours", "model_version": "1", "num_input_tokens": 4, "num_output_tokens": 1}


def policy(url: str) -> str:
    return f"""
kind: providers
providers: {{t: {{type: triton, generate: vllm, base_url: "{url.removesuffix("/v1")}"}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: t}}]}}}}
---
{ACCESS}
"""


async def test_completions_are_answered_whole_and_streamed(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policy(provider.url)) as running:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0)
        provider.script[:] = [answer({**COUNTS, "text_output": " upon a time", "finish_reason": "stop"})]
        whole = await client.completions.create(model="ours", prompt="Once", max_tokens=9)
        assert (whole.choices[0].text, whole.choices[0].finish_reason) == (" upon a time", "stop")
        assert whole.usage is not None
        assert whole.usage.total_tokens == 5
        said = [event(**COUNTS, text_output=one, finish_reason="None") for one in (" upon", " a")]
        provider.script[:] = [stream(*said, event(**COUNTS, text_output=" time", finish_reason="length"))]
        told = await client.completions.create(model="ours", prompt="Once", stream=True)
        chunks = [chunk async for chunk in told]
        assert "".join(chunk.choices[0].text for chunk in chunks) == " upon a time"
        assert chunks[-1].choices[0].finish_reason == "length"
        assert [one.line.split()[1] for one in provider.asked] == [
            "/v2/models/ours/generate", "/v2/models/ours/generate_stream",
        ]  # fmt: skip
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["completion_tokens"], total["estimated"]) == (8, 4, 0)
        await client.close()


async def test_chat_is_refused_and_an_error_is_told(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policy(provider.url)) as running:
        client = openai.AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0)
        with pytest.raises(openai.BadRequestError, match="no such endpoint"):
            await client.chat.completions.create(model="ours", messages=[{"role": "user", "content": "hi"}])
        assert not provider.asked
        provider.script[:] = [answer({"error": "failed to load ours"}, 400)]
        with pytest.raises(openai.BadRequestError, match="failed to load ours"):
            await client.completions.create(model="ours", prompt="Once")
        provider.script[:] = [stream(event(error="out of memory"))]
        with pytest.raises(openai.InternalServerError, match="out of memory"):
            await client.completions.create(model="ours", prompt="Once", stream=True)
        await client.close()
