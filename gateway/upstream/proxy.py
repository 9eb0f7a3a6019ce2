"""Ways through a proxy: which one an origin takes, and the CONNECT that opens it."""

import asyncio
import base64
import ipaddress
import socket
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from gateway.core.address import Origin

MOST_HEAD = 16 << 10  # bytes of a proxy's answer


class Proxy(NamedTuple):
    host: str
    port: int
    authorization: str = ""  # the header's value; never shown

    @property
    def head(self) -> str:
        """The line of a request's head that this proxy wants, if any."""
        return f"proxy-authorization: {self.authorization}\r\n" if self.authorization else ""


class Proxies(NamedTuple):
    """The standard variables HTTPS_PROXY, HTTP_PROXY and NO_PROXY, in capitals or small.

    NO_PROXY lists names (which cover their subdomains), .suffixes, addresses, networks, each with or without
    a port, or `*`. This machine itself and its link (where clouds answer for a machine's credentials: a proxy
    would give its own) are never asked through a proxy."""

    https: Proxy | None
    http: Proxy | None
    direct: tuple[str, ...]

    @classmethod
    def none(cls) -> "Proxies":
        return cls(None, None, ())

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Proxies":
        """Raises ValueError naming the variable whose address is none."""

        def value(name: str) -> str:
            return environ.get(name) or environ.get(name.lower()) or ""

        def proxy(name: str) -> Proxy | None:
            try:
                return parse_proxy(value(name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None

        direct = tuple(part.strip().lower() for part in value("NO_PROXY").split(",") if part.strip())
        return cls(proxy("HTTPS_PROXY"), proxy("HTTP_PROXY"), direct)

    def for_origin(self, origin: Origin) -> Proxy | None:
        proxy = self.https if origin.scheme == "https" else self.http
        host = origin.host.lower()
        if proxy is None or _is_near(host):
            return None
        if any(_covers(rule, host, origin.port) for rule in self.direct):
            return None
        return proxy


def parse_proxy(url: str) -> Proxy | None:
    """`http://user:password@host:port`; None for an empty one. Raises ValueError."""
    if not url:
        return None
    parts = urlsplit(url if "://" in url else f"http://{url}")
    try:
        port = parts.port or 80
    except ValueError:
        port = 0
    if parts.scheme != "http" or not parts.hostname or not port:
        raise ValueError("a proxy's address must look like http://host:port")
    authorization = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(pair.encode()).decode()
    return Proxy(parts.hostname, port, authorization)


def place(origin: Origin) -> str:
    """As it stands in a request to a proxy."""
    return f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"


async def tunnel(loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: Proxy, origin: Origin) -> None:
    """Turn a connection to the proxy into one to the origin. Raises OSError saying what the proxy answered."""
    to = place(origin)
    head = f"CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n{proxy.head}\r\n"
    await loop.sock_sendall(sock, head.encode("latin-1"))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        # One byte at a time: what follows the blank line belongs to the tunnel.
        part = await loop.sock_recv(sock, 1)
        if not part or len(answer) > MOST_HEAD:
            raise OSError("the proxy broke off")
        answer += part
    status = answer[9:12].decode("latin-1")
    if not answer.startswith(b"HTTP/1.") or not status.startswith("2"):
        raise OSError(f"the proxy answered {status!r}")


def _covers(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    name, colon, digits = rule.rpartition(":")
    if colon and digits.isdigit() and (":" not in name or name.endswith("]")):
        if int(digits) != port:
            return False
        rule = name
    rule = rule.strip("[]").removeprefix("*").removeprefix(".")
    if host == rule or host.endswith("." + rule):
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False


def _is_near(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_link_local
