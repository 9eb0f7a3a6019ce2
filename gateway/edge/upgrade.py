"""Requests that ask for another protocol. Java's client asks for HTTP/2 first, and is content with less."""

from gateway.edge.asgi import Scope

_FRAMING = frozenset({b"content-length", b"transfer-encoding"})


def asks_for_websocket(scope: Scope) -> bool:
    """Whether it asks for a WebSocket. With a body it does not: left unread, that would be the next request."""
    said = [(name, value.strip().lower()) for name, value in scope["headers"]]
    has_body = any(name in _FRAMING and value != b"0" for name, value in said)
    return scope["method"] == "GET" and (b"upgrade", b"websocket") in said and not has_body


def head_of_body(scope: Scope) -> bytes:
    """A head that makes a parser read the body of this request, and nothing more of it."""
    lines = [b"%b: %b\r\n" % pair for pair in scope["headers"] if pair[0] in _FRAMING]
    return b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"
