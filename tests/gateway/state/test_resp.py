"""One connection to Redis: answers in order, answers that are late or never come."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import hiredis
import pytest
import uvloop

from gateway.state import resp
from gateway.state.place import parse_url
from gateway.state.resp import Connection, RedisAway, RedisLate, connect
from tests.redis_server import RedisServer


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Connection]:
    one = await connect(parse_url(url), lambda: None)
    yield one
    one.close()


async def test_answers_come_to_whoever_asked(redis_server: RedisServer) -> None:
    async with connection(redis_server.url) as one:
        asked = [one.ask("ECHO", f"{number}\r\n\0") for number in range(200)]
        assert await asyncio.gather(*asked) == [b"%d\r\n\0" % number for number in range(200)]
        with pytest.raises(hiredis.ReplyError, match="unknown command"):
            await one.ask("NO SUCH\r\nCOMMAND")
        assert await one.ask("SET", "n", 2**60) == b"OK"
        assert await one.ask("GET", b"n") == b"%d" % 2**60


async def test_a_database_and_a_login_are_asked_for_first(tmp_path: Path) -> None:
    server = RedisServer(tmp_path, "--requirepass", "pw")
    try:
        async with connection(f"unix://default:pw@{server.socket}?db=5") as one:
            assert b"db=5" in await one.ask("CLIENT", "INFO")
        with pytest.raises(hiredis.ReplyError, match="WRONGPASS"):
            await connect(parse_url(f"unix://:wrong@{server.socket}"), lambda: None)
    finally:
        server.close()


class Silent:
    """A server that answers when it is told to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "s"
        self.writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        self.writer = writer
        while await reader.read(4096):
            pass
        writer.close()

    def say(self, what: bytes) -> None:
        assert self.writer is not None
        self.writer.write(what)


@asynccontextmanager
async def silent(
    folder: Path, lost: Callable[[], None] = lambda: None
) -> AsyncIterator[tuple[Silent, Connection]]:
    server = Silent(folder)
    async with await asyncio.start_unix_server(server.serve, server.path):
        one = await connect(parse_url(f"unix://{server.path}"), lost)
        yield server, one
        one.close()
        assert server.writer is not None
        server.writer.close()


async def test_a_late_answer_goes_to_whoever_cleans_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resp, "PATIENCE", 0.01)
    heard: asyncio.Queue[Any] = asyncio.Queue()
    async with silent(tmp_path) as (server, one):
        with pytest.raises(RedisLate, match="no reply within 10 ms"):
            await one.ask_soon(("FIRST",), heard.put_nowait)
        with pytest.raises(RedisLate):
            await one.ask_soon(("SECOND",), heard.put_nowait)
        assert heard.empty()
        server.say(b":1\r\n:2\r\n")
        assert [await heard.get(), await heard.get()] == [1, 2]
        asked = one.ask_soon(("THIRD",), heard.put_nowait)
        server.say(b":3\r\n")
        assert await asked == 3
        assert heard.empty()


async def test_who_hangs_up_leaves_the_answer_to_whoever_cleans_up(tmp_path: Path) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue()
    async with silent(tmp_path) as (server, one):
        one.ask_soon(("FIRST",), heard.put_nowait).cancel()
        server.say(b"-ERR no\r\n")
        assert isinstance(await heard.get(), hiredis.ReplyError)
        one.ask_soon(("SECOND",), heard.put_nowait).cancel()
        one.close()
        assert await heard.get() is None


async def test_a_lost_connection_is_told_to_all_who_wait(tmp_path: Path) -> None:
    lost: list[bool] = []
    async with silent(tmp_path, lambda: lost.append(True)) as (server, one):
        asked = [one.ask("FIRST"), one.ask_soon(("SECOND",), lost.append)]
        await asyncio.sleep(0)
        assert server.writer is not None
        server.writer.close()
        for waiting in asked:
            with pytest.raises(RedisAway, match=r"the connection was (closed at the other end|lost: )"):
                await waiting
        with pytest.raises(RedisAway, match=r"the connection was (closed at the other end|lost: )"):
            await one.ask("THIRD")
        one.close()
        assert lost == [True], "told once, and no one who was told has to clean up as well"


async def test_nonsense_ends_the_connection(tmp_path: Path) -> None:
    async with silent(tmp_path) as (server, one):
        asked = one.ask("FIRST")
        server.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(RedisAway, match="what speaks there is no Redis"):
            await asked


async def test_a_loop_that_was_held_up_itself_reads_before_it_calls_anybody_late(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resp, "PATIENCE", 0.01)

    async def held_up() -> Any:
        async with connection(redis_server.url) as one:
            asked = one.ask_soon(("ECHO", "here"), lambda reply: None)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            time.sleep(0.05)  # noqa: ASYNC251  the hold-up itself
            return await asked

    assert await held_up() == b"here"
    assert await asyncio.to_thread(lambda: uvloop.run(held_up())) == b"here"
