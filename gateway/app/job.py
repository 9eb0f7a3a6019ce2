"""What runs beside a server for as long as it serves."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from gateway.core.log import Log

PAUSE = 1.0  # seconds until a job that failed is begun anew

Job = Callable[[], Awaitable[None]]
Running = Coroutine[Any, Any, None]


def lasting(log: Log, *jobs: Job) -> list[Running]:
    """Each of them, until cancelled. One that fails is told of and begun anew: none is worth the server, and all the
    calls in it."""
    return [_last(log, job) for job in jobs]


async def _last(log: Log, job: Job) -> None:
    while True:
        try:
            return await job()
        except Exception as error:  # the border of a task
            name = getattr(job, "func", job).__qualname__  # of a partial, the function's
            log("error", f"{name} failed inside the gateway and is begun anew: {error!r}")
        await asyncio.sleep(PAUSE)
