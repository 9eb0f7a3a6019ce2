"""A real nginx before a real gateway, as docs/deploying.md has it."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from loadtests.children import free_port
from tests.running import KEY, Running, gateway, plain_client, policies
from tests.scripted import CHAT, DONE, FINISH, Provider, answer, stream, word
from tests.shared import ROOT

[DOCUMENTED] = re.findall(r"```nginx\n(.*?)```", (ROOT / "docs/deploying.md").read_text(), re.DOTALL)
BARE = "server { listen 443 ssl; location / { proxy_pass http://127.0.0.1:8080; } }"
CHATS = "/v1/chat/completions"
ASKS = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def nginx(folder: Path, running: Running, servers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client that asks through nginx, until the block ends."""
    if shutil.which("nginx") is None:
        pytest.skip("there is no nginx on this machine; `apt-get install nginx` brings it")
    port = free_port()
    servers = servers.replace("443 ssl", f"127.0.0.1:{port}").replace(
        "127.0.0.1:8080", f"127.0.0.1:{running.port}"
    )
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"user root; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.err; events {{}}\n"
        f"http {{ access_log off; {paths}\n{servers} }}"
    )
    words = ("-p", str(folder), "-e", f"{folder}/nginx.err", "-c", f"{folder}/nginx.conf")
    process = await asyncio.create_subprocess_exec("nginx", *words)
    try:
        async with plain_client(f"http://127.0.0.1:{port}", {"authorization": f"Bearer {KEY}"}) as client:
            await _listens(client)
            yield client
    finally:
        process.terminate()
        await process.wait()


async def _listens(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(10):
        while True:
            try:
                await client.get("/health/live")
            except httpx.ConnectError:
                await asyncio.sleep(0.02)  # nginx tells nobody that it listens
            else:
                return


@pytest.mark.parametrize("servers", [DOCUMENTED, BARE], ids=["documented", "bare"])
async def test_events_come_one_by_one(tmp_path: Path, servers: str) -> None:
    go_on = asyncio.Event()
    async with Provider([stream(word("one"), go_on, FINISH, DONE)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running:
            async with nginx(tmp_path, running, servers) as client:
                async with client.stream("POST", CHATS, json={**ASKS, "stream": True}) as came:
                    text = ""
                    async for (
                        piece
                    ) in came.aiter_text():  # a proxy that buffers would wait for an event of ours
                        text += piece
                        go_on.set()
                assert text.endswith("data: [DONE]\n\n")


async def test_large_bodies_pass(tmp_path: Path) -> None:
    async with Provider([answer(CHAT)]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        large = {**ASKS, "messages": [{"role": "user", "content": "x" * (3 << 20)}]}
        async with nginx(tmp_path, running, DOCUMENTED) as client:
            assert (await client.post(CHATS, json=large)).status_code == 200
        async with nginx(tmp_path, running, BARE) as client:
            assert (await client.post(CHATS, json=large)).status_code == 413


async def test_websockets_pass(tmp_path: Path) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with nginx(tmp_path, running, DOCUMENTED) as client:
            opening = {
                "connection": "Upgrade",
                "upgrade": "websocket",
                "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
                "sec-websocket-version": "13",
            }
            async with client.stream("GET", "/v1/responses", headers=opening) as came:
                assert came.status_code == 101
