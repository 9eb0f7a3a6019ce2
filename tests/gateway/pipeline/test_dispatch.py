"""What an answer is taken for: of another kind than was asked for, or no answer at all."""

import asyncio
import json
import socket
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import Running, gateway, policies
from tests.scripted import CHAT, DONE, FINISH, USAGE, Act, Asked, Provider, answer, event, stream, word

HI = [{"role": "user", "content": "hi"}]
COMPLETION = {"id": "c", "object": "text_completion", "choices": [{"index": 0, "text": "hello"}]}
RESPONSE = {
    "id": "resp_1", "object": "response", "status": "completed", "usage": {"input_tokens": 7, "output_tokens": 3},
    "output": [{"type": "message", "id": "msg_1", "content": [{"type": "output_text", "text": "hello"}]}],
}  # fmt: skip
MESSAGE = {
    "id": "m", "type": "message", "role": "assistant", "model": "c", "content": [{"type": "text", "text": "hello"}],
    "stop_reason": "end_turn", "usage": {"input_tokens": 7, "output_tokens": 3},
}  # fmt: skip
TOLD = b"".join(
    [
        event(type="message_start", message={**MESSAGE, "content": [], "usage": {"input_tokens": 7}}),
        event(type="content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event(type="content_block_delta", index=0, delta={"type": "text_delta", "text": "hello"}),
        event(type="content_block_stop", index=0),
        event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3}),
        event(type="message_stop"),
    ]
)
GENERATED = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP", "index": 0}],
    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 10},
}  # fmt: skip


def of_kind(kind: str, *urls: str) -> str:
    """Targets that speak the client's own dialect, each asked once."""
    text = policies(*urls, model="retry: {attempts: 1}").replace(
        "type: compatible", f"type: {kind}, api_key: k"
    )
    return text if kind in ("openai", "compatible") else text.replace('/v1"', '"')


async def ask(running: Running, path: str, *, streamed: bool) -> httpx.Response:
    body: dict[str, Any] = {"model": "smart", "max_tokens": 9, "messages": HI, "prompt": "hi", "input": "hi"}
    body = {"contents": [{"parts": [{"text": "hi"}]}]} if "v1beta" in path else body | {"stream": streamed}
    async with running.client() as client:
        return await client.post(path, json=body)


@pytest.mark.parametrize(
    ("path", "kind", "came", "last"),
    [
        ("/v1/chat/completions", "openai", CHAT, "data: [DONE]"),
        ("/v1/messages", "anthropic", MESSAGE, "event: message_stop"),
        ("/v1beta/models/smart:streamGenerateContent?alt=sse", "gemini", GENERATED, '"finishReason":"STOP"'),
        (
            "/v1/responses",
            "openai",
            RESPONSE,
            '"response.completed","sequence_number":3,"response":{"id":"resp_1"',
        ),
    ],
)
async def test_who_asks_for_a_stream_gets_one_of_a_provider_that_answers_whole(
    tmp_path: Path, provider: Provider, path: str, kind: str, came: dict[str, Any], last: str
) -> None:
    provider.script[:] = [answer(came)]
    async with gateway(tmp_path, of_kind(kind, provider.url)) as running:
        told = await ask(running, path, streamed=True)
        assert (told.status_code, told.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        assert "hello" in told.text
        assert last in told.text
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["completion_tokens"], total["estimated"]) == (7, 3, 0)


@pytest.mark.parametrize(
    ("path", "kind", "events", "said"),
    [
        ("/v1/chat/completions", "openai", [word("hel"), word("lo"), FINISH, USAGE, DONE], CHAT),
        ("/v1/messages", "anthropic", [TOLD], MESSAGE),
        ("/v1beta/models/smart:generateContent", "gemini", [event(**GENERATED)], GENERATED),
        ("/v1/responses", "openai", [event(type="response.completed", response=RESPONSE)], RESPONSE),
    ],
)
async def test_who_asks_for_one_answer_gets_it_of_a_provider_that_streams(
    tmp_path: Path, provider: Provider, path: str, kind: str, events: list[bytes], said: dict[str, Any]
) -> None:
    provider.script[:] = [stream(*events)]
    async with gateway(tmp_path, of_kind(kind, provider.url)) as running:
        told = await ask(running, path, streamed=False)
        assert (told.status_code, told.headers["content-type"]) == (200, "application/json")
        assert [name for name in ("choices", "content", "candidates", "output") if name in told.json()] == [
            name for name in ("choices", "content", "candidates", "output") if name in said
        ]
        assert "hello" in told.text
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["completion_tokens"], total["estimated"]) == (7, 3, 0)


@pytest.mark.parametrize(
    ("path", "act", "streamed"),
    [
        ("/v1/completions", answer(COMPLETION), True),
        ("/v1/completions", stream(event(**COMPLETION), DONE), False),
        ("/v1/embeddings", stream(event(object="list", data=[])), False),
        ("/v1/chat/completions", answer(b"<html>", content_type="text/html"), True),
    ],
)
async def test_where_it_cannot_be_told_as_was_asked_another_target_answers_or_it_is_a_502(
    tmp_path: Path, path: str, act: Act, streamed: bool
) -> None:
    refused = answer({"error": {"message": "no"}}, 400)
    async with Provider([act]) as first, Provider([refused]) as second:
        async with gateway(tmp_path, of_kind("openai", first.url, second.url)) as running:
            assert (await ask(running, path, streamed=streamed)).status_code == 400
            assert (len(first.asked), len(second.asked)) == (1, 1)
        async with gateway(tmp_path, of_kind("openai", first.url)) as running:
            told = await ask(running, path, streamed=streamed)
            assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_error")


async def test_an_error_in_place_of_a_stream_is_told_as_one(tmp_path: Path, provider: Provider) -> None:
    provider.script[:] = [answer({"error": {"message": "slow down", "type": "rate_limit_error"}})]
    async with gateway(tmp_path, of_kind("openai", provider.url)) as running:
        for path in ("/v1/chat/completions", "/v1/completions", "/v1/responses"):
            told = await ask(running, path, streamed=True)
            assert (told.status_code, told.json()["error"]["message"]) == (429, "slow down")


async def test_a_field_called_stream_makes_no_stream_of_what_is_never_streamed(
    tmp_path: Path, provider: Provider
) -> None:
    vectors = {"object": "list", "data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    provider.script[:] = [answer(vectors)]
    async with gateway(tmp_path, of_kind("openai", provider.url)) as running:
        assert (await ask(running, "/v1/embeddings", streamed=True)).json() == vectors


# What is no answer

FAILED = {**CHAT, "choices": [{**CHAT["choices"][0], "finish_reason": "error", "error": {"message": "boom"}}]}  # type: ignore[index]


@pytest.mark.parametrize(
    ("act", "streamed"),
    [
        (stream(DONE), True),
        (stream(b": hello\n\n", DONE, then=asyncio.Event().wait), True),  # type: ignore[arg-type]
        (stream(DONE), False),
        (stream(b"event: error\n" + event(message="boom")), True),
        (stream(b"event: error\n" + event(message="boom"), then=asyncio.Event().wait), True),  # type: ignore[arg-type]
        (answer({"detail": "x"}), False),
        (answer({"choices": None}), False),
        (answer({"choices": {}}), True),
        (answer(FAILED), False),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_what_is_no_answer_leads_on_or_is_a_502(
    tmp_path: Path, path: str, act: Act, streamed: bool
) -> None:
    said = [stream(word("well"), FINISH, DONE)] if streamed else [answer(CHAT)]
    async with Provider([act]) as first, Provider(said) as second:
        async with gateway(tmp_path, of_kind("compatible", first.url, second.url)) as running:
            told = await ask(running, path, streamed=streamed)
            assert (told.status_code, told.headers["x-gateway-target"]) == (200, "p1/smart")
        async with gateway(tmp_path, of_kind("compatible", first.url)) as running:
            told = await ask(running, path, streamed=streamed)
            assert (told.status_code, "error" in told.json()) == (502, True)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
async def test_an_error_by_name_alone_is_told_in_the_providers_words(
    tmp_path: Path, provider: Provider, path: str
) -> None:
    kind = {"/v1/messages": "anthropic", "/v1/responses": "openai"}.get(path, "compatible")
    provider.script[:] = [stream(b"event: error\n" + event(message="boom"))]
    async with gateway(tmp_path, of_kind(kind, provider.url)) as running:
        told = await ask(running, path, streamed=True)
        assert (told.status_code, told.json()["error"]["message"]) == (502, "boom")


@pytest.mark.parametrize(
    ("act", "why"),
    [
        (answer(b"<title>No certificate was sent</title>", 400, "text/html"), "No certificate was sent"),
        (answer(b"", 307, location="https://inside.test/v2?sig=secret"),
         "p0/smart (redirected to https://inside.test/v2): it answered 307, a redirect; these are not followed: "
         "set its address to where that leads"),
    ],
)  # fmt: skip
async def test_operators_are_told_what_came_in_place_of_an_answer(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], act: Act, why: str
) -> None:
    async with Provider([act]) as provider:
        text = policies(provider.url, model="retry: {attempts: 1}")
        async with gateway(tmp_path, text, log_level="info") as running:
            response = await running.chat()
    [line] = [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"msg":"call"' in line]
    assert line["attempts"][0]["why"] == why
    assert "inside.test" not in response.text
    assert "certificate" not in response.text


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_refuses_and_resets_the_connection_is_asked_once(tmp_path: Path, streamed: bool) -> None:
    async def refuse(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b'HTTP/1.1 413 Content Too Large\r\nconnection: close\r\n\r\n{"error": {"message": "too large"}}'
        )
        await writer.drain()
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST instead of FIN
        writer.transport.abort()

    async with Provider([refuse]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        response = await running.chat(stream=streamed)
        assert (response.status_code, response.json()) == (413, {"error": {"message": "too large"}})
        assert len(provider.asked) == 1
