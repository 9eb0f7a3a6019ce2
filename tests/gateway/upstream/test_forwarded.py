from collections.abc import AsyncIterator

import pytest

from gateway.core.address import Origin
from gateway.upstream.client import Upstream
from gateway.upstream.failures import BadAnswer
from gateway.upstream.proxy import Proxies, Proxy
from tests.gateway.upstream.scripted import GET, HELLO, PATIENT, POST, Peer, Script, provider, saying

THERE = Origin("http", "provider.test", 8000)


def through(port: int, authorization: str = "") -> Upstream:
    return Upstream(proxies=Proxies(None, Proxy("127.0.0.1", port, authorization), ()))


def keeping(seen: list[tuple[bytes, bytes]]) -> Script:
    async def script(peer: Peer) -> None:
        while True:
            seen.append(await peer.request())
            peer.say(HELLO)

    return script


async def test_a_proxy_is_handed_each_request_and_its_own_credential() -> None:
    seen: list[tuple[bytes, bytes]] = []

    async def parts() -> AsyncIterator[bytes]:
        yield b"a"
        yield b"b"

    async with provider(keeping(seen)) as (server, at):
        upstream = through(at.port, "Basic secret")
        await upstream.send(THERE, POST, b"{}", PATIENT, whole=True)
        await upstream.send(THERE, GET, b"", PATIENT, whole=True)
        assert len(server.peers) == 1
        answer = await upstream.send(THERE, POST, parts(), PATIENT)
        assert await answer.body(100) == b"hello"
        await upstream.aclose()
    shown = b"proxy-authorization: Basic secret\r\nhost: provider.test\r\n"
    post = b"POST http://provider.test:8000/v1/chat/completions HTTP/1.1\r\n"
    assert seen == [
        (post + shown + b"content-length: 2\r\n\r\n", b"{}"),
        (b"GET http://provider.test:8000/v1/models HTTP/1.1\r\n" + shown + b"\r\n", b""),
        (post + shown + b"transfer-encoding: chunked\r\n\r\n", b"ab"),
    ]


async def test_an_address_of_the_sixth_version_stands_in_brackets() -> None:
    seen: list[tuple[bytes, bytes]] = []
    async with provider(keeping(seen)) as (_, at):
        upstream = through(at.port)
        await upstream.send(Origin("http", "2001:db8::1", 80), GET, b"", PATIENT, whole=True)
        await upstream.aclose()
    assert seen[0][0] == b"GET http://[2001:db8::1]:80/v1/models HTTP/1.1\r\nhost: provider.test\r\n\r\n"


async def test_a_proxy_that_refuses_our_credential_is_no_provider_that_does() -> None:
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 2\r\n\r\nno"
    async with provider(saying(refusal)) as (_, at):
        upstream = through(at.port, "Basic secret")
        with pytest.raises(BadAnswer, match=r"^the proxy answered '407'$") as no:
            await upstream.send(THERE, POST, b"{}", PATIENT)
        assert no.value.where == f"provider.test:8000 by way of the proxy 127.0.0.1:{at.port}"
        await upstream.aclose()
