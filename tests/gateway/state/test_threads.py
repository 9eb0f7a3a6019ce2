"""Threads for SQL, and what is swept in them."""

import asyncio
import threading

from gateway.state.threads import THREADS, Threads, keep_tidy


async def test_a_sweep_that_fails_ends_neither_the_others_nor_the_job() -> None:
    swept, loop = asyncio.Event(), asyncio.get_running_loop()

    def fail() -> None:
        raise RuntimeError

    def sweep() -> None:
        loop.call_soon_threadsafe(swept.set)

    job = asyncio.ensure_future(keep_tidy(asyncio.to_thread, fail, sweep))
    async with asyncio.timeout(5):
        await swept.wait()
    assert not job.done()
    job.cancel()


async def test_threads_that_all_wait_for_a_database_keep_no_other_waiting() -> None:
    threads, go = Threads(), threading.Event()
    waiting = [asyncio.ensure_future(threads.run(go.wait, timeout=10)) for _ in range(THREADS + 1)]
    async with asyncio.timeout(5):
        assert await asyncio.to_thread(lambda: "told") == "told"
    assert not any(one.done() for one in waiting)
    go.set()
    assert all(await asyncio.gather(*waiting))
    threads.close()
