"""OpenAI's other endpoints: they pass as they are, and what one team makes no other team can touch."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from gateway.edge.endpoints import FAMILIES
from tests.gateway.edge.teams import ALL, COLLECTIONS, POOR, made, text
from tests.running import Running, gateway
from tests.scripted import DONE, FINISH, Act, Asked, Provider, answer, event, hang, stream, word


async def test_what_one_team_makes_is_not_there_for_another_wherever_it_is_made(tmp_path: Path) -> None:
    """Takes over a second: 15 kinds of objects, 20 requests each."""
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        for path in COLLECTIONS:
            await made(running, provider, path, "obj_1")
            await not_there_for_the_other(running, provider, path)
            await there_until_deleted(running, path)
    assert len(COLLECTIONS) == 15


async def not_there_for_the_other(running: Running, provider: Provider, path: str) -> None:
    before = len(provider.asked)
    async with running.client(POOR) as other:
        for method, below in (
            *(("GET", one) for one in ("", "/content", "/messages", "/input_items", "/items/x", "/files")),
            *(("POST", one) for one in ("", "/cancel", "/complete", "/parts", "/runs", "/remix")),
            *(("DELETE", one) for one in ("", "/items/x")),
            ("HEAD", ""),
            ("PUT", ""),
        ):
            refused = await other.request(method, f"{path}/obj_1{below}")
            assert refused.status_code == 404, (method, path, below)
            assert method == "HEAD" or refused.json()["error"]["code"] == "not_found"
    assert len(provider.asked) == before, "nothing left for the provider"


async def there_until_deleted(running: Running, path: str) -> None:
    async with running.client() as owner:
        for method, below in (("GET", ""), ("HEAD", ""), ("POST", "/cancel"), ("DELETE", "/items/x")):
            assert (await owner.request(method, f"{path}/obj_1{below}")).status_code == 200, (path, below)
        assert (await owner.delete(f"{path}/obj_1")).status_code == 200
        assert (await owner.get(f"{path}/obj_1")).status_code == 404, "deleted is forgotten"


async def test_what_could_not_be_deleted_stays_its_teams(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        provider.script[:] = [answer({"error": {"message": "in use"}}, 409), answer({"id": "file-1"})]
        async with running.client() as owner:
            refused = await owner.delete("/v1/files/file-1")
            assert (refused.status_code, refused.json()) == (409, {"error": {"message": "in use"}})
            assert (await owner.get("/v1/files/file-1")).status_code == 200


async def test_results_of_a_batch_are_learned_when_it_is_read(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/batches", "batch_1")
        provider.script[:] = [answer({"id": "batch_1", "output_file_id": "file-out"})]
        async with running.client() as owner, running.client(POOR) as other:
            assert (await owner.get("/v1/files/file-out/content")).status_code == 404
            assert (await owner.get("/v1/batches/batch_1")).status_code == 200
            assert (await owner.get("/v1/files/file-out/content")).status_code == 200
            assert (await other.get("/v1/files/file-out/content")).status_code == 404


async def test_a_files_content_claims_no_ids(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        provider.script[:] = [answer({"id": "resp_of_nobody"})]
        async with running.client() as owner:
            assert (await owner.get("/v1/files/file-1/content")).json() == {"id": "resp_of_nobody"}
            assert (await owner.get("/v1/responses/resp_of_nobody")).status_code == 404


@pytest.mark.parametrize("path", ["images/generations", "moderations", "audio/speech", "responses", "videos"])
async def test_who_may_use_some_models_leaves_none_to_the_provider(tmp_path: Path, path: str) -> None:
    some = text("URL", ALL).replace('free: {models: ["*"]', "free: {models: [whisper]")
    async with Provider() as provider, gateway(tmp_path, some.replace("URL", provider.url)) as running:
        async with running.client(POOR) as poor, running.client() as rich:
            refused = await poor.post(f"/v1/{path}", json={"prompt": "x", "input": "x"})
            error = refused.json()["error"]
            assert (refused.status_code, error["code"]) == (400, "missing_required_parameter")
            assert error["param"] == "model"
            assert not provider.asked
            assert (await rich.post(f"/v1/{path}", json={"prompt": "x", "input": "x"})).status_code == 200


CAPPED = """---
kind: rate-limits
rules: [{id: words, limit: 2000, unit: tokens, per: day, for_each: [team]}]
"""


@pytest.mark.parametrize(
    ("path", "asked", "name"),
    [
        ("responses", {"prompt": {"id": "pmpt_1"}, "input": "x"}, "max_output_tokens"),
        ("threads/runs", {"model": "gpt-5", "assistant_id": "obj_1"}, "max_completion_tokens"),
        ("threads/runs", {"assistant_id": "obj_1"}, "max_completion_tokens"),
        ("threads/obj_1/runs", {"assistant_id": "obj_1"}, "max_completion_tokens"),
    ],
)
async def test_a_teams_bound_holds_where_calls_pass_as_they_are(
    tmp_path: Path, path: str, asked: dict[str, Any], name: str
) -> None:
    async with Provider() as provider:
        policy = text(provider.url, ALL, CAPPED).replace(
            'research: {models: ["*"]', 'research: {models: ["*"], max_output_tokens: 1500'
        )
        async with gateway(tmp_path, policy) as running, running.client() as client:
            await made(running, provider, "/v1/threads", "obj_1")
            before = len(provider.asked)
            for more, code in (
                ({name: 1501}, "max_output_tokens_exceeded"),
                ({name: "x"}, "invalid_value"),
            ):
                refused = await client.post(f"/v1/{path}", json={**asked, **more})
                error = refused.json()["error"]
                assert (refused.status_code, error["code"], error["param"]) == (400, code, name)
            twice = orjson.dumps({**asked, name: 9})[:-1] + b', "%b": 1501}' % name.encode()
            refused = await client.post(f"/v1/{path}", content=twice)
            assert refused.json()["error"]["code"] == "duplicate_field"
            assert len(provider.asked) == before
            usage = {"input_tokens": 900, "output_tokens": 0}
            provider.script[:] = [answer({"id": "obj_2", "usage": usage})]
            assert (await client.post(f"/v1/{path}", json={**asked, name: 7})).status_code == 200
            assert provider.asked[-1].json == {**asked, name: 7}
            refused = await client.post(f"/v1/{path}", json=asked)
            code = refused.json()["error"]["code"]
            assert (refused.status_code, code) == (429, "rate_limit_exceeded"), "the bound is reserved"


async def test_a_teams_bound_is_added_where_a_call_that_passes_has_none(tmp_path: Path) -> None:
    async with Provider() as provider:
        policy = text(provider.url).replace(
            'research: {models: ["*"]', 'research: {models: ["*"], max_output_tokens: 50'
        )
        async with gateway(tmp_path, policy) as running, running.client() as client:
            body = {"prompt": {"id": "pmpt_1"}}
            assert (await client.post("/v1/responses", json=body)).status_code == 200
            assert provider.asked[-1].json == {**body, "max_output_tokens": 50}
            assert (await client.post("/v1/conversations", json={"items": []})).status_code == 200
            assert provider.asked[-1].json == {"items": []}


async def test_what_may_stand_once_stands_once_without_a_model_too(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            for path in ("moderations", "conversations", "responses"):
                twice = b'{"input": "x", "stream": true, "stream": false}'
                refused = await client.post(f"/v1/{path}", content=twice)
                error = refused.json()["error"]
                assert (refused.status_code, error["code"], error["param"]) == (
                    400,
                    "duplicate_field",
                    "stream",
                )
        assert provider.asked == []


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_stored_completion_is_its_teams(tmp_path: Path, streamed: bool) -> None:
    stop = word("", id="chatcmpl-1", usage={"prompt_tokens": 1, "completion_tokens": 1})
    act = stream(word("hi", id="chatcmpl-1"), stop, b"data: [DONE]\n\n") if streamed else None
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        provider.script[:] = [act or answer({"id": "chatcmpl-1", "choices": []})]
        async with running.client() as owner, running.client(POOR) as other:
            body = {"model": "gpt-5", "store": True, "stream": streamed, "messages": []}
            assert b"chatcmpl-1" in (await owner.post("/v1/chat/completions", json=body)).content
            provider.script[:] = [answer({"id": "chatcmpl-1"})]
            for below in ("", "/messages"):
                assert (await owner.get(f"/v1/chat/completions/chatcmpl-1{below}")).status_code == 200
                assert (await other.get(f"/v1/chat/completions/chatcmpl-1{below}")).status_code == 404
            update = {"metadata": {"file_id": "mine"}}
            assert (await owner.post("/v1/chat/completions/chatcmpl-1", json=update)).status_code == 200
            assert provider.asked[-1].json == update


async def test_a_chat_cannot_read_another_teams_file(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        provider.script[:] = [answer({"id": "c", "choices": []})]
        file = {"type": "file", "file": {"file_id": "file-1"}}
        body = {"model": "gpt-5", "messages": [{"role": "user", "content": [file]}]}
        async with running.client() as owner, running.client(POOR) as other:
            assert (await other.post("/v1/chat/completions", json=body)).status_code == 404
            assert (await owner.post("/v1/chat/completions", json=body)).status_code == 200


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_a_model_said_aloud_is_its_teams(tmp_path: Path, streamed: bool) -> None:
    said = {"id": "audio_1", "data": "QUJD", "transcript": "hi", "expires_at": 1}
    parts = ({"id": "audio_1"}, {"data": "QUJD"})
    events = [
        event(choices=[{"index": 0, "delta": {"audio": part}, "finish_reason": None}]) for part in parts
    ]
    whole = answer({"id": "c", "choices": [{"index": 0, "message": {"role": "assistant", "audio": said}}]})
    asks = {"model": "gpt-5", "modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}
    before = {"role": "assistant", "audio": {"id": "audio_1"}}
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as owner, running.client(POOR) as other:
            provider.script[:] = [stream(*events, FINISH, DONE) if streamed else whole]
            told = await owner.post("/v1/chat/completions", json={**asks, "stream": streamed, "messages": []})
            assert b"audio_1" in told.content
            provider.script[:] = [answer({"id": "d", "choices": []})]
            again = {"model": "gpt-5", "messages": [before, {"role": "user", "content": "go on"}]}
            assert (await other.post("/v1/chat/completions", json=again)).status_code == 404
            assert (await owner.post("/v1/chat/completions", json=again)).status_code == 200


def with_claude(provider: Provider) -> str:
    """Anthropic's provider at the same address beside OpenAI's."""
    claude = f'{{claude: {{type: anthropic, base_url: "{provider.url.removesuffix("/v1")}", api_key: k}}, o:'
    papers = text(provider.url).replace("{o:", claude, 1)
    return papers.replace("models: {whisper", 'models: {"claude-*": {targets: [{provider: claude}]}, whisper')


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_container_and_its_files_are_their_teams(tmp_path: Path, streamed: bool) -> None:
    container = {"id": "container_1", "expires_at": "2026-01-01T00:00:00Z"}
    made = {"type": "code_execution_output", "file_id": "file_1"}
    result = {"type": "code_execution_tool_result", "tool_use_id": "t", "content": {"content": [made]}}
    whole = answer({"id": "m", "type": "message", "content": [result], "container": container})
    events = (
        {"type": "content_block_start", "index": 0, "content_block": result},
        {"type": "message_delta", "delta": {"container": container}, "usage": {"output_tokens": 1}},
        {"type": "message_stop"},
    )
    told = stream(*(b"data: %b\n\n" % orjson.dumps(event) for event in events))
    asked = {"model": "claude-x", "max_tokens": 9, "messages": [{"role": "user", "content": "plot"}]}
    tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
    later: dict[str, Any] = {
        **asked,
        "messages": [{"role": "assistant", "content": [result]}],
        "tools": tools,
    }
    async with Provider() as provider, gateway(tmp_path, with_claude(provider)) as running:
        async with running.client() as owner, running.client(POOR) as other:
            provider.script[:] = [told if streamed else whole]
            first = {**asked, "tools": tools, "stream": streamed}
            assert (await owner.post("/v1/messages", json=first)).status_code == 200
            provider.script[:] = [whole]
            for body in (later, {**later, "container": "container_1"}, {**asked, "container": container}):
                refused = await other.post("/v1/messages", json=body)
                assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")
                assert (await owner.post("/v1/messages", json=body)).status_code == 200


async def test_what_a_tool_was_given_may_be_called_like_an_id(tmp_path: Path) -> None:
    used = {"type": "tool_use", "id": "t", "name": "read", "input": {"file_id": "doc-7", "container": "c"}}
    turns = [{"role": "assistant", "content": [used]}]
    async with Provider([answer({"type": "message", "content": []})]) as provider:
        async with gateway(tmp_path, with_claude(provider)) as running, running.client() as client:
            for path in ("/v1/messages", "/v1/messages/count_tokens"):
                body = {"model": "claude-x", "max_tokens": 9, "messages": turns}
                assert (await client.post(path, json=body)).status_code == 200


async def test_examples_of_an_evaluation_may_have_ids_of_their_own(tmp_path: Path) -> None:
    content = [{"item": {"id": "q1", "file_id": "x"}, "sample": {"id": "s"}}]
    body = {"data_source": {"type": "jsonl", "source": {"type": "file_content", "content": content}}}
    async with Provider([answer({"id": "eval_1"})]) as provider:
        async with gateway(tmp_path, text(provider.url, ALL)) as running, running.client() as client:
            assert (await client.post("/v1/evals", json=body)).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "resp_1"},
        {"conversation": {"id": "resp_1"}},
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "resp_1"}]}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["resp_1"]}]},
    ],
)
async def test_another_teams_ids_cannot_be_used_in_a_body(tmp_path: Path, body: dict[str, Any]) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/responses", "resp_1")
        async with running.client(POOR) as other:
            refused = await other.post("/v1/responses", json={"model": "gpt-5", **body})
            assert refused.status_code == 404
        async with running.client() as owner:
            assert (await owner.post("/v1/responses", json={"model": "gpt-5", **body})).status_code == 200


@pytest.mark.parametrize("field", ["video[id]", "images[0][file_id]", "file_ids[]"])
async def test_another_teams_ids_cannot_be_used_in_a_form(tmp_path: Path, field: str) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        await made(running, provider, "/v1/files", "file_1")
        form: Any = [("model", (None, b"gpt-5")), (field, (None, b"file_1"))]
        async with running.client(POOR) as other:
            refused = await other.post("/v1/videos/edits", files=form)
        async with running.client() as owner:
            assert (await owner.post("/v1/videos/edits", files=form)).status_code == 200
        assert (refused.status_code, len(provider.asked)) == (404, 2)


JSON_PARTS: list[tuple[str, tuple[str | None, bytes] | tuple[str | None, bytes, str]]] = [
    ("input_reference", (None, b'{"file_id": "file_1"}')),
    ("input_reference", (None, b'{"file_id": "file_1"}', "application/json")),
    ("input_reference", ("blob", b'{"file_id": "file_1"}', "application/json")),
    ("input_reference", (None, b'{"file\\u005fid": "file_1"}')),
    ("input_reference", (None, b'{"file_id": "file_1", "file_id": ""}')),
    ("video", (None, b'{"id": "file_1"}')),
    ("characters", (None, b'[{"id": "file_1"}]')),
    ("file_ids", (None, b'["file_1"]')),
    ("tools[0]", (None, b'{"container": {"file_ids": ["file_1"]}}')),
]


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("field", JSON_PARTS)
async def test_another_teams_ids_cannot_be_used_in_the_json_of_a_form(
    tmp_path: Path, field: Any, late: bool
) -> None:
    form: Any = [("model", (None, b"gpt-5")), ("prompt", (None, b"x")), field]
    if late:  # after a file that does not fit into one piece of the stream
        form.insert(1, ("mask", ("a.png", bytes(1 << 18), "image/png")))
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        await made(running, provider, "/v1/files", "file_1")
        async with running.client() as owner, running.client(POOR) as other:
            refused = await other.post("/v1/videos", files=form)
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
            assert len(provider.asked) == 1, "nothing whole came to the provider"
            assert (await owner.post("/v1/videos", files=form)).status_code == 200
            assert len(provider.asked) == 2


async def test_unknown_ids_in_the_json_of_a_form_are_not_there_either(tmp_path: Path) -> None:
    reference = (None, b'{"file_id": "file_of_nobody"}')
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        async with running.client() as client:
            forms: Any = (
                ("/v1/videos", {"model": (None, b"gpt-5"), "input_reference": reference}),
                ("/v1/containers", {"skills": (None, b'[{"skill_id": "skill_1"}]')}),
                ("/v1/files", {"file": ("a", b"x"), "expires_after": reference}),
            )
            for path, form in forms:
                refused = await client.post(path, files=form)
                assert refused.status_code == 404, path
        assert provider.asked == []


async def test_json_of_a_form_that_names_nothing_passes_as_it_came(tmp_path: Path) -> None:
    lines = b'{"file_id": "words of the client"}\n' * 50_000
    form: Any = [
        ("purpose", (None, b"batch")),
        ("expires_after", (None, b'{"anchor": "created_at", "seconds": 3600}')),
        ("metadata", (None, b'{"file_id": "mine"}')),
        ("name", (None, b"[draft] {mine}")),
        ("file", ("a.jsonl", lines, "application/json")),
    ]
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        async with running.client() as client:
            assert (await client.post("/v1/files", files=form)).status_code == 200
            said: Any = {"model": (None, b"gpt-5"), "prompt": (None, b'{"cast": [{"id": "hero"}]}')}
            assert (await client.post("/v1/videos", files=said)).status_code == 200
        sent = provider.asked[0].body
        assert lines in sent
        assert all(value[1] in sent for _, value in form)


async def test_a_streamed_response_is_its_teams_from_its_first_event(tmp_path: Path) -> None:
    events = [
        b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_s"}}\n\n',
        b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_s","usage":'
        b'{"input_tokens":4,"output_tokens":2}}}\n\n',
    ]
    async with Provider([stream(*events)]) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            body = {"model": "gpt-5", "stream": True, "input": "hi"}
            assert (await client.post("/v1/responses", json=body)).content == b"".join(events)
            provider.script[:] = [answer({"id": "resp_s"})]
            assert (await client.get("/v1/responses/resp_s")).status_code == 200
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["completion_tokens"]) == (4, 2)


USED = {"input_tokens": 40, "output_tokens": 20}
QUEUED = {"id": "resp_1", "object": "response", "status": "queued", "instructions": "x" * 900, "usage": None}
COMPLETED = {**QUEUED, "status": "completed", "usage": USED}
BACKGROUND = {"model": "gpt-5", "input": "hi", "background": True}
CREATED = event(type="response.created", response=QUEUED)
DELTA = event(type="response.output_text.delta", delta="words that are written")
LAST = event(type="response.completed", response=COMPLETED)


async def charged(running: Running) -> tuple[int, int]:
    total = (await running.usage())["total"]
    return total["prompt_tokens"], total["completion_tokens"]


def followed(*events: bytes) -> Act:
    """A stream that stays open until its client leaves."""

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await stream(*events, then=lambda: hang()(asked, writer))(asked, writer)

    return act


async def follow(provider: Provider, client: httpx.AsyncClient, method: str, path: str, **more: Any) -> None:
    """Leave a `followed` stream once it has told all."""
    async with client.stream(method, path, **more) as told:
        seen = b""
        async for chunk in told.aiter_bytes():
            seen += chunk
            if seen.endswith((DELTA, LAST)):
                break
    await provider.left.get()


async def test_what_is_read_again_is_not_charged_again(tmp_path: Path) -> None:
    async with Provider([answer(COMPLETED)]) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            await client.post("/v1/responses", json={"model": "gpt-5", "input": "hi"})
            for _ in range(2):
                await client.get("/v1/responses/resp_1")
        assert await charged(running) == (40, 20)


@pytest.mark.parametrize("model", [{"model": "gpt-5"}, {"prompt": {"id": "pmpt_1"}}])
async def test_a_background_run_is_charged_the_prompt_at_once_and_the_rest_when_it_is_first_read(
    tmp_path: Path, model: dict[str, Any]
) -> None:
    script = [answer(QUEUED), answer({**QUEUED, "status": "in_progress"}), answer(COMPLETED)]
    async with Provider(script) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            body = {**model, "input": "hi " * 30, "background": True}
            await client.post("/v1/responses", json=body)
            guess = await charged(running)
            assert (0 < guess[0] < 40, guess[1]) == (True, 0), "nothing is written yet"
            await client.get("/v1/responses/resp_1")
            assert await charged(running) == guess
            for _ in range(3):
                await client.get("/v1/responses/resp_1")
        assert await charged(running) == (40, 20)


async def test_a_guess_at_a_background_prompt_that_was_too_high_stands(tmp_path: Path) -> None:
    script = [answer(QUEUED), answer(COMPLETED)]
    async with Provider(script) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            await client.post("/v1/responses", json={**BACKGROUND, "input": "x" * 399})
            await client.get("/v1/responses/resp_1")
        assert await charged(running) == (100, 20)


async def test_a_background_run_takes_of_a_limit_what_it_tells(tmp_path: Path) -> None:
    limits = """---
kind: rate-limits
rules: [{id: some, limit: 10000, unit: tokens, per: day, for_each: [team]}]
"""
    script = [answer(QUEUED), answer(COMPLETED)]
    async with Provider(script) as provider, gateway(tmp_path, text(provider.url, more=limits)) as running:
        async with running.client() as client:
            await client.post("/v1/responses", json={**BACKGROUND, "input": "hi " * 30})
            for _ in range(2):
                read = await client.get("/v1/responses/resp_1")
        assert 9940 <= int(read.headers["x-ratelimit-remaining-tokens"]) <= 9941, "of 10,000, 60 were used"


@pytest.mark.parametrize("model", [{"model": "gpt-5"}, {"prompt": {"id": "pmpt_1"}}])
@pytest.mark.parametrize(
    "told",
    [answer(COMPLETED), stream(LAST), answer({"id": "resp_1", "output": "A" * (2 << 20), "usage": USED})],
)
async def test_what_a_background_run_tells_at_once_is_not_charged_again(
    tmp_path: Path, model: dict[str, Any], told: Act
) -> None:
    script = [told, answer(COMPLETED)]
    async with Provider(script) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            await client.post("/v1/responses", json={**model, "input": "hi", "background": True})
            await client.get("/v1/responses/resp_1")
        assert await charged(running) == (40, 20)


async def test_a_background_run_whose_client_left_its_stream_is_charged_once_it_is_read(
    tmp_path: Path,
) -> None:
    async with Provider([followed(CREATED, DELTA)]) as provider:
        async with gateway(tmp_path, text(provider.url)) as running, running.client() as client:
            await follow(provider, client, "POST", "/v1/responses", json={**BACKGROUND, "stream": True})
            assert await charged(running) == (1, 0)
            await follow(provider, client, "GET", "/v1/responses/resp_1?stream=true")
            assert await charged(running) == (1, 0)
            provider.script[:] = [answer(COMPLETED)]
            await client.get("/v1/responses/resp_1")
            assert await charged(running) == (40, 20)


async def test_who_leaves_once_all_is_told_is_charged_once(tmp_path: Path) -> None:
    async with Provider([followed(CREATED, LAST)]) as provider:
        async with gateway(tmp_path, text(provider.url)) as running, running.client() as client:
            await follow(provider, client, "POST", "/v1/responses", json={**BACKGROUND, "stream": True})
            assert await charged(running) == (40, 20)
            await follow(provider, client, "GET", "/v1/responses/resp_1?stream=true")
            assert await charged(running) == (40, 20)


async def test_a_large_answer_of_a_background_run_is_charged_by_its_end(tmp_path: Path) -> None:
    large = {"id": "resp_1", "output": "A" * (2 << 20), "usage": USED}
    script = [answer(QUEUED), answer(large)]
    async with Provider(script) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            await client.post("/v1/responses", json=BACKGROUND)
            for _ in range(2):
                await client.get("/v1/responses/resp_1")
        assert await charged(running) == (40, 20)


async def test_a_background_run_that_is_cancelled_is_charged_what_it_tells_then(tmp_path: Path) -> None:
    script = [answer(QUEUED), answer({**COMPLETED, "status": "cancelled"})]
    async with Provider(script) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            await client.post("/v1/responses", json=BACKGROUND)
            await client.post("/v1/responses/resp_1/cancel")
            await client.get("/v1/responses/resp_1")
        assert await charged(running) == (40, 20)


@pytest.mark.parametrize("path", ["/v1/threads/thread_1/runs", "/v1/threads/runs"])
async def test_a_run_of_a_thread_is_charged_once_it_tells_what_it_took(tmp_path: Path, path: str) -> None:
    used = {"prompt_tokens": 40, "completion_tokens": 20}
    run = {"id": "run_1", "object": "thread.run", "thread_id": "thread_1", "usage": None}
    step = {"id": "step_1", "usage": {"prompt_tokens": 30, "completion_tokens": 9}}
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        async with running.client() as client:
            if path != "/v1/threads/runs":
                await made(running, provider, "/v1/threads", "thread_1")
            provider.script[:] = [answer(run), answer(step), answer({**run, "usage": used})]
            await client.post(path, json={"model": "gpt-5"})
            guess, _ = await charged(running)
            assert 0 < guess < 40
            await client.get("/v1/threads/thread_1/runs/run_1/steps/step_1")
            assert await charged(running) == (guess, 0), "a part of what the run tells"
            for _ in range(2):
                assert (await client.get("/v1/threads/thread_1/runs/run_1")).status_code == 200
        assert await charged(running) == (40, 20)


@pytest.mark.parametrize("model_first", [True, False])
async def test_a_multipart_model_is_found_and_renamed_wherever_it_stands(
    tmp_path: Path, model_first: bool
) -> None:
    audio = bytes(range(256)) * 10_000  # 2.5 MB: past what is held in memory
    parts = [("model", (None, b"whisper")), ("file", ("a.wav", audio, "audio/wav"))]
    async with (
        Provider([answer({"text": "hi"})]) as provider,
        gateway(tmp_path, text(provider.url)) as running,
    ):
        async with running.client() as client:
            files: Any = parts if model_first else parts[::-1]
            response = await client.post("/v1/audio/transcriptions", files=files)
        assert response.json() == {"text": "hi"}
        sent = provider.asked[0]
        assert audio in sent.body
        assert b"\r\n\r\nwhisper-1\r\n" in sent.body
        assert len(sent.body) == int(sent.headers["content-length"])
        assert sent.headers["authorization"] == "Bearer provider-secret-key"


async def test_a_multipart_model_the_team_may_not_use_is_refused(tmp_path: Path) -> None:
    policy = text("URL").replace('free: {models: ["*"]}', "free: {models: [mini]}")
    async with Provider() as provider, gateway(tmp_path, policy.replace("URL", provider.url)) as running:
        async with running.client(POOR) as client:
            files: Any = [("file", ("a.wav", b"x")), ("model", (None, b"whisper"))]
            refused = await client.post("/v1/audio/transcriptions", files=files)
        assert (refused.status_code, provider.asked) == (403, [])


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=" + "-" * 1_000_00,
        "multipart/form-data; boundary=",
    ],
)
async def test_a_multipart_body_without_a_sound_boundary_is_a_400(tmp_path: Path, content_type: str) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            headers = {"content-type": content_type[:60_000]}
            response = await client.post("/v1/audio/transcriptions", content=b"x", headers=headers)
        assert response.status_code == 400


async def test_an_upload_goes_through_without_being_held(tmp_path: Path) -> None:
    async def pieces() -> Any:
        for _ in range(64):
            yield bytes(1 << 18)

    async with (
        Provider([answer({"id": "file-big"})]) as provider,
        gateway(tmp_path, text(provider.url)) as running,
    ):
        async with running.client() as client:
            headers = {"content-type": "multipart/form-data; boundary=b", "content-length": str(64 << 18)}
            response = await client.post("/v1/files", content=pieces(), headers=headers)
        assert response.json()["id"] == "file-big"
        assert len(provider.asked[0].body) == 64 << 18


async def test_a_binary_answer_passes_as_it_is(tmp_path: Path) -> None:
    sound = bytes(range(256)) * 4000
    act = answer(sound, content_type="audio/mpeg")
    async with Provider([act]) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            response = await client.post(
                "/v1/audio/speech", json={"model": "gpt-tts", "input": "hi", "voice": "x"}
            )
        assert response.content == sound
        assert response.headers["content-type"] == "audio/mpeg"


async def test_families_that_are_closed_open_by_policy_alone(tmp_path: Path) -> None:
    policy = text("URL", passthrough=", passthrough: [vector_stores]")
    async with Provider([answer({"id": "vs_1"})]) as provider:
        async with gateway(tmp_path, policy.replace("URL", provider.url)) as running:
            async with running.client() as closed, running.client(POOR) as opened:
                refused = await closed.post("/v1/vector_stores", json={})
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "route_not_allowed")
                assert (await opened.post("/v1/vector_stores", json={})).status_code == 200
                for never in ("/v1/organization/users", "/v1/projects/x", "/v1/realtime"):
                    assert (await opened.get(never)).status_code == 403


@pytest.mark.parametrize("path", sorted(f"/v1/{label}" for label in FAMILIES))
async def test_no_family_answers_without_a_key(path: str, shared_gateway: str) -> None:
    async with httpx.AsyncClient(base_url=shared_gateway) as client:
        for method in ("GET", "POST", "DELETE"):
            assert (await client.request(method, path)).status_code == 401
            assert (await client.request(method, f"{path}/x")).status_code == 401


@pytest.fixture
async def shared_gateway(tmp_path: Path) -> Any:
    async with gateway(tmp_path, text("http://127.0.0.1:9/v1")) as running:
        yield running.url


@pytest.mark.parametrize("path", ["/v1/files/..%2fadmin", "/v1/files/a%00b", "/v1/files/a b", "/v1/files//x"])
async def test_strange_path_segments_never_reach_a_provider(tmp_path: Path, path: str) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test-key-of-the-tests\r\n\r\n".encode()
        )
        status = int((await reader.readline()).split()[1])
        writer.close()
        assert status in (400, 404)
        assert provider.asked == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/audio/voices", 404),
        ("GET", "/v1/fine_tuning/checkpoints/x/permissions", 404),
        ("POST", "/v1/moderations/x", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "/v1/chat/other", 404),
        ("DELETE", "/v1/files", 405),
        ("HEAD", "/v1/files", 405),
        ("GET", "/v1/images/generations", 405),
        ("GET", "/v1/responses/compact", 405),
        ("OPTIONS", "/v1/files", 405),
    ],
)
async def test_what_is_in_no_row_is_refused(tmp_path: Path, method: str, path: str, status: int) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        async with running.client() as client:
            response = await client.request(method, path)
        assert (response.status_code, provider.asked) == (status, [])


async def test_websockets_elsewhere_are_refused_clearly(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
            response = await client.get("/v1/files", headers=headers)
        assert (response.status_code, provider.asked) == (400, [])
        assert response.json()["error"]["code"] == "websocket_not_supported"


async def test_a_form_of_unknown_length_passes_with_its_model_renamed(tmp_path: Path) -> None:
    bodies: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"transfer-encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        bodies.append(body)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    form = (
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n%b\r\n'
        b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\n%b\r\n--b--\r\n'
    )

    async def pieces() -> Any:
        yield (form % (b"sound", b"whisper"))[:70]
        yield (form % (b"sound", b"whisper"))[70:]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, gateway(tmp_path, text(url)) as running, running.client() as client:
        headers = {"content-type": "multipart/form-data; boundary=b"}
        response = await client.post("/v1/audio/transcriptions", content=pieces(), headers=headers)
    assert (response.status_code, bodies) == (200, [form % (b"sound", b"whisper-1")])


async def test_a_file_past_the_bound_is_a_413(tmp_path: Path) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield bytes(1 << 16)

    async with Provider([hang()]) as provider:
        async with (
            gateway(tmp_path, text(provider.url), max_file=1 << 20) as running,
            running.client() as client,
        ):
            headers = {"content-type": "multipart/form-data; boundary=b"}
            response = await client.post("/v1/files", content=bytes(2 << 20), headers=headers)
            assert response.status_code == 413
            assert provider.asked == []
            response = await client.post("/v1/files", content=endless(), headers=headers)
            assert response.status_code == 413
            await provider.left.get()  # the request that was under way is cut off


async def test_the_objects_of_a_call_decide_which_provider_gets_it(tmp_path: Path) -> None:
    async with Provider() as one, Provider() as two:
        policy = text(one.url).replace(
            "providers: {o:", f'providers: {{second: {{type: openai, base_url: "{two.url}", api_key: k}}, o:'
        )
        policy = policy.replace(
            "models: {whisper", "models: {both: {targets: [{provider: o}, {provider: second}]}, whisper"
        ).replace("whisper: {targets: [{provider: o", "whisper: {targets: [{provider: second")
        async with gateway(tmp_path, policy) as running, running.client() as client:
            two.script[:] = [answer({"id": "resp_two"})]
            body: dict[str, Any] = {"model": "whisper", "input": "x"}
            assert (await client.post("/v1/responses", json=body)).status_code == 200
            body = {"model": "both", "previous_response_id": "resp_two"}
            assert (await client.post("/v1/responses", json=body)).json() == {"id": "resp_two"}
            assert (await client.get("/v1/responses/resp_two")).json() == {"id": "resp_two"}
            assert (len(one.asked), len(two.asked)) == (0, 3)
            refused = await client.post("/v1/responses", json={**body, "model": "gpt-5"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "mixed_providers")


async def test_forms_and_raw_bodies_cannot_hide_a_model(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            response = await client.post("/v1/audio/transcriptions", data={"model": "forbidden"})
            assert response.status_code == 415
            twice: Any = [
                ("model", (None, b"whisper")),
                ("file", ("a", bytes(1 << 17))),
                ("model", (None, b"x")),
            ]
            response = await client.post("/v1/audio/transcriptions", files=twice)
            assert (response.status_code, response.json()["error"]["code"]) == (400, "duplicate_field")
        assert provider.asked == []


@pytest.mark.parametrize("kind", ["text/json", "application/x-www-form-urlencoded", "multipart/mixed"])
async def test_a_body_that_is_read_by_nobody_here_goes_nowhere(tmp_path: Path, kind: str) -> None:
    body = b'{"file_ids": ["file_1"]}'
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        await made(running, provider, "/v1/files", "file_1")
        async with running.client(POOR) as other:
            refused = await other.post("/v1/containers", content=body, headers={"content-type": kind})
        assert (refused.status_code, refused.json()["error"]["code"]) == (415, "unsupported_media_type")
        assert len(provider.asked) == 1


# Read as a form, both name a file.
NAMELESS = {"metadata": {"a": "&file_ids=file_1&"}, "input": "x"}
TWOFOLD = {**NAMELESS, "model": "gpt-5", "messages": []}
READ = [
    *(("POST", f"/v1/{one}", NAMELESS) for one in ("threads", "vector_stores", "responses")),
    *(("POST", f"/v1/{one}", TWOFOLD) for one in ("chat/completions", "embeddings")),
    *(("POST", f"/v1/responses{one}", TWOFOLD) for one in ("", "/compact", "/input_tokens")),
    ("POST", "/v1/batches/batch_1/cancel", NAMELESS),
    ("GET", "/v1/batches/batch_1", NAMELESS),
]


@pytest.mark.parametrize("kind", ["", "application/x-www-form-urlencoded", "text/json; charset=utf-16"])
async def test_what_was_read_as_json_goes_on_as_json(tmp_path: Path, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    async with Provider() as provider, gateway(tmp_path, text(provider.url, ALL)) as running:
        await made(running, provider, "/v1/batches", "batch_1")
        async with running.client() as client:
            for method, path, said in READ:
                body = orjson.dumps(said)
                came = await client.request(method, path, content=body, headers=headers)
                sent = provider.asked[-1]
                assert (came.status_code, sent.body, sent.line) == (200, body, f"{method} {path} HTTP/1.1")
                assert sent.headers["content-type"] == "application/json", path


async def test_what_has_no_body_goes_on_as_it_came(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            await client.get("/v1/files")
            assert "content-type" not in provider.asked[-1].headers
            await client.get("/v1/files", headers={"content-type": "application/json"})  # as SDKs ask
            assert provider.asked[-1].headers["content-type"] == "application/json"


async def test_query_and_unknown_fields_pass_as_they_came(tmp_path: Path) -> None:
    async with Provider([answer({"id": "r"})]) as provider, gateway(tmp_path, text(provider.url)) as running:
        body = b'{ "model":"gpt-5" , "new_field": 1.0, "stream": false}'
        async with running.client() as client:
            headers = {"content-type": "application/json; charset=utf-8", "idempotency-key": "k"}
            response = await client.post("/v1/responses?beta=true&a[]=1", content=body, headers=headers)
        assert response.status_code == 200
        sent = provider.asked[0]
        assert (sent.line, sent.body) == ("POST /v1/responses?beta=true&a[]=1 HTTP/1.1", body)
        assert sent.headers["content-type"] == "application/json"
        assert sent.headers["idempotency-key"] not in ("k", ""), (
            "teams share the account: their keys may not meet"
        )


async def test_every_call_is_metered_and_limited(tmp_path: Path) -> None:
    limits = """---
kind: rate-limits
rules: [{id: few, limit: 3, unit: requests, per: day, for_each: [team]}]
"""
    async with Provider([answer({"id": "file-1"})]) as provider:
        async with gateway(tmp_path, text(provider.url, more=limits)) as running, running.client() as client:
            files: Any = {"file": ("a", b"x")}
            assert (await client.post("/v1/files", files=files)).status_code == 200
            assert (await client.get("/v1/files/file-1")).status_code == 200
            assert (await client.head("/v1/files/file-1")).status_code == 200
            assert (await client.get("/v1/files/file-1")).status_code == 429
            assert (await running.usage("route"))["total"]["calls"] == 3


async def test_the_usage_of_an_answer_that_is_too_large_to_hold_is_read_at_its_end(tmp_path: Path) -> None:
    usage = {"input_tokens": 5, "output_tokens": 6, "input_tokens_details": {"cached_tokens": 1}}
    picture = {"created": 1, "data": [{"b64_json": "A" * (2 << 20)}], "usage": usage}
    async with Provider([answer(picture)]) as provider, gateway(tmp_path, text(provider.url)) as running:
        async with running.client() as client:
            response = await client.post("/v1/images/generations", json={"model": "gpt-image", "prompt": "x"})
            assert response.json() == picture
        total = (await running.usage())["total"]
        assert (total["prompt_tokens"], total["completion_tokens"]) == (5, 6)


class Sink:
    """A provider that counts an upload and keeps nothing of it; says when its client has gone."""

    def __init__(self) -> None:
        self.size = 0
        self.begun, self.gone = asyncio.Event(), asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        while self.size < length and (piece := await reader.read(1 << 20)):
            self.size += len(piece)
            self.begun.set()
        if self.size == length:
            body = b'{"id": "file-big"}'
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
            )
            writer.write(body)
            await writer.drain()
        self.gone.set()
        writer.close()


def resident() -> int:
    """Bytes of memory this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
async def test_200_megabytes_go_through_in_little_memory(tmp_path: Path) -> None:
    """Takes a second: that is what 200 MB through three sockets of one process cost."""
    sink, most = Sink(), 0
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    front = b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\n'
    end, piece = b"\r\n--b--\r\n", bytes(1 << 20)

    async def pieces() -> Any:
        nonlocal most
        yield front
        for _ in range(200):
            yield piece
            most = max(most, resident())
        yield end

    async with server, gateway(tmp_path, text(url)) as running, running.client() as client:
        before = resident()
        size = len(front) + len(end) + (200 << 20)
        headers = {"content-type": "multipart/form-data; boundary=b", "content-length": str(size)}
        response = await client.post("/v1/files", content=pieces(), headers=headers)
        assert response.json()["id"] == "file-big"
        assert sink.size == size
        assert most - before < 24 << 20


async def test_a_hang_up_in_mid_upload_ends_the_providers_request(tmp_path: Path) -> None:
    sink = Sink()
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    async with server, gateway(tmp_path, text(url)) as running:
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(
            b"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer sk-test-key-of-the-tests\r\n"
            b"content-type: multipart/form-data; boundary=b\r\ncontent-length: 100000\r\n\r\n--b\r\n"
        )
        await sink.begun.wait()
        writer.transport.abort()
        await asyncio.wait_for(sink.gone.wait(), 5)
        assert sink.size < 100_000
        while running.house.reception.in_flight:
            await asyncio.sleep(0.002)  # the call's own last word follows the provider's
        assert 'outcome="client_cancelled"' in await running.metrics()


async def test_a_download_comes_as_it_is_read(tmp_path: Path) -> None:
    released = asyncio.Event()

    async def slow(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: 8\r\n\r\nhalf"
        )
        await writer.drain()
        await released.wait()
        writer.write(b"done")

    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        provider.script[:] = [slow]
        async with running.client() as client, client.stream("GET", "/v1/files/file-1/content") as response:
            parts = response.aiter_raw()
            assert await anext(parts) == b"half"
            released.set()
            assert await anext(parts) == b"done"
