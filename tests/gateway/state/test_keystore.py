"""Issued keys in a real SQLite file, as several processes see them."""

import asyncio
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sql

from gateway.core.key import KeyExpired, KeyTaken, NoSuchKey
from gateway.state import keystore
from gateway.state.database import Database
from gateway.state.keystore import KeyStore

NOW = 1_800_000_000.0


def hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def all_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


@pytest.fixture
def open_store(database_url: str) -> Iterator[Callable[[], KeyStore]]:
    """Each call is another process with its own view of the one file."""
    databases: list[Database] = []

    def open_one() -> KeyStore:
        databases.append(Database(database_url))
        return KeyStore(databases[-1], lambda: NOW, lambda level, text: None)

    yield open_one
    for database in databases:
        database.close()


@pytest.fixture
def store(open_store: Callable[[], KeyStore]) -> KeyStore:
    return open_store()


async def test_a_new_key_is_known_by_its_hash_alone(
    store: KeyStore, tmp_path: Path, database_url: str
) -> None:
    _, key = await store.create("ci", "research", NOW + 60)
    await store.create("long", "t" * 256)
    assert key.startswith("gh-")
    assert len(key) >= 3 + 43, "32 random bytes"
    facts = store.find(hashed(key))
    assert facts == ("ci", "research", hashed(key), NOW + 60)
    assert store.find(hashed(key + "x")) is None
    assert store.find("") is None
    if database_url.startswith("sqlite"):
        everything = all_bytes(tmp_path)
        assert hashed(key).encode() in everything
        assert key.encode() not in everything


async def test_a_name_is_given_once_and_free_again_after_revocation(store: KeyStore) -> None:
    await store.create("ci", "research")
    with pytest.raises(
        KeyTaken, match='a key named "ci" is in use; revoke or rotate it, or take another name'
    ):
        await store.create("ci", "other")
    await store.revoke("ci")
    await store.create("ci", "other")


async def test_two_processes_cannot_give_away_one_name(open_store: Callable[[], KeyStore]) -> None:
    stores = [open_store() for _ in range(4)]
    results = await asyncio.gather(*(one.create("ci", "research") for one in stores), return_exceptions=True)
    assert sum(isinstance(result, KeyTaken) for result in results) == 3


async def test_a_revoked_key_is_gone_at_once(store: KeyStore) -> None:
    ident, key = await store.create("ci", "research")
    _, other = await store.create("other", "research")
    await store.revoke(ident)
    assert store.find(hashed(key)) is None
    assert store.find(hashed(other)) is not None
    for gone in (ident, "ci", "never"):
        with pytest.raises(NoSuchKey, match=f'there is no key "{gone}"'):
            await store.revoke(gone)


async def test_a_rotated_key_ends_at_once_or_after_the_overlap(store: KeyStore) -> None:
    _, first = await store.create("ci", "research", NOW + 1000)
    _, second = await store.rotate("ci")
    assert store.find(hashed(first)) is None
    assert store.find(hashed(second)) == ("ci", "research", hashed(second), NOW + 1000)
    _, third = await store.rotate("ci", overlap=60)
    assert store.find(hashed(second)) == ("ci", "research", hashed(second), NOW + 60)
    _, fourth = await store.rotate("ci", overlap=5000)
    assert store.find(hashed(third)) == ("ci", "research", hashed(third), NOW + 1000), (
        "never longer than before"
    )
    await store.revoke("ci")
    assert not any(store.find(hashed(key)) for key in (first, second, third, fourth))
    with pytest.raises(NoSuchKey):
        await store.rotate("ci")


async def test_other_processes_follow(
    open_store: Callable[[], KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keystore, "REFRESH", 0.01)
    here, there = open_store(), open_store()
    fresh = asyncio.ensure_future(there.keep_fresh())

    async def seen(key: str, known: bool) -> None:
        async with asyncio.timeout(5):
            while (there.find(hashed(key)) is not None) is not known:
                await asyncio.sleep(0.002)  # what another process does comes unannounced

    _, key = await here.create("ci", "research")
    await seen(key, True)
    _, newer = await here.rotate("ci", overlap=30)
    await seen(newer, True)
    facts = there.find(hashed(key))
    assert facts is not None
    assert facts.expires == NOW + 30
    await here.revoke("ci")
    await seen(newer, False)
    await seen(key, False)
    fresh.cancel()
    await asyncio.wait([fresh])


async def test_the_list_shows_no_hash(store: KeyStore) -> None:
    ident, _ = await store.create("ci", "research", NOW + 60)
    await store.create("old", "free")
    await store.revoke("old")
    rows = await store.listed()
    assert rows[0] == {
        "id": ident, "name": "ci", "team": "research", "created": NOW, "expires": NOW + 60, "revoked": False,
    }  # fmt: skip
    assert rows[1]["revoked"] is True


async def test_a_starter_key_is_taken_once_and_stays_revoked(open_store: Callable[[], KeyStore]) -> None:
    store = open_store()
    for _ in range(2):
        await store.adopt("starter", "demo", "gh-starter")
    assert store.find(hashed("gh-starter")) is not None
    await store.revoke("starter")
    await open_store().adopt("starter", "demo", "gh-starter")
    assert open_store().find(hashed("gh-starter")) is None


async def test_while_sql_is_away_the_last_known_keys_stay(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keystore, "REFRESH", 0.005)
    database = Database(database_url)
    said: list[str] = []
    store = KeyStore(database, lambda: NOW, lambda level, text: said.append(text))
    _, key = await store.create("ci", "research")
    with database.engine.begin() as connection:
        connection.execute(sql.text("alter table keys rename to elsewhere"))
    fresh = asyncio.ensure_future(store.keep_fresh())
    async with asyncio.timeout(5):
        while not said:
            await asyncio.sleep(0.002)  # a look that fails is told in the log alone
    await asyncio.sleep(0.05)
    why = "no such table: keys" if database_url.startswith("sqlite") else 'relation "keys" does not exist'
    assert said == [f"issued keys cannot be read ({why}); the last known stay"]
    assert store.find(hashed(key)) is not None
    fresh.cancel()
    await asyncio.wait([fresh])
    database.close()


async def test_each_change_is_told_once_it_is_there(
    store: KeyStore, open_store: Callable[[], KeyStore]
) -> None:
    other, seen = open_store(), []

    async def told() -> None:
        await other.look()
        seen.append(len(other._by_hash))

    store.changed.append(told)
    await store.create("ci", "research")
    await store.rotate("ci", overlap=60)
    await store.revoke("ci")
    assert seen == [1, 2, 0]


async def test_a_store_that_cannot_be_read_is_failing_until_it_can(store: KeyStore) -> None:
    def rename(old: str, new: str) -> None:
        with store._database.engine.begin() as connection:
            connection.exec_driver_sql(f"ALTER TABLE {old} RENAME TO {new}")

    await store.create("ci", "research")
    rename("keys", "gone")
    await store.look()
    assert store.failing
    rename("gone", "keys")
    await store.look()
    assert not store.failing


async def test_a_name_stands_for_the_key_that_is_good_for_longest(store: KeyStore) -> None:
    assert store.named("ci") is None
    await store.create("ci", "research")
    await store.create("other", "free")
    _, newer = await store.rotate("ci", overlap=60)
    found = store.named("ci")
    assert found is not None
    assert found.hash == hashed(newer)


async def test_an_expired_key_has_no_successor(store: KeyStore) -> None:
    await store.create("ci", "research", NOW)
    with pytest.raises(KeyExpired, match="revoke it, and make another of that name"):
        await store.rotate("ci")
