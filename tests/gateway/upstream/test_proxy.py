import asyncio
import base64
from pathlib import Path

import pytest

from gateway.core.address import Origin
from gateway.upstream.client import Timing, Upstream
from gateway.upstream.failures import ConnectFailed, ConnectTimedOut
from gateway.upstream.proxy import Proxies, Proxy, parse_proxy
from tests.gateway.upstream.authority import Authority
from tests.gateway.upstream.scripted import HELLO, PATIENT, POST, Peer, Script, provider, saying

SECRET = "p@ss:word"
AUTHORIZATION = "Basic " + base64.b64encode(f"user:{SECRET}".encode()).decode()


def tunnelling(port: int, heads: list[bytes]) -> Script:
    """A proxy that leads every CONNECT to `port` on this machine."""

    async def script(peer: Peer) -> None:
        heads.append(await peer.head())
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        peer.say(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(65536):
                sink.write(data)
            sink.close()

        await asyncio.gather(copy(peer.reader, writer), copy(reader, peer.writer))

    return script


async def test_tls_goes_through_a_tunnel(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    heads: list[bytes] = []
    async with (
        provider(saying(HELLO), tls=authority.server("provider.test")) as (server, origin),
        provider(tunnelling(origin.port, heads)) as (_, at),
    ):
        proxy = Proxy("127.0.0.1", at.port, AUTHORIZATION)
        upstream = Upstream(tls=authority.client, proxies=Proxies(proxy, None, ()))
        there = Origin("https", "provider.test", 8443)
        for _ in range(2):
            answer = await upstream.send(there, POST, b"{}", PATIENT)
            assert await answer.body(100) == b"hello"
        assert upstream.stats() == {"provider.test:8443": (1, 1)}
        assert len(server.peers) == 1
        await upstream.aclose()
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "CONNECT provider.test:8443 HTTP/1.1"
    assert "host: provider.test:8443" in lines
    assert f"proxy-authorization: {AUTHORIZATION}" in lines
    assert len(heads) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered '407'"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "answered '502'"),
        (b"SSH-2.0-server\r\n\r\n", "answered"),
        (b"HTTP/1.1 200 OK\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 4000, "broke off"),
    ],
)
async def test_a_proxy_that_refuses_is_quoted_without_its_password(answer: bytes, said: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.say(answer)

    async with provider(script) as (_, at):
        proxy = Proxy("127.0.0.1", at.port, AUTHORIZATION)
        upstream = Upstream(proxies=Proxies(proxy, proxy, ()))
        with pytest.raises(ConnectFailed, match=f"^no connection: the proxy {said}") as no:
            await upstream.send(Origin("https", "provider.test", 443), POST, b"{}", PATIENT)
        assert no.value.where == f"provider.test:443 by way of the proxy 127.0.0.1:{at.port}"
        assert AUTHORIZATION not in no.value.told
        await upstream.aclose()


async def test_a_proxy_that_hangs_runs_into_the_connect_timeout() -> None:
    async with provider(Peer.left) as (server, at):
        proxy = Proxy("127.0.0.1", at.port)
        upstream = Upstream(proxies=Proxies(proxy, None, ()))
        with pytest.raises(ConnectTimedOut, match=r"s: the proxy did not answer$") as late:
            await upstream.send(Origin("https", "provider.test", 443), POST, b"{}", Timing(0.1, 5.0, 5.0))
        assert late.value.where == f"provider.test:443 by way of the proxy 127.0.0.1:{at.port}"
        await server.peers[0].gone.wait()
        await upstream.aclose()


def test_the_proxies_variables_may_be_small_or_capital() -> None:
    both = Proxies.from_environment({"https_proxy": "http://a:1", "HTTP_PROXY": "b:2", "no_proxy": " C , d "})
    assert both == Proxies(Proxy("a", 1), Proxy("b", 2), ("c", "d"))
    assert both.for_origin(Origin("https", "x", 443)) == Proxy("a", 1)
    assert both.for_origin(Origin("http", "x", 80)) == Proxy("b", 2)
    assert Proxies.from_environment({}) == Proxies.none()


def test_a_proxys_password_is_decoded_and_encoded() -> None:
    assert parse_proxy("http://user:p%40ss%3Aword@proxy.test:3128") == Proxy(
        "proxy.test", 3128, AUTHORIZATION
    )
    assert parse_proxy("http://proxy.test") == Proxy("proxy.test", 80)


@pytest.mark.parametrize(
    "url", ["socks5://proxy.test:1080", "https://proxy.test", "http://", "http://a:port"]
)
def test_a_proxy_address_that_cannot_be_used_names_its_variable(url: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY: a proxy's address must look like http://host:port"):
        Proxies.from_environment({"HTTPS_PROXY": url})


@pytest.mark.parametrize(
    ("rules", "host", "direct"),
    [
        ("*", "api.openai.com", True),
        ("openai.com", "api.openai.com", True),
        ("openai.com", "openai.com", True),
        ("openai.com", "notopenai.com", False),
        (".openai.com", "api.openai.com", True),
        ("*.openai.com", "api.openai.com", True),
        ("OpenAI.com", "API.openai.com", True),
        ("other.com, openai.com", "api.openai.com", True),
        ("api.openai.com:443", "api.openai.com", True),
        ("api.openai.com:8443", "api.openai.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "10.example.com", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("fd00::/8", "fd00::1", True),
        ("[fd00::1]:443", "fd00::1", True),
        ("", "api.openai.com", False),
        ("", "localhost", True),
        ("", "127.0.0.1", True),
        ("", "169.254.169.254", True),
        ("", "fe80::1", True),
        ("", "::1", True),
    ],
)
def test_no_proxy_rules_lead_past_the_proxy(rules: str, host: str, direct: bool) -> None:
    proxies = Proxies.from_environment({"HTTPS_PROXY": "http://proxy.test:3128", "NO_PROXY": rules})
    assert (proxies.for_origin(Origin("https", host, 443)) is None) == direct
