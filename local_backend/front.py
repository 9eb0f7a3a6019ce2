"""The listening side of the program: where it listens, and how it ends in order. Torch-free."""

import asyncio
import errno
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from local_backend.client import EngineClient
from local_backend.server import Server

LAST_WORDS = 2  # seconds in which what has been answered is written


class Front(uvicorn.Server):
    """Serves until told to end. Then new calls are refused, those in flight have `drain` seconds, and who is not
    done by then is told so instead of being cut off."""

    def __init__(self, app: Server, engine: EngineClient, drain: float) -> None:
        config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=LAST_WORDS,
        )
        super().__init__(config)
        self._app, self._engine, self._drain = app, engine, drain

    def end_when_told(self, *, with_stdin: bool) -> None:
        """By SIGTERM or SIGINT, of which a second one ends the calls in flight; or by the end of standard input alone:
        who signals all processes of a service means the one that holds its other end, and which may have calls in
        flight, or read its policies again."""
        loop = asyncio.get_running_loop()
        if with_stdin:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            loop.add_reader(sys.stdin.fileno(), self._on_stdin)
        else:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self._on_signal)

    def end(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The port stays open meanwhile: who asks for health is told."""
        self._app.draining = True
        try:
            async with asyncio.timeout(self._drain):
                await self._app.idle.wait()
        except TimeoutError:
            self._cut()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own handlers raise the signal again at the end, so that no exit would be in order."""
        yield

    def _cut(self) -> None:
        self._engine.end_calls("the server has ended before the answer; ask again")

    def _on_signal(self) -> None:
        if self.should_exit:
            self._cut()
        self.end()

    def _on_stdin(self) -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            self.end()


def listen(address: str) -> socket.socket:
    """`unix:PATH` or `HOST:PORT`: a bound socket, whose clients wait instead of being refused. Raises OSError."""
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        _clear(path)
        sock = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)  # the socket is this user's alone from its first moment
        try:
            sock.bind(path)
        finally:
            os.umask(before)
    else:
        host, _, port = address.rpartition(":")
        family, kind, number, _, place = socket.getaddrinfo(
            host or "127.0.0.1", int(port), type=socket.SOCK_STREAM
        )[0]
        sock = socket.socket(family, kind, number)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(place)
    sock.listen(512)
    return sock


def _clear(path: str) -> None:
    """Take away the socket of a server that has ended, and nothing else. Raises OSError."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is something else than a socket at", path)
    with socket.socket(socket.AF_UNIX) as caller:
        caller.settimeout(1)
        try:
            caller.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another server listens at", path)
