"""The process that keeps the ledger: asked, replaced, and what becomes of the books when it or the gateway ends."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from gateway.app import ledger_client as module
from gateway.app.ledger_client import LedgerClient
from gateway.app.plan import Plan, prepare
from gateway.core.failure import DatabaseAway, Overloaded
from gateway.core.meters import Meters
from gateway.settings import Settings
from gateway.state.sql import ensure, open_engine
from gateway.telemetry.logs import Log
from gateway.usage.ledger import Ledger
from gateway.usage.reports import BadReport
from gateway.usage.spool import Spool
from tests.gateway.app.serving import processes_of, serving
from tests.gateway.usage.books import call
from tests.running import ended, policies
from tests.scripted import CHAT, Provider, answer, hang


class Kept:
    """LedgerClient with their process, and a spool that calls are written to."""

    def __init__(self, folder: Path, database_url: str) -> None:
        prepare(folder)
        settings = Settings(data_dir=folder, database_url=database_url, log_level="error")
        plan, self.meters, log = (
            Plan(settings, folder),
            Meters(),
            Log("error", lambda: 0.0, os.open(folder / "log", 66)),
        )
        self.ledger = LedgerClient(plan, self.meters, log)
        self.spool = Spool(folder / "spool", "w0", self.meters, log)
        self.engine = open_engine(plan.ledger_url)
        self._log = folder / "log"

    def calls(self, *numbers: int) -> None:
        for number in numbers:
            one = call(number)
            self.spool.begin(one)
            self.spool.end(one)

    async def total(self) -> int:
        report = await self.ledger.report([], 0.0)
        return int(report["total"]["calls"])

    def written(self) -> float:
        return self.meters.usage_events.values["ledger", "written"]

    def log(self) -> str:
        return self._log.read_text()


@asynccontextmanager
async def keeping(folder: Path, database_url: str = "") -> AsyncIterator[Kept]:
    kept = Kept(folder, database_url)
    jobs = [asyncio.ensure_future(job()) for job in kept.ledger.jobs()]
    try:
        yield kept
    finally:
        await ended(jobs)
        kept.spool.close()
        await kept.ledger.aclose()
        kept.engine.dispose()


def process() -> int:
    """Its id; 0 while there is none."""
    own = os.getpid()
    for child in Path(f"/proc/{own}/task/{own}/children").read_text().split():
        if "gateway.app.ledger_process" in _read(f"/proc/{child}/cmdline"):
            return int(child)
    return 0


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:  # it has just ended
        return ""


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.01)


async def test_a_report_holds_what_was_spooled_a_moment_ago_and_the_counts_follow(
    tmp_path: Path, database_url: str
) -> None:
    async with keeping(tmp_path / "data", database_url) as kept:
        kept.calls(1, 2)
        report = await kept.ledger.report(["team"], 0.0)
        assert [(row["team"], row["calls"]) for row in report["rows"]] == [("research", 2)]
        await kept.ledger.look()
        assert kept.written() == 2
        assert kept.meters.usage_oldest.read()[()] < 30
        with pytest.raises(BadReport, match='cannot be told by "colour"'):
            await kept.ledger.report(["colour"], 0.0)


async def test_it_takes_what_others_leave_of_a_core(tmp_path: Path) -> None:
    def policies() -> set[int]:
        threads = os.listdir(f"/proc/{process()}/task")
        return {os.sched_getscheduler(int(thread)) for thread in threads}

    async with keeping(tmp_path / "data") as kept:
        assert await kept.total() == 0
        await until(lambda: os.SCHED_IDLE in policies())
        assert os.getpriority(os.PRIO_PROCESS, process()) > os.getpriority(os.PRIO_PROCESS, 0)


async def test_a_database_that_is_away_is_told_and_loses_nothing(tmp_path: Path) -> None:
    async with keeping(tmp_path / "data") as kept:
        assert await kept.total() == 0
        with kept.engine.begin() as connection:
            connection.execute(text("ALTER TABLE usage RENAME TO gone"))
        kept.calls(1)
        with pytest.raises(DatabaseAway, match="no such table"):
            await kept.total()
        await kept.ledger.look()
        assert kept.ledger.degraded() == ["sql"]
        with kept.engine.begin() as connection:
            connection.execute(text("ALTER TABLE gone RENAME TO usage"))
        assert await kept.total() == 1
        await kept.ledger.look()
        assert kept.ledger.degraded() == []


async def test_one_that_dies_is_replaced_and_no_count_falls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(module, "POLL", 0.02)
    async with keeping(tmp_path / "data") as kept:
        kept.calls(1)
        assert await kept.total() == 1
        await kept.ledger.look()
        os.kill(before := process(), signal.SIGKILL)
        await until(lambda: kept.ledger.degraded() == ["ledger"])
        assert "the process that keeps the ledger ended (exit code -9); next start in 0.05 s" in kept.log()
        kept.calls(2, 3)
        assert await kept.total() == 3
        assert process() != before
        await until(lambda: kept.written() >= 3)
        assert kept.ledger.degraded() == []


async def test_one_that_does_not_answer_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.1)
    monkeypatch.setattr(module, "GRACE", 0.1)
    async with keeping(tmp_path / "data") as kept:
        await until(process)
        await kept.ledger._lives.wait()
        os.kill(process(), signal.SIGSTOP)
        with pytest.raises(Overloaded, match="does not answer"):
            await kept.total()
    assert not process(), "one that does not end is killed"


async def test_one_that_hangs_is_killed_and_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKS", 3)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.5)
    monkeypatch.setattr(module, "POLL", 0.01)
    async with keeping(tmp_path / "data") as kept:
        kept.calls(1)
        assert await kept.total() == 1
        hung = process()
        os.kill(hung, signal.SIGSTOP)
        kept.calls(2)
        await until(lambda: process() not in (0, hung))
        assert "the process that keeps the ledger hangs: it is killed" in kept.log()
        assert await kept.total() == 2


async def test_one_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    monkeypatch.setattr(module, "LONGEST_PAUSE", 0.1)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        async with keeping(tmp_path / "data") as kept:
            await until(lambda: kept.ledger.degraded() == ["ledger"])
            assert "could not be started (No such file or directory)" in kept.log()
            patch.undo()
            kept.calls(1)
            assert await kept.total() == 1


async def test_what_ended_before_sigterm_is_in_the_ledger_when_the_gateway_is_gone(tmp_path: Path) -> None:
    async with Provider([answer(CHAT)]) as provider, serving(tmp_path, policies(provider.url)) as one:
        (process,) = processes_of(one, "gateway.app.ledger_process")
        assert (await one.chat()).status_code == 200
        one.signal(signal.SIGTERM)
        assert await one.ended() == 0
        assert not _read(f"/proc/{process}/cmdline"), "it ends before the gateway does"
    assert [row["outcome"] for row in rows(tmp_path)] == ["ok"]
    assert not list((tmp_path / "data/spool").iterdir())


async def test_one_that_is_not_up_yet_at_the_end_brings_all_in_before_it_ends(tmp_path: Path) -> None:
    async with keeping(tmp_path / "data") as kept:
        kept.calls(1, 2)
        await kept.ledger._lives.wait()
    assert not process()
    assert len(rows(tmp_path)) == 2


async def test_after_kill_9_the_books_are_closed_without_another_start(tmp_path: Path) -> None:
    async with Provider([hang()]) as provider, serving(tmp_path, policies(provider.url)) as one:
        assert (await one.admin("/admin/v1/usage"))["total"]["calls"] == 0
        (process,) = processes_of(one, "gateway.app.ledger_process")
        asked = asyncio.ensure_future(one.chat())
        await until(lambda: provider.asked)
        one.signal(signal.SIGKILL)
        await one.ended()
        await asyncio.gather(asked, return_exceptions=True)
        await until(lambda: not _read(f"/proc/{process}/cmdline"))
    assert [(row["outcome"], row["estimated"]) for row in rows(tmp_path)] == [("gateway_died", True)]


def rows(folder: Path) -> list[dict[str, Any]]:
    engine = open_engine(f"sqlite:///{folder / 'data/usage.db'}")
    try:
        return Ledger(engine, lambda: 0.0, ensure).calls()
    finally:
        engine.dispose()
