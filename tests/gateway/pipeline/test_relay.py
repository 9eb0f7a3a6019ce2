"""What of an answer reaches the client, and how its stream ends."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.pipeline import relay
from gateway.wire import sse
from tests.running import gateway, policies, until_idle
from tests.scripted import DONE, FINISH, USAGE, Provider, answer, event, stream, word

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
    return text.replace('/v1"', '"') if kind in ("anthropic", "gemini") else text


def asked(path: str, **more: Any) -> dict[str, Any]:
    if "v1beta" in path:
        return {"contents": [{"role": "user", "parts": [{"text": "hi"}]}], **more}
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


# The end of a stream

STOPPED = event(type="message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
GENERATED = event(
    candidates=[{"content": {"role": "model", "parts": [{"text": "hello"}]}, "finishReason": "STOP"}]
)
WORD_OF_GEMINI = event(candidates=[{"content": {"role": "model", "parts": [{"text": "hello"}]}}])
ARRAY_OF_GEMINI = "/v1beta/models/smart:streamGenerateContent"
STREAM_OF_GEMINI = ARRAY_OF_GEMINI + "?alt=sse"
BEGUN = [
    (CHAT, "openai", word("hello")),
    (MESSAGES, "anthropic", STARTED + SAID),
    (RESPONSES, "openai", DELTA),
    (STREAM_OF_GEMINI, "gemini", WORD_OF_GEMINI),
]
SAYS_WHY = {"openai": word("hello") + FINISH, "anthropic": STARTED + SAID + STOPPED, "gemini": GENERATED}
ENDS = {
    CHAT: "data: [DONE]\n\n",
    MESSAGES: '"type":"message_stop"}\n\n',
    RESPONSES: '"type":"response.completed"',
    STREAM_OF_GEMINI: '"finishReason":"STOP"',
}


@pytest.mark.parametrize("kind", SAYS_WHY)
@pytest.mark.parametrize("path", ENDS)
async def test_a_stream_that_said_why_it_stops_and_stays_open_is_ended_as_a_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, kind: str
) -> None:
    monkeypatch.setattr(relay, "SETTLE_SECONDS", 0.001)
    monkeypatch.setattr(relay, "REASON_SECONDS", 0.001)
    async with Provider([stream(SAYS_WHY[kind], then=asyncio.Event().wait)]) as provider:  # type: ignore[arg-type]
        text = with_key(provider.url, "compatible" if kind == "openai" else kind)
        async with gateway(tmp_path, text) as running, running.client() as client:
            told = await read(client, path, asked(path))
            assert "hello" in told
            assert ENDS[path] in told[-1200:]
            assert "error" not in told.replace('"error":null', "")
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert (row["outcome"], row["completion_tokens"] > 0) == ("ok", True)


@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        (CHAT, "openai", word("hello") + FINISH + DONE),
        (MESSAGES, "openai", word("hello") + FINISH + DONE),
        (RESPONSES, "openai", DELTA + event(type="response.completed", response={"status": "completed"})),
        (CHAT, "anthropic", STARTED + SAID + STOPPED + event(type="message_stop")),
        (MESSAGES, "anthropic", STARTED + SAID + STOPPED + event(type="message_stop")),
        (ARRAY_OF_GEMINI, "openai", word("hello") + FINISH + DONE),
    ],
)
async def test_a_stream_that_is_cut_after_its_end_is_whole(
    tmp_path: Path, path: str, kind: str, told: bytes
) -> None:
    async with Provider([stream(told, end=False)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            came = await read(client, path, asked(path))
            assert "hello" in came
            assert "stream broke" not in came
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert row["outcome"] == "ok"


@pytest.mark.parametrize(
    ("path", "kind", "begun", "failed"),
    [
        (CHAT, "openai", word("hello"), event(error=LEAK)),
        (RESPONSES, "anthropic", STARTED + SAID, event(type="error", error=LEAK)),
        (MESSAGES, "openai", word("hello"), event(error=LEAK)),
        (MESSAGES, "openai", word("hello"), event(error=LEAK) + word("more") + event(error=LEAK)),
        (MESSAGES, "anthropic", STARTED + SAID, b"event: error\n" + event(type="error", error=LEAK)),
        (RESPONSES, "openai", DELTA, FAILED),
        (STREAM_OF_GEMINI, "gemini", GENERATED, event(error=LEAK)),
        (ARRAY_OF_GEMINI, "openai", word("hello"), event(error=LEAK)),
        (IMAGES, "openai", PARTIAL, event(type="error", error=LEAK)),
    ],
)
async def test_a_stream_that_is_cut_after_its_error_tells_no_second_one(
    tmp_path: Path, path: str, kind: str, begun: bytes, failed: bytes
) -> None:
    go_on = asyncio.Event()
    async with Provider([stream(begun, go_on, failed, end=False)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            came = await read(client, path, asked(path), go_on)
            assert len([one for one in sse.events(came.encode()) if b"bad key" in one]) == (
                2 if path == RESPONSES and kind != "openai" else 1  # an error, and the response that failed
            )
            assert "stream broke" not in came
            assert SECRET not in came
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert row["outcome"] == "upstream_error"


async def test_what_was_told_passes_as_it_came_before_such_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SETTLE_SECONDS", 0.001)
    monkeypatch.setattr(relay, "REASON_SECONDS", 0.001)
    for last in (b"", USAGE, DONE, DONE[:-1]):
        told = stream(word("hello") + FINISH + last, then=asyncio.Event().wait)  # type: ignore[arg-type]
        async with Provider([told]) as provider:
            async with gateway(tmp_path, with_key(provider.url)) as running, running.client() as client:
                came = await read(client, CHAT, asked(CHAT, stream_options={"include_usage": True}))
                end = b"" if last.startswith(DONE[:-1]) else DONE
                assert came.strip().encode() == (word("hello") + FINISH + last + end).strip()


async def test_while_one_of_several_answers_goes_on_a_stream_may_be_silent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "SETTLE_SECONDS", 0.001)
    monkeypatch.setattr(relay, "REASON_SECONDS", 0.001)
    go_on = asyncio.Event()
    told: list[bytes | asyncio.Event] = [word("one") + FINISH, go_on, word("two") + FINISH + DONE]
    for path in (CHAT, STREAM_OF_GEMINI):
        async with Provider([stream(*told)]) as provider:
            async with gateway(tmp_path, with_key(provider.url)) as running, running.client() as client:
                asyncio.get_running_loop().call_later(0.05, go_on.set)
                more = {"generationConfig": {"candidateCount": 2}} if path == STREAM_OF_GEMINI else {"n": 2}
                assert "two" in await read(client, path, asked(path, **more))


@pytest.mark.parametrize("path", [MESSAGES, CHAT])
async def test_anthropics_stream_that_ends_without_its_last_event_is_complete_once_it_said_why(
    tmp_path: Path, path: str
) -> None:
    async with Provider([stream(STARTED + SAID + STOPPED)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, "anthropic")) as running:
            async with running.client() as client:
                told = await read(client, path, asked(path))
            assert told.endswith(ENDS[path])
            total = (await running.usage())["total"]
            assert (total["prompt_tokens"], total["completion_tokens"], total["estimated"]) == (7, 3, 0)


WHOLE = {
    "openai": word("hello") + FINISH + DONE,
    "anthropic": STARTED + SAID + STOPPED + event(type="message_stop"),
    "gemini": event(candidates=[{"content": {"parts": [{"text": "hello"}]}, "finishReason": "STOP"}],
                    usageMetadata={"promptTokenCount": 7, "candidatesTokenCount": 3}),
}  # fmt: skip


@pytest.mark.parametrize(
    ("path", "kind"),
    [(CHAT, "openai"), (MESSAGES, "openai"), (RESPONSES, "openai"), (STREAM_OF_GEMINI, "openai"),
     (MESSAGES, "anthropic"), (CHAT, "anthropic"), (STREAM_OF_GEMINI, "gemini")],
)  # fmt: skip
async def test_what_breaks_behind_its_last_event_is_whole(tmp_path: Path, path: str, kind: str) -> None:
    for behind in (b"", b"<html></html>\n\n"):
        go_on = asyncio.Event()
        async with Provider([stream(WHOLE[kind], go_on, behind, end=False)]) as provider:
            text = with_key(provider.url, "compatible" if kind == "openai" else kind)
            async with gateway(tmp_path, text) as running, running.client() as client:
                told = await read(client, path, asked(path), go_on)
                assert "hello" in told
                assert "error" not in told.replace('"error":null', "")
                (row,) = (await running.usage(by="outcome"))["rows"]
                assert row["outcome"] == "ok"


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize(
    ("last", "outcome"),
    [(FINISH + USAGE + DONE, "ok"), (event(error={"message": "boom"}), "upstream_error")],
)
async def test_who_is_ended_behind_the_last_event_is_in_the_books_as_that_says(
    tmp_path: Path, last: bytes, outcome: str, *, leaves: bool
) -> None:
    go_on = asyncio.Event()
    async with Provider([stream(word("hello"), go_on, last, asyncio.Event())]) as provider:
        text = policies(provider.url, model="" if leaves else "timeouts: {total: 200ms}")
        async with gateway(tmp_path, text) as running, running.client() as client:
            async with client.stream("POST", CHAT, json=ASKED) as response:
                async for piece in response.aiter_text():
                    go_on.set()
                    if leaves and ("DONE" in piece or "boom" in piece):
                        break
            await until_idle(running)
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert row["outcome"] == outcome


async def test_of_what_follows_the_end_nothing_is_translated(tmp_path: Path) -> None:
    for path in (MESSAGES, RESPONSES, STREAM_OF_GEMINI, ARRAY_OF_GEMINI):
        go_on = asyncio.Event()
        async with Provider(
            [stream(WHOLE["openai"], go_on, word("more") + FINISH + USAGE + DONE)]
        ) as provider:
            text = with_key(provider.url, "compatible")
            async with gateway(tmp_path, text) as running, running.client() as client:
                told = await read(client, path, asked(path), go_on)
                assert ("hello" in told, "more" in told) == (True, False)
                total = (await running.usage())["total"]
                assert (total["completion_tokens"], total["estimated"]) == (3 * total["calls"], 0)


async def test_an_error_is_told_once_though_the_connection_breaks_behind_it(tmp_path: Path) -> None:
    error = event(error={"message": "boom", "type": "api_error"})
    for path in (CHAT, MESSAGES, RESPONSES, STREAM_OF_GEMINI):
        go_on = asyncio.Event()
        async with Provider([stream(word("hello"), go_on, error, end=False)]) as provider:
            text = with_key(provider.url, "compatible")
            async with gateway(tmp_path, text) as running, running.client() as client:
                told = await read(client, path, asked(path), go_on)
                assert ("boom" in told, "the provider's stream" in told) == (True, False)


async def test_a_stream_is_one_in_whichever_letters_its_type_is_written(tmp_path: Path) -> None:
    told = stream(word("hello") + FINISH + DONE, content_type=b"Text/Event-Stream; Charset=UTF-8")
    for path in (CHAT, MESSAGES):
        async with Provider([told]) as provider:
            async with gateway(tmp_path, with_key(provider.url)) as running, running.client() as client:
                assert (await read(client, path, asked(path))).endswith(ENDS[path])
                whole = await client.post(path, json=asked(path, stream=False))
                assert (whole.status_code, "hello" in whole.text) == (200, True)


@pytest.mark.parametrize(("path", "kind", "begun"), BEGUN)
async def test_a_page_in_the_middle_of_a_stream_is_shown_to_nobody(
    tmp_path: Path, path: str, kind: str, begun: bytes
) -> None:
    for page in (b"<html>10.0.0.7</html>\n\n", b"<html>10.0.0.7</html>"):
        go_on = asyncio.Event()
        async with Provider([stream(begun, go_on, page)]) as provider:
            async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
                told = (await read(client, path, asked(path), go_on)).encode()
                assert b"10.0.0.7" not in told
                assert "the provider's stream" in error_of(told.removeprefix(begun))["message"]


@pytest.mark.parametrize(
    ("kind", "only"),
    [
        ("compatible", word("hello").replace(b'"finish_reason":null', b'"finish_reason":"stop"')),
        ("gemini", GENERATED),
    ],
)
@pytest.mark.parametrize("path", ENDS)
async def test_what_the_only_event_says_is_told_once_though_its_blank_line_is_missing(
    tmp_path: Path, path: str, kind: str, only: bytes
) -> None:
    async with Provider([stream(only.rstrip(b"\n"))]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            told = await read(client, path, asked(path))
            assert told.count('"delta":"hello"' if path == RESPONSES else '"hello"') == 1
            assert ENDS[path] in told or told.startswith(only.decode().strip())
            assert "error" not in told.replace('"error":null', "")


async def test_a_stream_that_is_cut_before_it_said_why_is_broken(tmp_path: Path) -> None:
    for path in (MESSAGES, CHAT):
        async with Provider([stream(STARTED + SAID)]) as provider:
            async with gateway(tmp_path, with_key(provider.url, "anthropic")) as running:
                async with running.client() as client:
                    told = await read(client, path, asked(path))
                assert "ended before its end" in told
                assert ENDS[path] not in told


@pytest.mark.parametrize(
    ("path", "kind", "begun", "cut"),
    [
        (CHAT, "openai", word("hello"), b'data: {"choices":[{"index":0,"delta":{"content":"wo"}'),
        (MESSAGES, "anthropic", STARTED + SAID, SAID.rstrip()[:-1]),
        (RESPONSES, "openai", DELTA, b'data: {"type":"response.output_item.added","item":{"type":"message"}'),
        (STREAM_OF_GEMINI, "gemini", WORD_OF_GEMINI, b'data: {"candidates":[{"content":{"parts":[]}'),
    ],
)
async def test_an_event_that_an_error_cut_short_is_left_out_and_the_error_is_told(
    tmp_path: Path, path: str, kind: str, begun: bytes, cut: bytes
) -> None:
    """It looks whole, being cut just behind an inner bracket."""
    error, go_on = event(type="error", error={"message": "the engine died"}), asyncio.Event()
    async with Provider([stream(begun, go_on, cut, b"\n\n" + error)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            assert await read(client, path, asked(path), go_on) == (begun + error).decode()


COUNTED = {"promptTokenCount": 7, "candidatesTokenCount": 33}
LAST_WORD = event(
    candidates=[{"content": {"parts": [{"text": " you"}]}, "finishReason": "STOP"}], usageMetadata=COUNTED
)


@pytest.mark.parametrize("path", [CHAT, MESSAGES, RESPONSES])
async def test_geminis_stream_is_whole_once_an_event_told_why_it_stops_and_what_it_took(
    tmp_path: Path, path: str
) -> None:
    """None of its events is the last: what breaks behind it takes nothing away."""
    async with Provider([stream(WORD_OF_GEMINI, LAST_WORD, end=False)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, "gemini")) as running, running.client() as client:
            told = await read(client, path, asked(path))
            assert (" you" in told, ENDS[path] in told, "stream broke" in told) == (True, True, False)
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert (row["outcome"], row["prompt_tokens"], row["completion_tokens"], row["estimated"]) == (
                "ok", 7, 33, 0
            )  # fmt: skip


@pytest.mark.parametrize(
    ("last", "more"),
    [
        (LAST_WORD.replace(b"usageMetadata", b"other"), {}),
        (LAST_WORD + WORD_OF_GEMINI, {}),
        (LAST_WORD + WORD_OF_GEMINI[:-9], {}),
        (LAST_WORD, {"n": 2}),
    ],
    ids=["without usage", "before a word", "before half a word", "of one of two answers"],
)
async def test_geminis_stream_that_breaks_before_that_is_broken(
    tmp_path: Path, last: bytes, more: dict[str, Any]
) -> None:
    async with Provider([stream(WORD_OF_GEMINI, last, end=False)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, "gemini")) as running, running.client() as client:
            told = await read(client, CHAT, asked(CHAT, **more))
            assert ("upstream_stream_broken" in told, ENDS[CHAT] in told) == (True, False)


async def test_a_stream_that_the_gateway_breaks_off_fails_in_the_order_of_its_events(tmp_path: Path) -> None:
    begun = event(type="response.created", sequence_number=0, response={"id": "r", "status": "in_progress"})
    said = event(type="response.output_text.delta", sequence_number=1, delta="hello")
    for kind, told in (("openai", begun + said), ("compatible", word("hello"))):
        async with Provider([stream(told, asyncio.Event())]) as provider:
            async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
                client.headers["x-gateway-timeout"] = "0.3"
                came = (await read(client, RESPONSES, asked(RESPONSES))).encode()
                every = [json.loads(sse.data(one)) for one in sse.events(came)]
                assert [one["type"] for one in every[-2:]] == ["error", "response.failed"]
                assert [one["sequence_number"] for one in every] == list(range(len(every)))
                assert every[-1]["response"]["id"] == every[0]["response"]["id"]


# An event that is none

CUT = b'data: {"id":"c","choices":[{"delta":{"content": \n\n'


@pytest.mark.parametrize(("path", "kind", "begun"), BEGUN)
async def test_an_event_that_is_not_valid_ends_a_stream_in_an_error_that_sdks_can_read(
    tmp_path: Path, path: str, kind: str, begun: bytes
) -> None:
    go_on = asyncio.Event()
    async with Provider([stream(begun, go_on, CUT, begun, DONE)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            told = await read(client, path, asked(path), go_on)
            assert told.startswith(begun.decode())
            error = error_of(told.encode().removeprefix(begun))
            assert "the provider's stream broke: an event is not valid JSON" in error["message"]
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert row["outcome"] == "upstream_error"


def cut_inside(*, end: bytes, **said: Any) -> bytes:
    """An event that is cut just behind an inner bracket, and so looks like a whole one."""
    return event(**said)[: -2 - len(end)] + b"\n\n"


LAST_OF_RESPONSES = cut_inside(end=b"}", type="response.completed", response={"id": "r", "output": []})
LAST_OF_CHAT = cut_inside(end=b"]}", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
LAST_OF_MESSAGES = cut_inside(end=b"}", type="message_delta", usage={}, delta={"stop_reason": "end_turn"})
LAST_OF_GEMINI = cut_inside(end=b"]}", candidates=[{"content": {}, "finishReason": "STOP"}])


@pytest.mark.parametrize(
    ("path", "kind", "begun", "last"),
    [
        (CHAT, "openai", word("hello"), LAST_OF_CHAT),
        (MESSAGES, "anthropic", STARTED + SAID, LAST_OF_MESSAGES),
        (RESPONSES, "openai", DELTA, LAST_OF_RESPONSES),
        (STREAM_OF_GEMINI, "gemini", WORD_OF_GEMINI, LAST_OF_GEMINI),
        (STREAM_OF_GEMINI, "gemini", WORD_OF_GEMINI, LAST_OF_GEMINI[:-2]),
        (STREAM_OF_GEMINI, "gemini", WORD_OF_GEMINI, b""),
        (IMAGES, "openai", PARTIAL, b'event: image_generation.completed\ndata: {"b64_json": "AA'),
    ],
)
async def test_a_stream_whose_last_event_is_cut_ends_in_an_error(
    tmp_path: Path, path: str, kind: str, begun: bytes, last: bytes
) -> None:
    go_on = asyncio.Event()
    async with Provider([stream(begun, go_on, last)]) as provider:
        async with gateway(tmp_path, with_key(provider.url, kind)) as running, running.client() as client:
            told = (await read(client, path, asked(path), go_on)).encode()
            assert told.startswith(begun)
            assert "the provider's stream" in error_of(told.removeprefix(begun))["message"]
            (row,) = (await running.usage(by="outcome"))["rows"]
            assert row["outcome"] == "upstream_error"


def error_of(block: bytes) -> Any:
    """That of the only event that is left; behind one of Responses' only the response fails."""
    told, *failed = [json.loads(sse.data(one)) for one in sse.events(block)]
    assert [one["type"] for one in failed] == (["response.failed"] if "sequence_number" in told else [])
    return told["error"]


@pytest.mark.parametrize("cut", [b",", b',\r\n{"candidates": [{', b",\r\n{oops}", b""])
async def test_an_array_that_is_cut_ends_in_an_error_and_is_one(tmp_path: Path, cut: bytes) -> None:
    path, said, go_on = STREAM_OF_GEMINI.partition("?")[0], sse.data(WORD_OF_GEMINI), asyncio.Event()
    act = stream(b"[" + said, go_on, cut, content_type=b"application/json")
    async with Provider([act]) as provider:
        async with gateway(tmp_path, with_key(provider.url, "gemini")) as running, running.client() as client:
            first, last = json.loads(await read(client, path, asked(path), go_on))
            assert first == json.loads(said)
            assert "the provider's stream" in last["error"]["message"]


ELEMENT, ENDED = sse.data(WORD_OF_GEMINI), sse.data(GENERATED)
ERROR_OF_GEMINI = json.dumps({"error": {"code": 500, "message": "boom", "status": "INTERNAL"}}).encode()


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize(
    ("last", "told"),
    [
        (ENDED + b"]\n", []),
        (ELEMENT + b"]\n", ["the provider's stream"]),
        (ERROR_OF_GEMINI, ["boom"]),
        (ERROR_OF_GEMINI + b"]", ["boom"]),
        (ERROR_OF_GEMINI + b"," + ELEMENT, ["boom"]),
    ],
)
async def test_an_array_is_valid_and_tells_its_end_once_however_its_provider_leaves_it(
    tmp_path: Path, last: bytes, told: list[str], end: bool
) -> None:
    go_on = asyncio.Event()
    act = stream(b"[" + ELEMENT, go_on, b",\r\n" + last, content_type=b"application/json", end=end)
    async with Provider([act]) as provider:
        async with gateway(tmp_path, with_key(provider.url, "gemini")) as running, running.client() as client:
            came = json.loads(await read(client, ARRAY_OF_GEMINI, asked(ARRAY_OF_GEMINI), go_on))
            errors = [one["error"]["message"] for one in came if "error" in one]
            assert [error[: len(start)] for error, start in zip(errors, told, strict=True)] == told


async def test_an_array_passes_as_it_came_to_the_last_byte(tmp_path: Path) -> None:
    whole = b"[" + ELEMENT + b"\n,\r\n" + ENDED + b"\n]\n"
    for pieces in ([whole], [whole[at : at + 1] for at in range(len(whole))]):
        async with Provider([stream(*pieces, content_type=b"application/json")]) as provider:
            text = with_key(provider.url, "gemini")
            async with gateway(tmp_path, text) as running, running.client() as client:
                assert (await read(client, ARRAY_OF_GEMINI, asked(ARRAY_OF_GEMINI))).encode() == whole


async def test_an_array_that_begins_with_an_error_is_that_error(tmp_path: Path) -> None:
    error = {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED"}
    told = stream(json.dumps([{"error": error}], indent=1).encode(), content_type=b"application/json")
    async with Provider([told]) as provider:
        async with gateway(tmp_path, with_key(provider.url, "gemini")) as running, running.client() as client:
            path = STREAM_OF_GEMINI.partition("?")[0]
            came = await client.post(path, json=asked(path))
            assert (came.status_code, came.json()) == (429, {"error": error})


async def test_what_breaks_or_refuses_behind_a_glob_is_told_by_the_name_that_was_asked_for(
    tmp_path: Path,
) -> None:
    async with Provider([stream(word("a"), end=False)]) as upstream:
        text = policies(upstream.url).replace("smart:", '"sm*":')
        async with gateway(tmp_path, text) as running, running.client() as client:
            assert "(target p0/smart)" in await read(client, CHAT, ASKED)
            refused = await client.post(MESSAGES, json={**ASKED, "mcp_servers": [{"url": "u"}]})
            assert "(target p0/smart)" in refused.json()["error"]["message"]


async def test_a_stream_that_begins_with_one_leads_on(tmp_path: Path) -> None:
    async with (
        Provider([stream(CUT, DONE)]) as first,
        Provider([stream(word("well"), FINISH, DONE)]) as second,
    ):
        text = policies(first.url, second.url, model="retry: {attempts: 1}")
        async with gateway(tmp_path, text) as running, running.client() as client:
            assert "well" in await read(client, CHAT, asked(CHAT))
