"""Google's own client before a whole gateway: to Gemini untouched, to others across."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from google import genai
from google.genai import errors, types

from tests.contract import test_gemini as gemini
from tests.contract import test_messages as anthropic
from tests.contract.recorded import Record, replayed, whole
from tests.running import ACCESS, KEY, gateway
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, stream, word


@asynccontextmanager
async def client_of(
    tmp_path: Path, kind: str, root: str = ""
) -> AsyncIterator[tuple[genai.client.AsyncClient, Provider]]:
    async with gemini.before(tmp_path, kind, root) as (http, provider), sdk_of(str(http.base_url)) as sdk:
        yield sdk, provider


def sdk_of(url: str) -> genai.client.AsyncClient:
    options = types.HttpOptions(base_url=url, async_client_args={"trust_env": False})
    return genai.Client(api_key=KEY, vertexai=False, http_options=options).aio


TEXTS: tuple[types.ContentUnionDict, ...] = ("a", "b")


def with_calls() -> Record:
    return next(one for one in gemini.streams() if len(gemini.expected(one).calls) == 1)


async def test_text_calls_and_usage_arrive_from_gemini(tmp_path: Path) -> None:
    record = with_calls()
    wanted = gemini.expected(record)
    async with client_of(tmp_path, "gemini") as (sdk, provider):
        provider.script[:] = [replayed(record, whole(record))]
        text, calls, usage = "", [], None
        async for chunk in await sdk.models.generate_content_stream(model="gemini-x", contents="hi"):
            for part in (chunk.candidates or [types.Candidate()])[0].content.parts or []:  # type: ignore[union-attr]
                text += part.text or ""
                calls += [part.function_call] if part.function_call else []
            usage = chunk.usage_metadata
        assert provider.asked[0].line == "POST /v1beta/models/gemini-x:streamGenerateContent?alt=sse HTTP/1.1"
        assert text == wanted.text
        assert [call.name for call in calls] == [call[1] for call in wanted.calls]
        assert usage is not None
        assert usage.prompt_token_count == wanted.usage["prompt"]


async def test_a_conversation_with_claude_keeps_its_signatures(tmp_path: Path) -> None:
    """The SDK sends back what it got; what Anthropic signed arrives there as it was signed."""
    signed = [one for one in anthropic.answered() if anthropic.expected(one).signatures]
    record = next(one for one in signed if not one["streaming"] and anthropic.expected(one).thought)
    async with client_of(tmp_path, "anthropic") as (sdk, provider):
        provider.script[:] = [replayed(record, whole(record)), replayed(record, whole(record))]
        chat = sdk.chats.create(model="claude-x")
        first = await chat.send_message("hi")
        assert (first.text or "") == anthropic.expected(record).text
        await chat.send_message("and now?")
        said = provider.asked[1].json["messages"][1]["content"]
        thinking = [block for block in said if block["type"] == "thinking"]
        assert [block["signature"] for block in thinking] == anthropic.expected(record).signatures
        assert "".join(block["thinking"] for block in thinking) == anthropic.expected(record).thought


async def test_a_conversation_that_changes_to_gemini_leaves_behind_what_claude_signed(tmp_path: Path) -> None:
    """The SDK sends back what it got, whole or from a stream; Google takes no signature but its own."""
    thought = {"type": "thinking", "thinking": "Let me see.", "signature": "Q0xBVURF"}
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {}}
    claude = {"type": "message", "content": [thought, call], "stop_reason": "tool_use"}
    gemini_says = {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "x"}]}, "finishReason": "STOP"}]
    }
    async with Provider([answer(claude)]) as anthropic_, Provider([answer(gemini_says)]) as google:
        text = f"""
kind: providers
providers:
  a: {{type: anthropic, base_url: "{anthropic_.url.removesuffix("/v1")}", api_key: k}}
  g: {{type: gemini, base_url: "{google.url.removesuffix("/v1")}", api_key: k}}
---
kind: models
models:
  claude: {{targets: [{{provider: a}}]}}
  gemini-3-pro: {{targets: [{{provider: g}}]}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, sdk_of(running.url) as sdk:
            asked: list[types.ContentUnionDict] = [types.UserContent("hi")]
            first = await sdk.models.generate_content(model="claude", contents=asked)
            said = first.candidates[0].content  # type: ignore[index]
            assert said is not None
            result = types.Part.from_function_response(name="look", response={"output": "it"})
            asked += [said, types.UserContent([result])]
            assert (await sdk.models.generate_content(model="gemini-3-pro", contents=asked)).text == "x"
    assert google.asked[0].json["contents"][1] == {
        "role": "model",
        "parts": [
            {
                "functionCall": {"id": "toolu_1", "name": "look", "args": {}},
                "thoughtSignature": "skip_thought_signature_validator",
            }
        ],
    }


async def test_a_stream_of_openai_is_read_and_an_error_is_googles(tmp_path: Path) -> None:
    async with client_of(tmp_path, "openai", "/v1") as (sdk, provider):
        provider.script[:] = [stream(word("he"), word("llo"), FINISH, USAGE, DONE)]
        chunks = [one async for one in await sdk.models.generate_content_stream(model="gpt-x", contents="hi")]
        assert "".join(one.text or "" for one in chunks) == "hello"
        assert chunks[-1].usage_metadata is not None
        assert chunks[-1].usage_metadata.total_token_count == 10
        provider.script[:] = [answer({"error": {"message": "no", "code": "x"}}, 400)]
        with pytest.raises(errors.ClientError) as refused:
            await sdk.models.generate_content(model="gpt-x", contents="hi")
        assert (refused.value.code, refused.value.status, refused.value.message) == (
            400,
            "INVALID_ARGUMENT",
            "no",
        )


async def test_texts_are_embedded_by_gemini_and_by_openai(tmp_path: Path) -> None:
    async with client_of(tmp_path, "gemini") as (sdk, provider):
        provider.script[:] = [answer({"embeddings": [{"values": [0.5, 1.0]}, {"values": [2.0]}]})]
        found = await sdk.models.embed_content(model="gemini-embedding-001", contents=[*TEXTS])
        assert [one.values for one in found.embeddings or []] == [[0.5, 1.0], [2.0]]
    (tmp_path / "openai").mkdir()
    async with client_of(tmp_path / "openai", "openai", "/v1") as (sdk, provider):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        provider.script[:] = [answer({"data": data, "usage": {"prompt_tokens": 3, "total_tokens": 3}})]
        found = await sdk.models.embed_content(model="text-embedding-3-small", contents="a")
        assert [one.values for one in found.embeddings or []] == [[0.5]]
        assert provider.asked[0].json == {
            "model": "text-embedding-3-small",
            "input": ["a"],
            "encoding_format": "float",
        }
