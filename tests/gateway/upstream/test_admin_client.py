import asyncio
from typing import Any

import pytest

from gateway.upstream.admin_client import NoAnswer, ask
from tests.gateway.upstream.scripted import Peer, Script, provider


def answering(answer: bytes, seen: list[tuple[bytes, bytes]]) -> Script:
    async def script(peer: Peer) -> None:
        seen.append(await peer.request())
        peer.say(answer)

    return script


async def asked(answer: bytes, *, token: str = "", body: Any = None) -> tuple[tuple[int, Any], bytes, bytes]:
    seen: list[tuple[bytes, bytes]] = []
    async with provider(answering(answer, seen)) as (_, origin):
        address = f"http://127.0.0.1:{origin.port}"
        came = await asyncio.to_thread(ask, address, "POST", "/admin/v1/keys", token, body)
    return came, *seen[0]


async def test_json_is_asked_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    message = b'HTTP/1.1 201 Created\r\ncontent-length: 8\r\n\r\n{"id":1}'
    came, head, body = await asked(message, token="secret", body={"name": "app"})
    assert came == (201, {"id": 1})
    assert head.startswith(b"POST /admin/v1/keys HTTP/1.1\r\n")
    assert b"authorization: bearer secret\r\n" in head.lower()
    assert body == b'{"name":"app"}'


async def test_what_is_no_json_is_no_answer() -> None:
    with pytest.raises(NoAnswer, match="the answer is no JSON"):
        await asked(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>")


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense", "http://[::1", "ftp://127.0.0.1"])
def test_an_address_where_nobody_answers_is_an_error_in_a_word(address: str) -> None:
    with pytest.raises(NoAnswer):
        ask(address, "GET", "/", "secret")
