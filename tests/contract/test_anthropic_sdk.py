"""The official anthropic SDK, unmodified, before a whole gateway: Anthropic recorded, and a chat provider."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anthropic
import pytest
from anthropic import AsyncAnthropic
from anthropic.types import Message, MessageParam, ToolParam

from tests.contract.recorded import at_random, recorded, replayed, whole
from tests.contract.test_messages import Told, expected, of_blocks
from tests.running import ACCESS, KEY, Running, gateway
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, event, stream, word

HI: list[MessageParam] = [{"role": "user", "content": "hi"}]
WEATHER: list[ToolParam] = [{"name": "weather", "input_schema": {"type": "object", "properties": {}}}]


@asynccontextmanager
async def scene(tmp_path: Path) -> AsyncIterator[tuple[AsyncAnthropic, Provider]]:
    """The SDK and a provider: `claude` is answered by it as Anthropic, `gpt` as OpenAI."""
    async with stage(tmp_path) as (client, provider, _):
        yield client, provider


@asynccontextmanager
async def stage(tmp_path: Path) -> AsyncIterator[tuple[AsyncAnthropic, Provider, Running]]:
    """The same, and what stands between the two."""
    async with Provider() as provider:
        host = provider.url.removesuffix("/v1")
        text = f"""
kind: providers
providers:
  a: {{type: anthropic, base_url: "{host}", api_key: sk-ours-alone}}
  o: {{type: openai, base_url: "{provider.url}", api_key: sk-ours-alone}}
---
kind: models
models:
  claude: {{targets: [{{provider: a}}], retry: {{attempts: 1}}}}
  gpt: {{targets: [{{provider: o}}], retry: {{attempts: 1}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running:
            async with AsyncAnthropic(base_url=running.url, api_key=KEY, max_retries=0) as client:
                yield client, provider, running


def told(message: anthropic.types.Message) -> Told:
    return of_blocks(message.to_dict(mode="json", warnings=False))


async def test_whole_answers_of_anthropic_are_understood(tmp_path: Path) -> None:
    records = [one for one in recorded("anthropic", "messages") if one["response"]["status"] == 200]
    async with scene(tmp_path) as (client, provider):
        for record in [one for one in records if not one["streaming"]]:
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.messages.create(model="claude", max_tokens=9, messages=HI)
            assert told(came) == expected(record), record["id"]


async def test_streams_of_anthropic_are_put_together_to_the_same_message(tmp_path: Path) -> None:
    records = [one for one in recorded("anthropic", "messages") if one["streaming"]]
    assert len(records) >= 40
    async with scene(tmp_path) as (client, provider):
        for record in records:
            provider.script[:] = [replayed(record, at_random(record))]
            async with client.messages.stream(model="claude", max_tokens=9, messages=HI) as events:
                assert told(await events.get_final_message()) == expected(record), record["id"]


async def test_a_recorded_count_of_tokens_arrives(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, provider):
        for record in [
            one for one in recorded("anthropic", "count_tokens") if one["response"]["status"] == 200
        ]:
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.messages.count_tokens(model="claude", messages=HI)
            assert f'"input_tokens":{came.input_tokens}' in record["response"]["body_text"].replace(" ", "")


async def test_a_chat_provider_counts_no_tokens_and_the_client_is_told(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, _):
        with pytest.raises(anthropic.BadRequestError, match="cannot be translated"):
            await client.messages.count_tokens(model="gpt", messages=HI)


async def test_a_chat_provider_answers_whole_and_word_by_word(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, provider):
        came = await client.messages.create(model="gpt", max_tokens=9, messages=HI, system="be brief")
        assert [block.to_dict() for block in came.content] == [{"type": "text", "text": "hello"}]
        assert (came.stop_reason, came.usage.input_tokens, came.usage.output_tokens) == ("end_turn", 7, 3)
        assert provider.asked[0].json["messages"][0] == {"role": "system", "content": "be brief"}
        provider.script[:] = [stream(word("hel"), word("lo"), FINISH, USAGE, DONE)]
        async with client.messages.stream(model="gpt", max_tokens=9, messages=HI) as events:
            assert [text async for text in events.text_stream] == ["hel", "lo"]
            final = await events.get_final_message()
    assert (final.stop_reason, final.usage.output_tokens) == ("end_turn", 3)


async def test_a_tool_is_called_and_its_result_told_over_two_turns(tmp_path: Path) -> None:
    parts = [
        {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"city": '}},
        {"index": 0, "function": {"arguments": '"Rome"}'}},
    ]
    said = [event(id="c", choices=[{"index": 0, "delta": {"tool_calls": [one]}}]) for one in parts]
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "tool_calls"}])
    async with scene(tmp_path) as (client, provider):
        provider.script[:] = [stream(*said, end, USAGE, DONE)]
        async with client.messages.stream(model="gpt", max_tokens=9, messages=HI, tools=WEATHER) as events:
            first = await events.get_final_message()
        [call] = first.content
        assert call.type == "tool_use"
        assert (call.id, call.name, call.input, first.stop_reason) == (
            "call_1",
            "weather",
            {"city": "Rome"},
            "tool_use",
        )
        result: MessageParam = {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sunny"}],
        }
        provider.script[:] = [answer({"choices": [{"message": {"content": "Sunny."}}]})]
        turns: list[MessageParam] = [*HI, {"role": "assistant", "content": first.content}, result]
        second = await client.messages.create(model="gpt", max_tokens=9, messages=turns, tools=WEATHER)
    assert [block.to_dict() for block in second.content] == [{"type": "text", "text": "Sunny."}]
    function = {"name": "weather", "arguments": '{"city":"Rome"}'}
    assert provider.asked[1].json["messages"][1:] == [
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "call_1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "error"),
    [(400, anthropic.BadRequestError), (404, anthropic.NotFoundError), (429, anthropic.RateLimitError),
     (500, anthropic.InternalServerError), (401, anthropic.InternalServerError)],
)  # fmt: skip
async def test_a_chat_providers_refusal_is_the_error_that_the_sdk_has_for_it(
    tmp_path: Path, status: int, error: type[anthropic.APIStatusError]
) -> None:
    async with scene(tmp_path) as (client, provider):
        provider.script[:] = [answer({"error": {"message": "no", "type": "x"}}, status)]
        with pytest.raises(error) as caught:
            await client.messages.create(model="gpt", max_tokens=9, messages=HI)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"


async def test_a_stream_that_breaks_raises_instead_of_ending(tmp_path: Path) -> None:
    async with scene(tmp_path) as (client, provider):
        provider.script[:] = [stream(word("hel"), end=False)]
        with pytest.raises(anthropic.APIStatusError):
            async with client.messages.stream(model="gpt", max_tokens=9, messages=HI) as events:
                await events.get_final_message()


BEGUN = {
    "claude": b'event: message_start\ndata: {"type": "message_start", "message": {"id": "m", "type": "message", '
    b'"role": "assistant", "model": "c", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}\n\n',
    "gpt": word("hel"),
}
OVERLOADED = event(error={"message": "no more", "type": "server_error"})


@pytest.mark.parametrize(
    ("model", "end"),
    [("claude", "break"), ("gpt", "break"), ("claude", "shutdown"), ("gpt", "shutdown"), ("gpt", "error")],
)
async def test_the_error_that_ends_a_stream_names_the_request(tmp_path: Path, model: str, end: str) -> None:
    async with stage(tmp_path) as (client, provider, running):
        go = asyncio.Event()
        provider.script[:] = [stream(BEGUN[model], go, *([OVERLOADED] if end == "error" else []), end=False)]
        with pytest.raises(anthropic.APIStatusError) as caught:
            async with client.messages.stream(model=model, max_tokens=9, messages=HI) as events:
                async for _ in events:
                    if end == "shutdown":
                        for task in list(running.data.server_state.tasks):
                            task.cancel()  # as the server does when its drain time is over
                    else:
                        go.set()
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["request_id"] == caught.value.response.headers["x-request-id"]


async def test_pages_that_another_provider_cites_reach_the_sdk_whole_and_streamed(tmp_path: Path) -> None:
    """As OpenRouter has Perplexity cite, and as Perplexity does itself."""
    [cited] = [
        one for one in recorded("openrouter", "chat.completions") if "url_citation" in str(one["response"])
    ]
    searched = [
        one for one in recorded("perplexity", "chat.completions") if "search_results" in str(one["response"])
    ]
    assert len(searched) >= 7
    async with scene(tmp_path) as (client, provider):
        for record in [cited, *searched]:
            body = record["response"]["body_text"]
            provider.script[:] = [replayed(record, whole(record))]
            message: Message
            if record["streaming"]:
                async with client.messages.stream(model="gpt", max_tokens=9, messages=HI) as events:
                    message = await events.get_final_message()
            else:
                message = await client.messages.create(model="gpt", max_tokens=9, messages=HI)
            [block] = message.content
            assert block.type == "text"
            pages = [one.url for one in block.citations or [] if one.type == "web_search_result_location"]
            assert pages
            assert all(page in body for page in pages), record["id"]
