import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.core.address import Origin
from gateway.core.outbox import Outbox
from gateway.upstream.client import Answer, Timing, Upstream
from gateway.upstream.connection import Connection
from gateway.upstream.failures import ConnectFailed, ConnectTimedOut
from gateway.upstream.pool import Pool
from tests.gateway.upstream.scripted import GET, HELLO, PATIENT, POST, Peer, Wire, provider, saying

OPEN_STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class Gatekeeper:
    """Answers each request when told to, and keeps who came in order."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.go = asyncio.Semaphore(0)

    async def script(self, peer: Peer) -> None:
        while True:
            head, _ = await peer.request()
            self.came.append(head.split(b" ")[1])
            await self.go.acquire()
            peer.say(HELLO)


def call(upstream: Upstream, origin: Origin, path: str, connect: float = 5.0) -> "asyncio.Task[Answer]":
    head = GET.replace(b"/v1/models", path.encode())
    return asyncio.get_running_loop().create_task(
        upstream.send(origin, head, b"", Timing(connect, 5.0, 5.0), whole=True)
    )


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0.005)


async def test_past_the_bound_calls_wait_in_turn() -> None:
    upstream, keeper = Upstream(most=2), Gatekeeper()
    async with provider(keeper.script) as (server, origin):
        calls = []
        for turn in range(6):
            calls.append(call(upstream, origin, f"/{turn}"))
            await settled()
        assert keeper.came == [b"/0", b"/1"]
        for _ in range(6):
            keeper.go.release()
            await settled()
        await asyncio.gather(*calls)
        assert keeper.came == [b"/%d" % turn for turn in range(6)]
        assert len(server.peers) == 2
    await upstream.aclose()


async def test_who_waits_too_long_for_a_place_is_told_so() -> None:
    upstream, keeper = Upstream(most=1), Gatekeeper()
    async with provider(keeper.script) as (_, origin):
        first = call(upstream, origin, "/0")
        await settled()
        with pytest.raises(ConnectTimedOut, match=r"^no connection within 0\.05 s: all 1 were in use$"):
            await call(upstream, origin, "/1", connect=0.05)
        keeper.go.release()
        keeper.go.release()
        await first
        await call(upstream, origin, "/2")
        assert keeper.came == [b"/0", b"/2"]
    await upstream.aclose()


async def test_an_aborted_call_gives_its_place_to_the_next() -> None:
    upstream = Upstream(most=1)

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(OPEN_STREAM)
        await peer.left()

    async with provider(script) as (server, origin):
        held = await upstream.send(origin, POST, b"{}", PATIENT)
        waiting = asyncio.ensure_future(upstream.send(origin, POST, b"{}", PATIENT))
        await settled()
        assert len(server.peers) == 1
        held.close()
        (await waiting).close()
        assert len(server.peers) == 2
    await upstream.aclose()


async def test_who_left_the_queue_is_passed_over() -> None:
    upstream, keeper = Upstream(most=1), Gatekeeper()
    async with provider(keeper.script) as (_, origin):
        first, second, third = (call(upstream, origin, f"/{turn}") for turn in range(3))
        await settled()
        second.cancel()
        keeper.go.release()
        keeper.go.release()
        await asyncio.gather(first, third)
        assert keeper.came == [b"/0", b"/2"]
    await upstream.aclose()


@pytest.mark.parametrize("granted", ["connection", "place"])
async def test_what_is_granted_to_one_who_leaves_at_that_moment_goes_to_the_next(granted: str) -> None:
    made = 0

    async def make(pool: Pool, seconds: float) -> Connection:
        nonlocal made
        made += 1
        loop = asyncio.get_running_loop()
        connection = Connection(loop, "provider.test:80", pool, Outbox(loop.call_soon))
        connection.connection_made(Wire())
        return connection

    pool = Pool("provider.test:80", make, most=1)
    held = await pool.make(1.0)
    second, third = (asyncio.ensure_future(pool.make(1.0)) for _ in range(2))
    await settled()
    if granted == "connection":
        pool.release(held)
    else:
        held.abort()
    second.cancel()
    assert (await third is held) == (granted == "connection")
    assert made == (1 if granted == "connection" else 2)
    assert second.cancelled()
    assert pool.open == 1


async def test_a_connection_that_cannot_be_made_gives_its_place_back() -> None:
    upstream = Upstream(most=1)
    async with provider(saying(HELLO)) as (_, origin):
        pass  # and is closed again: nobody listens there
    for _ in range(3):
        with pytest.raises(ConnectFailed, match=r"^no connection: Connection refused$") as no:
            await upstream.send(origin, POST, b"{}", PATIENT)
        assert no.value.where == f"127.0.0.1:{origin.port}"
    assert upstream.stats() == {f"127.0.0.1:{origin.port}": (0, 0)}
    await upstream.aclose()


async def test_a_new_connection_takes_the_place_of_an_idle_one() -> None:
    upstream = Upstream(most=1)

    async def body() -> AsyncIterator[bytes]:
        yield b"x"

    async with provider(saying(HELLO)) as (server, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        answer = await upstream.send(origin, POST, body(), PATIENT)
        assert await answer.body(100) == b"hello"
        assert len(server.peers) == 2
        assert upstream.stats()[f"127.0.0.1:{origin.port}"] == (1, 1)
    await upstream.aclose()


async def test_hundreds_of_calls_share_few_connections() -> None:
    upstream = Upstream(most=5)
    async with provider(saying(HELLO)) as (server, origin):
        answers = await asyncio.gather(
            *(upstream.send(origin, POST, b"{}", PATIENT, whole=True) for _ in range(300))
        )
        assert [await answer.body(9) for answer in answers] == [b"hello"] * 300
        assert len(server.peers) == 5
    await upstream.aclose()


async def test_a_connection_whose_call_has_left_serves_the_next_one() -> None:
    dialing = asyncio.Event()
    opened = asyncio.Event()

    async def slow(pool: Pool, seconds: float) -> Connection:
        dialing.set()
        await opened.wait()
        return connection

    pool = Pool("p", slow, most=4)
    loop = asyncio.get_running_loop()
    connection = Connection(loop, "p", pool, Outbox(loop.call_soon))
    impatient = asyncio.ensure_future(pool.make(5.0))
    await dialing.wait()
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    assert (pool.open, pool.take()) == (1, None)
    opened.set()
    await settled()
    assert (pool.open, pool.take()) == (1, connection)


async def test_a_dial_that_nobody_waits_for_any_more_fails_alone() -> None:
    dialing = asyncio.Event()

    async def refused(pool: Pool, seconds: float) -> Connection:
        dialing.set()
        await asyncio.sleep(0.01)
        raise ConnectFailed("p", "connection refused")

    pool = Pool("p", refused, most=4)
    impatient = asyncio.ensure_future(pool.make(5.0))
    await dialing.wait()
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    await settled()
    assert pool.open == 0
