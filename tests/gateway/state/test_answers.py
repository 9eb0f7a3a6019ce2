"""Answers kept for those who come back to them: durable, bounded, and their team's alone."""

import asyncio
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sql

from gateway.state.answers import DAY, Answers, Kept, NotKept
from gateway.state.database import Database


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


class Clock:
    now = 1000 * DAY

    def __call__(self) -> float:
        return self.now


def opened(database: Database, clock: Clock | None = None, days: int = 30, size: int = 1 << 20) -> Answers:
    return Answers(database, clock or Clock(), days, size)


def turn(ident: str, previous: str | None = None, team: str = "a") -> Kept:
    return Kept(ident, team, previous, b'["asked"]', b'{"output": []}')


async def test_what_is_kept_can_be_read_at_once_by_every_worker(database: Database) -> None:
    await opened(database).keep(turn("r1"))
    assert await opened(database).find("r1", "a") == turn("r1")


async def test_many_at_once_are_all_kept(database: Database) -> None:
    answers = opened(database)
    await asyncio.gather(*(answers.keep(turn(f"r{place}")) for place in range(40)))
    assert [await answers.find(f"r{place}", "a") for place in (0, 39)] == [turn("r0"), turn("r39")]


async def test_who_waits_no_longer_takes_no_other_along(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers, loop = opened(database), asyncio.get_running_loop()
    begun, go = asyncio.Event(), threading.Event()
    write = answers._write

    def held(rows: list[Kept]) -> None:
        loop.call_soon_threadsafe(begun.set)
        go.wait()
        write(rows)

    monkeypatch.setattr(answers, "_write", held)
    try:
        keeps = [asyncio.ensure_future(answers.keep(turn("r0")))]
        await begun.wait()
        keeps += [asyncio.ensure_future(answers.keep(turn(ident))) for ident in ("r1", "r2")]
        await asyncio.sleep(0)  # they wait, too
        for one in keeps[:2]:
            one.cancel()
            with pytest.raises(asyncio.CancelledError):
                await one
        await asyncio.sleep(0.01)
        assert not keeps[2].done(), "nothing of it is written yet"
    finally:
        go.set()
    await keeps[2]
    assert [await answers.find(f"r{place}", "a") for place in range(3)] == [
        turn(f"r{place}") for place in range(3)
    ]


async def test_all_who_were_written_together_are_told_what_came_of_it(database: Database) -> None:
    answers = opened(database)
    await answers.keep(turn("r1"))
    came = await asyncio.gather(
        *(answers.keep(turn(ident)) for ident in ("r1", "r2")), return_exceptions=True
    )
    assert [type(one) for one in came] == [NotKept, NotKept]
    assert await answers.find("r2", "a") is None


async def test_a_conversation_is_read_from_its_beginning(database: Database) -> None:
    answers = opened(database)
    chain = [turn("r1"), turn("r2", "r1"), turn("r3", "r2")]
    for one in [*chain, turn("other", "r1")]:
        await answers.keep(one)
    assert await answers.conversation("r3", "a") == chain
    await answers.forget("r1", "a")
    assert await answers.conversation("r3", "a") == chain[1:], "whose beginning shows that it is none"


async def test_to_another_team_nothing_is_there(database: Database) -> None:
    answers = opened(database)
    await answers.keep(turn("r1"))
    await answers.keep(turn("r2", "r1", team="b"))
    await answers.forget("r1", "b")
    assert await answers.find("r1", "b") is None
    assert await answers.conversation("r1", "b") == []
    assert await answers.conversation("r2", "b") == [turn("r2", "r1", team="b")]
    assert await answers.find("r1", "a") is not None


async def test_what_cannot_be_an_id_of_ours_is_not_there(database: Database) -> None:
    answers = opened(database)
    for ident in ("", "r\0", "r" * 65):
        assert await answers.find(ident, "a") is None
        assert await answers.conversation(ident, "a") == []


async def test_what_is_too_old_is_gone_before_it_is_removed(database: Database) -> None:
    clock = Clock()
    answers = opened(database, clock, days=2)
    await answers.keep(turn("old"))
    clock.now += 1.5 * DAY
    await answers.keep(turn("new"))
    clock.now += DAY
    assert await answers.find("old", "a") is None
    answers.sweep()
    clock.now -= DAY
    assert await answers.find("old", "a") is None
    assert await answers.find("new", "a") is not None


async def test_the_oldest_go_first_when_there_is_too_much(database: Database) -> None:
    clock = Clock()
    size = len(turn("x").input) + len(turn("x").response)
    answers = opened(database, clock, size=2 * size)
    for ident in ("r1", "r2", "r3"):
        clock.now += 1
        await answers.keep(turn(ident))
    answers.sweep()
    kept = [ident for ident in ("r1", "r2", "r3") if await answers.find(ident, "a")]
    assert kept == ["r2", "r3"]


async def test_a_database_that_takes_nothing_is_told_and_nothing_piles_up(database: Database) -> None:
    answers = opened(database)
    await answers.keep(turn("r0"))
    with database.engine.begin() as connection:
        connection.execute(sql.text("ALTER TABLE answers RENAME TO hidden"))
    for _ in range(2):
        with pytest.raises(NotKept, match=r"OperationalError|ProgrammingError"):
            await answers.keep(turn("r1"))
    with database.engine.begin() as connection:
        connection.execute(sql.text("ALTER TABLE hidden RENAME TO answers"))
    await answers.keep(turn("r1"))
    assert await answers.find("r1", "a") == turn("r1")
    assert (answers.keeps, opened(database, days=0).keeps) == (True, False)


async def test_what_is_told_of_an_answer_may_change(database: Database) -> None:
    answers = opened(database, size=200)
    for ident in ("r1", "r2"):
        await answers.keep(turn(ident))
    await answers.change("r1", "b", b"stolen")
    await answers.change("r1", "a", b"changed", more=10)
    await answers.change("gone", "a", b"x")
    found = await answers.find("r1", "a")
    assert found is not None
    assert found.response == b"changed"
    await answers.change("r2", "a", b"larger", more=500)
    answers.sweep()
    assert await answers.find("r2", "a") is None, "what belongs to it counts in its size"
    with database.engine.begin() as connection:
        connection.execute(sql.text("DROP TABLE answers"))
    with pytest.raises(NotKept):
        await answers.change("r1", "a", b"lost")
