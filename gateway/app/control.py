"""What the processes of one gateway say to each other: JSON lines over a socket pair, questions with numbers.

The end of the channel is the end of the other: a worker whose parent is gone drains and ends.
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import orjson

ASK_SECONDS = 2.0  # a worker that does not answer in this time is left out of a report
LONGEST_LINE = 64 << 20  # bytes; thousands of series are a few megabytes
LOOK = 0.01  # seconds between looks whether a process whose channel has ended is gone, too
# Who sends these to all of us means the one that started the others, and knows what is to become of them.
NOT_THEIRS = (signal.SIGHUP, signal.SIGINT)

Answerer = Callable[[dict[str, Any]], Awaitable[Any]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Process(subprocess.Popen[bytes]):
    """One that `start` started."""

    async def ended(self) -> int:
        """Its exit code. To be asked once its channel has ended, for then it takes no time as a rule."""
        while (code := self.poll()) is None:  # noqa: ASYNC110
            await asyncio.sleep(LOOK)
        return code


async def start(module: str, facts: dict[str, Any], *fds: int) -> tuple[Process, Streams]:
    """Run a module of ours as a process of its own that may use `fds` and begins with `receive_facts`: they go by the
    channel, since arguments are for all to see. Returns the process and this end of the channel. Raises OSError."""
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await _streams(ours)  # ahead, so that nobody who is cancelled leaves a process alone
        try:
            process = _process([sys.executable, "-m", module, str(theirs.fileno())], *fds, theirs.fileno())
        except BaseException:
            writer.close()
            raise
    writer.write(orjson.dumps(facts) + b"\n")  # it is there even for one that comes to it when we are gone
    return process, (reader, writer)


def _process(command: list[str], *fds: int) -> Process:
    """It has NOT_THEIRS blocked from its first moment on, when it could not even say so itself. That is why the event
    loop does not start it: libuv has each process begin with no signal blocked, and none ignored."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, NOT_THEIRS)
    try:
        # Of our session: who is nice is so to those of its own alone (sched(7), autogroups).
        return Process(command, pass_fds=fds)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


async def receive_facts() -> tuple[dict[str, Any], Streams]:
    """In a process that `start` started: the facts, and its end of the channel. Raises ConnectionError where the one
    that started it is gone before it sent them."""
    reader, writer = await _streams(socket.socket(fileno=int(sys.argv[1])))
    if not (line := await reader.readline()):
        raise ConnectionResetError("who started this process is gone")
    return orjson.loads(line), (reader, writer)


async def _streams(sock: socket.socket) -> Streams:
    return await asyncio.open_unix_connection(sock=sock, limit=LONGEST_LINE)


async def _nothing(_: dict[str, Any]) -> None:
    """The answer of an end that is asked no questions."""


class Channel:
    """One end of it. `run` must be running for answers to arrive."""

    def __init__(self, streams: Streams, answer: Answerer = _nothing) -> None:
        self._reader, self._writer = streams
        self._answer = answer
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0

    async def run(self) -> None:
        """Answer questions and hand out answers until the other end is gone."""
        try:
            while line := await self._reader.readline():
                message = orjson.loads(line)
                if "reply" in message:
                    waiter = self._asked.pop(message["reply"], None)
                    if waiter is not None and not waiter.done():
                        waiter.set_result(message["value"])
                else:
                    value = await self._answer(message)
                    self._write({"reply": message["number"], "value": value})
        except (ConnectionError, ValueError):
            return
        finally:
            for waiter in self._asked.values():
                if not waiter.done():
                    waiter.set_exception(ConnectionResetError("the other end is gone"))

    async def ask(self, what: str, within: float = ASK_SECONDS, **more: Any) -> Any:
        """The other end's answer. Raises TimeoutError, ConnectionError where it ends before it answers."""
        self._number += 1
        number = self._number
        waiter = self._asked[number] = asyncio.get_running_loop().create_future()
        self._write({"number": number, "ask": what, **more})
        try:
            async with asyncio.timeout(within):
                return await waiter
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        self._writer.close()

    def _write(self, message: dict[str, Any]) -> None:
        self._writer.write(orjson.dumps(message) + b"\n")
