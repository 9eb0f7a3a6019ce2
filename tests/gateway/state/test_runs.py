"""Runs in the background as every worker sees them."""

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sql

from gateway.state.answers import Answers, Kept, NotKept
from gateway.state.database import Database
from gateway.state.runs import LOST_AFTER, Runs
from gateway.state.threads import keep_tidy


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_run_lives_as_long_as_its_process_says_so(database: Database) -> None:
    clock = Clock()
    runs, elsewhere = Runs(database, clock), Runs(database, clock)
    await runs.begin("r1", streams=True)
    assert await elsewhere.look("r1") == (True, True)
    assert await elsewhere.look("r2") is None
    clock.now += LOST_AFTER + 1
    assert await elsewhere.look("r1") == (False, True)
    assert await runs.beat(["r1"], {}) == set()
    assert await elsewhere.look("r1") == (True, True)


async def test_whoever_asks_for_the_end_of_a_run_or_forgets_it_is_heard(database: Database) -> None:
    runs = Runs(database, Clock())
    for id in ("r1", "r2", "r3"):
        await runs.begin(id, streams=False)
    await runs.end("r1")
    await runs.forget("r2")
    assert await runs.beat(["r1", "r2", "r3"], {}) == {"r1", "r2"}


async def test_what_was_told_is_read_from_any_event_on(database: Database) -> None:
    runs = Runs(database, Clock())
    await runs.begin("r1", streams=True)
    for number, events in ((0, b"ab"), (2, b"cde"), (5, b"f")):
        await runs.beat(["r1"], {"r1": (number, events)})
    pieces = [(0, b"ab"), (2, b"cde"), (5, b"f")]
    for since, at in ((0, 0), (1, 0), (2, 1), (4, 1), (5, 2), (9, 2)):
        assert await runs.told("r1", since) == pieces[at:]
    assert await runs.told("r2", 0) == []


async def test_what_no_answer_belongs_to_is_swept_away(database: Database) -> None:
    clock = Clock()
    answers, runs = Answers(database, clock, 30, 1 << 20), Runs(database, clock)
    await answers.keep(Kept("r1", "a", None, b"[]", b"{}"))
    for id in ("r1", "r2"):
        await runs.begin(id, streams=True)
        await runs.beat([id], {id: (0, b"x")})
    runs.sweep()
    assert await runs.look("r2") is not None, "its answer may be on its way"
    clock.now += LOST_AFTER + 1
    tidying = asyncio.ensure_future(keep_tidy(asyncio.to_thread, runs.sweep))
    async with asyncio.timeout(10):
        while await runs.look("r2") is not None:
            await asyncio.sleep(0.002)
    tidying.cancel()
    assert await runs.told("r1", 0) == [(0, b"x")]
    assert await runs.told("r2", 0) == []


async def test_a_database_that_is_away_is_told(database: Database) -> None:
    runs = Runs(database, Clock())
    await runs.begin("r1", streams=False)
    with pytest.raises(NotKept):
        await runs.begin("r1", streams=False)
    with database.engine.begin() as connection:
        connection.execute(sql.text("DROP TABLE runs"))
    with pytest.raises(NotKept):
        await runs.beat(["r1"], {})


async def test_what_could_not_be_read_back_was_not_noted_either(database: Database) -> None:
    """Else the next beat would note the same events a second time, for which there is no place."""
    runs = Runs(database, Clock())
    await runs.begin("r1", streams=True)

    @sql.event.listens_for(database.engine, "before_cursor_execute")
    def fail(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if statement.startswith("SELECT runs.id"):
            raise sql.exc.OperationalError(statement, None, Exception("database is locked"))

    with pytest.raises(NotKept):
        await runs.beat(["r1"], {"r1": (0, b"ab")})
    sql.event.remove(database.engine, "before_cursor_execute", fail)
    assert await runs.beat(["r1"], {"r1": (0, b"ab")}) == set()
    assert await runs.told("r1", 0) == [(0, b"ab")]
