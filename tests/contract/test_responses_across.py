"""A Responses client before providers of other formats: it is told all that they said, and remembered."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from openai import AsyncOpenAI, NotFoundError
from pydantic import BaseModel
from sqlalchemy import text

from gateway.wire.chat import usage_of
from tests.contract import test_messages
from tests.contract.recorded import (
    Chunking,
    Record,
    answer_of,
    at_random,
    byte_by_byte,
    per_event,
    recorded,
    replayed,
    whole,
)
from tests.running import ACCESS, KEY, Running, gateway
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, stream, word

ASKS = {"model": "m", "input": "hi", "store": False}
POOR = ACCESS.replace("models: [mini]", 'models: ["*"]')
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}
TOOL: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


def completion(message: Mapping[str, Any], reason: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return {"id": "c", "object": "chat.completion", "model": "m-1", "choices": [choice], "usage": usage}


@asynccontextmanager
async def before(
    tmp_path: Path, kind: str = "compatible", **settings: Any
) -> AsyncIterator[tuple[Running, Provider]]:
    async with Provider() as provider:
        url = provider.url.removesuffix("/v1") if kind == "anthropic" else provider.url
        policy = f"""
kind: providers
providers: {{p: {{type: {kind}, base_url: "{url}", api_key: sk-ours-alone}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: p}}], retry: {{attempts: 1}}}}}}
---
{POOR}
"""
        async with gateway(tmp_path, policy, **settings) as running:
            yield running, provider


@asynccontextmanager
async def sdk(
    tmp_path: Path, kind: str = "compatible"
) -> AsyncIterator[tuple[AsyncOpenAI, Provider, Running]]:
    async with before(tmp_path, kind) as (running, provider):
        async with AsyncOpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0) as client:
            yield client, provider, running


class Told:
    """What an answer says, out of any format; written apart from the code under test."""

    def __init__(self, response: Mapping[str, Any]) -> None:
        items = response["output"]
        self.text = "".join(
            part.get("text") or part.get("refusal") or ""
            for item in items
            if item["type"] == "message"
            for part in item["content"]
        )
        self.thought = "".join(
            part["text"] for item in items if item["type"] == "reasoning" for part in item["summary"]
        )
        self.calls = [
            [item["call_id"], item["name"], orjson.loads(item["arguments"] or "{}")]
            for item in items
            if item["type"] == "function_call"
        ]
        self.ended = (response["status"], (response["incomplete_details"] or {}).get("reason"))
        usage = response["usage"]
        self.usage = usage and {
            "prompt": usage["input_tokens"],
            "cached": usage["input_tokens_details"]["cached_tokens"],
            "completion": usage["output_tokens"],
        }


def of_events(text: str) -> dict[str, Any]:
    """The response a stream ends with, after every event was found in order and equal to what it ends with."""
    events = test_messages.events(text)
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert [one["type"] for one in events[:2]] == ["response.created", "response.in_progress"]
    built: dict[int, dict[str, Any]] = {}
    deltas: dict[tuple[Any, ...], str] = {}
    for one in events[2:-1]:
        place = one["output_index"]
        kind = one["type"].removeprefix("response.")
        at = (place, one.get("content_index", one.get("summary_index")))
        if kind == "output_item.added":
            assert place == len(built)
            built[place] = {}
        elif kind.endswith(".delta"):
            assert not built[place], "an item goes on after it was done"
            deltas[at] = deltas.get(at, "") + one["delta"]
        elif kind.endswith(".done") and kind not in ("output_item.done", "content_part.done"):
            said = one.get("text", one.get("arguments", one.get("refusal")))
            assert said is None or said == deltas.get(at, "")
        if kind == "output_item.done":
            assert not built[place]
            built[place] = one["item"]
    response: dict[str, Any] = events[-1]["response"]
    assert events[-1]["type"] == f"response.{response['status']}"
    assert response["output"] == list(built.values())
    return response


def of_anthropic(record: Record) -> dict[str, Any]:
    told = test_messages.expected(record)
    reasons = {
        "length": ("incomplete", "max_output_tokens"),
        "content_filter": ("incomplete", "content_filter"),
    }
    calls = [[ident, name, orjson.loads(given)] for ident, name, given in told.calls]
    return {
        "text": told.text,
        "thought": told.thought,
        "calls": calls,
        "ended": reasons.get(str(told.reason), ("completed", None)),
        "usage": told.usage,
    }


@pytest.mark.parametrize("chunking", [whole, per_event, at_random, byte_by_byte])
async def test_all_that_anthropic_said_is_told(tmp_path: Path, chunking: Chunking) -> None:
    """Text, thoughts, calls, status and usage."""
    chosen = test_messages.answered() if chunking is whole else test_messages.streams()
    chosen = chosen[::8] if chunking is byte_by_byte else chosen
    async with before(tmp_path, "anthropic") as (running, provider), running.client() as client:
        for record in chosen:
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post("/v1/responses", json=ASKS | {"stream": record["streaming"]})
            assert came.status_code == 200, (record["id"], came.text)
            response = of_events(came.text) if record["streaming"] else came.json()
            assert vars(Told(response)) == of_anthropic(record), record["id"]


def of_chat(record: Record) -> dict[str, Any]:
    """What a chat recording says, put together."""
    text = answer_of(record).decode()
    if record["streaming"]:
        said: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": {}}
        usage = reason = None
        for chunk in test_messages.events(text):
            usage = usage_of(chunk) or usage
            for choice in chunk["choices"][:1]:
                delta = choice["delta"]
                reason = choice.get("finish_reason") or reason
                said["content"] += delta.get("content") or delta.get("refusal") or ""
                said["reasoning_content"] += delta.get("reasoning_content") or delta.get("reasoning") or ""
                for call in delta.get("tool_calls") or []:
                    known = said["tool_calls"].setdefault(
                        call["index"], {"id": call.get("id"), "name": "", "arguments": ""}
                    )
                    known["name"] += call["function"].get("name") or ""
                    known["arguments"] += call["function"].get("arguments") or ""
        calls = list(said["tool_calls"].values())
    else:
        answered = orjson.loads(text)
        choice = answered["choices"][0]
        said, reason, usage = choice["message"], choice.get("finish_reason"), answered.get("usage")
        calls = [{"id": one["id"], **one["function"]} for one in said.get("tool_calls") or []]
    ended = ("incomplete", "max_output_tokens") if reason == "length" else ("completed", None)
    return {
        "text": said.get("content") or said.get("refusal") or "",
        "thought": said.get("reasoning_content") or said.get("reasoning") or "",
        "calls": [[one["id"], one["name"], orjson.loads(one["arguments"] or "{}")] for one in calls],
        "ended": ended,
        "usage": usage
        and {
            "prompt": usage["prompt_tokens"],
            "cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
            "completion": usage["completion_tokens"],
        },
    }


@pytest.mark.parametrize("provider_name", ["openai", "deepseek", "ollama", "groq"])
@pytest.mark.parametrize("chunking", [whole, at_random])
async def test_all_that_chat_providers_said_is_told(
    tmp_path: Path, provider_name: str, chunking: Chunking
) -> None:
    chosen = [
        one
        for one in recorded(provider_name, "chat.completions")
        if one["response"]["status"] == 200 and (chunking is whole or one["streaming"])
    ]
    chosen = [
        one
        for one in chosen
        if b"function_call" not in answer_of(one) and b"audio" not in orjson.dumps(one["request"])
    ]
    assert len(chosen) >= 3
    async with before(tmp_path) as (running, provider), running.client() as client:
        for record in chosen[:60]:
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post("/v1/responses", json=ASKS | {"stream": record["streaming"]})
            if b"event: error" in answer_of(record):  # at once, or after the first event
                assert came.status_code in (400, 502) or "event: response.failed" in came.text
                continue
            assert came.status_code == 200, (record["id"], came.text)
            response = of_events(came.text) if record["streaming"] else came.json()
            assert vars(Told(response)) == of_chat(record), record["id"]


async def test_the_sdk_is_answered_and_goes_on_with_what_was_said(tmp_path: Path) -> None:
    async with sdk(tmp_path) as (client, provider, _):
        provider.script[:] = [
            answer(completion({"content": "hello"})),
            stream(word("good", model="m-1"), word("bye"), FINISH, USAGE, DONE),
        ]
        first = await client.responses.create(
            model="m", input="hi", instructions="be kind", metadata={"a": "b"}
        )
        assert (first.output_text, first.status, first.model) == ("hello", "completed", "m-1")
        assert first.usage is not None
        assert first.usage.total_tokens == 10
        events = await client.responses.create(
            model="m", input="bye", previous_response_id=first.id, stream=True
        )
        *_, last = [one async for one in events]
        assert last.type == "response.completed"
        assert last.response.output_text == "goodbye"
        assert provider.asked[1].json["messages"] == [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "hello"},
            {"role": "user", "content": "bye"},
        ]
        assert (await client.responses.retrieve(first.id)).to_dict() == first.to_dict()
        items = await client.responses.input_items.list(last.response.id, order="asc")
        assert [one.type for one in items.data] == ["message", "message", "message"]
        await client.responses.delete(first.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(first.id)
        with pytest.raises(NotFoundError, match="no longer kept"):
            await client.responses.create(model="m", input="x", previous_response_id=last.response.id)
        assert len(provider.asked) == 2


@pytest.mark.parametrize("kind", ["compatible", "anthropic"])
async def test_the_sdk_calls_tools_over_several_turns(tmp_path: Path, kind: str) -> None:
    used = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "c", "stop_reason": "tool_use",
        "content": [
            {"type": "thinking", "thinking": "look it up", "signature": "sig=="},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}},
        ],
        "usage": {"input_tokens": 7, "output_tokens": 3},
    }  # fmt: skip
    called = answer(used if kind == "anthropic" else completion({"tool_calls": [CALL]}, "tool_calls"))
    async with sdk(tmp_path, kind) as (client, provider, _):
        provider.script[:] = [called]
        first = await client.responses.create(model="m", input="weather?", tools=[TOOL])
        call = first.output[-1]
        assert call.type == "function_call"
        assert (call.call_id, call.name, orjson.loads(call.arguments)) == (
            "call_1",
            "weather",
            {"city": "Rome"},
        )
        result: Any = {"type": "function_call_output", "call_id": "call_1", "output": "sunny"}
        for further in (
            {"previous_response_id": first.id, "input": [result]},
            {
                "input": [
                    {"role": "user", "content": "weather?"},
                    *[one.to_dict() for one in first.output],
                    result,
                ]
            },
        ):
            await client.responses.create(model="m", tools=[TOOL], **further)
            said = provider.asked[-1].json["messages"]
            if kind == "anthropic":
                assert said[1]["content"] == used["content"]
                assert said[2]["content"] == [
                    {"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}
                ]
            else:
                assert said[1] == {"role": "assistant", "content": None, "tool_calls": [CALL]}
                assert said[2] == {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}


async def test_the_sdk_parses_structured_output(tmp_path: Path) -> None:
    class City(BaseModel):
        name: str

    async with sdk(tmp_path) as (client, provider, _):
        provider.script[:] = [answer(completion({"content": '{"name": "Rome"}'}))]
        parsed = await client.responses.parse(model="m", input="hi", text_format=City)
    assert parsed.output_parsed == City(name="Rome")
    asked = provider.asked[0].json["response_format"]
    assert (asked["type"], asked["json_schema"]["name"], asked["json_schema"]["strict"]) == (
        "json_schema",
        "City",
        True,
    )


async def test_what_one_team_was_told_is_not_there_for_another(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as owner:
        ident = (await owner.post("/v1/responses", json={"model": "m", "input": "hi"})).json()["id"]
        async with running.client("sk-poor") as other:
            for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/input_items"), ("POST", "/cancel")):
                refused = await other.request(method, f"/v1/responses/{ident}{path}")
                assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
            body = {"model": "m", "input": "hi", "previous_response_id": ident}
            assert (await other.post("/v1/responses", json=body)).status_code == 404
            assert (await other.post("/v1/responses/input_tokens", json=body)).status_code == 404
        assert len(provider.asked) == 1
        assert (await owner.get(f"/v1/responses/{ident}")).status_code == 200


async def test_what_is_not_to_be_stored_is_not_there(tmp_path: Path) -> None:
    async with before(tmp_path, responses_retention_days=0) as (running, _), running.client() as client:
        for more in ({}, {"store": False}):
            came = (await client.post("/v1/responses", json={"model": "m", "input": "hi", **more})).json()
            assert came["store"] is False
            assert (await client.get(f"/v1/responses/{came['id']}")).status_code == 404


async def test_items_of_an_answer_can_be_referred_to(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [answer(completion({"content": "hello"}))]
        made = (await ask(client)).json()
        reference = {"type": "item_reference", "id": made["output"][0]["id"]}
        assert (await ask(client, input=[reference, {"role": "user", "content": "go on"}])).status_code == 200
        said = [one["content"] for one in provider.asked[-1].json["messages"]]
        assert said == ["hello", "go on"]
        unknown = {"type": "item_reference", "id": reference["id"] + "0"}
        assert (await ask(client, input=[unknown])).status_code == 404
        async with running.client("sk-poor") as other:
            assert (await ask(other, input=[reference])).status_code == 404


async def test_an_answer_that_cannot_be_kept_says_so(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        assert (await ask(client)).json()["store"] is True
        with running.house.database.engine.begin() as connection:
            connection.execute(text("ALTER TABLE answers RENAME TO hidden"))
        assert (await ask(client)).json()["store"] is False
        provider.script[:] = [stream(word("x"), FINISH, DONE)]
        told = test_messages.events((await ask(client, stream=True)).text)
        assert [told[0]["response"]["store"], told[-1]["response"]["store"]] == [True, False]


async def test_what_a_provider_keeps_can_only_go_on_there(tmp_path: Path) -> None:
    """A lane of two: the provider's own answers stay with it, ours with the other."""
    async with Provider() as openai, Provider() as other:
        policy = f"""
kind: providers
providers:
  o: {{type: openai, base_url: "{openai.url}", api_key: sk-ours-alone}}
  c: {{type: compatible, base_url: "{other.url}"}}
---
kind: models
models:
  m: {{targets: [{{provider: o}}, {{provider: c}}], retry: {{attempts: 1}}}}
  o: {{targets: [{{provider: o}}]}}
  c: {{targets: [{{provider: c}}]}}
---
{POOR}
"""
        theirs = {"id": "resp_theirs", "object": "response", "status": "completed", "output": []}
        openai.script[:] = [answer(theirs), answer({"error": {"message": "down"}}, 500), answer(theirs)]
        async with gateway(tmp_path, policy) as running, running.client() as client:
            assert (await ask(client)).json()["id"] == "resp_theirs"
            ours = await ask(client)
            assert ours.headers["x-gateway-target"] == "c/m"
            ident = ours.json()["id"]
            assert (await ask(client, previous_response_id=ident)).headers["x-gateway-target"] == "c/m"
            assert (await ask(client, previous_response_id="resp_theirs")).headers[
                "x-gateway-target"
            ] == "o/m"
            odd: list[tuple[str, Any]] = [("o", ident), ("c", "resp_theirs"), ("c", []), ("c", {})]
            for model, previous in odd:
                refused = await ask(client, model=model, previous_response_id=previous)
                assert (refused.status_code, refused.json()["error"]["code"]) == (400, "mixed_providers")


async def ask(client: httpx.AsyncClient, **body: Any) -> httpx.Response:
    return await client.post("/v1/responses", json={"model": "m", "input": "hi", **body})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": [{"type": "web_search_call", "id": "ws_1", "status": "completed"}]}, "input[0]"),
        ({"input": [{"type": "dance"}]}, "input[0].type"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]}, "input[0]"),
        ({"tools": [{"type": "web_search"}], "tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"background": True, "store": False}, "background"),
        ({"background": "yes"}, "background"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"input": 5}, "input"),
        ({"input": ["x"]}, "input[0]"),
    ],
)
async def test_what_cannot_be_carried_is_named(tmp_path: Path, body: dict[str, Any], param: str) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        refused = await ask(client, **body)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, param)
        assert provider.asked == []


async def test_a_broken_stream_ends_in_a_failed_response(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        provider.script[:] = [stream(word("hel"), end=False)]
        told = test_messages.events((await ask(client, stream=True)).text)
        assert [one["type"] for one in told[-2:]] == ["error", "response.failed"]
        assert [one["sequence_number"] for one in told] == list(range(len(told)))
        assert told[-2]["error"]["code"] == "upstream_stream_broken"
        assert told[-1]["response"]["error"]["code"] == "server_error"


async def test_answers_kept_here_are_listed_counted_and_never_cancelled(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, _), running.client() as client:
        ident = (await ask(client, input=[{"role": "user", "content": word} for word in "abc"])).json()["id"]
        path = f"/v1/responses/{ident}"
        first = (await client.get(f"{path}/input_items?limit=2")).json()
        assert [one["content"][0]["text"] for one in first["data"]] == ["c", "b"]
        assert first["has_more"] is True
        rest = (await client.get(f"{path}/input_items?after={first['last_id']}")).json()
        assert [one["content"][0]["text"] for one in rest["data"]] == ["a"]
        for query in ("limit=0", "limit=" + "9" * 5000, "after=nothing"):
            assert (await client.get(f"{path}/input_items?{query}")).status_code == 400
        assert (await client.get(f"{path}?stream=true")).status_code == 400
        assert (await client.post(f"{path}/cancel")).status_code == 400
        for below, taken in (("", "GET, DELETE"), ("/input_items", "GET"), ("/cancel", "POST")):
            wrong = await client.put(path + below)
            assert (wrong.status_code, wrong.headers["allow"]) == (405, taken)
        assert (await client.get(f"{path}/other")).status_code == 404
        counted = await client.post(
            "/v1/responses/input_tokens",
            json={"model": "m", "previous_response_id": ident, "input": "x" * 400},
        )
        assert counted.json()["object"] == "response.input_tokens"
        assert counted.json()["input_tokens"] > 100
        assert counted.headers["x-gateway-estimated"] == "input_tokens"


async def test_the_sdk_compacts_a_conversation_and_goes_on_with_what_is_left(tmp_path: Path) -> None:
    """The summary is the model's own, asked for like any call, and the next turn reads it."""
    async with sdk(tmp_path) as (client, provider, running):
        provider.script[:] = [
            answer(completion({"content": "Rome it is."})),
            answer(completion({"content": "user wants Rome"})),
        ]
        first = await client.responses.create(model="m", input="Which city?")
        short = await client.responses.compact(model="m", input="Thanks", previous_response_id=first.id)
        asked = provider.asked[-1].json
        assert [one["role"] for one in asked["messages"]] == ["system", "user"]
        assert "assistant: Rome it is." in asked["messages"][1]["content"]
        assert (short.object, short.usage.total_tokens) == ("response.compaction", 10)
        assert [one.type for one in short.output] == ["message", "message", "compaction"]
        left: Any = [one.model_dump(exclude_none=True, warnings=False) for one in short.output]
        await client.responses.create(model="m", input=[*left, {"role": "user", "content": "Go on"}])
        told = [one["content"] for one in provider.asked[-1].json["messages"]]
        assert told[:2] == ["Which city?", "Thanks"]
        assert told[2].endswith("user wants Rome")
        assert told[3] == "Go on"
        assert (await running.usage())["total"]["calls"] == 3


async def test_what_is_another_teams_is_neither_summed_up_nor_counted(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        for action in ("compact", "input_tokens"):
            for more in ({"cachedContent": "cachedContents/x"}, {"conversation": "conv_1"}):
                body = {"model": "m", "input": "hi", **more}
                refused = await client.post(f"/v1/responses/{action}", json=body)
                assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
        assert provider.asked == []


async def test_a_summary_that_was_cut_off_is_no_compaction(tmp_path: Path) -> None:
    async with before(tmp_path) as (running, provider), running.client() as client:
        for reply in (
            answer(completion({"content": "half"}, "length")),
            answer(completion({"content": " "})),
            stream(word("hel")),
        ):
            provider.script[:] = [reply]
            refused = await client.post("/v1/responses/compact", json={"model": "m", "input": "hi"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (502, "upstream_error")
        for body in ({"model": "m"}, {"input": "hi"}, {"model": "m", "input": "hi", "stream": True}):
            assert (await client.post("/v1/responses/compact", json=body)).status_code in (400, 503)
        provider.script[:] = [
            answer({"error": {"message": "too long", "type": "invalid_request_error"}}, 400)
        ]
        refused = await client.post("/v1/responses/compact", json={"model": "m", "input": "hi"})
        assert (refused.status_code, refused.json()["error"]["message"]) == (400, "too long")
