"""The engine seen from the server: requests in, deltas out. Here it runs in a thread of this process.

The seam is narrow on purpose: `submit`, `abort` and deltas on a queue are all that a process of its own
would have to carry.
"""

import asyncio
import queue
import threading
from collections.abc import Callable

from local_backend.engine import Engine
from local_backend.types import BadJob, Delta, Full, Job, Sequence

Work = Callable[[], None]


class Stream:
    """One choice's deltas, as the server reads them."""

    def __init__(self) -> None:
        self.deltas: asyncio.Queue[Delta | Exception] = asyncio.Queue()
        self.sequence: Sequence | None = None
        self.gone = False

    async def next(self) -> Delta:
        """Raises what the engine raised: Full, BadJob, or whatever ended it."""
        came = await self.deltas.get()
        if isinstance(came, Exception):
            raise came
        return came


class EngineThread:
    """Owns the engine: all its methods run in one thread. `failed` holds what ended it."""

    def __init__(self, make: Callable[[], Engine]) -> None:
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._inbox: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._streams: set[Stream] = set()
        self.ready = asyncio.Event()
        self.failed: Exception | None = None
        self.engine: Engine | None = None
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> list[Stream]:
        """A stream for each choice, on which its deltas come; what goes wrong comes there too."""
        streams = [Stream() for _ in range(job.choices)]
        self._streams.update(streams)

        def add() -> None:
            assert self.engine is not None
            if all(stream.gone for stream in streams):
                return
            try:
                found = self.engine.add(job, lambda choice, delta: self._tell(streams[choice], delta))
            except (Full, BadJob) as refusal:
                for stream in streams:
                    self._tell(stream, refusal)
                return
            for stream, sequence in zip(streams, found, strict=True):
                stream.sequence = sequence

        self._inbox.put(add)
        return streams

    def abort(self, stream: Stream) -> None:
        """Nobody reads this stream any more. Idempotent."""
        stream.gone = True
        self._streams.discard(stream)

        def end() -> None:
            if self.engine is not None and stream.sequence is not None:
                self.engine.abort(stream.sequence)

        self._inbox.put(end)

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join(5)

    def _tell(self, stream: Stream, what: Delta | Exception) -> None:
        self._loop.call_soon_threadsafe(stream.deltas.put_nowait, what)

    def _run(self) -> None:
        try:
            self.engine = self._make()
            self._loop.call_soon_threadsafe(self.ready.set)
            while self._take():
                self.engine.step()
            self.engine.close()
        except Exception as error:  # the border of the thread: every open stream is told
            self.failed = error
            for stream in list(self._streams):
                self._tell(stream, RuntimeError("the engine has failed"))
            self._loop.call_soon_threadsafe(self.ready.set)

    def _take(self) -> bool:
        """Do what has come in, waiting only while there is nothing to compute; False to end."""
        assert self.engine is not None
        wait = not self.engine.has_work
        while True:
            try:
                work = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if work is None:
                return False
            work()
            wait = False
