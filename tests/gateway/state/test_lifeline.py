"""The connection to Redis as operators run it: with TLS and few rights, as a Cluster, slow, or gone at the start."""

import asyncio
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from gateway.core.claim import Limit
from gateway.state.lifeline import TOO_SLOW
from gateway.state.place import parse_url
from gateway.state.resp import PATIENCE
from gateway.upstream.client import trusting
from tests.gateway.state.sharing import Line, claim, process, until
from tests.gateway.upstream.authority import Authority
from tests.redis_server import RedisServer
from tests.shared import ROOT

DAY = 86_400
REQUESTS = Limit("per-key", "requests", 1000, DAY)
TOKENS = Limit("words", "tokens", 10_000, DAY)
AT_ONCE = Limit("at-once", "concurrent", 2)


@pytest.fixture(autouse=True)
def _quick_signs_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.state.lifeline.BEAT", 0.05)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def test_the_rights_in_the_docs_are_enough(own_redis: RedisServer) -> None:
    [line] = re.findall(r"^ACL SETUSER gatehouse .*$", (ROOT / "docs/limits.md").read_text(), re.MULTILINE)
    words = line.replace("<password>", "pw").split()
    with own_redis.client() as client:
        client.execute_command(*words)
        async with process(f"unix://gatehouse:pw@{own_redis.socket}?db=2") as one:
            await one.reserve(claim(AT_ONCE), claim(TOKENS, 5), claim(REQUESTS), hold=0.01)
            client.select(2)
            await asyncio.sleep(0.03)  # Redis's own clock has to move
            grant = await one.reserve(claim(AT_ONCE), claim(TOKENS, 5), claim(REQUESTS))
            client.script_flush()
            one.allowance.settle(grant, 3)
            await one.reserve(claim(TOKENS, 5))
            names: Any = client.keys("*")
            client.delete(*(name for name in names if name + ":open" in names))
            client.script_flush()
            one.allowance.release(await one.reserve(claim(AT_ONCE), claim(TOKENS, 5), claim(REQUESTS)))
        assert not one.store_errors
        assert not one.said


async def test_a_redis_that_asks_for_a_certificate_gets_one(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server("localhost")
    authority.server("us")
    port = free_port()
    files = ["cert-file", f"{tmp_path}/localhost.pem", "key-file", f"{tmp_path}/localhost.key"]
    files += ["ca-cert-file", str(authority.certificate)]
    options = [f"--tls-{word}" if word.endswith("-file") else word for word in files]
    with closing(RedisServer(tmp_path, "--tls-port", str(port), *options)):
        url, trust = f"rediss://localhost:{port}", trusting(str(authority.certificate))
        async with process(parse_url(url).secured(trust), connected=False) as stranger:
            await until(lambda: bool(stranger.said))
            # As a rule with the reason; a reset may overtake it.
            assert re.search(r"certificate required|the connection was (lost|closed)|reset", stranger.said[0])
            assert stranger.allowance.degraded == ["redis"]
        known = parse_url(f"{url}?ssl_certfile={tmp_path}/us.pem&ssl_keyfile={tmp_path}/us.key")
        async with process(known.secured(trust)) as one:
            await one.reserve(claim(REQUESTS))
            assert not one.store_errors
        async with process(known.secured(trusting(f"{tmp_path}/us.pem")), connected=False) as other:
            await until(lambda: bool(other.said))
            assert "CERTIFICATE_VERIFY_FAILED" in other.said[0]


class Cluster:
    """Two nodes, of which the first has all slots."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.ports: list[int] = []
        self.nodes: list[RedisServer] = []
        while len(self.nodes) < 2:
            port = free_port()
            if port + 10_000 > 65_535:  # where nodes talk to each other
                continue
            own = folder / str(port)
            own.mkdir()
            node = RedisServer(own, "--port", str(port), "--cluster-enabled", "yes", "--dir", str(own))
            self.nodes.append(stack.enter_context(closing(node)))
            self.ports.append(port)
        self.ask(0, "CLUSTER", "ADDSLOTS", *range(16_384))
        self.ask(1, "CLUSTER", "MEET", "127.0.0.1", self.ports[0])

    def ask(self, node: int, *words: Any) -> Any:
        with self.nodes[node].client() as client:
            return client.execute_command(*words)

    def knows(self, node: int) -> bool:
        return "cluster_state:ok" in str(self.ask(node, "CLUSTER", "INFO")).replace("'", "").replace(
            ": ", ":"
        )

    def move(self, slot: int) -> None:
        """To the second node. Nothing may lie in it."""
        owner = self.ask(1, "CLUSTER", "MYID")
        for node in (1, 0):
            self.ask(node, "CLUSTER", "SETSLOT", slot, "NODE", owner)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with ExitStack() as stack:
        yield Cluster(tmp_path, stack)


async def test_any_node_of_a_cluster_leads_to_our_slot_wherever_it_moves(cluster: Cluster) -> None:
    """Over a second: two nodes have to meet."""
    await until(lambda: cluster.knows(1))
    async with process(f"redis://127.0.0.1:{cluster.ports[1]}") as one:
        await one.reserve(claim(REQUESTS))
        assert not one.store_errors
        assert cluster.ask(0, "DBSIZE") == 2, "a bucket, and who shares it"
        cluster.ask(0, "FLUSHALL")
        cluster.move(cluster.ask(0, "CLUSTER", "KEYSLOT", "gatehouse:v1:{l}:"))
        await until(lambda: "Redis is back: limits are shared again" in one.said)
        await one.reserve(claim(REQUESTS))
        assert cluster.ask(1, "DBSIZE") == 2


async def test_a_redis_that_is_slow_all_the_time_is_waited_for_no_more_and_told_once(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.state.lifeline.LATE_FOR", 0.2)
    monkeypatch.setattr("gateway.state.lifeline.LONGEST_PAUSE", 0.05)
    monkeypatch.setattr("gateway.state.lifeline.FIRST_PAUSE", 0.05)
    async with Line(redis_server.socket, tmp_path / "line") as line, process(line.url) as one:
        line.delay = PATIENCE  # each way, and calls keep coming: there is no silence
        calls = set()
        while not one.allowance.degraded:
            calls.add(asyncio.ensure_future(one.reserve(claim(REQUESTS))))
            await asyncio.sleep(PATIENCE / 8)
        await asyncio.gather(*calls)
        tried = line.taken
        await until(lambda: line.taken >= tried + 3)
        assert one.allowance.degraded == ["redis"]
        line.delay = 0
        await one.back()
    assert [text.split(":")[0] for text in one.said] == [f"Redis is away ({TOO_SLOW})", "Redis is back"]


async def test_workers_that_start_without_redis_share_what_one_of_them_would_have(
    own_redis: RedisServer,
) -> None:
    own_redis.kill()
    limit = Limit("r", "requests", 100, DAY)
    async with process(own_redis.url, connected=False, processes=4) as one:
        for _ in range(25):
            await one.reserve(claim(limit))
        assert await one.refuses(claim(limit))
        own_redis.start()
        await one.back()
        assert one.allowance.processes == 4, "the others have not come back yet"
