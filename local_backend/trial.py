"""Grammars are tried before they are taken: in a small process of its own, because what a stranger's grammar costs to
compile is known afterwards only. It is killed when it takes too long or too much, and the next call starts another.

Lines of JSON go in (a grammar) and come out (what is wrong with it, empty for nothing). Torch-free.
"""

import asyncio
import contextlib
import resource
import signal
import sys
from collections import OrderedDict
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path

import orjson

from local_backend.types import Compile

AVAILABLE = find_spec("llguidance") is not None  # the server says so where a call asks for a grammar
LARGEST = 256 << 10  # bytes of one grammar
SECONDS = 3.0
MEMORY = 256 << 20  # bytes, beside the vocabulary and what Python maps
_KEPT = 256  # answers
_TOO_MUCH = f"compiling it takes more than {SECONDS:.0f} seconds or too much memory"


class Trial:
    """Whether grammars can be compiled for the model in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()
        self._known: OrderedDict[bytes, str] = OrderedDict()

    async def fault(self, grammar: str) -> str:
        """What is wrong with it; empty for nothing."""
        if len(grammar) > LARGEST:
            return f"it is larger than {LARGEST >> 10} KiB"
        key = sha256(grammar.encode()).digest()
        if key not in self._known:
            async with self._turn:
                found = await self._ask(grammar)
            self._known[key] = found
            if len(self._known) > _KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _ask(self, grammar: str) -> str:
        process = self._process
        if process is None or process.returncode is not None:
            process = self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "local_backend.trial", str(self._folder), str(SECONDS), str(MEMORY),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(orjson.dumps(grammar) + b"\n")
            await process.stdin.drain()
            line = await process.stdout.readline()
        except ConnectionError:
            line = b""
        except asyncio.CancelledError:  # the answer would be taken for the next one's
            self._process = None
            process.kill()
            raise
        if line:
            return str(orjson.loads(line))
        self._process = None
        if await process.wait() >= 0:
            raise RuntimeError(f"the trial of grammars has ended with {process.returncode}")
        return _TOO_MUCH


def compiler_of(folder: Path) -> Compile | None:
    """What an engine for the model in this folder compiles grammars with; None where llguidance is not installed."""
    if not AVAILABLE:
        return None
    from local_backend.grammar import Grammars

    return Grammars(folder)


def main(folder: Path, seconds: float, memory: int) -> None:
    # what only this process needs: the server goes without numpy
    from local_backend.grammar import BadGrammar, Grammars

    compile = Grammars(folder)
    compile('start: "x"')  # vocabularies take their own time
    _limit(memory)
    for line in sys.stdin.buffer:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # nobody handles it: it ends the process
        try:
            compile(orjson.loads(line))
            fault = ""
        except BadGrammar as error:
            fault = str(error)
        except MemoryError:
            fault = _TOO_MUCH
        signal.setitimer(signal.ITIMER_REAL, 0)
        sys.stdout.buffer.write(orjson.dumps(fault) + b"\n")
        sys.stdout.buffer.flush()


def _limit(memory: int) -> None:
    """So much more than now, where the system tells how much that is; elsewhere the clock alone sets bounds."""
    usage = Path("/proc/self/statm")
    if usage.exists():
        limit = int(usage.read_text().split()[0]) * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
