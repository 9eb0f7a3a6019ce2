"""Where SQL runs: in threads, those that calls wait for apart from all others."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, ParamSpec, Protocol, TypeVar

SWEEP = 600.0  # seconds between looks for what is kept too long
THREADS = 8  # fewer than an engine has connections, so that one is left for whoever looks at keys

P = ParamSpec("P")
Result = TypeVar("Result")


class InThread(Protocol):
    """As `asyncio.to_thread` has it."""

    def __call__(
        self, work: Callable[P, Result], /, *args: P.args, **more: P.kwargs
    ) -> Coroutine[Any, Any, Result]: ...


class Threads:
    """Those in which SQL runs that calls wait for: while a database is locked they all wait, and nothing else does that
    runs in a thread. Policies are read, keys looked at and logs written in others."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(THREADS, "sql")

    async def run(self, work: Callable[P, Result], /, *args: P.args, **more: P.kwargs) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, partial(work, *args, **more))

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


async def keep_tidy(in_thread: InThread, *sweeps: Callable[[], None]) -> None:
    """Let each remove what need not be kept; runs until cancelled. One that fails is tried with the next."""
    while True:
        for sweep in sweeps:
            with suppress(Exception):  # SQL is away, say: no sweep is worth the server
                await in_thread(sweep)
        await asyncio.sleep(SWEEP)
