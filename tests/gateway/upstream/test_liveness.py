import asyncio
import socket

import pytest

from gateway.upstream import client, connection
from gateway.upstream.client import Upstream
from gateway.upstream.failures import ConnectionCut
from gateway.upstream.liveness import MOST_RETRANSMITS, is_gone, watch
from tests.gateway.upstream.scripted import PATIENT, POST, Peer, provider


def test_the_system_asks_within_half_a_minute_whether_somebody_is_there() -> None:
    with socket.socket() as sock:
        watch(sock)
        idle, every, most = [
            sock.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        ]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert idle + every * most <= 30


class Unheard:
    """A socket whose system has sent something again so many times: nothing but a broken net makes a real one."""

    def __init__(self, times: int) -> None:
        self._times = times

    def getsockopt(self, level: int, option: int, size: int) -> bytes:
        assert (level, option) == (socket.IPPROTO_TCP, socket.TCP_INFO)
        return bytes([1, 0, self._times, 0, 0])[:size]


def test_who_answers_to_nothing_is_gone() -> None:
    assert is_gone(Unheard(MOST_RETRANSMITS))
    assert not is_gone(Unheard(MOST_RETRANSMITS - 1))


def test_who_is_there_and_does_not_read_is_not_gone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        sock = socket.create_connection(server.getsockname())
        sock.setblocking(False)
        while sock.send(bytes(1 << 20)) == 1 << 20:
            pass
        assert not is_gone(sock)
        sock.close()
        assert not is_gone(sock)
    one, other = socket.socketpair()
    with one, other:
        assert not is_gone(one)


async def test_a_call_that_nobody_hears_fails_as_one_that_found_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "SWEEP", 0.02)
    looked: list[object] = []

    def is_gone(sock: socket.socket) -> bool:
        looked.append(sock.getpeername())
        return len(looked) > 2

    monkeypatch.setattr(connection, "is_gone", is_gone)
    upstream = Upstream()
    async with provider(Peer.left) as (server, origin):
        async with asyncio.timeout(5):
            with pytest.raises(ConnectionCut, match=r"^nobody is there any more$") as cut:
                await upstream.send(origin, POST, b"{}", PATIENT)
            assert not cut.value.response_started
            assert looked == [("127.0.0.1", origin.port)] * 3
            await server.peers[0].gone.wait()
    await upstream.aclose()
