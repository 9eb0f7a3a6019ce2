"""The engine's process seen from the server, with a puppet for an engine: it dies, hangs, refuses, and is replaced."""

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from local_backend import client as module
from local_backend.client import EngineClient, Process, Stream, spawn
from local_backend.config import UnusableModel
from local_backend.options import Setup
from local_backend.types import BadJob, Delta, EngineGone, Finish, Full, Job, Sampling
from tests.local_backend import puppet

LONG = Sampling(max_tokens=10**6)


class Kept:
    """A client, its log, and the processes it has started."""

    def __init__(self, folder: str) -> None:
        self.log: list[str] = []
        self.processes: list[asyncio.subprocess.Process] = []
        self.client = EngineClient(Setup(folder), self.log.append, self._start)

    async def _start(self, line: socket.socket) -> Process:
        process = await puppet.start(line)
        assert isinstance(process, asyncio.subprocess.Process)
        self.processes.append(process)
        return process

    async def is_ready(self) -> None:
        await until(lambda: self.client.state == "ready")

    def kill(self, number: int = signal.SIGKILL) -> None:
        os.kill(self.processes[-1].pid, number)


@asynccontextmanager
async def kept(folder: str = "puppet") -> AsyncIterator[Kept]:
    keeper = Kept(folder)
    task = asyncio.ensure_future(keeper.client.run())
    try:
        yield keeper
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, UnusableModel):
            await task


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.002)  # another process goes on: there is no event


async def rest_of(stream: Stream) -> list[Delta]:
    found = [await stream.next()]
    while found[-1].finish is None:
        found.append(await stream.next())
    return found


async def test_jobs_go_in_and_deltas_come_out() -> None:
    async with kept() as keeper:
        assert keeper.client.state == "loading"
        await keeper.is_ready()
        assert keeper.client.max_len == 100
        first, second = keeper.client.submit(Job([5, 6], Sampling(max_tokens=3, logprobs=1), choices=2))
        for stream in (first, second):
            deltas = await rest_of(stream)
            assert [delta.ids for delta in deltas] == [(puppet.FIRST + place,) for place in (2, 3, 4)]
            assert deltas[-1].finish is Finish.LENGTH
            assert deltas[0].logprobs[0].likeliest == ((1, float("-inf")),)
        keeper.client.abort(first)  # nothing is left to abort
        metrics = await keeper.client.measure()
        assert metrics.steps >= 3
        assert metrics.aborts == 0
    assert keeper.client.reason == "the server has ended"
    assert keeper.processes[0].returncode == 0


async def test_who_waits_for_a_model_is_told_how_far_it_is() -> None:
    async with kept("heavy") as keeper:
        await until(lambda: bool(keeper.log))
        assert keeper.log == ["half of it is read"]
        await keeper.is_ready()


async def test_an_abort_reaches_the_engine_and_ends_the_stream_here() -> None:
    async with kept() as keeper:
        await keeper.is_ready()
        (stream,) = keeper.client.submit(Job([5], LONG))
        await stream.next()
        keeper.client.abort(stream)
        keeper.client.abort(stream)
        list(stream.waiting())  # what had come before
        async with asyncio.timeout(10):
            while (await keeper.client.measure()).aborts != 1:
                pass
        assert list(stream.waiting()) == []


async def test_what_the_engine_refuses_comes_on_every_stream_of_the_call() -> None:
    async with kept() as keeper:
        await keeper.is_ready()
        for stream in keeper.client.submit(Job([puppet.FULL], LONG, choices=2)):
            with pytest.raises(Full, match="7 requests") as full:
                await stream.next()
            assert full.value.retry_after == 7
        (stream,) = keeper.client.submit(Job([puppet.BAD], LONG))
        with pytest.raises(BadJob, match="no token 9003"):
            await stream.next()


async def test_a_killed_engine_ends_every_stream_at_once_and_is_replaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with kept() as keeper:
        await keeper.is_ready()
        client = keeper.client
        streams = [one for _ in range(5) for one in client.submit(Job([5], LONG, choices=2))]
        for stream in streams:
            await stream.next()
        keeper.kill()
        async with asyncio.timeout(10):
            for stream in streams:
                with pytest.raises(EngineGone, match="has ended"):
                    await rest_of(stream)
        with pytest.raises(EngineGone, match="restarting"):
            client.submit(Job([5], LONG))
        assert client.metrics.steps == 0, "what a dead engine was doing is over"
        await keeper.is_ready()
        assert client.restarts == 1
        assert keeper.log == ["the engine's process ended (signal 9); next start in 0.01 s"]
        (stream,) = client.submit(Job([5], Sampling(max_tokens=2)))
        assert len(await rest_of(stream)) == 2


async def test_an_engine_that_raises_ends_its_streams_with_its_process(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with kept() as keeper:
        await keeper.is_ready()
        (stream,) = keeper.client.submit(Job([puppet.CRASH], LONG))
        with pytest.raises(EngineGone):
            await stream.next()
        await until(lambda: bool(keeper.log))
        assert "(exit code 1)" in keeper.log[0]
        assert "strings are cut" in capfd.readouterr().err


async def test_an_engine_that_answers_no_ping_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.02)
    async with kept() as keeper:
        await keeper.is_ready()
        (stream,) = keeper.client.submit(Job([puppet.HELD], LONG))
        await stream.next()
        keeper.kill(signal.SIGSTOP)
        async with asyncio.timeout(5):
            with pytest.raises(EngineGone):
                await rest_of(stream)
        await until(lambda: bool(keeper.log))
        assert "left 10 pings unanswered and was killed" in keeper.log[0]


async def test_numbers_that_come_too_late_are_the_last_known(monkeypatch: pytest.MonkeyPatch) -> None:
    async with kept() as keeper:
        await keeper.is_ready()
        monkeypatch.setattr(module, "PATIENCE", 0.02)
        keeper.kill(signal.SIGSTOP)
        stat = Path(f"/proc/{keeper.processes[0].pid}/stat")
        await until(lambda: stat.read_text().split()[2] == "T")
        known = await keeper.client.measure()  # an answer from before may still be on its way
        assert await keeper.client.measure() is known
        keeper.kill()


async def test_an_engine_that_cannot_serve_its_model_is_not_started_again(
    capfd: pytest.CaptureFixture[str],
) -> None:
    keeper = Kept("unusable")
    with pytest.raises(UnusableModel, match="there is nothing in it"):
        await keeper.client.run()
    assert keeper.client.state == "unusable"
    assert keeper.client.restarts == 0
    assert "Traceback" not in capfd.readouterr().err


async def test_an_engine_that_keeps_dying_waits_longer_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.02)

    async def fail(line: socket.socket) -> Process:
        line.close()
        return await asyncio.create_subprocess_exec("/bin/false")

    log: list[str] = []
    task = asyncio.ensure_future(EngineClient(Setup("x"), log.append, fail).run())
    await until(lambda: len(log) >= 3)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert [line.rpartition("in ")[2] for line in log[:3]] == ["0.01 s", "0.02 s", "0.02 s"]


async def test_an_engine_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    log: list[str] = []
    client = EngineClient(Setup("x"), log.append, spawn)
    task = asyncio.ensure_future(client.run())
    await until(lambda: len(log) >= 2)
    assert client.state == "restarting"
    assert "could not be started: No such file" in client.reason
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_what_the_engine_says_must_be_understood() -> None:
    client = EngineClient(Setup("x"), lambda line: None)
    with pytest.raises(AssertionError, match="hullo"):
        client._take(["hullo"])
