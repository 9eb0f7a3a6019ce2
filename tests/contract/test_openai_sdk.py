"""The official openai SDK, unmodified, before a whole gateway: it finds what it is used to."""

import asyncio
import base64
import struct
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from tests.contract.sdk import HI, RESPONSE, scene
from tests.running import KEY
from tests.scripted import DONE, FINISH, USAGE, Act, answer, event, stream, word

FILE = {
    "id": "file-1",
    "object": "file",
    "bytes": 5,
    "created_at": 1,
    "filename": "a.txt",
    "purpose": "batch",
}
HEAD = {"id": "c", "object": "chat.completion.chunk", "model": "m", "created": 1}


async def test_a_chat_is_answered(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, provider, _):
        came = await client.chat.completions.create(model="smart", messages=HI, temperature=0.5)
    assert came.choices[0].message.content == "hello"
    assert came.usage is not None
    assert came.usage.total_tokens == 10
    assert provider.asked[0].json == {"model": "gpt-5", "messages": HI, "temperature": 0.5}
    assert came._request_id


async def test_the_blocking_client_is_answered_too(tmp_path: Path) -> None:
    def ask(base_url: str) -> str | None:
        with OpenAI(base_url=base_url, api_key=KEY) as client:
            return client.chat.completions.create(model="smart", messages=HI).choices[0].message.content

    async with scene(tmp_path) as (_, _, running):
        assert await asyncio.to_thread(ask, f"{running.url}/v1") == "hello"


async def test_a_stream_comes_word_by_word_and_without_the_usage_that_only_the_gateway_asked_for(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path) as here:
        here.provides(stream(word("hel"), word("lo"), FINISH, USAGE, DONE))
        chunks = [
            chunk
            async for chunk in await here.client.chat.completions.create(
                model="smart", messages=HI, stream=True
            )
        ]
    assert [chunk.choices[0].delta.content for chunk in chunks] == ["hel", "lo", None]
    assert all(chunk.usage is None for chunk in chunks)
    assert here.provider.asked[0].json["stream_options"] == {"include_usage": True}


async def test_a_stream_is_one_also_of_a_provider_that_answers_whole(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, _, _):
        chunks = [
            chunk
            async for chunk in await client.chat.completions.create(model="smart", messages=HI, stream=True)
        ]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_stream_with_usage_ends_with_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(stream(word("hello"), FINISH, USAGE, DONE))
        *_, last = [
            chunk
            async for chunk in await here.client.chat.completions.create(
                model="smart", messages=HI, stream=True, stream_options={"include_usage": True}
            )
        ]
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.total_tokens == 10


async def test_the_helper_for_streams_puts_the_answer_together(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(stream(word("hel", **HEAD), word("lo", **HEAD), FINISH, DONE))
        async with here.client.chat.completions.stream(model="smart", messages=HI) as events:
            whole = await events.get_final_completion()
    assert whole.choices[0].message.content == "hello"


async def test_models_are_those_the_key_may_use(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, _, running):
        assert [model.id async for model in client.models.list()] == ["mini", "smart"]
        assert (await client.models.retrieve("smart")).id == "smart"
        with pytest.raises(openai.NotFoundError):
            await client.models.retrieve("dumb")
        async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key="sk-poor") as poor:
            assert [model.id async for model in poor.models.list()] == ["mini"]
            with pytest.raises(openai.PermissionDeniedError):
                await poor.models.retrieve("smart")


async def test_completions_are_answered_whole_and_streamed(tmp_path: Path) -> None:
    choice = {"index": 0, "text": "hello", "logprobs": None, "finish_reason": "stop"}
    said = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]}
    async with scene(tmp_path) as here:
        here.provides(answer(said), stream(event(**said), DONE))
        whole = await here.client.completions.create(model="smart", prompt="hi")
        chunks = await here.client.completions.create(model="smart", prompt="hi", stream=True)
        assert whole.choices[0].text == "hello"
        assert [chunk.choices[0].text async for chunk in chunks] == ["hello"]


async def test_embeddings_come_as_floats_or_as_the_base64_that_the_sdk_asks_for_unasked(
    tmp_path: Path,
) -> None:
    numbers = [0.5, -1.25, 3.0]
    packed = base64.b64encode(struct.pack("<3f", *numbers)).decode()

    def embedded(vector: Any) -> Act:
        row = {"object": "embedding", "index": 0, "embedding": vector}
        return answer(
            {"object": "list", "model": "m", "data": [row], "usage": {"prompt_tokens": 1, "total_tokens": 1}}
        )

    async with scene(tmp_path) as here:
        here.provides(embedded(packed), embedded(numbers))
        default = await here.client.embeddings.create(model="smart", input="hi")
        floats = await here.client.embeddings.create(model="smart", input="hi", encoding_format="float")
    assert [one.json["encoding_format"] for one in here.provider.asked] == ["base64", "float"]
    assert default.data[0].embedding == floats.data[0].embedding == numbers
    assert default.usage.prompt_tokens == 1


async def test_a_file_lives_from_upload_to_deletion(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(
            answer(FILE),
            answer({"object": "list", "data": [FILE], "has_more": False}),
            answer(FILE),
            answer(b"bytes", content_type="application/octet-stream"),
            answer({"id": "file-1", "object": "file", "deleted": True}),
        )
        files = here.client.files
        made = await files.create(file=("a.txt", b"bytes"), purpose="batch")
        assert [one.id async for one in files.list()] == [made.id] == ["file-1"]
        assert (await files.retrieve(made.id)).filename == "a.txt"
        assert await (await files.content(made.id)).aread() == b"bytes"
        assert (await files.delete(made.id)).deleted
        with pytest.raises(openai.NotFoundError):
            await files.retrieve(made.id)
    upload = here.provider.asked[0]
    assert upload.headers["content-type"].startswith("multipart/form-data; boundary=")
    assert b'filename="a.txt"' in upload.body
    assert b"bytes" in upload.body


async def test_a_response_is_made_and_found_again(tmp_path: Path) -> None:
    async with scene(tmp_path) as here:
        here.provides(answer(RESPONSE))
        made = await here.client.responses.create(model="smart", input="hi")
        found = await here.client.responses.retrieve(made.id)
    assert made.output_text == found.output_text == "hello"
    assert here.provider.asked[0].json == {"model": "gpt-5", "input": "hi"}
    assert here.provider.asked[1].line == "GET /v1/responses/resp_1 HTTP/1.1"
