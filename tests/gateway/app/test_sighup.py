"""SIGHUP to a gateway as it starts, to all its processes, and from the terminal it was started at."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.app.serving import Serving, processes_of, run, workers_of
from tests.redis_server import RedisServer
from tests.running import policies
from tests.scripted import Provider

# As nohup starts what it is given; that itself would give a terminal's place to /dev/null.
IGNORING = ("sh", "-c", 'trap "" HUP; exec "$@"', "sh")
IN_A_GROUP = ("setsid",)  # of its own: the tests' is theirs
TELLS_IMPORTS = {"PYTHONPROFILEIMPORTTIME": "1"}  # to its log, a line for each that has ended
ENGINE = """
kind: providers
providers: {local: {type: local, model: bundled}}
---
kind: models
models: {demo: {targets: [{provider: local}]}}
"""


@pytest.fixture
def terminal() -> tuple[int, int]:
    """Both ends of one: it hangs up when the first is closed."""
    try:
        return os.openpty()
    except OSError:
        pytest.skip("there are no terminals on this machine (/dev/pts)")


@asynccontextmanager
async def starting(
    folder: Path, stdin: Any = None, under: Sequence[str] = (), *flags: str, **environ: str
) -> AsyncIterator[Serving]:
    """One that has just been started, before a provider; killed at the end if it still runs."""
    async with Provider() as provider:
        (folder / "policies").mkdir(exist_ok=True)
        (folder / "policies" / "gateway.yaml").write_text(policies(provider.url))
        stdin = asyncio.subprocess.DEVNULL if stdin is None else stdin
        process = await run(folder, *flags, stdin=stdin, under=under, **environ)
        try:
            yield Serving(process, "", "", folder / "log", [])
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_sighup_while_it_starts_ends_nothing(
    workers: str, tmp_path: Path, session_redis: RedisServer
) -> None:
    environ = {"GATEWAY_REDIS_URL": session_redis.url, **TELLS_IMPORTS}
    async with starting(tmp_path, None, (), "--workers", workers, **environ) as one:
        await one.logged("pydantic")  # the rest takes half a second
        one.signal(signal.SIGHUP)
        await one.listening()
        assert (await one.chat()).status_code == 200


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_sighup_to_its_group_ends_no_engine_and_nothing_that_serves(
    workers: str, tmp_path: Path, session_redis: RedisServer
) -> None:
    pytest.importorskip("torch", reason="torch is not installed: make .make/local")
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "engine.yaml").write_text(ENGINE)
    environ = {"GATEWAY_REDIS_URL": session_redis.url}
    async with starting(tmp_path, None, IN_A_GROUP, "--workers", workers, **environ) as one:
        async with asyncio.timeout(15):
            while not (engine := processes_of(one, "local_backend")):
                await asyncio.sleep(0.002)
        os.killpg(one.process.pid, signal.SIGHUP)
        await one.listening()
        await one.logged("the local engine is ready")
        assert (await one.admin("/admin/v1/usage"))["rows"] == []  # the ledger's process has begun
        others = [*workers_of(one), *processes_of(one, "gateway.app.ledger_process")]
        os.killpg(one.process.pid, signal.SIGHUP)
        assert (await one.chat("demo")).status_code == 200
        assert processes_of(one, "local_backend") == engine
        assert [*workers_of(one), *processes_of(one, "gateway.app.ledger_process")] == others


async def test_no_sighup_to_its_group_ends_what_it_starts_however_early(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    environ = {"GATEWAY_REDIS_URL": session_redis.url, "GATEWAY_LOG_LEVEL": "error"}
    async with starting(tmp_path, None, IN_A_GROUP, "--workers", "2", **environ) as one:
        async with asyncio.timeout(15):
            while len(first := [*workers_of(one), *processes_of(one, "gateway.app.ledger_process")]) < 3:
                await asyncio.sleep(0.001)
        listening = asyncio.ensure_future(one.listening())
        while not listening.done():
            os.killpg(one.process.pid, signal.SIGHUP)
            await asyncio.sleep(0.001)
        await listening
        assert (await one.admin("/admin/v1/usage"))["rows"] == []  # the ledger's process has begun
        assert [*workers_of(one), *processes_of(one, "gateway.app.ledger_process")] == first


async def test_a_terminal_that_hangs_up_while_it_starts_ends_it(
    tmp_path: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    async with starting(tmp_path, theirs, **TELLS_IMPORTS) as one:
        os.close(theirs)
        await one.logged("pydantic")
        os.close(ours)
        one.signal(signal.SIGHUP)
        assert await one.ended() == 0
        assert await one.line() == "", "it never listened"


async def test_a_terminal_that_hangs_up_ends_what_was_started_there(
    tmp_path: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    async with starting(tmp_path, theirs) as one:
        os.close(theirs)
        await one.listening()
        os.close(ours)
        one.signal(signal.SIGHUP)
        assert await one.ended() == 0


async def test_what_was_started_to_outlive_its_terminal_serves_on_and_reloads(
    tmp_path: Path, terminal: tuple[int, int]
) -> None:
    ours, theirs = terminal
    async with starting(tmp_path, theirs, IGNORING) as one:
        os.close(theirs)
        await one.listening()
        (tmp_path / "policies" / "gateway.yaml").write_text("kind: models\nmodels: {smart: {target: []}}\n")
        await one.logged("stays in force")  # they are watched
        os.close(ours)
        one.signal(signal.SIGHUP)
        await one.logged("stays in force", times=2)
        assert (await one.chat()).status_code == 200
