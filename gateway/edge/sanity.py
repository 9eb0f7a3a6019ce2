"""Refuse what is malformed before auth reads a byte of it, on both ports.

No HTTP server is strict enough alone (uvicorn with httptools is the strictest of those measured): auth and
router must see the same host, path and framing. Faults of HTTP itself get a bare 400 and a close.
"""

import re
from collections.abc import Awaitable
from functools import lru_cache

from gateway.core.head import Head
from gateway.edge.asgi import App, Receive, Scope, Send
from gateway.edge.connection import MOST_HEAD

MOST_HEADERS = 200
_HOST = re.compile(rb"[A-Za-z0-9._\-:\[\]]{1,255}")  # names of services in a compose file have underscores
_BAD_PATH = re.compile(
    rb"//|/\.\.?(?:/|$)|%2e|%2f|%5c|%7f|%[01][0-9a-f]|[\\\x00-\x20\x7f-\xff]|;", re.IGNORECASE
)
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# Lists, which clients write in one line or in several.
_LISTS = (b"openai-beta", b"anthropic-beta", b"tracestate")
# Of these a second one would make two truths; others may repeat, as HTTP allows.
_SINGLE = frozenset(
    {
        b"host",
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"authorization",
        b"x-api-key",
        b"api-key",
        b"x-goog-api-key",
        b"x-gateway-metadata",
        b"x-request-id",
    }
)


class Sanity:
    """Wraps an application; hands it the headers by name in `scope["gateway.head"]`. Where they are there, the
    connection has seen this very head before."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if scope["type"] == "http" and "gateway.head" not in scope and (status := verdict(scope)):
            return _refuse(send, status)
        return self._app(scope, receive, send)


def verdict(scope: Scope) -> int:
    """0 for a sane request, else the status that refuses it."""
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    head = Head(headers)
    if len(head) != len(headers):
        if not _repeats_well(headers):
            return 400
        head |= _joined(headers)
    host = head.get(b"host")
    if host is None and scope["http_version"] == "1.0":
        host = b"-"  # it knows of none: HAProxy's plain health check, for one
    if not _is_good_path(scope["raw_path"]) or not _is_good_host(host or b""):
        return 400
    if b"transfer-encoding" in head and (
        b"content-length" in head or head[b"transfer-encoding"].strip().lower() != b"chunked"
    ):
        return 400
    values = b"".join(head.values())
    if len(headers) > MOST_HEADERS or sum(map(len, head)) + len(values) > MOST_HEAD:
        return 431
    if _BAD_VALUE.search(values):
        return 400
    scope["gateway.head"] = head
    return 0


def _joined(headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Lists that may stand in several lines, each in one."""
    return {
        listed: b", ".join(found)
        for listed in _LISTS
        if (found := [value for name, value in headers if name == listed])
    }


# Apps send the same few paths and hosts again and again: a look-up costs a fifth of the match.
@lru_cache(1024)
def _is_good_path(raw_path: bytes) -> bool:
    return not _BAD_PATH.search(raw_path) or _is_model_id(raw_path)


@lru_cache(256)
def _is_good_host(host: bytes) -> bool:
    return bool(_HOST.fullmatch(host))


def _repeats_well(headers: list[tuple[bytes, bytes]]) -> bool:
    seen: set[bytes] = set()
    for name, _ in headers:
        if name in seen and name in _SINGLE:
            return False
        seen.add(name)
    return True


_MODEL_ID = re.compile(rb"/v1/models/(?:[\w.:@-]|%2f)+", re.IGNORECASE)


def _is_model_id(raw_path: bytes) -> bool:
    """SDKs encode the slash of `meta/llama` in this one place; nothing else of the path is looser for it."""
    return b".." not in raw_path and bool(_MODEL_ID.fullmatch(raw_path))


async def _refuse(send: Send, status: int) -> None:
    headers = [(b"content-length", b"0"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
