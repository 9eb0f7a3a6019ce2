"""Exchanges recorded at Google: untouched between equals, and nothing lost where another client asks, or where
a Gemini client asks another provider."""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.state.owners import Owner, Owners
from tests.contract import test_messages as anthropic
from tests.contract.recorded import (
    Chunking,
    Record,
    answer_of,
    at_random,
    byte_by_byte,
    recorded,
    replayed,
    whole,
)
from tests.running import ACCESS, KEY, gateway
from tests.scripted import Provider, answer, stream, word

APIS = ("generateContent", "streamGenerateContent", "countTokens", "embedContent")
REASONS = {
    "STOP": "stop", "MAX_TOKENS": "length", "SAFETY": "content_filter", "MODEL_ARMOR": "content_filter",
    "UNEXPECTED_TOOL_CALL": "error", "1": "stop", "2": "length",
}  # fmt: skip
UNASKED = re.compile(rb'"function_call"|"custom"')
# What recorded calls name that must be the team's.
OBJECT = re.compile(rb"(?:cachedContents|fileSearchStores|files)/[a-z0-9-]{12,}")
CHAT = {"model": "gemini-x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}
ASKED = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}


def records() -> list[Record]:
    return [one for provider in ("gemini", "vertex") for one in recorded(provider, *APIS)]


def answered() -> list[Record]:
    found = [one for one in records() if one["api"] in APIS[:2] and one["response"]["status"] == 200]
    assert len(found) >= 235
    return found


def streams() -> list[Record]:
    found = [one for one in records() if one["streaming"]]
    assert len(found) >= 32
    return found


def per_event(record: Record) -> list[bytes]:
    *events, rest = answer_of(record).split(b"\r\n\r\n")
    return [event + b"\r\n\r\n" for event in events] + ([rest] if rest else [])


def told_of(record: Record) -> bytes:
    """The recorded answer as clients may see it: whose project it was is not told to them."""
    return answer_of(record).replace(b"projects/fake-project", b"projects/***")


def path_of(record: Record) -> str:
    """Of the Gemini API, for what was asked of Vertex too."""
    url = httpx.URL(record["request"]["url"])
    path = "/v1beta/models/" + url.path.rpartition("/models/")[2]
    return f"{path}?{url.query.decode()}" if url.query else path


@asynccontextmanager
async def before(
    tmp_path: Path, kind: str = "gemini", root: str = ""
) -> AsyncIterator[tuple[httpx.AsyncClient, Provider]]:
    """A client of a gateway before one provider of this type."""
    async with Provider() as provider:
        url = provider.url.removesuffix("/v1") + root
        text = f"""
kind: providers
providers: {{it: {{type: {kind}, base_url: "{url}", api_key: key-ours-alone}}}}
---
kind: models
models: {{"*": {{targets: [{{provider: it}}], retry: {{attempts: 1}}}}}}
---
{ACCESS}
"""
        async with gateway(tmp_path, text) as running, running.client() as client:
            owners = Owners(running.house.database, lambda: 0.0)
            bodies = b" ".join(orjson.dumps(one["request"]["body"]) for one in records())
            objects = sorted({name.decode() for name in OBJECT.findall(bodies)})
            await owners.remember(objects, Owner("research", "it"), "files")
            yield client, provider


async def test_every_call_reaches_google_as_it_is_and_every_answer_the_client(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        for record in records():
            provider.script[:] = [replayed(record, whole(record))]
            body = orjson.dumps(record["request"]["body"])
            came = await client.post(path_of(record), content=body)
            assert provider.asked, (record["id"], came.text)
            asked = provider.asked.pop()
            assert asked.line == f"POST {path_of(record)} HTTP/1.1"
            assert asked.body == body
            assert asked.headers["x-goog-api-key"] == "key-ours-alone"
            assert "authorization" not in asked.headers
            refused_key = b"API_KEY_INVALID" in answer_of(record)
            assert (came.status_code, came.content) == (record["response"]["status"], told_of(record)) or (
                refused_key and came.status_code == 502
            ), record["id"]


@pytest.mark.parametrize("chunking", [per_event, at_random, byte_by_byte])
async def test_every_stream_passes_byte_for_byte_whatever_its_chunks(
    tmp_path: Path, chunking: Chunking
) -> None:
    chosen = streams() if chunking is not byte_by_byte else streams()[::4]
    async with before(tmp_path) as (client, provider):
        for record in chosen:
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post(path_of(record), json=record["request"]["body"])
            assert came.content == answer_of(record), record["id"]


@pytest.mark.parametrize("chunking", [whole, at_random])
async def test_a_stream_as_an_array_passes_byte_for_byte_too(tmp_path: Path, chunking: Chunking) -> None:
    """As Google writes it: one pretty-printed array, its elements made of recorded events."""
    async with before(tmp_path) as (client, provider):
        for record in streams()[::3]:
            told = orjson.dumps(events(answer_of(record).decode()), option=orjson.OPT_INDENT_2).decode()
            response = {"status": 200, "headers": {"content-type": "application/json"}, "body_text": told}
            array = record | {"response": response}
            provider.script[:] = [replayed(array, chunking(array))]
            path = path_of(record).partition("?")[0]
            came = await client.post(path, json=record["request"]["body"])
            assert provider.asked.pop().line == f"POST {path} HTTP/1.1"
            assert came.text == told
            assert came.headers["content-type"] == "application/json"


def events(text: str) -> list[dict[str, Any]]:
    data = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [orjson.loads(one) for one in data if one != "[DONE]"]


class Told(anthropic.Told):
    """What an answer says, out of either format; written apart from the code under test."""


def usage_of(counts: Mapping[str, Any]) -> dict[str, int]:
    return {
        "prompt": counts.get("promptTokenCount", 0) + counts.get("toolUsePromptTokenCount", 0),
        "cached": counts.get("cachedContentTokenCount", 0),
        "completion": counts.get("candidatesTokenCount", 0) + counts.get("thoughtsTokenCount", 0),
    }


def note_part(told: Told, part: dict[str, Any]) -> None:
    if "functionCall" in part:
        call = part["functionCall"]
        arguments = orjson.dumps(call.get("args", {})).decode()
        told.calls.append([call.get("id", ""), call["name"], arguments])
    elif part.get("thought"):
        told.thought += part["text"]
    elif "text" in part:
        told.text += part["text"]
    if "thoughtSignature" in part and not {"toolCall", "toolResponse"} & part.keys():
        told.signatures.append(part["thoughtSignature"])


def of_answers(answers: list[dict[str, Any]]) -> Told:
    """Gemini's answer, or the events of its stream: what is in the first candidate."""
    told = Told()
    for told_one in answers:
        first = [one for one in told_one.get("candidates", []) if one.get("index", 0) == 0]
        for candidate in first:
            for part in (candidate.get("content") or {}).get("parts", []):
                note_part(told, part)
            if reason := candidate.get("finishReason"):
                told.reason = REASONS[str(reason)]
        if feedback := told_one.get("promptFeedback"):
            told.text, told.reason = feedback["blockReasonMessage"], "content_filter"
        told.usage = usage_of(told_one.get("usageMetadata") or {})
    if told.calls and told.reason == "stop":
        told.reason = "tool_calls"
    return told


def expected(record: Record) -> Told:
    text = answer_of(record).decode()
    return of_answers(events(text) if record["streaming"] else [orjson.loads(text)])


def without_made_ids(told: anthropic.Told) -> anthropic.Told:
    for call in told.calls:
        if call[0].startswith("call_gem_"):
            call[0] = ""
    return told


def of_completion(completion: dict[str, Any]) -> anthropic.Told:
    message = completion["choices"][0]["message"]
    of_calls = [
        call["extra_content"]["google"]["thought_signature"]
        for call in message.get("tool_calls", [])
        if "extra_content" in call
    ]
    details = message.get("reasoning_details", [])
    assert [one["data"] for one in details if "id" in one] == of_calls, "told in both ways"
    for detail in details:
        detail.setdefault("signature", "")
    told = anthropic.of_completion(completion)
    told.text = told.text or message.get("refusal") or ""
    told.signatures = [one for one in told.signatures if one]
    return without_made_ids(told)


def of_chunks(text: str) -> anthropic.Told:
    """A chat stream, put together to the completion it tells."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "refusal": ""}
    message |= {"reasoning_details": [], "tool_calls": []}
    usage = reason = None
    assert text.endswith("data: [DONE]\n\n")
    for chunk in events(text):
        assert chunk["object"] == "chat.completion.chunk"
        usage = chunk["usage"] or usage
        for choice in chunk["choices"]:
            reason = choice["finish_reason"] or reason
            for name, value in choice["delta"].items():
                if name in message:
                    message[name] += value or ""
    assert [call.pop("index") for call in message["tool_calls"]] == [*range(len(message["tool_calls"]))]
    return of_completion({"choices": [{"message": message, "finish_reason": reason}], "usage": usage})


@pytest.mark.parametrize("chunking", [whole, per_event, at_random, byte_by_byte])
async def test_a_chat_client_is_told_all_that_gemini_said(tmp_path: Path, chunking: Chunking) -> None:
    """Text, thoughts and their signatures, calls with their ids and arguments, reason and usage."""
    async with before(tmp_path) as (client, provider):
        for record in answered() if chunking is whole else streams():
            provider.script[:] = [replayed(record, chunking(record))]
            asks = CHAT | {"stream": record["streaming"], "stream_options": {"include_usage": True}}
            came = await client.post("/v1/chat/completions", json=asks)
            assert came.status_code == 200, (record["id"], came.text)
            method = "streamGenerateContent?alt=sse" if record["streaming"] else "generateContent"
            assert provider.asked.pop().line == f"POST /v1beta/models/gemini-x:{method} HTTP/1.1"
            told = of_chunks(came.text) if record["streaming"] else of_completion(came.json())
            assert told == expected(record), record["id"]


def untold_by(record: Record, reason: str) -> int:
    """The status of an answer for which Messages has no words: of pictures, or of a generation that failed."""
    if b"inlineData" in answer_of(record):
        return 400
    return 502 if reason == "error" and not record["streaming"] else 0


@pytest.mark.parametrize("chunking", [whole, at_random])
async def test_an_anthropic_client_is_told_all_that_gemini_said(tmp_path: Path, chunking: Chunking) -> None:
    async with before(tmp_path) as (client, provider):
        for record in answered() if chunking is whole else streams():
            provider.script[:] = [replayed(record, chunking(record))]
            came = await client.post("/v1/messages", json=CHAT | {"stream": record["streaming"]})
            wanted = expected(record)
            if untold := untold_by(record, str(wanted.reason)):
                assert came.status_code == untold, (record["id"], came.text)
                continue
            assert came.status_code == 200, (record["id"], came.text)
            told = anthropic.of_stream(came.text) if record["streaming"] else anthropic.of_blocks(came.json())
            assert len([one for one in told.signatures if one]) == len(wanted.signatures)
            told.signatures = wanted.signatures = []  # packed: how they come back is told below
            told.reason = {"refusal": "content_filter"}.get(str(told.reason), told.reason)
            assert without_made_ids(told) == wanted, record["id"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_refusal_of_gemini_is_told_in_the_clients_words(tmp_path: Path, path: str) -> None:
    refused = [one for one in records() if one["response"]["status"] in (400, 404)]
    assert len(refused) >= 6
    async with before(tmp_path) as (client, provider):
        for record in refused:
            provider.script[:] = [replayed(record, whole(record))]
            came = await client.post(path, json=CHAT)
            said = orjson.loads(told_of(record))["error"]
            if "API key not valid" in said["message"]:
                assert came.status_code == 502
                continue
            kind = (
                "not_found_error"
                if said["code"] == 404 and path == "/v1/messages"
                else "invalid_request_error"
            )
            error = came.json()["error"]
            assert (came.status_code, error["message"], error["type"]) == (
                said["code"],
                said["message"],
                kind,
            )


def other(provider: str, api: str) -> list[Record]:
    """What other providers answered, of those answers that are told the same way in every format."""
    return [one for one in recorded(provider, api) if one["response"]["status"] == 200]


def of_gemini(came: httpx.Response, record: Record, how: str) -> Told:
    if not record["streaming"]:
        return of_answers([came.json()])
    if how == "array":
        return of_answers(came.json())
    return of_answers(events(came.text))


def asked_path(record: Record, how: str) -> str:
    if not record["streaming"]:
        return "/v1beta/models/m:generateContent"
    return "/v1beta/models/m:streamGenerateContent" + ("?alt=sse" if how == "sse" else "")


@pytest.mark.parametrize("how", ["sse", "array"])
async def test_a_gemini_client_is_told_all_that_anthropic_said(tmp_path: Path, how: str) -> None:
    async with before(tmp_path, "anthropic") as (client, provider):
        for record in other("anthropic", "messages"):
            provider.script[:] = [replayed(record, at_random(record))]
            came = await client.post(asked_path(record, how), json=ASKED)
            assert came.status_code == 200, (record["id"], came.text)
            told, wanted = of_gemini(came, record, how), anthropic.expected(record)
            signed = [one for one in wanted.signatures if one]
            assert len(told.signatures) == len(signed), record["id"]
            told.signatures = wanted.signatures = []
            assert told == wanted, record["id"]


@pytest.mark.parametrize("how", ["sse", "array"])
async def test_a_gemini_client_is_told_all_that_openai_said(tmp_path: Path, how: str) -> None:
    async with before(tmp_path, "openai", "/v1") as (client, provider):
        # Legacy functions and custom tools answer what no Gemini client can ask for.
        every = other("openai", "chat.completions")
        chosen = [one for one in every if not UNASKED.search(answer_of(one))]
        assert len(chosen) >= 150
        for record in chosen:
            provider.script[:] = [replayed(record, at_random(record))]
            came = await client.post(asked_path(record, how), json=ASKED)
            assert came.status_code == 200, (record["id"], came.text)
            assert of_gemini(came, record, how) == of_openai(record), record["id"]


def of_openai(record: Record) -> Told:
    """The first choice of a recorded completion; usage only where it was told."""
    told, text = Told(), answer_of(record).decode()
    answers = events(text) if record["streaming"] else [orjson.loads(text)]
    calls: dict[int, list[str]] = {}
    told.usage = {"prompt": 0, "cached": 0, "completion": 0}
    for one in answers:
        if usage := one.get("usage"):
            cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
            told.usage = {"prompt": usage["prompt_tokens"], "cached": cached}
            told.usage["completion"] = usage["completion_tokens"]
        for choice in one["choices"]:
            if choice["index"] != 0:
                continue
            message = choice.get("delta") or choice.get("message") or {}
            told.text += message.get("content") or message.get("refusal") or ""
            for place, call in enumerate(message.get("tool_calls") or []):
                kept = calls.setdefault(call.get("index", place), ["", "", ""])
                kept[0] += call.get("id") or ""
                kept[1] += call["function"].get("name") or ""
                kept[2] += call["function"].get("arguments") or ""
            reason = choice.get("finish_reason")
            told.reason = reason or told.reason
            if message.get("refusal"):
                told.reason = "content_filter"
    told.reason = told.reason or "stop"  # one told none (openai-chat_completions-7aed41dc30)
    for call in calls.values():
        told.calls.append([*call[:2], orjson.dumps(orjson.loads(call[2] or "{}")).decode()])
    return told


async def test_a_team_whose_output_is_bounded_gets_the_bound_added_where_gemini_takes_it(
    tmp_path: Path,
) -> None:
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [replayed(answered()[0], whole(answered()[0]))]
        path, poor = "/v1beta/models/mini:generateContent", {"authorization": "Bearer sk-poor"}
        assert (await client.post(path, json=ASKED, headers=poor)).status_code == 200
        assert provider.asked.pop().json == {"generationConfig": {"maxOutputTokens": 100}, **ASKED}
        own = ASKED | {"generationConfig": {"maxOutputTokens": 7}}
        await client.post(path, json=own, headers=poor)
        assert provider.asked.pop().json == own
        more = ASKED | {"generationConfig": {"maxOutputTokens": 700}}
        refused = await client.post(path, json=more, headers=poor)
        assert (refused.status_code, refused.json()["error"]["status"]) == (400, "INVALID_ARGUMENT")
        chat = {"model": "mini", "messages": CHAT["messages"]}
        await client.post("/v1/chat/completions", json=chat, headers=poor)
        assert provider.asked.pop().json["generationConfig"] == {"maxOutputTokens": 100}


async def test_a_key_comes_in_googles_header_and_one_in_the_query_goes_nowhere(tmp_path: Path) -> None:
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [replayed(answered()[0], whole(answered()[0]))]
        path = "/v1beta/models/m:generateContent?key=sk-of-the-client&trace=1"
        async with httpx.AsyncClient(base_url=client.base_url, trust_env=False) as bare:
            refused = await bare.post(path, json=ASKED)
            assert (refused.status_code, refused.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
            came = await bare.post(path, json=ASKED, headers={"x-goog-api-key": KEY})
        assert came.status_code == 200
        assert provider.asked[0].line == "POST /v1beta/models/m:generateContent?trace=1 HTTP/1.1"
        assert "sk-of-the-client" not in str(provider.asked[0].headers)


async def test_a_throttled_gemini_says_in_its_body_when_to_come_again(tmp_path: Path) -> None:
    delay = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "48s"}
    busy = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": [delay]}}
    async with before(tmp_path) as (client, provider):
        provider.script[:] = [answer(busy, 429)]
        came = await client.post("/v1/chat/completions", json=CHAT)
        assert (came.status_code, came.headers["retry-after"]) == (429, "48"), "where clients look for it"
        again = await client.post("/v1/messages", json=CHAT)
        assert (again.status_code, len(provider.asked)) == (503, 1), "it is left alone until then"


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/v1beta/models/:generateContent", (400, "INVALID_ARGUMENT")),
        ("/v1beta/models/m:sing", (405, "UNIMPLEMENTED")),
        ("/v1beta/models", (405, "UNIMPLEMENTED")),
        ("/v1beta/tunedModels", (404, "NOT_FOUND")),
    ],
)
async def test_what_is_no_method_of_a_model_is_refused_in_googles_words(
    tmp_path: Path, path: str, told: tuple[int, str]
) -> None:
    async with before(tmp_path) as (client, _):
        refused = await client.post(path, json=ASKED)
        assert (refused.status_code, refused.json()["error"]["status"]) == told


async def test_a_stream_that_breaks_ends_in_an_error_of_either_frame(tmp_path: Path) -> None:
    async with before(tmp_path, "openai", "/v1") as (client, provider):
        for how in ("sse", "array"):
            provider.script[:] = [stream(word("he"), end=False)]
            came = await client.post(asked_path({"streaming": True}, how), json=ASKED)
            told = came.json() if how == "array" else events(came.text)
            assert told[0]["candidates"][0]["content"]["parts"] == [{"text": "he"}]
            assert told[-1]["error"]["status"] == "INTERNAL"
