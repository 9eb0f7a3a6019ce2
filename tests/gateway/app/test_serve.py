"""The whole program from the outside: start, reload, drain, death, and what stays on the books."""

import asyncio
import os
import resource
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import httpx
import pytest

from gateway.app.run import listen
from tests.gateway.app.serving import Serving, processes_of, refused, run, serving, workers_of
from tests.redis_server import RedisServer
from tests.running import policies
from tests.scripted import CHAT, DONE, FINISH, Provider, answer, hang, stream, word

DAILY = """
kind: rate-limits
rules: [{id: calls, limit: 30, unit: requests, per: day, for_each: [key]}]
"""


def ledger(folder: Path) -> list[tuple[str, str, int, int]]:
    """(request id, outcome, prompt tokens, estimated) of every row."""
    with closing(sqlite3.connect(folder / "data" / "usage.db")) as database:
        return list(database.execute("SELECT request_id, outcome, prompt, estimated FROM usage"))


async def test_it_says_where_it_listens_and_serves_there(tmp_path: Path) -> None:
    async with Provider() as provider, serving(tmp_path, policies(provider.url)) as one:
        assert (await one.chat()).json() == CHAT
        assert (await one.admin("/admin/v1/usage"))["total"]["calls"] == 1
        one.signal(signal.SIGINT)
        assert await one.ended() == 0


async def test_it_serves_also_where_nobody_reads_what_it_prints(tmp_path: Path) -> None:
    async with unheard(tmp_path) as one:
        assert (await one.chat()).json() == CHAT
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
    assert "Traceback" not in (tmp_path / "log").read_text()


async def test_nothing_stands_where_a_standard_stream_is_closed(tmp_path: Path) -> None:
    async with unheard(tmp_path, "sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh") as one:
        assert (await one.chat()).json() == CHAT
        for process in (one.process.pid, *processes_of(one, "gateway.app.ledger_process")):
            assert {os.readlink(f"/proc/{process}/fd/{fd}") for fd in (0, 1, 2)} == {os.devnull}
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0


@asynccontextmanager
async def unheard(folder: Path, *under: str) -> AsyncIterator[Serving]:
    """A gateway that serves, started under this command; nobody reads what it prints."""
    async with Provider() as provider:
        (folder / "policies").mkdir()
        (folder / "policies" / "gateway.yaml").write_text(policies(provider.url))
        with listen("127.0.0.1", 0) as free:
            port = free.getsockname()[1]
        process = await run(folder, "--port", str(port), under=under)
        process._transport.get_pipe_transport(1).close()  # type: ignore[attr-defined]
        one = Serving(process, f"http://127.0.0.1:{port}", "", folder / "log", [])
        async with asyncio.timeout(20):
            while not await _is_ready(one):
                await asyncio.sleep(0.02)
        yield one


async def _is_ready(one: Serving) -> bool:
    try:
        async with one.client() as client:
            return (await client.get("/health/ready")).status_code == 200
    except httpx.ConnectError:
        return False


def test_a_port_that_is_taken_is_named_also_before_anything_is_served_there() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            OSError, match=f"^127.0.0.1 port {port} cannot be listened on: Address already in use;"
        ):
            listen("127.0.0.1", port)


async def test_a_starter_key_is_printed_with_a_curl_and_stays_the_same(tmp_path: Path) -> None:
    async with Provider() as provider:
        text = policies(provider.url).replace("teams: {", 'teams: {default: {models: ["*"]}, ')
        keys = []
        for _ in range(2):
            async with serving(tmp_path, text, "--starter-key") as one:
                while "OpenAI(base_url=" not in (line := await one.line()):
                    pass
                keys.append(line.split('api_key="')[1].split('"')[0])
                assert f"curl -N {one.url}/v1/chat/completions" in "".join(one.told)
                async with one.client(keys[-1]) as client:
                    assert "smart" in (await client.get("/v1/models")).text
    assert keys[0] == keys[1]
    assert (tmp_path / "data" / "starter-key").stat().st_mode & 0o777 == 0o600
    assert keys[0] not in (tmp_path / "log").read_text()


async def test_bad_policies_end_the_start_with_their_place(tmp_path: Path) -> None:
    code, told = await refused(tmp_path, "kind: models\nmodels:\n  smart: {targets: []}\n")
    assert code == 1
    assert f"{tmp_path}/policies/gateway.yaml:3:" in told


async def test_workers_without_redis_are_refused(tmp_path: Path) -> None:
    code, told = await refused(tmp_path, policies("http://127.0.0.1:1/v1"), "--workers", "2")
    assert (code, "GATEWAY_REDIS_URL" in told) == (2, True)


async def test_a_setting_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    code, told = await refused(tmp_path, policies("http://127.0.0.1:1/v1"), GATEWAY_MAX_BODY="much")
    assert (code, "GATEWAY_MAX_BODY" in told) == (2, True)


async def test_a_data_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    code, told = await refused(tmp_path, policies("http://127.0.0.1:1/v1"))
    assert (code, told.count("\n")) == (1, 1)
    assert f"gateway serve: the data folder {tmp_path}/data cannot be used" in told


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_database_that_cannot_be_used_is_named_in_a_line(workers: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "gatehouse.db").write_bytes(b"garbage" * 1000)
    text, redis = policies("http://127.0.0.1:1/v1"), "redis://127.0.0.1:1"
    code, told = await refused(tmp_path, text, "--workers", workers, GATEWAY_REDIS_URL=redis)
    assert (code, told.count("\n")) == (1, 1)
    assert "data/gatehouse.db (in GATEWAY_DATA_DIR) cannot be used (file is not a database)" in told


async def test_a_volume_that_others_may_enter_shows_them_no_content(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    async with Provider() as provider, serving(tmp_path, policies(provider.url), "--starter-key") as one:
        assert (await one.chat()).status_code == 200
        kept = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
        assert {path.name for path in kept} >= {"gatehouse.db", "starter-key"}
        assert [path for path in kept if path.stat().st_mode & 0o077] == []


async def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    async with Provider() as provider:
        port = provider.url.split(":")[2].split("/")[0]
        code, told = await refused(tmp_path, policies(provider.url), "--port", port)
    assert code == 1
    assert "in use" in told


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_second_gateway_in_a_folder_leaves_the_first_its_engine(
    workers: str, tmp_path: Path, session_redis: RedisServer
) -> None:
    text = policies(
        "http://127.0.0.1:9/v1", more="kind: providers\nproviders: {ours: {type: local, model: bundled}}"
    )
    environ = {"GATEWAY_REDIS_URL": session_redis.url}
    async with serving(tmp_path, text, "--workers", workers, **environ) as one:
        status, said = await refused(tmp_path, text, "--workers", workers, **environ)
        socket = tmp_path / "data" / "engine-ours.sock"
        told = f"gateway serve: the local engine at {socket} is that of another gateway (process {one.process.pid}); "
        assert status == 1
        assert told + "stop that one, or set GATEWAY_DATA_DIR to a folder of this one's own\n" in said
        one.signal(signal.SIGKILL)
        await one.ended()
    async with serving(tmp_path, text, "--workers", workers, **environ) as again:
        assert again.url, "who is gone has no engine"


async def test_two_workers_share_a_limit_and_answer_metrics_as_one(
    tmp_path: Path, session_redis: RedisServer
) -> None:
    text = DAILY.replace("calls", tmp_path.name)  # its own buckets in a Redis that other tests use too
    async with Provider() as provider:
        async with serving(
            tmp_path, policies(provider.url, more=text), "--workers", "2", GATEWAY_REDIS_URL=session_redis.url
        ) as one:
            statuses = [(await one.chat()).status_code for _ in range(40)]  # a connection each: both get some
            assert (statuses.count(200), statuses.count(429)) == (30, 10)
            metrics = await one.admin("/metrics")
            counted = [line for line in metrics.splitlines() if line.startswith("gateway_requests_total{")]
            assert sum(float(line.rsplit(" ", 1)[1]) for line in counted) == 40
            assert (await one.admin("/admin/v1/usage"))["total"]["calls"] == 30
            one.signal(signal.SIGTERM)
            assert await one.ended() == 0
    assert len(provider.asked) == 30


async def test_a_worker_that_dies_is_replaced(tmp_path: Path, session_redis: RedisServer) -> None:
    async with Provider() as provider:
        async with serving(
            tmp_path, policies(provider.url), "--workers", "2", GATEWAY_REDIS_URL=session_redis.url
        ) as one:
            children = workers_of(one)
            os.kill(int(children[0]), signal.SIGKILL)
            async with asyncio.timeout(20):
                while "it is started again" not in one.log.read_text():
                    await asyncio.sleep(0.02)
                now: list[str] = []
                while len(now) != 2 or now == children:
                    await asyncio.sleep(0.02)
                    now = workers_of(one)
            assert (await one.chat()).status_code == 200


async def test_sigterm_lets_open_streams_finish_and_takes_no_new_connection(tmp_path: Path) -> None:
    go = asyncio.Event()
    async with Provider([stream(word("hi"), go, FINISH, DONE)]) as provider:
        async with serving(tmp_path, policies(provider.url)) as one, one.client() as client:
            body = {"model": "smart", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                chunks = response.aiter_bytes()
                first = await anext(chunks)
                one.signal(signal.SIGTERM)
                async with asyncio.timeout(10):
                    while not await _refuses(one):
                        await asyncio.sleep(0.02)
                go.set()
                rest = b"".join([chunk async for chunk in chunks])
            assert (first + rest).endswith(DONE)
            assert await one.ended() == 0
    assert [outcome for _, outcome, _, _ in ledger(tmp_path)] == ["ok"]


async def _refuses(one: Serving) -> bool:
    try:
        async with one.client() as client:
            await client.get("/health/live")
    except httpx.TransportError:
        return True
    return False


async def test_a_drain_has_an_end(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider:
        async with serving(tmp_path, policies(provider.url), GATEWAY_DRAIN_TIMEOUT="500ms") as one:
            call = asyncio.ensure_future(one.chat())
            async with asyncio.timeout(10):
                while not provider.asked:
                    await asyncio.sleep(0.01)
            one.signal(signal.SIGTERM)
            assert await one.ended() == 0
            await asyncio.gather(call, return_exceptions=True)
    assert [outcome for _, outcome, _, _ in ledger(tmp_path)] == ["overloaded"]


async def test_after_kill_9_every_call_that_left_is_on_the_books_once(tmp_path: Path) -> None:
    async with Provider([answer(CHAT)]) as provider:
        async with serving(tmp_path, policies(provider.url)) as one:
            for _ in range(5):
                assert (await one.chat()).status_code == 200
            provider.script = [hang()]
            calls = [asyncio.ensure_future(one.chat()) for _ in range(3)]
            async with asyncio.timeout(10):
                while len(provider.asked) < 8:
                    await asyncio.sleep(0.01)
            one.signal(signal.SIGKILL)
            await one.ended()
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(end, httpx.TransportError) for end in ended)
        async with serving(tmp_path, "") as again:
            total = (await again.admin("/admin/v1/usage"))["total"]
    rows = ledger(tmp_path)
    assert (total["calls"], total["estimated"], len(rows)) == (8, 3, 8)
    died = [row for row in rows if row[1] == "gateway_died"]
    assert len(died) == 3
    assert all(prompt > 0 and estimated for _, _, prompt, estimated in died)


async def test_a_reload_by_symlink_swap_under_load_loses_no_call(tmp_path: Path) -> None:
    async with Provider() as provider:
        folder = tmp_path / "policies"
        for version in ("one", "two"):
            (folder / f"..{version}").mkdir(parents=True)
            text = policies(provider.url).replace("mini: {", f"{version}: {{")
            (folder / f"..{version}" / "gateway.yaml").write_text(text)
        (folder / "..data").symlink_to("..one")
        (folder / "gateway.yaml").symlink_to("..data/gateway.yaml")
        async with serving(tmp_path, "") as one:
            statuses: list[int] = []

            async def load() -> None:
                while True:
                    statuses.append((await one.chat()).status_code)

            loads = [asyncio.ensure_future(load()) for _ in range(4)]
            before = (await one.admin("/admin/v1/policies"))["version"]
            (folder / "..new").symlink_to("..two")
            os.replace(folder / "..new", folder / "..data")
            async with asyncio.timeout(15):
                while (await one.admin("/admin/v1/policies"))["version"] == before:
                    await asyncio.sleep(0.02)
            assert (await one.chat("two")).status_code == 200
            assert (await one.chat("one")).status_code == 404
            for task in loads:
                task.cancel()
            await asyncio.gather(*loads, return_exceptions=True)
    assert set(statuses) == {200}


async def test_a_broken_edit_keeps_the_last_good_policies_and_says_so(tmp_path: Path) -> None:
    async with Provider() as provider, serving(tmp_path, policies(provider.url)) as one:
        (tmp_path / "policies" / "gateway.yaml").write_text("kind: models\nmodels: {smart: {target: []}}\n")
        async with asyncio.timeout(15):
            while not (problems := (await one.admin("/admin/v1/policies"))["problems"]):
                await asyncio.sleep(0.02)
        assert "gateway.yaml:2:" in problems[0]
        assert (await one.chat()).status_code == 200
        async with asyncio.timeout(15):  # the log is written twice a second
            while "stays in force" not in one.log.read_text():
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_sighup_to_all_of_it_reloads_and_cuts_no_stream(
    workers: str, tmp_path: Path, session_redis: RedisServer
) -> None:
    more = asyncio.Event()
    async with (
        Provider([stream(word("a"), more, word("b"), FINISH, DONE)]) as provider,
        serving(
            tmp_path, policies(provider.url), "--workers", workers, GATEWAY_REDIS_URL=session_redis.url
        ) as one,
        one.client() as client,
    ):
        body = {"model": "smart", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
        assert (await one.admin("/admin/v1/usage"))["rows"] == []  # the ledger's process has begun
        children = [*workers_of(one), *processes_of(one, "gateway.app.ledger_process")]
        before = (await one.admin("/admin/v1/policies"))["version"]
        async with client.stream("POST", "/v1/chat/completions", json=body) as told:
            paper = tmp_path / "policies" / "gateway.yaml"
            paper.write_text(paper.read_text().replace("mini: {", "other: {"))
            for pid in (str(one.process.pid), *children):
                os.kill(int(pid), signal.SIGHUP)
            async with asyncio.timeout(15):
                while (await one.admin("/admin/v1/policies"))["version"] == before:
                    await asyncio.sleep(0.02)
            more.set()
            assert [line async for line in told.aiter_lines()][-2:] == ["data: [DONE]", ""]
        assert [*workers_of(one), *processes_of(one, "gateway.app.ledger_process")] == children


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_sighup_tells_again_what_is_wrong_with_the_policies(
    workers: str, tmp_path: Path, session_redis: RedisServer
) -> None:
    async with (
        Provider() as provider,
        serving(
            tmp_path, policies(provider.url), "--workers", workers, GATEWAY_REDIS_URL=session_redis.url
        ) as one,
    ):
        (tmp_path / "policies" / "gateway.yaml").write_text("kind: models\nmodels: {smart: {target: []}}\n")
        processes = 1 if workers == "1" else 3  # each tells for itself
        for times in (1, 2):
            async with asyncio.timeout(15):
                while one.log.read_text().count("stays in force") < times * processes:
                    await asyncio.sleep(0.02)
            if times == 1:
                one.signal(signal.SIGHUP)
        assert (await one.chat()).status_code == 200


async def test_a_gateway_without_descriptors_says_so_and_blames_no_provider(tmp_path: Path) -> None:
    body = {"model": "smart", "messages": [{"role": "user", "content": "hi"}]}
    async with (
        Provider() as provider,
        serving(tmp_path, policies(provider.url)) as one,
        one.client() as client,
    ):
        assert (await client.get("/v1/models")).status_code == 200  # over the connection that the calls take
        pid, files = one.process.pid, resource.RLIMIT_NOFILE
        limits, taken = resource.prlimit(pid, files), {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
        resource.prlimit(pid, files, (min(set(range(len(taken) + 1)) - taken), limits[1]))
        for _ in range(12):  # more than the circuit of a provider stands
            told = await client.post("/v1/chat/completions", json=body)
            assert (told.status_code, told.json()["error"]["code"]) == (503, "overloaded")
            assert told.headers["retry-after"] == "1"
        resource.prlimit(pid, files, limits)
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 200
        assert provider.open == 1
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
    assert one.log.read_text().count("the limit of open files") == 1
