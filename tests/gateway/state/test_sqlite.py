"""SQLite files as they are opened, while others write to them."""

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from gateway.state import sqlite
from gateway.state.fault import DatabaseFault
from gateway.state.sqlite import open_file, open_to_read
from tests.users import folder_for_all, only_read


def test_a_file_that_is_being_written_to_is_waited_for_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY", 0.05)
    file = tmp_path / "state.db"
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("CREATE TABLE rows (id)")
        other.execute("BEGIN IMMEDIATE")  # so that turning to WAL fails at once
        with pytest.raises(DatabaseFault, match="locked"):
            open_file(str(file))
        monkeypatch.setattr(sqlite, "BUSY", 5.0)
        threading.Timer(0.05, other.execute, ["COMMIT"]).start()
        with closing(open_file(str(file))) as connection:
            assert connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    file.write_bytes(b"garbage" * 1000)
    for opened in (open_file, open_to_read):
        with pytest.raises(DatabaseFault, match="file is not a database") as told:
            opened(str(file))
        assert told.value.kind == "DatabaseError"


@pytest.mark.parametrize("others", ["nobody has it open", "another has it open"])
def test_who_may_only_read_a_file_and_its_folder_reads_it(others: str) -> None:
    with folder_for_all() as folder, closing(open_file(f"{folder}/state 100%#1.db")) as other:
        other.execute("CREATE TABLE rows (id)")
        other.execute("INSERT INTO rows VALUES (1)")
        other.commit()
        if others == "nobody has it open":
            other.close()
        there = {path.name for path in folder.iterdir()}
        assert len(there) == (1 if others == "nobody has it open" else 3)
        with only_read(folder), closing(open_to_read(f"{folder}/state 100%#1.db")) as connection:
            assert connection.execute("SELECT id FROM rows").fetchall() == [(1,)]
        assert {path.name for path in folder.iterdir()} == there


def test_who_looks_writes_nothing_and_makes_no_file(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    with pytest.raises(DatabaseFault, match="unable to open database file"):
        open_to_read(str(file))
    open_file(str(file)).close()
    with closing(open_to_read(str(file))) as connection:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("CREATE TABLE rows (id)")
        assert [path.name for path in tmp_path.iterdir()] == ["state.db"]
