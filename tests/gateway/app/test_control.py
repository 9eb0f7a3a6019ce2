"""What starts a process of one's own, and what is said to it."""

import asyncio
import os
from itertools import count
from pathlib import Path

from gateway.app.control import start


def children() -> list[str]:
    own = os.getpid()
    return Path(f"/proc/{own}/task/{own}/children").read_text().split()


async def test_no_process_is_left_alone_by_one_who_is_cancelled_while_starting_it() -> None:
    before, started = children(), 0
    for rounds in count():
        if started == 3:
            break
        starting = asyncio.ensure_future(start("gateway.app.control", {}))
        for _ in range(rounds):
            await asyncio.sleep(0)
        starting.cancel()
        try:
            process, (_, writer) = await starting
        except asyncio.CancelledError:
            continue
        started += 1
        writer.close()
        assert await process.ended() == 0
    assert children() == before
    assert rounds > 3, "none was cancelled"
