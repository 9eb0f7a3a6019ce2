import asyncio
from functools import partial

import pytest

from gateway.app import job
from gateway.app.job import lasting


async def test_a_job_that_fails_is_told_of_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "PAUSE", 0.0)
    told: list[str] = []
    goes_well = asyncio.Event()
    tries = iter([KeyError("x"), None])

    async def flaky() -> None:
        if (error := next(tries)) is not None:
            raise error
        goes_well.set()
        await asyncio.Event().wait()

    (job_of,) = lasting(lambda level, text: told.append(text), partial(flaky))
    running = asyncio.ensure_future(job_of)
    async with asyncio.timeout(5):
        await goes_well.wait()
    assert len(told) == 1
    assert "flaky failed" in told[0]
    assert "KeyError('x')" in told[0]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_job_that_ends_is_over() -> None:
    runs = 0

    async def short() -> None:
        nonlocal runs
        runs += 1

    await asyncio.gather(*lasting(lambda level, text: None, short))
    assert runs == 1
