"""Open a socket to an origin: unix or TCP, by happy eyeballs, through a proxy, under TLS."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Sequence
from itertools import chain, zip_longest
from typing import Any

from gateway.core.address import Origin
from gateway.core.failure import Overloaded
from gateway.upstream.connection import Connection
from gateway.upstream.failures import ConnectFailed, ConnectTimedOut, reason
from gateway.upstream.liveness import watch
from gateway.upstream.names import Names
from gateway.upstream.proxy import Proxy, tunnel

NEXT_ADDRESS = 0.25  # seconds an address has before the next one is tried beside it (RFC 8305, section 5)

_FULL = (errno.EMFILE, errno.ENFILE)


def name_of(origin: Origin) -> str:
    return origin.path or f"{origin.host}:{origin.port}"


def way(origin: Origin, proxy: Proxy | None) -> str:
    """To operators: where connections go, and through what."""
    return name_of(origin) + (f" by way of the proxy {proxy.host}:{proxy.port}" if proxy is not None else "")


async def dial(
    origin: Origin,
    tls: ssl.SSLContext,
    proxy: Proxy | None,
    names: Names,
    make: Callable[[], Connection],
    seconds: float,
) -> Connection:
    """A connected `make()`: of plain HTTP to `proxy` where there is one, of TLS to the origin through it. Raises
    ConnectFailed saying what was refused, ConnectTimedOut saying what was waited for, Overloaded where it is we who can
    open no socket."""
    loop, clock = asyncio.get_running_loop(), asyncio.timeout(seconds)
    step, secured = "nobody answered there", origin.scheme == "https"
    try:
        async with clock:
            if origin.scheme == "unix":
                _, connection = await loop.create_unix_connection(make, origin.path)
                return connection
            host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
            step = "the name was not resolved"
            addresses = await names.addresses(host, port)
            step = "nobody answered there"
            sock = await connect(loop, addresses)
            try:
                if proxy is not None and secured:
                    step = "the proxy did not answer"
                    await tunnel(loop, sock, proxy, origin)
                step = "the TLS handshake did not end"
                _, connection = await loop.create_connection(
                    make,
                    sock=sock,
                    ssl=tls if secured else None,
                    server_hostname=origin.host if secured else None,
                )
            except BaseException:
                sock.close()
                raise
            return connection
    except (OSError, UnicodeError) as error:
        if clock.expired():
            why = f"no connection within {seconds:.3g} s: {step}"
            raise ConnectTimedOut(way(origin, proxy), why) from None
        if _is_ours(error):
            raise Overloaded("the gateway has no file descriptor left; try again in a second") from error
        raise ConnectFailed(way(origin, proxy), f"no connection: {reason(error)}") from error


async def connect(loop: asyncio.AbstractEventLoop, addresses: Sequence[Any]) -> socket.socket:
    """The first of a host's addresses to accept, each given a head start. Raises OSError: why the first of them failed
    that did, as the resolver puts those last that cannot be reached from here."""
    left = _interleaved(addresses)
    tasks: set[asyncio.Task[socket.socket]] = set()
    first: BaseException | None = None
    try:
        while left or tasks:
            if left:
                tasks.add(loop.create_task(_attempt(loop, left.pop(0))))
            head_start = NEXT_ADDRESS if left else None
            done, tasks = await asyncio.wait(tasks, timeout=head_start, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                error = task.exception()
                if error is None:
                    tasks |= done - {task}
                    return task.result()
                first = first or error
        raise first or OSError("the host has no address")
    finally:
        await _drop(tasks)


async def _attempt(loop: asyncio.AbstractEventLoop, info: Any) -> socket.socket:
    family, kind, protocol, _, address = info
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        watch(sock)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _drop(losers: "set[asyncio.Task[socket.socket]]") -> None:
    for task in losers:
        task.cancel()
    for came in await asyncio.gather(*losers, return_exceptions=True):
        if isinstance(came, socket.socket):
            came.close()


def _interleaved(infos: Sequence[Any]) -> list[Any]:
    """By turns one of each family, in the resolver's order: a broken IPv6 costs one head start, no more."""
    families = list(dict.fromkeys(info[0] for info in infos))
    columns = [[info for info in infos if info[0] == family] for family in families]
    return [info for info in chain.from_iterable(zip_longest(*columns)) if info is not None]


def _is_ours(error: Exception) -> bool:
    """Whether there are no file descriptors. The resolver needs some, too, and does not say so."""
    if isinstance(error, socket.gaierror):
        try:
            socket.socket().close()
        except OSError as same:
            error = same
    return isinstance(error, OSError) and error.errno in _FULL
