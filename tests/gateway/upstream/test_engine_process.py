import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from gateway.upstream import engine_process as module
from gateway.upstream.client import Upstream
from gateway.upstream.engine_process import EngineProcess
from tests.gateway.upstream.scripted import until

# An engine of a few lines: healthy at its third question, ends with its standard input.
ENGINE = """
import asyncio, sys, os
asked = 0
async def serve(reader, writer):
    global asked
    await reader.readuntil(b"\\r\\n\\r\\n")
    asked += 1
    status = b"200 OK" if asked > 2 else b"503 Loading"
    writer.write(b"HTTP/1.1 " + status + b"\\r\\ncontent-length: 0\\r\\n\\r\\n")
    await writer.drain()
    writer.close()
async def main():
    print("loading", file=sys.stderr, flush=True)
    await asyncio.start_unix_server(serve, sys.argv[1])
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
asyncio.run(main())
"""


class Story:
    """What its log said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, level: str, message: str) -> None:
        self.lines.append(f"{level}: {message}")

    def has(self, words: str) -> bool:
        return any(words in line for line in self.lines)


@asynccontextmanager
async def kept(
    command: list[str], socket: Path, upstream: Upstream
) -> AsyncIterator[tuple[EngineProcess, Story]]:
    story = Story()
    process = EngineProcess(command, str(socket), upstream, story)
    task = asyncio.get_running_loop().create_task(process.run())
    try:
        yield process, story
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def engine(socket: Path) -> list[str]:
    return [sys.executable, "-c", ENGINE, str(socket)]


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_an_engine_is_started_awaited_and_stopped(upstream: Upstream, tmp_path: Path) -> None:
    socket = tmp_path / "run" / "engine.sock"
    async with kept(engine(socket), socket, upstream) as (process, story):
        states = [process.state]
        async with asyncio.timeout(10):
            await process.ready.wait()
        states.append(process.state)
        assert states == ["starting", "ready"]
        assert process.pid is not None
        assert story.has("info: local engine: loading")
        assert story.has(f"is ready (pid {process.pid})")
    assert process.state == "stopped"
    assert not runs(process.pid)


async def test_an_engine_that_dies_is_started_again(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    socket = tmp_path / "engine.sock"
    async with kept(engine(socket), socket, upstream) as (process, story):
        async with asyncio.timeout(10):
            await process.ready.wait()
        first = process.pid
        assert first is not None
        os.kill(first, 9)
        await until(lambda: process.state == "restarting")
        assert not process.ready.is_set()
        async with asyncio.timeout(10):
            await process.ready.wait()
        assert process.pid != first
        assert process.restarts == 1
        assert story.has("error: the local engine ended (exit code -9); next start in 0.05 s")


async def test_an_engine_that_keeps_dying_waits_longer_each_time(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.04)
    async with kept(["/bin/false"], tmp_path / "engine.sock", upstream) as (process, story):
        await until(lambda: process.restarts >= 4)
    pauses = [line.rpartition("in ")[2] for line in story.lines if "exit code 1" in line]
    assert pauses[:4] == ["0.01 s", "0.02 s", "0.04 s", "0.04 s"]


async def test_an_engine_that_cannot_be_started_is_named(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    async with kept(["/no/such/engine"], tmp_path / "engine.sock", upstream) as (process, story):
        await until(lambda: process.restarts >= 2)
        assert story.has("could not be started (/no/such/engine: No such file or directory)")


async def test_of_two_with_one_socket_the_second_waits_for_the_first(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.02)
    socket = tmp_path / "engine.sock"
    async with kept(engine(socket), socket, upstream) as (first, _):
        await until(first.ready.is_set)
        async with kept(engine(socket), socket, upstream) as (second, story):
            await until(lambda: second.restarts >= 2)
            assert story.has(
                f"could not be started (the local engine at {socket} is that of another gateway "
            )
            assert story.has(
                f"(process {os.getpid()}); stop that one, or set GATEWAY_DATA_DIR to a folder of"
            )
            assert (first.state, first.restarts, second.pid) == ("ready", 0, None)
        async with kept(engine(socket), socket, upstream) as (third, _):
            first_pid, task = first.pid, asyncio.ensure_future(third.ready.wait())
            assert first_pid is not None
            os.kill(first_pid, 9)
            await until(lambda: first.restarts == 1 and first.ready.is_set())
            assert not task.done(), "an engine that is started again keeps its socket"
            task.cancel()
    async with kept(engine(socket), socket, upstream) as (last, _):
        await until(last.ready.is_set)


async def test_a_log_line_without_end_is_told_in_pieces(upstream: Upstream, tmp_path: Path) -> None:
    chatty = "import sys; sys.stderr.write('x' * 300_000 + '\\nlast'); sys.stderr.flush(); sys.stdin.read()"
    async with kept([sys.executable, "-c", chatty], tmp_path / "engine.sock", upstream) as (process, story):
        await until(lambda: sum(line.count("x") for line in story.lines) == 300_000)
        assert max(map(len, story.lines)) < 200_000
        assert process.pid is not None
        assert runs(process.pid)


async def test_an_engine_that_will_not_stop_is_killed(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "GRACE", 0.1)
    stubborn = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('deaf', file=sys.stderr, flush=True); time.sleep(60)"
    )
    async with kept([sys.executable, "-c", stubborn], tmp_path / "engine.sock", upstream) as (process, story):
        await until(lambda: story.has("deaf"))
    assert process.pid is not None
    assert not runs(process.pid)


async def test_an_engine_ends_with_its_keeper(tmp_path: Path) -> None:
    """Over a second: two interpreters start one after the other."""
    socket = tmp_path / "engine.sock"
    keeper = f"""
import asyncio
from gateway.upstream.engine_process import EngineProcess
from gateway.upstream.client import Upstream
async def main():
    child = EngineProcess({engine(socket)!r}, {str(socket)!r}, Upstream(), lambda level, message: None)
    task = asyncio.ensure_future(child.run())
    await child.ready.wait()
    print(child.pid, flush=True)
    await task
asyncio.run(main())
"""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", keeper, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(10):
        pid = int(await process.stdout.readline())
    process.kill()
    await process.wait()
    await until(lambda: not runs(pid))


async def test_an_engine_whose_socket_has_no_place_is_tried_again(
    upstream: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    socket = tmp_path / "engine.sock"
    socket.mkdir()
    async with kept(["/bin/false"], socket, upstream) as (process, story):
        await until(lambda: process.restarts >= 2)
        assert story.has(f"could not be started ({socket}: Is a directory)")
