"""uvicorn's server around our own connections."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from gateway.edge.connection import Connection

SWEEP = 1.0  # seconds between looks at slow clients

_LOG = logging.getLogger("gateway.edge")


class Server(uvicorn.Server):
    """One listening port. Signals are the builder's business: two servers share a process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def sweep(self, header_timeout: float, body_timeout: float) -> None:
        """Drop clients that stall; runs until cancelled. One look at all of them a second costs less than
        a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP)
            now = loop.time()
            connections: Any = self.server_state.connections
            for connection in list(connections):
                try:
                    stalls = connection.is_stalled(now, header_timeout, body_timeout)
                except Exception as error:  # the border of a client: what goes wrong with one ends that one
                    _LOG.error("a connection failed", exc_info=error)
                    stalls = True
                if stalls:
                    connection.drop()


def server(app: Any, keep_alive: float, drain: float) -> Server:
    """A server for `app` on sockets that are bound already."""
    config = uvicorn.Config(
        app,
        http=Connection,
        interface="asgi3",
        ws="none",
        loop="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=int(keep_alive),
        timeout_graceful_shutdown=int(drain) or 1,
        backlog=4096,
    )
    return Server(config)
