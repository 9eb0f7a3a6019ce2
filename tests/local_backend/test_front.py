"""The server with a puppet for an engine: what its clients see while it loads, loses its engine, and ends."""

import asyncio
import json
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from local_backend import client as client_module
from local_backend.client import EngineClient, Process
from local_backend.config import BUNDLED
from local_backend.front import Front, listen
from local_backend.options import EngineConfig, Setup
from local_backend.preparation import Preparation
from local_backend.server import Server
from tests.local_backend import puppet

HELD = {"prompt": [puppet.HELD], "max_tokens": 5000}
QUICK = {"prompt": [5], "max_tokens": 3}


class House:
    def __init__(self, path: Path, drain: float) -> None:
        self.processes: list[Any] = []
        self.may_start = asyncio.Event()
        setup = Setup("puppet", config=EngineConfig(max_len=10_000))
        self.engine = EngineClient(setup, lambda line: None, self._start)
        app = Server(self.engine, Preparation.load(BUNDLED), ["puppet"], 1.0)
        self.front = Front(app, self.engine, drain)
        self.front.end_when_told(with_stdin=False)
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://engine", timeout=20)
        self._tasks = [
            asyncio.ensure_future(self.engine.run()),
            asyncio.ensure_future(self.front.serve(sockets=[listen(f"unix:{path}")])),
        ]

    async def _start(self, line: socket.socket) -> Process:
        await self.may_start.wait()
        process = await puppet.start(line)
        self.processes.append(process)
        return process

    async def get(self, path: str) -> httpx.Response:
        return await self._client.get(path)

    async def complete(self, **body: Any) -> httpx.Response:
        return await self._client.post("/v1/completions", json={"model": "puppet", **body})

    @asynccontextmanager
    async def stream(self, **body: Any) -> AsyncIterator[AsyncIterator[str]]:
        """The lines of a stream, the first of which has come."""
        asked = {"model": "puppet", "stream": True, **body}
        async with self._client.stream("POST", "/v1/completions", json=asked) as response:
            assert response.status_code == 200
            lines = response.aiter_lines()
            await anext(lines)
            yield lines

    async def healthy(self) -> None:
        async with asyncio.timeout(10):
            while (await self.get("/health")).status_code != 200:
                pass

    async def ended(self) -> None:
        async with asyncio.timeout(10):
            await self._tasks[1]

    async def close(self) -> None:
        await self._client.aclose()
        self.front.end()
        await self._tasks[1]
        self._tasks[0].cancel()
        with suppress(asyncio.CancelledError):
            await self._tasks[0]
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().remove_signal_handler(number)


@asynccontextmanager
async def house(tmp_path: Path, drain: float = 20, *, ready: bool = True) -> AsyncIterator[House]:
    made = House(tmp_path / "engine.sock", drain)
    try:
        if ready:
            made.may_start.set()
            await made.healthy()
        yield made
    finally:
        await made.close()


async def told(lines: AsyncIterator[str]) -> list[str]:
    return [line.removeprefix("data: ") async for line in lines if line]


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_health_and_calls_say_that_the_model_is_being_loaded(tmp_path: Path) -> None:
    async with house(tmp_path, ready=False) as front:
        health = await front.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "loading")
        assert "being loaded" in health.json()["reason"]
        refused = await front.complete(**QUICK)
        assert refused.status_code == 503
        assert refused.headers["retry-after"] == "1"
        assert refused.json()["error"]["code"] == "engine_unavailable"
        assert (await front.get("/v1/models")).json()["data"][0]["max_model_len"] is None
        front.may_start.set()
        await front.healthy()
        assert (await front.get("/v1/models")).json()["data"][0]["max_model_len"] == 10_000


async def test_a_killed_engine_is_told_to_all_its_callers_within_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "FIRST_PAUSE", 0.3)
    async with house(tmp_path) as front:
        whole = asyncio.ensure_future(front.complete(**HELD))
        async with (
            front.stream(**HELD) as one,
            front.stream(**HELD, n=2) as two,
            front.stream(**HELD) as three,
        ):
            os.kill(front.processes[0].pid, signal.SIGKILL)
            async with asyncio.timeout(1):
                for lines in (one, two, three):
                    *_, last = await told(lines)
                    error = json.loads(last)["error"]
                    assert (error["code"], error["type"]) == ("engine_unavailable", "server_error")
                    assert "ended" in error["message"]
                answer = await whole
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_unavailable")
        health = await front.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "restarting")
        assert "ended" in health.json()["reason"]
        await front.healthy()
        assert "backend_restarts_total 1\n" in (await front.get("/metrics")).text
        assert (await front.complete(**QUICK)).json()["usage"]["completion_tokens"] == 3


async def test_sigterm_lets_calls_in_flight_end_and_refuses_new_ones(tmp_path: Path) -> None:
    async with house(tmp_path) as front:
        async with front.stream(prompt=[puppet.HELD], max_tokens=5) as lines:
            terminate()
            async with asyncio.timeout(10):
                while (health := await front.get("/health")).status_code == 200:
                    pass
            assert health.json()["status"] == "draining"
            assert (await front.complete(**QUICK)).status_code == 503
            os.kill(front.processes[0].pid, signal.SIGUSR1)
            *_, last = await told(lines)
            assert last == "[DONE]"
        await front.ended()
        with pytest.raises(httpx.ConnectError):
            await front.get("/health")


async def test_what_is_not_done_when_the_drain_ends_is_told_so(tmp_path: Path) -> None:
    async with house(tmp_path, drain=0.05) as front:
        async with front.stream(**HELD) as lines:
            terminate()
            *_, last = await told(lines)
        assert "the server has ended" in json.loads(last)["error"]["message"]
        await front.ended()


async def test_a_second_signal_does_not_wait_for_calls_in_flight(tmp_path: Path) -> None:
    async with house(tmp_path) as front:
        async with front.stream(**HELD) as lines:
            terminate()
            async with asyncio.timeout(10):
                while (await front.get("/health")).status_code == 200:
                    pass
            terminate()
            *_, last = await told(lines)
        assert "the server has ended" in json.loads(last)["error"]["message"]
        await front.ended()


def test_a_path_is_taken_over_from_a_server_that_has_ended_and_from_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "engine.sock"
    listen(f"unix:{path}").close()
    with listen(f"unix:{path}"), pytest.raises(OSError, match="another server listens"):
        listen(f"unix:{path}")
    precious, folder, link = tmp_path / "precious.txt", tmp_path / "folder", tmp_path / "link"
    precious.write_text("kept")
    folder.mkdir()
    link.symlink_to(precious)
    for other in (precious, folder, link):
        with pytest.raises(OSError, match="something else than a socket"):
            listen(f"unix:{other}")
    assert link.read_text() == "kept"
