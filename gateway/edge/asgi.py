"""The shapes of ASGI, so that hot routes need no framework."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def address(name: Any) -> tuple[str, int] | None:
    """Host and port; None for a socket that has no such thing."""
    return (str(name[0]), int(name[1])) if isinstance(name, tuple) else None
