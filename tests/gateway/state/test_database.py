"""What a process loads to look at its database, and when it loads more."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from gateway.state.database import Database, Later
from gateway.state.fault import DatabaseFault
from gateway.state.keystore import KeyStore
from tests.shared import ROOT

LOOKS = """
import sys, time
import gateway.app.parent, gateway.app.run, gateway.app.worker
from gateway.state.answers import Answers
from gateway.state.database import Database
from gateway.state.keystore import KeyStore
from gateway.state.owners import Owners
from gateway.state.runs import Runs

database = Database(sys.argv[1])
keys = KeyStore(database, time.time, lambda level, text: None)
Owners(database, time.time)
answers, runs = Answers(database, time.time, 30, 1 << 20), Runs(database, time.time)
for look in (keys._look, answers.sweep, runs.sweep):
    look()
print(len(keys._by_hash), "sqlalchemy" in sys.modules)
"""


def looks(url: str) -> str:
    command = [sys.executable, "-c", LOOKS, url]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


async def test_whoever_only_looks_loads_no_sqlalchemy(tmp_path: Path) -> None:
    file = f"sqlite:///{tmp_path}/state.db"
    assert looks(file) == "0 False", "nothing is there yet"
    with closing(Database(file)) as database:
        await KeyStore(database, lambda: 0.0, lambda level, text: None).create("ci", "research")
    assert looks(file) == "1 False"
    assert looks(f"{file}?timeout=3") == "1 True", "an address that is more than a file's"


@pytest.mark.parametrize("more", ["", "?timeout=3"], ids=["by its file", "by SQLAlchemy"])
def test_rows_are_read_by_the_driver_itself(more: str, tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/state.db{more}")) as database:
        with database.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE rows (id INTEGER, name TEXT)")
            connection.exec_driver_sql("INSERT INTO rows VALUES (1, 'a'), (2, NULL)")
        assert database.has("rows")
        assert database.read("SELECT id, name FROM rows ORDER BY id") == [(1, "a"), (2, None)]


@pytest.mark.parametrize("more", ["", "?timeout=3"], ids=["by its file", "by SQLAlchemy"])
def test_rows_that_cannot_be_read_are_a_fault_of_the_database(more: str, tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/state.db{more}")) as database:
        with pytest.raises(DatabaseFault, match=r"^no such table: rows$"):
            database.read("SELECT id FROM rows")


def test_what_was_never_written_to_a_file_is_not_there(tmp_path: Path) -> None:
    with closing(Database(f"sqlite:///{tmp_path}/state.db")) as database:
        assert not database.has("rows")


def test_what_speaks_sql_is_made_late_for_a_file_and_at_once_for_all_else(tmp_path: Path) -> None:
    for more, made in (("", []), ("?timeout=3", [1])):
        seen: list[int] = []
        with closing(Database(f"sqlite:///{tmp_path}/state.db{more}")) as database:
            rows = database.later(lambda seen=seen: seen.append(1) or seen)  # type: ignore[misc]
            assert seen == made
            assert rows() == [1]


def test_what_many_threads_ask_for_is_made_once() -> None:
    threads, made, together = 8, list[int](), threading.Barrier(8)

    def make() -> int:
        made.append(1)
        return len(made)

    later = Later(make)
    with ThreadPoolExecutor(threads) as pool:
        assert list(pool.map(lambda _: (together.wait(5), later())[1], range(threads))) == [1] * threads


def test_what_cannot_be_made_is_tried_again() -> None:
    tries: list[int] = []

    def make() -> str:
        tries.append(1)
        if len(tries) == 1:
            raise DatabaseFault("database is locked", "OperationalError")
        return "made"

    later = Later(make)
    with pytest.raises(DatabaseFault):
        later()
    assert later() == "made"
