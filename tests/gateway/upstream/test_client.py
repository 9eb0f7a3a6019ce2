import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.upstream import client, dial
from gateway.upstream.client import Timing, Upstream, header
from gateway.upstream.failures import ConnectFailed, ConnectionCut
from tests.gateway.upstream.scripted import (
    GET,
    HELLO,
    PATIENT,
    POST,
    Peer,
    provider,
    saying,
    saying_once,
    until,
)


@pytest.mark.parametrize(
    ("head", "body", "sent"),
    [
        (POST, b"{}", POST + b"content-length: 2\r\n\r\n"),
        (POST, b"", POST + b"content-length: 0\r\n\r\n"),
        (GET, b"", GET + b"\r\n"),
        (b"DELETE /v1/files/1 HTTP/1.1\r\n", b"", b"DELETE /v1/files/1 HTTP/1.1\r\n\r\n"),
    ],
)
async def test_a_request_is_framed_as_its_body_asks(
    upstream: Upstream, head: bytes, body: bytes, sent: bytes
) -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        peer.say(HELLO)

    async with provider(script) as (_, origin):
        await upstream.send(origin, head, body, PATIENT, whole=True)
    assert seen == [(sent, body)]


async def test_a_request_of_many_megabytes_arrives_whole(upstream: Upstream) -> None:
    seen: list[int] = []

    async def script(peer: Peer) -> None:
        seen.append(len((await peer.request())[1]))
        peer.say(HELLO)

    async with provider(script) as (_, origin):
        await upstream.send(origin, POST, b"x" * 20_000_000, PATIENT, whole=True)
    assert seen == [20_000_000]


async def test_a_unix_socket_is_an_origin(upstream: Upstream, tmp_path: Path) -> None:
    async with provider(saying(HELLO), unix=str(tmp_path / "engine.sock")) as (_, origin):
        answer = await upstream.send(origin, GET, b"", PATIENT)
        assert await answer.body(100) == b"hello"
        assert upstream.stats() == {origin.path: (1, 1)}


async def leaving_after_each_answer(peer: Peer) -> None:
    """Promises to keep the connection, and closes it as soon as the second request comes."""
    await peer.request()
    peer.say(HELLO)
    await peer.writer.drain()
    await peer.reader.read(1)


async def test_a_stale_connection_is_replaced_unseen(upstream: Upstream) -> None:
    async with provider(leaving_after_each_answer) as (server, origin):
        for turn in range(1, 4):
            answer = await upstream.send(origin, POST, b"{}", PATIENT, whole=turn % 2 == 0)
            assert await answer.body(100) == b"hello"
            assert len(server.peers) == turn
        assert upstream.stats()[f"127.0.0.1:{origin.port}"] == (1, 1)


async def test_a_connection_that_closes_while_idle_is_not_taken(upstream: Upstream) -> None:
    async with provider(saying_once(HELLO)) as (server, origin):
        for turn in range(1, 4):
            answer = await upstream.send(origin, POST, b"{}", PATIENT)
            assert await answer.body(100) == b"hello"
            assert len(server.peers) == turn


async def test_a_request_is_never_sent_twice_over_fresh_connections(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()

    async with provider(script) as (server, origin):
        with pytest.raises(ConnectionCut) as cut:
            await upstream.send(origin, POST, b"{}", PATIENT)
        assert not cut.value.response_started
        assert len(server.peers) == 1


async def test_a_provider_that_cuts_off_everyone_is_asked_twice_at_most(upstream: Upstream) -> None:
    requests = 0

    async def script(peer: Peer) -> None:
        nonlocal requests
        await peer.request()
        requests += 1
        if requests == 1:
            peer.say(HELLO)
            await peer.request()
            requests += 1

    async with provider(script) as (_, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        with pytest.raises(ConnectionCut):
            await upstream.send(origin, POST, b"{}", PATIENT)
    assert requests == 3


async def test_a_call_that_a_provider_has_worked_on_is_not_repeated(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "STALE", 0.05)

    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await peer.request()
        await asyncio.sleep(0.2)

    async with provider(script) as (server, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        with pytest.raises(ConnectionCut) as cut:
            await upstream.send(origin, POST, b"{}", PATIENT)
        assert not cut.value.response_started
        assert len(server.peers) == 1


async def test_a_call_whose_answer_has_begun_is_not_repeated(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO)
        await peer.request()
        peer.say(b"HTTP/1.1 2")

    async with provider(script) as (server, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        with pytest.raises(ConnectionCut) as cut:
            await upstream.send(origin, POST, b"{}", PATIENT)
        assert cut.value.response_started
        assert len(server.peers) == 1


async def test_a_streamed_body_takes_a_fresh_connection_and_is_sent_once(upstream: Upstream) -> None:
    made = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal made
        made += 1
        yield b"once"

    async with provider(leaving_after_each_answer) as (server, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        answer = await upstream.send(origin, POST, body(), PATIENT)
        assert await answer.body(100) == b"hello"
        assert (made, len(server.peers)) == (1, 2)


async def test_a_client_that_leaves_in_mid_upload_closes_the_upstream(upstream: Upstream) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"the first half"
        raise ConnectionResetError("the client left")

    async def script(peer: Peer) -> None:
        await peer.left()

    async with provider(script) as (server, origin):
        with pytest.raises(ConnectionResetError):
            await upstream.send(origin, POST, body(), PATIENT)
        await server.peers[0].gone.wait()


async def test_the_warmest_connection_serves_first(upstream: Upstream) -> None:
    async with provider(saying(HELLO)) as (server, origin):
        await asyncio.gather(*(upstream.send(origin, POST, b"{}", PATIENT, whole=True) for _ in range(8)))
        opened = len(server.peers)
        for _ in range(20):
            await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        assert len(server.peers) == opened
        assert upstream.stats()[f"127.0.0.1:{origin.port}"] == (opened, opened)


@pytest.mark.parametrize("ages", [{"keep_alive": 0.0}, {"oldest": 0.0}])
async def test_old_connections_are_swept_and_their_pools_with_them(
    monkeypatch: pytest.MonkeyPatch, ages: dict[str, float]
) -> None:
    monkeypatch.setattr(client, "SWEEP", 0.02)
    upstream = Upstream(**ages)  # type: ignore[arg-type]  # mypy takes the keys for any of them
    async with provider(saying(HELLO)) as (server, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        await server.peers[0].gone.wait()
        await until(lambda: not upstream.stats())
    await upstream.aclose()


async def test_a_connection_that_has_become_old_in_use_ends_with_its_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "SWEEP", 0.02)
    upstream, go = Upstream(oldest=0.0), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        peer.say(HELLO)
        await peer.left()

    async with provider(script) as (server, origin):
        call = asyncio.ensure_future(upstream.send(origin, POST, b"{}", PATIENT, whole=True))
        await server.arrived.wait()
        pool = upstream._pools[origin]
        await until(lambda: any(connection.last for connection in pool._open))
        go.set()
        assert await (await call).body(100) == b"hello"
        assert upstream.stats()[pool.name] == (0, 0)
        await server.peers[0].gone.wait()
    await upstream.aclose()


async def test_closing_the_client_fails_the_calls_that_are_on_their_way() -> None:
    upstream = Upstream(most=1)

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.left()

    async with provider(script) as (server, origin):
        calls = [asyncio.ensure_future(upstream.send(origin, POST, b"{}", PATIENT)) for _ in range(3)]
        await server.arrived.wait()
        await asyncio.sleep(0.02)
        await upstream.aclose()
        first, *waiting = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(first, ConnectionCut)
        assert all(isinstance(one, ConnectFailed) for one in waiting)
        await server.peers[0].gone.wait()


async def test_a_connection_that_is_being_made_is_given_up_when_the_client_closes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    upstream, asked = Upstream(), asyncio.Event()

    async def never(loop: asyncio.AbstractEventLoop, addresses: object) -> socket.socket:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(dial, "connect", never)
    async with provider(Peer.left) as (server, origin):
        sending = asyncio.ensure_future(upstream.send(origin, POST, b"{}", PATIENT))
        await asked.wait()
        await upstream.aclose()
        with pytest.raises(ConnectFailed, match="the client was closed"):
            await sending
        assert not server.peers


async def test_a_closed_client_opens_nothing() -> None:
    upstream = Upstream()
    await upstream.aclose()
    async with provider(saying(HELLO)) as (server, origin):
        with pytest.raises(ConnectFailed, match="the client was closed"):
            await upstream.send(origin, POST, b"{}", PATIENT)
        assert not server.peers


class Progress:
    sent = uploading = False


async def test_calls_that_end_in_any_way_leave_no_socket_behind() -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.say(HELLO[:-2])
        await peer.left()

    before = len(os.listdir("/proc/self/fd"))
    upstream = Upstream()
    progress, timing = [Progress() for _ in range(60)], Timing(5.0, 0.1, 0.1)
    async with provider(script) as (_, origin):
        calls = [
            asyncio.ensure_future(upstream.send(origin, POST, b"{}", timing, whole=True, progress=one))
            for one in progress
        ]
        await until(lambda: all(one.sent for one in progress))  # before, a connection under way would be kept
        for call in calls[::2]:
            call.cancel()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(end, BaseException) for end in ends)
        assert upstream.stats()[f"127.0.0.1:{origin.port}"] == (0, 0)
    await upstream.aclose()
    await asyncio.sleep(0.05)  # both sides' transports close in the loop's next rounds
    assert len(os.listdir("/proc/self/fd")) <= before + 2


def test_a_header_cannot_break_out_of_its_line() -> None:
    assert header(b"x-id", b"a b") == b"x-id: a b\r\n"
    for value in (b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"):
        with pytest.raises(ValueError, match="may hold no CR, LF or NUL"):
            header(b"x-id", value)
        with pytest.raises(ValueError, match="may hold no CR, LF or NUL"):
            header(value, b"x")
