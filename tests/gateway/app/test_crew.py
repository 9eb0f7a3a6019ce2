"""Several workers as one gateway: what all of them know, and what outlives the death of one."""

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.app import crew as module
from gateway.app.crew import Crew, Worker
from gateway.app.plan import Plan, prepare
from gateway.app.run import listen
from gateway.config.compiler import CompileOptions
from gateway.config.policies import Policies
from gateway.core.meters import Meters
from gateway.settings import from_environment
from gateway.telemetry.logs import Log
from tests.gateway.app.serving import TOKEN, Serving, refused, serving, workers_of
from tests.redis_server import RedisServer
from tests.running import ended, plain_client, policies
from tests.scripted import DONE, FINISH, Provider, answer, stream, word

TWO = ("--workers", "2")
TARGET = {"target": "p0/smart"}


@asynccontextmanager
async def two_workers(
    folder: Path, redis: RedisServer, **environ: str
) -> AsyncIterator[tuple[Serving, Provider]]:
    async with (
        Provider() as provider,
        serving(folder, policies(provider.url), *TWO, GATEWAY_REDIS_URL=redis.url, **environ) as one,
    ):
        yield one, provider


async def told(one: Serving, path: str, **body: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {TOKEN}"}
    async with plain_client(one.admin_url, headers) as client:
        return await client.post(f"/admin/v1{path}", json=body, timeout=20)


async def health(one: Serving) -> httpx.Response:
    """Of the data port, over a connection of its own: each time from whichever worker takes it."""
    async with one.client() as client:
        return await client.get("/health/ready")


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.02)


async def kill_one(one: Serving) -> None:
    """And wait until all are there again."""
    before = workers_of(one)
    os.kill(int(before[0]), signal.SIGKILL)

    async def is_replaced() -> bool:
        now = workers_of(one)
        return len(now) == 2 and now != before and (await health(one)).status_code == 200

    await until(is_replaced)


async def statuses(one: Serving, calls: int = 8) -> set[int]:
    """A connection each: both workers get some."""
    return {(await one.chat()).status_code for _ in range(calls)}


def counted(metrics: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith("gateway_requests_total{")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_a_worker_that_comes_after_a_bad_edit_has_the_last_good_policies(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, _):
        version = (await health(one)).json()["policies"]
        (tmp_path / "policies" / "bad.yaml").write_text("kind: models\nmodels: {x: {targetz: []}}\n")
        await until(lambda: _has_problems(one))
        await kill_one(one)
        assert await statuses(one) == {200}
        assert (await health(one)).json()["policies"] == version
        assert one.log.read_text().count("it is started again") == 1
        (tmp_path / "policies" / "bad.yaml").unlink()
        mended = (tmp_path / "policies" / "gateway.yaml").read_text().replace("mini: {", "micro: {")
        (tmp_path / "policies" / "gateway.yaml").write_text(mended.replace("[mini]", "[micro]"))
        await until(lambda: _all_serve(one, "micro"))


async def _has_problems(one: Serving) -> bool:
    return bool((await one.admin("/admin/v1/policies"))["problems"])


async def _all_serve(one: Serving, model: str) -> bool:
    return {(await one.chat(model)).status_code for _ in range(8)} == {200}


async def test_what_was_drained_and_counted_outlives_a_worker(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, _):
        assert await statuses(one, 10) == {200}
        assert counted(await one.admin("/metrics")) == 10
        assert (await told(one, "/targets/drain", **TARGET)).status_code == 200
        await kill_one(one)
        assert counted(await one.admin("/metrics")) == 10
        assert await statuses(one, 10) == {503}
        assert counted(await one.admin("/metrics")) == 20
        [row] = (await one.admin("/admin/v1/targets"))["targets"]
        assert (row["target"], row["drained"]) == ("p0/smart", True)
        assert (await told(one, "/targets/undrain", **TARGET)).status_code == 200
        assert await statuses(one) == {200}


async def test_a_worker_that_cannot_be_started_yet_costs_none_of_the_others(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, _):
        parent, files = one.process.pid, resource.RLIMIT_NOFILE
        limits = resource.prlimit(parent, files)
        resource.prlimit(parent, files, (3, limits[1]))
        os.kill(int(workers_of(one)[0]), signal.SIGKILL)
        await until(lambda: _has_told(one, "could not be started (Too many open files)"))
        assert await statuses(one) == {200}
        await until(lambda: _has_told(one, "started again in 2 s"))
        resource.prlimit(parent, files, limits)
        await until(lambda: _is_ready(one))
        assert len(workers_of(one)) == 2


async def _has_told(one: Serving, what: str) -> bool:
    return what in one.log.read_text()


async def test_no_port_is_ready_while_a_worker_is_missing(tmp_path: Path, session_redis: RedisServer) -> None:
    async with two_workers(tmp_path, session_redis) as (one, _):
        os.kill(int(workers_of(one)[0]), signal.SIGKILL)
        await until(lambda: _is_starting(one))
        await until(lambda: _is_ready(one))


async def _is_starting(one: Serving) -> bool:
    answer = await health(one)
    return (answer.status_code, answer.json()["status"]) == (503, "starting")


async def _is_ready(one: Serving) -> bool:
    return (await health(one)).status_code == 200


async def test_a_drain_that_a_worker_does_not_hear_of_is_told(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, _):
        stopped = int(workers_of(one)[0])
        os.kill(stopped, signal.SIGSTOP)
        try:
            answer = await told(one, "/targets/drain", **TARGET)
        finally:
            os.kill(stopped, signal.SIGCONT)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "worker_unresponsive")
        await until(lambda: _none_serves(one))


async def _none_serves(one: Serving) -> bool:
    return await statuses(one) == {503}


async def test_every_worker_knows_a_key_once_it_is_shown_and_none_once_it_is_revoked(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, _):
        for number in range(5):
            name = f"ci{number}"
            key = (await told(one, "/keys", name=name, team="research")).json()["key"]
            assert await _listings(one, key) == {200}
            newer = (await told(one, f"/keys/{name}/rotate")).json()["key"]
            assert (await _listings(one, key), await _listings(one, newer)) == ({401}, {200})


async def _listings(one: Serving, key: str) -> set[int]:
    found = set()
    for _ in range(6):
        async with one.client(key) as client:
            found.add((await client.get("/v1/models")).status_code)
    return found


async def test_sigterm_while_a_worker_is_replaced_lets_the_streams_of_the_others_finish(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    go = asyncio.Event()
    async with two_workers(tmp_path, session_redis) as (one, provider), one.client() as client:
        provider.script = [stream(word("hi"), go, FINISH, DONE)]
        body = {"model": "smart", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            chunks = response.aiter_bytes()
            first = await anext(chunks)
            serves = await _busy(one)
            [idle] = [pid for pid in workers_of(one) if pid != serves]
            os.kill(int(idle), signal.SIGKILL)
            await until(lambda: _is_starting_again(one))
            one.signal(signal.SIGTERM)
            await asyncio.sleep(1.0)  # longer than the pause before a new start
            assert workers_of(one) == [serves], "none was started again"
            go.set()
            assert (first + b"".join([chunk async for chunk in chunks])).endswith(DONE)
        assert await one.ended() == 0


async def _is_starting_again(one: Serving) -> bool:
    return "it is started again" in one.log.read_text()


async def _busy(one: Serving) -> str:
    """The worker that has the open connection to the provider: the others have none."""
    async with asyncio.timeout(10):
        while True:
            found = [pid for pid in workers_of(one) if _has_connection(pid)]
            if len(found) == 1:
                return found[0]
            await asyncio.sleep(0.02)


def _has_connection(pid: str) -> bool:
    """To a client: a worker's only TCP sockets are those and the one that all listen on."""
    inodes = {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir() if entry.is_symlink()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return any(f"socket:[{row[9]}]" in inodes for row in rows if row[3] == "01")


@asynccontextmanager
async def one_kept(
    folder: Path, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Crew, Worker]]:
    """A crew of one worker in this process, which says in `folder`/log what it sees."""
    monkeypatch.setenv("GATEWAY_DATA_DIR", str(folder / "data"))
    monkeypatch.setenv("GATEWAY_REDIS_URL", redis.url)
    prepare(folder / "data")
    (folder / "policies.yaml").write_text(policies("http://127.0.0.1:1/v1"))
    plan, meters = Plan(from_environment(), folder / "policies.yaml"), Meters()
    log = Log("error", lambda: 0.0, os.open(folder / "log", os.O_RDWR | os.O_CREAT))
    in_force = Policies(plan.config, CompileOptions(plan.data_dir), meters, lambda: 0.0, log)
    with listen("127.0.0.1", 0) as listener:
        crew = Crew(plan, listener, in_force, meters, log)
        [worker] = crew.workers
        jobs = [asyncio.ensure_future(crew.keep(worker)), asyncio.ensure_future(crew.poll(list))]
        yield crew, worker
        crew.terminate()
        await jobs[0]
        await ended(jobs[1:])


async def is_ready(crew: Crew) -> bool:
    await asyncio.sleep(0)
    return bool(crew.ready()["status"] == "ready")


async def test_a_worker_that_hangs_is_killed_and_replaced(
    tmp_path: Path, session_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKS", 5)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.5)
    async with one_kept(tmp_path, session_redis, monkeypatch) as (crew, worker):

        async def is_another() -> bool:
            return worker.process is not hung and await is_ready(crew)

        await until(lambda: is_ready(crew))
        hung = worker.process
        assert hung is not None
        hung.send_signal(signal.SIGSTOP)
        await until(is_another)
    assert "worker 1 hangs: it is killed" in (tmp_path / "log").read_text()


async def test_a_worker_that_hangs_before_it_has_begun_is_killed_and_replaced(
    tmp_path: Path, session_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(module, "START_SECONDS", 0.0)
        async with one_kept(tmp_path, session_redis, monkeypatch) as (crew, worker):

            async def is_started() -> bool:
                await asyncio.sleep(0)
                return worker.process is not None

            await until(is_started)
            assert worker.process is not None
            worker.process.send_signal(signal.SIGSTOP)
            patch.undo()
            await until(lambda: is_ready(crew))
    assert (tmp_path / "log").read_text().count("worker 1 hangs: it is killed") == 1


async def test_slow_clients_of_the_admin_port_are_let_go(tmp_path: Path, session_redis: RedisServer) -> None:
    async with two_workers(tmp_path, session_redis, GATEWAY_HEADER_TIMEOUT="500ms") as (one, _):
        host, port = one.admin_url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /health/live HTTP/1.1\r\nhost: x\r\n")
        async with asyncio.timeout(10):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GATEWAY_REDIS_URL", "http://127.0.0.1:1"),
        ("OTEL_TRACES_SAMPLER", "nonsense"),
        ("HTTPS_PROXY", "socks5://x:1"),
        ("SSL_CERT_FILE", "/no/such.pem"),
    ],
)
async def test_a_variable_that_no_worker_could_start_with_ends_the_start(
    name: str, value: str, tmp_path: Path
) -> None:
    environ = {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1", name: value}
    code, log = await refused(tmp_path, policies("http://127.0.0.1:1/v1"), *TWO, **environ)
    assert (code, log.count("\n")) == (2, 1), log
    assert log.startswith("gateway serve: ")


async def test_a_provider_that_is_away_is_told_on_both_ports_and_changes_no_status(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, provider):
        provider.script = [answer({"error": {"message": "broken"}}, 500)]
        await statuses(one, 16)  # five failures in a row open the circuit, in each worker
        await until(lambda: _tell(one, "provider:p0"))


async def test_a_target_rests_while_it_does_for_any_worker(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    async with two_workers(tmp_path, session_redis) as (one, provider):
        assert await statuses(one, 16) == {200}
        provider.script = [answer({"error": {"message": "slow down"}}, 429, retry_after="30")]
        assert await statuses(one, 1) == {429}
        [row] = (await one.admin("/admin/v1/targets"))["targets"]
        assert row["cooling_s"] > 20


async def _tell(one: Serving, name: str) -> bool:
    """Both ports, each as soon as it has heard."""
    answer, admin = await health(one), await one.admin("/health/ready")
    return answer.status_code == 200 and answer.json()["degraded"] == admin["degraded"] == [name]
