"""uvicorn's server around our own connections."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import uvicorn

from gateway.edge.asgi import App
from gateway.edge.connection import Connection

SWEEP = 1.0  # seconds between looks at slow clients

_LOG = logging.getLogger("gateway.edge")


class Server(uvicorn.Server):
    """One listening port. Signals are the builder's business: two servers share a process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Connections that the kernel has taken while we were busy are served, once: closing would reset them."""
        loop = asyncio.get_running_loop()
        late = [loop.create_task(self._take(client)) for sock in sockets or () for client in _waiting(sock)]
        await super().shutdown(sockets)
        await asyncio.gather(*late, return_exceptions=True)

    async def _take(self, client: socket.socket) -> None:
        def make() -> Connection:
            return Connection(self.config, self.server_state, self.lifespan.state)

        _, connection = await asyncio.get_running_loop().connect_accepted_socket(make, client)
        connection.shutdown()

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


def _waiting(listener: socket.socket) -> Iterator[socket.socket]:
    """Those that nobody has taken from a socket that listens."""
    with suppress(OSError):  # there is none, or no descriptor for one
        while True:
            client, _ = listener.accept()
            client.setblocking(False)
            yield client


def server(app: App, keep_alive: float, drain: float) -> Server:
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
