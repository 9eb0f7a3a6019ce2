"""A ledger with a file of its own begins with the rows of the file that it shared before."""

from pathlib import Path

from tests.gateway.usage.books import Books, event

BY_TEAM = ["team"]


def shared(folder: Path) -> str:
    """The file of an earlier version, with two calls and a column less than now."""
    folder.mkdir()
    books = Books(folder)
    books.ledger.absorb([event(1), event(2, team="free", started=1000.0)])
    with books.ledger._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE usage DROP COLUMN search_units")
    books.ledger.close()
    return str(folder / "books.db")


def calls(books: Books) -> dict[str, int]:
    return {row["team"]: row["calls"] for row in books.ledger.report(BY_TEAM, 0.0)["rows"]}


def test_what_was_kept_before_is_in_reports_and_sums(tmp_path: Path) -> None:
    books = Books(tmp_path, earlier=shared(tmp_path / "old"))
    assert calls(books) == {"free": 1, "research": 1}
    assert books.ledger.sum_up()
    assert calls(books) == {"free": 1, "research": 1}
    books.ledger.close()


def test_it_is_taken_over_once(tmp_path: Path) -> None:
    earlier = shared(tmp_path / "old")
    Books(tmp_path, earlier=earlier).ledger.close()
    books = Books(tmp_path, earlier=earlier)
    assert books.ledger.forget(100_000.0) == 1
    books.ledger.close()
    again = Books(tmp_path, earlier=earlier)
    assert calls(again) == {"research": 1}
    again.ledger.close()


def test_one_that_ended_before_all_was_taken_over_does_it_again(tmp_path: Path) -> None:
    earlier = shared(tmp_path / "old")
    books = Books(tmp_path)
    books.ledger.absorb([event(1), event(3)])
    with books.ledger._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM usage_summed")
    books.ledger.close()
    again = Books(tmp_path, earlier=earlier)
    assert calls(again) == {"free": 1, "research": 2}
    again.ledger.close()


def test_a_file_without_a_ledger_leaves_the_new_one_empty(tmp_path: Path) -> None:
    books = Books(tmp_path, earlier=str(tmp_path / "keys.db"))
    assert calls(books) == {}
    books.ledger.close()
