"""The engine's process: frames in, `Engine`, frames out. Started by `client.py`; its standard input is the line to
the server. When that is closed the process ends, whatever it is at: a server that was killed leaves no engine
behind. Torch is imported when the first message says what is to be loaded."""

import os
import queue
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local_backend import frames, machine
from local_backend.config import UnusableModel
from local_backend.options import Setup
from local_backend.sizing import stored_bytes
from local_backend.types import BadJob, Delta, Finish, Full, Sequence

if TYPE_CHECKING:
    from local_backend.encoder_engine import EncoderEngine
    from local_backend.engine import Engine

SMALL_FILE = 64 << 20  # bytes of weights up to which one thread is fastest
STUCK = 300.0  # seconds that one step may take at most; then pings are answered no more, and the server acts
# Of what a model's files say. What the machine lacks (memory, another rank) may be there at the next start.
_FAULTS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

Tell = Callable[[str], None]
Make = Callable[[Setup, Tell], "Engine | EncoderEngine"]
EVERY = 1.0  # seconds between two words on how far the loading has come


class Worker:
    """One engine at the end of a line, owned by the thread that calls `run`. Another one reads the line: pings are
    answered while a step is computed or weights are loaded, and the line's end is noticed then."""

    def __init__(self, line: socket.socket, make: Make, leave: Callable[[], None]) -> None:
        """`leave` is called, from the reading thread, when the line has been closed."""
        self._line, self._make, self._leave = line, make, leave
        self._engine: Engine | EncoderEngine | None = None
        self._inbox: queue.SimpleQueue[frames.Message | None] = queue.SimpleQueue()
        self._sequences: dict[tuple[int, int], Sequence] = {}  # by call and choice, until they end
        self._deltas: list[tuple[int, int, Delta]] = []  # of this step
        self._sending = threading.Lock()
        self._busy_since: float | None = None
        self._told = time.monotonic()
        self._over = False

    def run(self) -> None:
        """Until the line is closed. Raises UnusableModel, told to the server before, and whatever ends an engine."""
        threading.Thread(target=self._read, name="line", daemon=True).start()
        try:
            first = self._inbox.get()
            if first is not None:
                self._serve(self._load(first))
        finally:
            self._over = True
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_WR)  # open calls need not wait until torch is taken down

    def _load(self, message: frames.Message) -> "Engine | EncoderEngine":
        try:
            self._engine = engine = self._make(frames.setup_of(message[1]), self._tell_how_far)
        except UnusableModel as error:
            self._tell("unusable", str(error))
            raise
        self._tell("ready", engine.max_len)
        return engine

    def _tell_how_far(self, how_far: str) -> None:
        now = time.monotonic()
        if now - self._told > EVERY:
            self._told = now
            self._tell("loading", how_far)

    def _serve(self, engine: "Engine | EncoderEngine") -> None:
        while self._take(engine):
            self._busy_since = time.perf_counter()
            engine.step()
            if self._deltas:
                deltas, self._deltas = self._deltas, []
                self._tell("deltas", deltas)
            self._busy_since = None
        engine.close()

    def _take(self, engine: "Engine | EncoderEngine") -> bool:
        """Do what has come in, waiting only while there is nothing to compute; False to end."""
        wait = not engine.has_work
        while True:
            try:
                message = self._inbox.get(block=wait)
            except queue.Empty:
                return True
            if message is None:
                return False
            self._do(engine, message)
            wait = False

    def _do(self, engine: "Engine | EncoderEngine", message: frames.Message) -> None:
        match message:
            case ["add", call, job]:
                self._add(engine, call, job)
            case ["abort", call, choice]:
                sequence = self._sequences.pop((call, choice), None)
                if sequence is not None:
                    engine.abort(sequence)
            case _:
                raise AssertionError(f"the server says {message[0]}, which is not understood")

    def _add(self, engine: "Engine | EncoderEngine", call: int, job: Any) -> None:
        try:
            found = engine.add(frames.job_of(job), lambda choice, delta: self._deliver(call, choice, delta))
        except Full as full:
            self._tell("refused", call, str(full), full.retry_after)
        except BadJob as error:
            self._tell("refused", call, str(error), None)
        else:
            self._sequences.update(((call, choice), one) for choice, one in enumerate(found))

    def _deliver(self, call: int, choice: int, delta: Delta) -> None:
        if delta.finish is not Finish.ABORT:  # nobody reads that one any more
            self._deltas.append((call, choice, delta))
        if delta.finish is not None:
            self._sequences.pop((call, choice), None)

    def _read(self) -> None:
        with self._line.makefile("rb") as file:
            for message in frames.messages(file):
                if message[0] == "ping":
                    self._answer_ping()
                else:
                    self._inbox.put(message)
        self._inbox.put(None)
        if not self._over:
            self._leave()

    def _answer_ping(self) -> None:
        since = self._busy_since
        if self._engine is not None and (since is None or time.perf_counter() - since < STUCK):
            self._tell("pong", self._engine.metrics)

    def _tell(self, kind: str, *words: Any) -> None:
        frame = frames.pack(kind, *words)
        try:
            with self._sending:
                self._line.sendall(frame)
        except (BrokenPipeError, ConnectionResetError):
            return  # the reading thread sees the end as well


def build(setup: Setup, tell: Tell) -> "Engine | EncoderEngine":
    """Raises UnusableModel."""
    try:
        import torch

        from local_backend.making import engine_of
    except ModuleNotFoundError as error:
        raise UnusableModel(f"{error.name} is not installed; pip install 'gatehouse[local]'") from None
    # Small models lose more by handing work around than they win by sharing it.
    small = stored_bytes(Path(setup.folder)) < SMALL_FILE
    torch.set_num_threads(setup.threads or (1 if small else max(1, machine.cores() // setup.ranks)))
    try:
        return engine_of(setup, tell)
    except _FAULTS as error:  # it would be the same the next time
        traceback.print_exc()
        raise UnusableModel(f"{setup.folder}: cannot be loaded: {type(error).__name__}: {error}") from error


def main() -> int:
    # Terminals and service managers signal the whole group; the server decides when its engine ends.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    worker = Worker(socket.socket(fileno=sys.stdin.fileno()), build, lambda: os._exit(0))
    try:
        worker.run()
    except UnusableModel:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
