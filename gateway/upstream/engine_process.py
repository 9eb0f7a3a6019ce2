"""The local engine's process: started, watched, restarted, and never left behind. Owned by one process."""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from gateway.core.address import Origin
from gateway.core.failure import Overloaded
from gateway.core.log import Log
from gateway.upstream.client import Timing, Upstream
from gateway.upstream.failures import UpstreamError

State = Literal["starting", "ready", "restarting", "stopped"]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds before a restart, doubled while it keeps dying
HEALTHY = 60.0  # seconds of life after which the pause is short again
GRACE = 5.0  # seconds between SIGTERM and SIGKILL
LAST_WORDS = 0.5  # seconds in which a dead engine's log is read to its end
LONGEST_LINE = 64 << 10  # bytes of its log
_ASK = Timing(connect=1.0, first_byte=2.0, idle=2.0)


class SocketTaken(OSError):
    """The socket of an engine is another gateway's."""


def lock_socket(socket: str) -> int:
    """The lock of an engine's socket, as a descriptor that holds it until it is closed or this process ends. Raises
    SocketTaken, OSError."""
    Path(socket).parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(f"{socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d" % os.getpid(), 0)
    except BlockingIOError:
        owner = os.pread(lock, 20, 0).decode() or "that has just begun"
        os.close(lock)
        raise SocketTaken(
            f"the local engine at {socket} is that of another gateway (process {owner}); stop that one, or set "
            "GATEWAY_DATA_DIR to a folder of this one's own"
        ) from None
    except OSError:
        os.close(lock)
        raise
    return lock


class EngineProcess:
    """`command` must serve GET /health on the unix socket, and end when its standard input does."""

    def __init__(self, command: Sequence[str], socket: str, upstream: Upstream, log: Log) -> None:
        self._command, self._socket = list(command), socket
        self._upstream, self._log = upstream, log
        self.state: State = "starting"
        self.restarts = 0
        self.ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._lock: int | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def run(self) -> None:
        """Keep the engine alive until cancelled; its owner awaits this."""
        pause = FIRST_PAUSE
        loop = asyncio.get_running_loop()
        try:
            while True:
                born = loop.time()
                end = await self._live()
                if loop.time() - born > HEALTHY:
                    pause = FIRST_PAUSE
                self.ready.clear()
                self.state = "restarting"
                self.restarts += 1
                self._log("error", f"the local engine {end}; next start in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self.state = "stopped"
            try:
                await self._stop()
            finally:
                if self._lock is not None:
                    os.close(self._lock)

    async def _live(self) -> str:
        """One life: start, wait for health, wait for the end. What the end was."""
        try:
            if self._lock is None:
                self._lock = lock_socket(self._socket)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._socket)
            self._process = process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,  # held open: the engine ends when we do, however we do
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,  # what tells a group or a terminal is for us: SIGHUP reloads, and would end it
            )
        except SocketTaken as taken:
            return f"could not be started ({taken})"
        except OSError as error:
            return f"could not be started ({error.filename or self._command[0]}: {error.strerror})"
        assert process.stderr is not None
        async with asyncio.TaskGroup() as tasks:
            log = tasks.create_task(self._forward_log(process.stderr))
            health = tasks.create_task(self._await_health())
            code = await process.wait()
            health.cancel()
            # A process of the engine's own may still hold the pipe: its last words are not waited for long.
            await asyncio.wait({log}, timeout=LAST_WORDS)
            log.cancel()
        return f"ended (exit code {code})"

    async def _await_health(self) -> None:
        while not await self._is_healthy():  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # another process becomes ready: there is no event
        self.state = "ready"
        self.ready.set()
        self._log("info", f"the local engine is ready (pid {self.pid})")

    async def _is_healthy(self) -> bool:
        origin = Origin("unix", "localhost", 0, self._socket)
        try:
            answer = await self._upstream.send(
                origin, b"GET /health HTTP/1.1\r\nhost: localhost\r\n", b"", _ASK
            )
        except (UpstreamError, Overloaded):
            return False
        answer.close()
        return answer.status == 200

    async def _forward_log(self, stderr: asyncio.StreamReader) -> None:
        rest = b""
        while part := await stderr.read(LONGEST_LINE):
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > LONGEST_LINE:
                lines.append(rest)
                rest = b""
            for line in lines:
                self._tell(line)
        if rest:
            self._tell(rest)

    def _tell(self, line: bytes) -> None:
        self._log("info", "local engine: " + line.decode("utf-8", "replace").rstrip())

    async def _stop(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            process.terminate()  # while it starts it does not look at its standard input
        try:
            async with asyncio.timeout(GRACE):
                await process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
