"""The shapes of ASGI, so that hot routes need no framework."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ASGI = {"version": "3.0", "spec_version": "2.3"}


def http_scope(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> dict[str, Any]:
    """What the head of a request says. Raises ValueError for a target that is no path."""
    if target[:1] != b"/" or b"#" in target:
        # Absolute-form targets name a host of their own: two truths about where the call goes.
        raise ValueError("the request target must begin with /")
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("ascii")
    return {
        "type": "http",
        "asgi": _ASGI,
        "http_version": version,
        "method": method.decode("ascii"),
        "path": unquote(path) if "%" in path else path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": headers,
    }


def address(name: Any) -> tuple[str, int] | None:
    """Host and port; None for a socket that has no such thing."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
