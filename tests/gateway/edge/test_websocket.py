"""A WebSocket as clients speak it: frames, bounds, silence, and how it ends."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any

import orjson
import pytest
import uvloop
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.edge.websocket import CLOSE_WITHIN, OLDEST, PING_AFTER, PONG_WITHIN, TRY_LATER, Socket
from tests.running import KEY, Running, gateway, policies

ASK = b'{"type": "response.create", "model": "mini", "input": "hi"}'
HANDSHAKE = {
    "connection": "Upgrade",
    "upgrade": "websocket",
    "sec-websocket-version": "13",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@asynccontextmanager
async def socket(tmp_path: Path, **settings: Any) -> AsyncIterator[tuple[ClientConnection, Running]]:
    """Before a provider that is not there: what matters is which messages are heard."""
    async with gateway(tmp_path, policies("http://127.0.0.1:9/v1"), **settings) as running:
        url, head = running.url.replace("http", "ws") + "/v1/responses", {"authorization": f"Bearer {KEY}"}
        async with connect(url, additional_headers=head, proxy=None, max_size=None) as one:
            yield one, running


async def status(one: ClientConnection) -> int:
    async with asyncio.timeout(10):
        return int(orjson.loads(await one.recv())["status"])


async def ending(one: ClientConnection) -> int:
    """The code the connection is closed with."""
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await one.recv()
    return closed.value.rcvd.code if closed.value.rcvd else 0


async def test_messages_that_are_not_whole_yet_have_a_bound_over_all_connections(tmp_path: Path) -> None:
    sizes = {"max_body": 500_000, "max_bodies": 500_000}
    async with socket(tmp_path, **sizes) as (first, running):
        url, head = running.url.replace("http", "ws") + "/v1/responses", {"authorization": f"Bearer {KEY}"}
        done = asyncio.Event()

        async def long() -> AsyncIterator[str]:
            yield " " * 400_000 + ASK[:20].decode()
            await asyncio.wait_for(await first.ping(), 10)  # who answers has read what came before
            async with connect(url, additional_headers=head, proxy=None) as second:
                with suppress(ConnectionClosed):
                    await second.send(" " * 400_000)
                assert await ending(second) == TRY_LATER
            done.set()
            yield ASK[20:].decode()

        await first.send(long())
        assert await status(first) == 502
        assert done.is_set()
        await until_idle_but(running, 1)
        async with connect(url, additional_headers=head, proxy=None) as third:
            await third.send(ASK.decode() + " " * 400_000)
            assert await status(third) == 502


async def until_idle_but(running: Running, connections: int) -> None:
    async with asyncio.timeout(5):
        while running.house.reception.in_flight > connections:
            await asyncio.sleep(0.005)


def accepted(running: Running) -> Socket:
    (found,) = [one for one in running.data.server_state.connections if isinstance(one, Socket)]
    return found


async def pieces(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, _):
        await one.send([ASK[:20].decode(), "", ASK[20:].decode()])
        assert await status(one) == 502
        await asyncio.wait_for(await one.ping(), 10)
        await one.send(ASK.decode())
        assert await status(one) == 502


async def test_a_message_may_come_in_pieces_and_pings_between(tmp_path: Path) -> None:
    await pieces(tmp_path)


def test_the_same_on_the_loop_that_serves(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(pieces(tmp_path))


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x" * 5000, 1009),
        (["x" * 3000, "x" * 3000], 1009),
        (b"\x00", 1003),
    ],
)
async def test_what_may_not_be_sent_ends_the_connection(tmp_path: Path, message: Any, code: int) -> None:
    async with socket(tmp_path, max_body=4096) as (one, _):
        await one.send(message)
        assert await ending(one) == code


async def test_frames_that_are_none_end_the_connection(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        one.transport.write(b"\xff" * 64)
        assert await ending(one) == 1002
        while running.data.server_state.connections:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"sec-websocket-version": "8"}, "must be 13"),
        ({"sec-websocket-key": "short=="}, "16 bytes"),
        ({"sec-websocket-key": ""}, "16 bytes"),
        ({"connection": "keep-alive"}, "plain HTTP/1.1 request"),
    ],
)
async def test_a_handshake_that_is_none_is_refused(tmp_path: Path, head: dict[str, str], said: str) -> None:
    async with gateway(tmp_path, policies("http://127.0.0.1:9/v1")) as running, running.client() as client:
        refused = await client.get("/v1/responses", headers={**HANDSHAKE, **head})
        assert refused.status_code == 400
        assert said in refused.json()["error"]["message"]


async def test_the_handshake_is_answered_as_the_standard_says(tmp_path: Path) -> None:
    """The key and its answer are those of RFC 6455, 1.3."""
    async with gateway(tmp_path, policies("http://127.0.0.1:9/v1")) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        head = {"host": "x", "authorization": f"Bearer {KEY}", "x-request-id": "mine", **HANDSHAKE}
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        writer.write(f"GET /v1/responses HTTP/1.1\r\n{lines}\r\n".encode())
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in answer
        assert b"x-request-id: mine\r\n" in answer
        writer.close()


async def test_a_silent_client_is_pinged_and_taken_for_gone_where_it_stays_silent(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        heard = accepted(running)
        now = asyncio.get_running_loop().time()
        assert not heard.is_stalled(now + PING_AFTER - 1, 10, 30)
        before = heard._last_data
        assert not heard.is_stalled(now + PING_AFTER + 1, 10, 30)
        async with asyncio.timeout(10):
            while heard._last_data == before:  # until the pong is there
                await asyncio.sleep(0.002)
        assert heard.is_stalled(now + PING_AFTER + PONG_WITHIN + 1, 10, 30)
        heard.drop()
        assert await ending(one) == 0


async def test_a_connection_ends_with_a_reason_when_it_is_an_hour_old(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        now = asyncio.get_running_loop().time()
        accepted(running).is_stalled(now + OLDEST + 1, 10, 30)
        error = orjson.loads(await asyncio.wait_for(one.recv(), 10))["error"]
        assert error["code"] == "websocket_connection_limit_reached"
        assert await ending(one) == 1001


async def test_who_says_no_goodbye_is_dropped(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        one.transport.pause_reading()
        heard = accepted(running)
        heard.close(1001)
        now = asyncio.get_running_loop().time()
        assert not heard.is_stalled(now, 10, 30)
        assert heard.is_stalled(now + CLOSE_WITHIN + 1, 10, 30)
        heard.drop()
        one.transport.resume_reading()
        assert await ending(one) == 1001


async def test_who_writes_and_never_reads_is_cut_off(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        heard = accepted(running)
        heard.pause_writing()  # as the transport does once its buffer is full
        await one.send("{")
        while heard._hears:
            await asyncio.sleep(0.002)
        heard.resume_writing()
        assert await ending(one) == 1008


async def flood(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        heard = accepted(running)
        for transport in (one.transport, heard._transport):
            for size in (SO_RCVBUF, SO_SNDBUF):
                transport.get_extra_info("socket").setsockopt(SOL_SOCKET, size, 64 << 10)
        one.transport.pause_reading()
        one.transport.write((b"\x89\xfd" + bytes(4) + b"x" * 125) * 20_000)
        async with asyncio.timeout(10):
            while heard._hears:
                await asyncio.sleep(0.002)
        await asyncio.sleep(0.05)
        waiting, now = heard._transport.get_write_buffer_size(), asyncio.get_running_loop().time()
        assert 0 < waiting < 1 << 20 < one.transport.get_write_buffer_size(), (
            "a megabyte and more is left unread"
        )
        assert not heard.is_stalled(now, 10, 90)
        assert not heard.is_stalled(now + PING_AFTER + PONG_WITHIN + 1, 10, 90), (
            "its pongs are not read either"
        )
        assert heard.is_stalled(now + 91, 10, 90)
        one.transport.resume_reading()
        await one.send(ASK.decode())
        assert await status(one) == 502


async def test_who_pings_and_does_not_read_is_not_read_either(tmp_path: Path) -> None:
    await flood(tmp_path)


def test_a_flood_of_pings_on_the_loop_that_serves(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(flood(tmp_path))


async def test_an_answer_waits_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    async with socket(tmp_path) as (one, running):
        heard = accepted(running)
        heard.pause_writing()
        await one.send(ASK.decode())
        while not heard.tasks - {task for task in heard.tasks if "Cycle" in repr(task)}:
            await asyncio.sleep(0.002)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(one.recv(), 0.1)
        heard.resume_writing()
        assert await status(one) == 502
