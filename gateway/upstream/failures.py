"""How a request to a provider can fail. Said are the place and the phase, never headers or bodies.

UpstreamError
├── NoCredential        the credential to show could not be had
├── ConnectFailed       no connection: refused, no such host, TLS or proxy said no
├── ConnectTimedOut     none within the connect timeout (or no free place in the pool)
├── TimedOut            connected, but silent for too long; `phase` says where
├── ConnectionCut       closed or reset in mid-call; `response_started` tells whether a byte had come
└── BadAnswer           what came is no HTTP answer we accept: framing, header size
    └── BodyTooLarge    more bytes than the caller takes
"""

import os
import re
import socket
import ssl

_OPENSSL = re.compile(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$")  # around what it has to say


class UpstreamError(Exception):
    """A request to a provider that got no (whole) answer. As a text it says why, which any caller may read; `where` is
    an address, which is the operator's to know."""

    def __init__(self, where: str, why: str) -> None:
        super().__init__(why)
        self.where = where

    @property
    def told(self) -> str:
        """To operators: both."""
        return f"{self.where}: {self}"


class NoCredential(UpstreamError):
    pass


class ConnectFailed(UpstreamError):
    pass


class ConnectTimedOut(UpstreamError):
    pass


class TimedOut(UpstreamError):
    def __init__(self, where: str, why: str, *, phase: str) -> None:
        super().__init__(where, why)
        self.phase = phase  # "upload" | "first byte" | "first event" | "idle"


class ConnectionCut(UpstreamError):
    def __init__(self, where: str, why: str, *, response_started: bool) -> None:
        super().__init__(where, why)
        self.response_started = response_started


class BadAnswer(UpstreamError):
    pass


class BodyTooLarge(BadAnswer):
    pass


def reason(error: BaseException) -> str:
    """Why the system or TLS gave up a connection, without the names of hosts."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate was not accepted: {error.verify_message.partition(',')[0]}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {_OPENSSL.sub('', str(error))}"
    if isinstance(error, socket.gaierror):
        return error.strerror or "no such host"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    if isinstance(error, ConnectionError) and not str(error):
        return "the other side closed it"
    return str(error) or type(error).__name__
