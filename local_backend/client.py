"""The engine seen from the server: jobs in, deltas out. It runs in a process of its own, which is started again
when it dies; the calls it had are told so at once. Torch-free."""

import asyncio
import contextlib
import socket
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, Protocol

from local_backend import frames
from local_backend.config import UnusableModel
from local_backend.metrics import Metrics
from local_backend.options import Setup
from local_backend.types import BadJob, Delta, EngineGone, Full, Job

BEAT = 1.0  # seconds between pings
MISSED = 10  # pings without an answer after which the engine counts as hung
PATIENCE = 1.0  # seconds that a scrape waits for fresh numbers
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a restart, doubled while it keeps dying
HEALTHY = 60.0  # seconds of service after which the pause is short again
GRACE = 5.0  # seconds that an engine without a line may take to end

LOADING = "the model is being loaded"
State = Literal["loading", "ready", "restarting", "unusable", "closed"]


class Process(Protocol):
    """What is asked of asyncio's."""

    async def wait(self) -> int: ...

    def kill(self) -> None: ...


# Starts a worker at this end of a line, and closes it here.
Start = Callable[[socket.socket], Awaitable[Process]]


class Stream:
    """One choice's deltas, as the server reads them."""

    def __init__(self, call: int, choice: int) -> None:
        self.call, self.choice = call, choice
        self._came: deque[Delta | Exception] = deque()
        self._more = asyncio.Event()

    def put(self, one: Delta | Exception) -> None:
        self._came.append(one)
        self._more.set()

    async def next(self) -> Delta:
        """Raises Full, BadJob, EngineGone."""
        while not self._came:
            self._more.clear()
            await self._more.wait()
        came = self._came.popleft()
        if isinstance(came, Exception):
            raise came
        return came

    def waiting(self) -> Iterator[Delta]:
        """Those that have come meanwhile, where the reader is behind."""
        while self._came and isinstance(came := self._came[0], Delta):
            self._came.popleft()
            yield came


async def spawn(line: socket.socket) -> Process:
    """The engine's process; the line is its standard input."""
    try:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "local_backend.worker", stdin=line.fileno()
        )
    finally:
        line.close()  # the process has a copy; with ours open its death would not show


class EngineClient:
    """Keeps one engine alive. `reason` says what `state` leaves open; `max_len` is in tokens, 0 until known."""

    def __init__(self, setup: Setup, log: Callable[[str], None], start: Start = spawn) -> None:
        self._setup, self._log, self._start = setup, log, start
        self.state: State = "loading"
        self.reason = LOADING
        self.restarts = 0
        self.max_len = 0
        self.metrics = Metrics()
        self._streams: dict[tuple[int, int], Stream] = {}
        self._calls = 0
        self._writer: asyncio.StreamWriter | None = None
        self._unanswered = 0
        self._ponged = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled: start the engine, and start it again. Raises UnusableModel: then there is no use."""
        pause, loop = FIRST_PAUSE, asyncio.get_running_loop()
        try:
            while True:
                born = loop.time()
                end = await self._live()
                if loop.time() - born > HEALTHY:
                    pause = FIRST_PAUSE
                self._be("restarting", end)
                self._log(f"{end}; next start in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            if self.state != "unusable":
                self._be("closed", "the server has ended")
            self.end_calls(self.reason)

    @property
    def most_waiting(self) -> int:
        """Prompts that may wait for the engine; one more is refused."""
        return self._setup.config.max_waiting

    def submit(self, job: Job) -> list[Stream]:
        """A stream for each choice, on which its deltas come; what goes wrong comes there too. Raises EngineGone."""
        if self.state != "ready":
            raise EngineGone(f"the engine is {self.state}: {self.reason}")
        self._calls += 1
        streams = [Stream(self._calls, choice) for choice in range(job.choices)]
        self._streams.update({(one.call, one.choice): one for one in streams})
        self._send("add", self._calls, job)
        return streams

    def abort(self, stream: Stream) -> None:
        """Nobody reads this stream any more. Idempotent, and nothing where it has ended."""
        if self._streams.pop((stream.call, stream.choice), None) is not None:
            self._send("abort", stream.call, stream.choice)

    def end_calls(self, reason: str) -> None:
        """Tell every open stream that nothing more will come."""
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            stream.put(EngineGone(reason))

    async def measure(self) -> Metrics:
        """The engine's numbers: fresh ones where it answers in time, else the last known."""
        if self.state == "ready":
            self._ponged.clear()
            self._send("ping")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ponged.wait(), PATIENCE)
        return self.metrics

    # one life

    async def _live(self) -> str:
        """Start, listen, see the end, and say what it was."""
        ours, theirs = socket.socketpair()
        try:
            process = await self._start(theirs)
        except OSError as error:
            ours.close()
            self.restarts += 1
            return f"the engine's process could not be started: {error.strerror}"
        reader, self._writer = await asyncio.open_connection(sock=ours, limit=1 << 20)
        self._send("load", self._setup)
        pinging = asyncio.ensure_future(self._ping(process))
        try:
            while (message := await frames.receive(reader)) is not None:
                self._take(message)
            self.restarts += 1
            self._be("restarting", "the engine's process has ended")
            self.end_calls(f"{self.reason}; ask again")
        finally:
            pinging.cancel()
            self._writer.close()
            self._writer = None
            code = await _ended(process)
        if pinging.done() and not pinging.cancelled():
            return f"the engine's process left {MISSED} pings unanswered and was killed"
        return f"the engine's process ended ({f'signal {-code}' if code < 0 else f'exit code {code}'})"

    async def _ping(self, process: Process) -> None:
        """Kill a process that has stopped to answer. What this loop slept through counts as one ping."""
        self._unanswered = 0
        while self._unanswered < MISSED:
            await asyncio.sleep(BEAT)
            if self.state == "ready":
                self._unanswered += 1
                self._send("ping")
        process.kill()

    def _take(self, message: frames.Message) -> None:
        self._unanswered = 0
        match message:
            case ["deltas", deltas]:
                for call, choice, raw in deltas:
                    self._deliver(call, choice, frames.delta_of(raw))
            case ["pong", counts]:
                self.metrics = frames.metrics_of(counts)
                self._ponged.set()
            case ["refused", call, why, seconds]:
                self._refuse(call, BadJob(why) if seconds is None else Full(why, seconds))
            case ["loading", how_far]:
                self._be("loading", f"{LOADING}: {how_far}")
                self._log(how_far)
            case ["ready", max_len]:
                self.max_len = max_len
                self._be("ready", "")
            case ["unusable", why]:
                self._be("unusable", why)
                raise UnusableModel(why)
            case _:
                raise AssertionError(f"the engine says {message[0]}, which is not understood")

    def _deliver(self, call: int, choice: int, delta: Delta) -> None:
        at = (call, choice)
        stream = self._streams.get(at) if delta.finish is None else self._streams.pop(at, None)
        if stream is not None:
            stream.put(delta)

    def _refuse(self, call: int, error: Exception) -> None:
        for at in [one for one in self._streams if one[0] == call]:
            self._streams.pop(at).put(error)

    def _be(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason
        if state != "ready":
            self.metrics = Metrics()

    def _send(self, kind: str, *words: Any) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(frames.pack(kind, *words))


async def _ended(process: Process) -> int:
    """Its exit code, negative for a signal; one that does not end is killed."""
    try:
        async with asyncio.timeout(GRACE):
            return await process.wait()
    except TimeoutError:
        process.kill()
        return await process.wait()
