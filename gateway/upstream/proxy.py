"""Ways through a proxy: which one an origin takes, and the CONNECT that opens it."""

import asyncio
import base64
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.core.address import Origin


class Proxy(NamedTuple):
    host: str
    port: int
    authorization: str = ""  # the header's value; never shown


class Proxies(NamedTuple):
    """The standard variables: HTTPS_PROXY, HTTP_PROXY, NO_PROXY (names, .suffixes, addresses, or *)."""

    https: Proxy | None
    http: Proxy | None
    direct: tuple[str, ...]

    @classmethod
    def none(cls) -> "Proxies":
        return cls(None, None, ())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Proxies":
        """Raises ValueError for a proxy address that is none."""

        def value(name: str) -> str:
            return environ.get(name) or environ.get(name.lower()) or ""

        direct = tuple(part.strip().lower() for part in value("NO_PROXY").split(",") if part.strip())
        return cls(parse_proxy(value("HTTPS_PROXY")), parse_proxy(value("HTTP_PROXY")), direct)

    def for_origin(self, origin: Origin) -> Proxy | None:
        proxy = self.https if origin.scheme == "https" else self.http
        if proxy is None or _is_loopback(origin.host):
            return None
        host = origin.host.lower()
        for rule in self.direct:
            name = rule.removeprefix("*").removeprefix(".")
            if rule == "*" or host == name or host.endswith("." + name) or f"{host}:{origin.port}" == rule:
                return None
        return proxy


def parse_proxy(url: str) -> Proxy | None:
    """`http://user:password@host:port`; None for an empty one."""
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ValueError("a proxy's address must look like http://host:port")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, parts.port or 80, authorization)


async def tunnel(loop: asyncio.AbstractEventLoop, proxy: Proxy, origin: Origin) -> socket.socket:
    """A connected socket through the proxy. Raises OSError that says what the proxy answered."""
    infos = await loop.getaddrinfo(proxy.host, proxy.port, type=socket.SOCK_STREAM)
    family, kind, number, _, address = infos[0]
    sock = socket.socket(family, kind, number)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address)
        place = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        lines = [f"CONNECT {place} HTTP/1.1", f"Host: {place}"]
        if proxy.authorization:
            lines.append(f"Proxy-Authorization: {proxy.authorization}")
        await loop.sock_sendall(sock, ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            # One byte at a time: what follows the blank line belongs to the tunnel.
            part = await loop.sock_recv(sock, 1)
            if not part or len(answer) > 16384:
                raise OSError("the proxy closed the connection")
            answer += part
        status = answer.split(b" ", 2)[1:2]
        if status != [b"200"]:
            raise OSError(f"the proxy answered {b''.join(status).decode('latin-1')[:3]}")
    except BaseException:
        sock.close()
        raise
    return sock


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
