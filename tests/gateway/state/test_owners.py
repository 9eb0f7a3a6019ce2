"""Who owns what a provider made, in a real SQLite file that several processes share."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import sqlalchemy as sql

from gateway.state import owners
from gateway.state.database import Database
from gateway.state.owners import Owner, Owners

RESEARCH, FREE = Owner("research", "openai"), Owner("free", "openai")


@pytest.fixture
def open_owners(database_url: str) -> Iterator[Callable[[], Owners]]:
    databases: list[Database] = []

    def open_one() -> Owners:
        databases.append(Database(database_url))
        return Owners(databases[-1], lambda: 1_800_000_000.0)

    yield open_one
    for database in databases:
        database.close()


async def test_an_id_is_known_everywhere_once_it_is_remembered(open_owners: Callable[[], Owners]) -> None:
    here, there = open_owners(), open_owners()
    await here.remember(["file-1", "file-1", "batch-2"], RESEARCH, "files")
    assert await there.among(["file-1", "batch-2", "file-3"]) == {"file-1": RESEARCH, "batch-2": RESEARCH}


async def test_an_id_belongs_to_whoever_was_first(open_owners: Callable[[], Owners]) -> None:
    here, there = open_owners(), open_owners()
    await here.remember(["file-1"], RESEARCH, "files")
    await there.remember(["file-1"], FREE, "files")
    for one in (here, there):
        assert await one.among(["file-1"]) == {"file-1": RESEARCH}


async def test_all_that_arrive_together_are_remembered(open_owners: Callable[[], Owners]) -> None:
    here, there = open_owners(), open_owners()
    stores = [here, there]
    await asyncio.gather(*(stores[n % 2].remember([f"id-{n}"], RESEARCH, "responses") for n in range(60)))
    ids = [f"id-{number}" for number in range(60)]
    assert set(await open_owners().among(ids)) == set(ids)


async def test_a_deleted_object_has_no_owner(open_owners: Callable[[], Owners]) -> None:
    here = open_owners()
    await here.remember(["file-1"], RESEARCH, "files")
    await here.forget("file-1")
    await here.forget("file-1")
    assert await here.among(["file-1"]) == {}


async def test_memory_is_bounded_and_what_left_it_is_asked_of_sql(
    open_owners: Callable[[], Owners], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owners, "REMEMBERED", 3)
    here = open_owners()
    ids = [f"id-{number}" for number in range(1200)]
    await here.remember(ids, RESEARCH, "files")
    assert set(await here.among(ids)) == set(ids)


async def test_ids_are_data_never_sql(open_owners: Callable[[], Owners]) -> None:
    here = open_owners()
    names = ["'; drop table owners; --", '"', "%", "é" * 200]
    await here.remember(names, RESEARCH, "files")
    assert set(await open_owners().among(names)) == set(names)


async def test_what_no_database_could_keep_as_an_id_is_nobodys(open_owners: Callable[[], Owners]) -> None:
    here, odd = open_owners(), ["x" * 257, "", "a\0b"]
    await here.remember(odd, RESEARCH, "files")
    assert await here.among(odd) == {}
    for one in odd:
        await here.forget(one)
    assert await here.settle(odd) is None
    await here.remember(["resp-1"], RESEARCH, "responses", 7)
    assert await here.settle([*odd, "resp-1"]) == 7, "they keep no other from it"


async def test_names_of_teams_and_providers_may_be_as_long_as_policies_let_them(
    open_owners: Callable[[], Owners],
) -> None:
    owner = Owner("t" * 256, "p" * 256)
    await open_owners().remember(["file-1"], owner, "files")
    assert await open_owners().among(["file-1"]) == {"file-1": owner}


async def test_what_was_begun_is_settled_once_by_whichever_process(open_owners: Callable[[], Owners]) -> None:
    here, there = open_owners(), open_owners()
    await here.remember(["resp-1"], RESEARCH, "responses", 0)
    await here.remember(["resp-2"], RESEARCH, "responses")
    assert await there.settle(["responses", "resp-1"]) == 0
    assert await here.settle(["responses", "resp-1"]) is None
    assert await here.settle(["responses", "resp-2"]) is None
    assert await here.among(["resp-1"]) == {"resp-1": RESEARCH}


async def test_of_those_who_settle_it_at_once_one_is_told(open_owners: Callable[[], Owners]) -> None:
    stores = [open_owners(), open_owners()]
    await stores[0].remember(["resp-1"], RESEARCH, "responses", 7)
    told = await asyncio.gather(*(stores[n % 2].settle(["resp-1"]) for n in range(20)))
    assert sorted(told, key=str) == [7, *[None] * 19]


async def test_what_was_deleted_has_no_rest(open_owners: Callable[[], Owners]) -> None:
    here = open_owners()
    await here.remember(["resp-1"], RESEARCH, "responses", 7)
    await here.forget("resp-1")
    assert await here.settle(["resp-1"]) is None


async def test_while_sql_is_away_nothing_is_settled(database_url: str) -> None:
    database = Database(database_url)
    store = Owners(database, lambda: 0.0)
    await store.remember(["resp-1"], RESEARCH, "responses", 7)
    with database.engine.begin() as connection:
        connection.execute(sql.text("DROP TABLE begun"))
    assert await store.settle(["resp-1"]) is None
    database.close()
