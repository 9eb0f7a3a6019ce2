"""What reserving and settling three claims costs: in memory, and over one connection to a Redis on a unix socket.

python -m loadtests.bench_allowance            (needs redis-server)
"""

import asyncio
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from gateway.core.claim import Claim, Limit
from gateway.core.meters import Meters
from gateway.state.allowance import Allowance
from gateway.state.memory import MemoryAllowance
from gateway.state.place import parse_url
from gateway.state.redis import RedisAllowance

CLAIMS = (
    Claim(Limit("per-key", "requests", 10**9, 60), "key", 1),
    Claim(Limit("team-tokens", "tokens", 10**12, 60), "team", 1100),
    Claim(Limit("at-once", "concurrent", 10**6), "key", 1),
)
CALLS = 20_000
ROUNDS = 5


async def _calls(allowance: Allowance, number: int) -> None:
    for _ in range(number):
        allowance.settle(await allowance.reserve(CLAIMS, 600), 300)


async def _measure(name: str, act: Callable[[], Awaitable[object]]) -> None:
    """Median over the rounds, of wall time and of this process's own CPU."""
    wall, own = [], []
    for _ in range(ROUNDS):
        began, used = time.perf_counter(), time.process_time()
        await act()
        wall.append((time.perf_counter() - began) / CALLS * 1e6)
        own.append((time.process_time() - used) / CALLS * 1e6)
    print(f"{name:<40}{statistics.median(wall):8.1f} us{statistics.median(own):8.1f} us own CPU")


async def _with_redis(folder: Path) -> None:
    meters = Meters()
    allowance = RedisAllowance(parse_url(f"unix://{folder}/redis.sock"), meters, lambda level, text: None)
    running = asyncio.ensure_future(allowance.run())
    while allowance.degraded:  # noqa: ASYNC110  nobody else asks, so no event tells
        await asyncio.sleep(0.01)
    for at_once in (1, 16, 64):

        async def act(at_once: int = at_once) -> None:
            await asyncio.gather(*(_calls(allowance, CALLS // at_once) for _ in range(at_once)))

        await _measure(f"Redis, {at_once} calls at once", act)
    if meters.store_errors.values:
        print(f"decided without Redis: {meters.store_errors.values}")
    await allowance.aclose()
    running.cancel()


async def _in_memory() -> None:
    memory = MemoryAllowance(Meters())
    await _measure("memory", lambda: _calls(memory, CALLS))


def main() -> None:
    uvloop.run(_in_memory())
    binary = shutil.which("redis-server")
    if binary is None:
        print("no redis-server on this machine: the rest is left out")
        return
    with tempfile.TemporaryDirectory() as folder:
        settings = ["--port", "0", "--unixsocket", f"{folder}/redis.sock", "--save", ""]
        with subprocess.Popen([binary, *settings], stdout=subprocess.DEVNULL) as server:
            try:
                uvloop.run(_with_redis(Path(folder)))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
