"""Bodies that are held at once have a bound of their own: many large ones cannot fill the memory."""

import asyncio
from pathlib import Path

import pytest

from gateway.core.failure import Overloaded
from gateway.edge.bodies import Bodies
from tests.running import KEY, Running, gateway, policies, until_idle
from tests.scripted import Provider

PATH = "/v1/chat/completions"
SIZE = 400_000


def test_a_team_takes_half_of_the_room_and_gives_it_back() -> None:
    bodies = Bodies(100, largest=10)
    bodies.hold("red", 30)
    bodies.hold("red", 20)
    with pytest.raises(Overloaded):
        bodies.hold("red", 1)
    bodies.hold("blue", 50)
    with pytest.raises(Overloaded):
        bodies.hold("green", 1)
    bodies.let_go("red", 50)
    bodies.hold("green", 50)


def test_the_largest_body_has_room_where_no_other_is() -> None:
    bodies = Bodies(10, largest=80)
    bodies.hold("red", 80)
    with pytest.raises(Overloaded):
        bodies.hold("blue", 1)


def body_of(size: int) -> bytes:
    return b'{"model": "mini", "messages": [{"role": "user", "content": "%b"}]}' % (b"x" * size)


async def begun(running: Running, key: str = KEY) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A large call whose last byte is missing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    body = body_of(SIZE)
    head = f"POST {PATH} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
    writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body[:-1])
    await writer.drain()
    return reader, writer


async def test_calls_with_large_bodies_wait_for_each_other_in_their_own_team_alone(tmp_path: Path) -> None:
    async with (
        Provider() as provider,
        gateway(tmp_path, policies(provider.url), max_body=500_000, max_bodies=1_000_000) as running,
        running.client() as client,
        running.client("sk-poor") as poor,
    ):
        reader, writer = await begun(running)
        async with asyncio.timeout(10):
            while (refused := await client.post(PATH, content=body_of(SIZE))).status_code == 200:
                await asyncio.sleep(0.01)  # the first body was not all read yet
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert 'gateway_admission_rejected_total{reason="bodies"}' in await running.metrics()
        assert (await client.post(PATH, content=body_of(9))).status_code == 200
        assert (await poor.post(PATH, content=body_of(SIZE))).status_code == 200
        writer.write(b"}")
        assert b" 200 " in await reader.readline()
        writer.close()
        await until_idle(running)
        assert (await client.post(PATH, content=body_of(SIZE))).status_code == 200


async def test_a_client_that_leaves_gives_its_room_back(tmp_path: Path) -> None:
    async with (
        Provider() as provider,
        gateway(tmp_path, policies(provider.url), max_body=500_000, max_bodies=500_000) as running,
        running.client() as client,
    ):
        for _ in range(3):
            _, writer = await begun(running)
            async with asyncio.timeout(5):
                while not running.house.reception.in_flight:
                    await asyncio.sleep(0.005)
            writer.close()
            await until_idle(running)
        told = await client.post(PATH, content=body_of(SIZE))
        assert told.status_code == 200
