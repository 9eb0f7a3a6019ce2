"""OpenAI's other endpoints: they pass as they are, and what one team makes no other team can touch."""

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.edge.endpoints import FAMILIES
from tests.running import ACCESS, Running, gateway
from tests.scripted import Provider, answer, stream

POOR = "sk-poor"


def text(url: str, passthrough: str = "") -> str:
    access = ACCESS.replace(
        "free: {models: [mini], max_output_tokens: 100}", f'free: {{models: ["*"]{passthrough}}}'
    )
    return f"""
kind: providers
providers: {{o: {{type: openai, base_url: "{url}", api_key: provider-secret-key}}}}
---
kind: models
models: {{whisper: {{targets: [{{provider: o, model: whisper-1}}]}}, "gpt-*": {{targets: [{{provider: o}}]}}}}
---
{access}
"""


async def made(running: Running, provider: Provider, path: str, ident: str) -> None:
    """Let the first team make an object."""
    provider.script[:] = [answer({"id": ident, "object": "x"})]
    async with running.client() as client:
        response = await client.post(path, json={"x": 1})
    assert response.json()["id"] == ident


@pytest.mark.parametrize(
    ("path", "ident"),
    [
        ("/v1/responses", "resp_1"),
        ("/v1/conversations", "conv_1"),
        ("/v1/files", "file-1"),
        ("/v1/uploads", "upload_1"),
        ("/v1/batches", "batch_1"),
    ],
)
async def test_what_one_team_makes_is_not_there_for_another(tmp_path: Path, path: str, ident: str) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, path, ident)
        async with running.client() as owner, running.client(POOR) as other:
            before = len(provider.asked)
            for method in ("GET", "DELETE"):
                refused = await other.request(method, f"{path}/{ident}")
                assert (refused.status_code, refused.json()["error"]["code"]) == (404, "not_found")
            assert (await other.post(f"{path}/{ident}/cancel")).status_code == 404
            assert len(provider.asked) == before, "nothing left for the provider"
            assert (await owner.get(f"{path}/{ident}")).status_code == 200
            assert (await owner.delete(f"{path}/{ident}")).status_code == 200
            assert (await owner.get(f"{path}/{ident}")).status_code == 404, "deleted is forgotten"


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


async def test_lists_show_a_team_its_own_objects_from_as_many_pages_as_it_takes(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, text(provider.url)) as running:
        await made(running, provider, "/v1/files", "file-1")
        pages = [
            {"data": [{"id": "file-9"}], "has_more": True, "first_id": "file-9", "last_id": "file-9"},
            {"data": [{"id": "file-1"}], "has_more": False},
        ]
        provider.script[:] = [answer(page) for page in pages]
        async with running.client() as client:
            listed = (await client.get("/v1/files?limit=5")).json()
        assert [one["id"] for one in listed["data"]] == ["file-1"]
        assert (listed["has_more"], listed["first_id"]) == (False, "file-1")
        assert provider.asked[-1].line.startswith("GET /v1/files?limit=100&after=file-9")


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
