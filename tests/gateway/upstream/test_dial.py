import asyncio
import errno
import os
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.core.address import Origin
from gateway.core.failure import Overloaded
from gateway.upstream import dial
from gateway.upstream.client import Timing, Upstream, trusting
from gateway.upstream.failures import ConnectFailed, ConnectTimedOut
from gateway.upstream.names import Names
from tests.gateway.upstream.authority import Authority
from tests.gateway.upstream.scripted import HELLO, PATIENT, POST, Peer, provider, saying


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def secured(authority: Authority) -> ssl.SSLContext:
    return authority.server("localhost")


async def test_an_authority_of_ones_own_is_trusted(authority: Authority, secured: ssl.SSLContext) -> None:
    upstream = Upstream(tls=authority.client)
    async with provider(saying(HELLO), tls=secured) as (server, origin):
        for _ in range(3):
            answer = await upstream.send(origin, POST, b"{}", PATIENT)
            assert await answer.body(100) == b"hello"
        assert len(server.peers) == 1
    await upstream.aclose()


async def test_ssl_cert_file_names_the_trusted_authority(
    authority: Authority, secured: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    upstream = Upstream()
    async with provider(saying(HELLO), tls=secured) as (server, origin):
        await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        spoken: ssl.SSLObject = server.peers[0].writer.get_extra_info("ssl_object")
        assert spoken.selected_alpn_protocol() == "http/1.1"
    await upstream.aclose()


@pytest.mark.parametrize(("text", "reason"), [(None, "No such file"), ("none", "it holds no certificate")])
def test_a_file_without_authorities_is_named(tmp_path: Path, text: str | None, reason: str) -> None:
    if text is not None:
        (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(ValueError, match=rf"^SSL_CERT_FILE: {tmp_path}/ca.pem cannot be used \({reason}"):
        trusting(str(tmp_path / "ca.pem"))


async def test_an_unknown_authority_is_refused(secured: ssl.SSLContext) -> None:
    upstream = Upstream()
    async with provider(saying(HELLO), tls=secured) as (_, origin):
        with pytest.raises(ConnectFailed, match="certificate was not accepted: unable to get"):
            await upstream.send(origin, POST, b"{}", PATIENT)
    await upstream.aclose()


async def test_a_certificate_for_another_name_is_refused(authority: Authority) -> None:
    upstream = Upstream(tls=authority.client)
    async with provider(saying(HELLO), tls=authority.server("other.test")) as (_, origin):
        with pytest.raises(ConnectFailed, match=r"certificate was not accepted: Hostname mismatch$") as no:
            await upstream.send(origin, POST, b"{}", PATIENT)
        assert no.value.told.startswith(f"localhost:{origin.port}: ")
        assert upstream.stats() == {f"localhost:{origin.port}": (0, 0)}
    await upstream.aclose()


async def test_what_speaks_no_tls_is_refused(upstream: Upstream) -> None:
    async def script(peer: Peer) -> None:
        peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.left()

    async with provider(script) as (_, origin):
        with pytest.raises(ConnectFailed, match=r"TLS failed: wrong version number$"):
            await upstream.send(origin._replace(scheme="https"), POST, b"{}", PATIENT)


async def test_leaving_closes_a_connection_under_tls_at_once(
    authority: Authority, secured: ssl.SSLContext
) -> None:
    """TLS would have one wait for the other's farewell (close_notify), and this provider says none."""

    def serve(listener: socket.socket) -> None:
        listener.settimeout(5)
        with secured.wrap_socket(listener.accept()[0], server_side=True) as peer:
            peer.recv(1 << 16)
            peer.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            with socket.socket(fileno=peer.detach()) as under:
                under.settimeout(5)
                while under.recv(1 << 16):
                    pass

    upstream = Upstream(tls=authority.client)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        serving = asyncio.ensure_future(asyncio.to_thread(serve, listener))
        origin = Origin("https", "localhost", listener.getsockname()[1])
        answer = await upstream.send(origin, POST, b"{}", PATIENT)
        answer.close()
        await serving
    await upstream.aclose()


async def test_a_slow_reader_holds_the_provider_back_under_tls(
    authority: Authority, secured: ssl.SSLContext
) -> None:
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        peer.say(b"HTTP/1.1 200 OK\r\ncontent-length: 20000000\r\n\r\n")
        for _ in range(200):
            peer.say(b"x" * 100_000)
            sent += 100_000
            await peer.writer.drain()

    upstream = Upstream(tls=authority.client)
    async with provider(script, tls=secured) as (_, origin):
        answer = await upstream.send(origin, POST, b"{}", PATIENT)
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.05)
        assert answer.bytes_received < 2_000_000
        assert len(await answer.body(20_000_000)) == 20_000_000
    await upstream.aclose()


async def test_a_host_that_does_not_exist_is_named_to_operators_alone(upstream: Upstream) -> None:
    for host in ("no-such-host.invalid", "a" * 70 + ".invalid"):
        with pytest.raises(ConnectFailed, match=r"^no connection: ") as no:
            await upstream.send(Origin("http", host, 80), POST, b"{}", PATIENT)
        assert no.value.where == f"{host}:80"
        assert host not in str(no.value)


async def test_a_socket_that_is_not_there_is_named_to_operators_alone(
    upstream: Upstream, tmp_path: Path
) -> None:
    path = str(tmp_path / "none.sock")
    with pytest.raises(ConnectFailed, match=r"^no connection: No such file") as no:
        await upstream.send(Origin("unix", "localhost", 0, path), POST, b"{}", PATIENT)
    assert no.value.where == path


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Of those below the limit all are taken."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_where_we_have_no_descriptor_left_no_provider_is_blamed(
    upstream: Upstream, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with provider(saying(HELLO)) as (server, origin):
        ways = (origin, origin._replace(host="localhost"), Origin("unix", "localhost", 0, f"{tmp_path}/s"))
        with no_descriptor_left():
            for way in ways:
                with pytest.raises(Overloaded, match="no file descriptor left"):
                    await upstream.send(way, POST, b"{}", PATIENT)
        assert server.peers == []
        answer = await upstream.send(origin, POST, b"{}", PATIENT, whole=True)
        assert answer.status == 200
    [told] = [record.getMessage() for record in caplog.records if record.name == "gateway.upstream"]
    assert "the limit of open files" in told


async def test_a_handshake_that_hangs_runs_into_the_connect_timeout(upstream: Upstream) -> None:
    async with provider(Peer.left) as (server, origin):
        with pytest.raises(
            ConnectTimedOut, match=r"^no connection within 0\.1 s: the TLS handshake did not end$"
        ):
            await upstream.send(origin._replace(scheme="https"), POST, b"{}", Timing(0.1, 5.0, 5.0))
        async with asyncio.timeout(5):
            await server.peers[0].gone.wait()


def at(port: int) -> Any:
    return socket.AF_INET, ("127.0.0.1", port)


async def connected(*addresses: Any) -> socket.socket:
    """By way of the addresses that a name resolves to."""
    infos = [(family, socket.SOCK_STREAM, 6, "", address) for family, address in addresses]
    return await dial.connect(asyncio.get_running_loop(), infos)


async def test_small_writes_leave_at_once(upstream: Upstream) -> None:
    async with provider(saying(HELLO)) as (_, origin):
        sock = await connected(at(origin.port))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        sock.close()


@pytest.fixture
def deaf() -> Any:
    """An address whose queue is full: connecting there hangs."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    callers = []
    for _ in range(4):
        caller = socket.socket()
        caller.setblocking(False)
        caller.connect_ex(listening.getsockname())
        callers.append(caller)
    yield socket.AF_INET, listening.getsockname()
    for one in [listening, *callers]:
        one.close()


async def test_an_address_that_hangs_costs_one_head_start(deaf: Any) -> None:
    async with provider(saying(HELLO)) as (_, origin):
        before = time.perf_counter()
        sock = await connected(deaf, deaf, at(origin.port))
        assert sock.getpeername()[1] == origin.port
        assert 2 * dial.NEXT_ADDRESS <= time.perf_counter() - before < 4 * dial.NEXT_ADDRESS
        sock.close()
    assert not [task for task in asyncio.all_tasks() if "_attempt" in repr(task)]


@pytest.fixture
def refusing() -> Any:
    """An address that is taken, so that nobody else gets it, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield socket.AF_INET, taken.getsockname()


async def test_an_address_that_hangs_alone_runs_into_the_connect_timeout(
    upstream: Upstream, deaf: Any
) -> None:
    origin = Origin("http", *deaf[1])
    with pytest.raises(ConnectTimedOut, match=r"^no connection within 0\.1 s: nobody answered there$"):
        await upstream.send(origin, POST, b"{}", Timing(0.1, 5.0, 5.0))


async def test_a_name_that_is_not_resolved_runs_into_the_connect_timeout(upstream: Upstream) -> None:
    gate = threading.Event()
    upstream._names = Names(lambda host, port: [gate.wait(5)])
    with pytest.raises(ConnectTimedOut, match=r"^no connection within 0\.1 s: the name was not resolved$"):
        await upstream.send(Origin("http", "provider.test", 80), POST, b"{}", Timing(0.1, 5.0, 5.0))
    gate.set()


async def test_an_address_that_refuses_costs_nothing(refusing: Any) -> None:
    async with provider(saying(HELLO)) as (_, origin):
        before = time.perf_counter()
        (await connected(refusing, refusing, at(origin.port))).close()
        assert time.perf_counter() - before < dial.NEXT_ADDRESS
        with pytest.raises(OSError, match="Connect call failed"):
            await connected(refusing, refusing)
        with pytest.raises(OSError, match="has no address"):
            await connected()


async def test_of_addresses_that_all_fail_the_first_says_why(refusing: Any) -> None:
    """A resolver puts those first that have a route from here."""
    unreachable = socket.AF_INET, ("255.255.255.255", 443)
    for addresses in ([refusing, unreachable], [unreachable, refusing]):
        with pytest.raises(OSError, match=r"Connect call failed|Network is unreachable") as failed:
            await connected(*addresses)
        assert failed.value.errno == (errno.ECONNREFUSED if addresses[0] is refusing else errno.ENETUNREACH)


def test_families_take_turns() -> None:
    six = [(socket.AF_INET6, 1), (socket.AF_INET6, 2), (socket.AF_INET6, 3)]
    four = [(socket.AF_INET, 1)]
    assert dial._interleaved([*six, *four]) == [six[0], four[0], six[1], six[2]]
