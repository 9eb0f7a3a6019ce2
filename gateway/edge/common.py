"""What all connections of a server have in common."""

import asyncio
from typing import Any

from uvicorn.server import ServerState

from gateway.core.outbox import Outbox

_NAME = "gateway.common"


class Common:
    """One per server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, state: ServerState) -> None:
        self.outbox = Outbox(loop.call_soon)
        self._state = state
        self._rendered: tuple[list[tuple[bytes, bytes]], bytes] = ([], b"")

    def default_lines(self) -> bytes:
        """The server's own header lines."""
        headers = self._state.default_headers
        if headers is not self._rendered[0]:  # uvicorn makes a list of them each second
            self._rendered = headers, b"".join([b"%b: %b\r\n" % pair for pair in headers])
        return self._rendered[1]


def common(loop: asyncio.AbstractEventLoop, state: ServerState, kept: dict[str, Any]) -> Common:
    """Made by the first connection and `kept` where uvicorn shows it to all."""
    if _NAME not in kept:
        kept[_NAME] = Common(loop, state)
    found: Common = kept[_NAME]
    return found
