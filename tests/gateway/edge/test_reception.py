"""Streams that are silent for a while, and time limits of clients. Ways in and out are tried by test_attacks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.failure import BadRequest
from gateway.edge import reception
from gateway.edge.asgi import Message
from gateway.edge.reply import Writer
from tests.running import Running, gateway, policies
from tests.scripted import DONE, FINISH, Asked, Provider, stream, word

ASKS = {"model": "smart", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "NUDGE_AFTER", 0.03)


@asynccontextmanager
async def silent(tmp_path: Path) -> AsyncIterator[tuple[Running, AsyncIterator[str], asyncio.Event]]:
    """A stream that says a word and then nothing, until the event."""
    go = asyncio.Event()
    async with Provider(script=[stream(word("hel"), go, word("lo"), FINISH, DONE)]) as provider:
        async with gateway(tmp_path, policies(provider.url)) as running, running.client() as client:
            async with client.stream("POST", "/v1/chat/completions", json=ASKS) as reply:
                yield running, pieces(reply), go


async def pieces(reply: httpx.Response) -> AsyncIterator[str]:
    async for piece in reply.aiter_text():
        yield piece


class Neighbour(Writer):
    """Another stream that is silent; `sends` counts what it was told to write."""

    def __init__(self) -> None:
        super().__init__(self.write, {"path": "/v1/chat/completions"}, "r", lambda: 0.0)
        self.sends, self.last = 0, -1.0

    async def write(self, message: Message) -> None:
        self.sends += 1


async def test_a_silent_stream_gets_a_comment_and_goes_on(tmp_path: Path) -> None:
    async with silent(tmp_path) as (_, told, go):
        assert '"hel"' in await anext(told)
        assert await anext(told) == ": keep-alive\n\n"
        go.set()
        assert "data: [DONE]" in "".join([piece async for piece in told])


async def test_a_stream_that_cannot_be_written_to_holds_up_no_other(tmp_path: Path) -> None:
    class Broken(Neighbour):
        async def write(self, message: Message) -> None:
            await super().write(message)
            raise RuntimeError("the answer has ended already")

    async with silent(tmp_path) as (running, told, _):
        broken = [Broken() for _ in range(20)]
        running.house.reception._streams |= set(broken)
        assert '"hel"' in await anext(told)
        for _ in range(2):
            assert await anext(told) == ": keep-alive\n\n"
        assert all(one.sends for one in broken)


async def test_a_stream_that_ends_while_others_are_told_is_told_nothing(tmp_path: Path) -> None:
    both: list[Neighbour] = []

    class Ends(Neighbour):
        """Whichever is told first ends the other."""

        async def write(self, message: Message) -> None:
            await super().write(message)
            (other,) = (one for one in both if one is not self)
            running.house.reception._streams.discard(other)

    async with silent(tmp_path) as (running, told, _):
        both += [Ends(), Ends()]
        running.house.reception._streams |= set(both)
        assert '"hel"' in await anext(told)
        assert await anext(told) == ": keep-alive\n\n"
        running.house.reception._streams -= set(both)
        assert sorted(bool(one.sends) for one in both) == [False, True]


SPEAKS = {"model": "smart", "input": "hi", "voice": "v", "stream": True}
LISTED = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
SOON = "timeouts: {total: 200ms}"
ARRAY = "/v1beta/models/smart:streamGenerateContent"


@pytest.mark.parametrize(
    ("path", "asks", "media", "told"),
    [
        (ARRAY, LISTED, "text/event-stream", [word("hel"), FINISH + DONE]),
        ("/v1/audio/speech", SPEAKS, "audio/mpeg", [b"ID3 and ", b"so on"]),
    ],
)
async def test_what_is_no_stream_of_events_gets_no_comment_however_silent_it_is(
    tmp_path: Path, path: str, asks: dict[str, Any], media: str, told: list[bytes]
) -> None:
    silence = asyncio.Event()

    class Told(Neighbour):
        async def write(self, message: Message) -> None:
            await super().write(message)
            if self.sends == 2:  # by now whoever is silent has been told so, too
                silence.set()

    async def act(asked: Asked, writer: asyncio.StreamWriter) -> None:
        length = sum(map(len, told))
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {length}\r\n\r\n".encode())
        writer.write(told[0])
        await silence.wait()
        writer.write(told[1])

    async with Provider(script=[act]) as provider, gateway(tmp_path, policies(provider.url)) as running:
        async with running.client() as client, client.stream("POST", path, json=asks) as reply:
            running.house.reception._streams.add(Told())
            came = await reply.aread()
    assert b"keep-alive" not in came
    assert came == b"".join(told) if media == "audio/mpeg" else reply.json()


async def test_an_array_that_takes_too_long_ends_in_an_error_of_its_own(tmp_path: Path) -> None:
    async with Provider(script=[stream(word("hel"), asyncio.Event())]) as provider:
        async with (
            gateway(tmp_path, policies(provider.url, model=SOON)) as running,
            running.client() as client,
        ):
            *_, last = (await client.post(ARRAY, json=LISTED)).json()
    assert last["error"]["code"] == 504


async def test_a_stream_that_takes_too_long_after_its_end_has_ended_well(tmp_path: Path) -> None:
    async with Provider(script=[stream(word("hello") + FINISH + DONE, asyncio.Event())]) as provider:
        async with (
            gateway(tmp_path, policies(provider.url, model=SOON)) as running,
            running.client() as client,
        ):
            told = (await client.post(ARRAY, json=LISTED)).json()
            assert "error" not in told[-1]
            told = (await client.post("/v1/chat/completions", json=ASKS)).text
            assert "[DONE]" in told
            assert "error" not in told


@pytest.mark.parametrize(("said", "seconds"), [(b"0.5", 0.5), (b"100000", 86400.0), (b"inf", 86400.0)])
def test_a_time_limit_may_be_as_long_as_it_likes(said: bytes, seconds: float) -> None:
    assert reception.time_limit({b"x-gateway-timeout": said}) == seconds


@pytest.mark.parametrize("said", [b"0", b"-1", b"nan", b"soon", b""])
def test_what_is_no_time_limit_is_refused(said: bytes) -> None:
    with pytest.raises(BadRequest, match="seconds above 0"):
        reception.time_limit({b"x-gateway-timeout": said})
