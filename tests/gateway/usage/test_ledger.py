"""Rows and reports, in each kind of database."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from gateway.usage.event import begun, died, ended
from gateway.usage.ledger import ROWS
from gateway.usage.reports import BadReport
from tests.gateway.usage.books import Books, call, event


@pytest.fixture
def books(tmp_path: Path, database_url: str) -> Iterator[Books]:
    books = Books(tmp_path, database_url)
    yield books
    books.ledger.close()


@pytest.mark.parametrize("count", [1, ROWS - 1, ROWS, 3 * ROWS + 7])
def test_every_event_of_a_batch_is_a_row(books: Books, count: int) -> None:
    books.ledger.absorb([event(number) for number in range(count)])
    total = books.ledger.report([], 0.0)["total"]
    assert (total["calls"], total["prompt_tokens"], total["completion_tokens"]) == (
        count,
        10 * count,
        5 * count,
    )


def test_the_same_call_twice_counts_once(books: Books) -> None:
    books.ledger.absorb([event(1), event(1)])
    books.ledger.absorb([event(1)])
    assert books.ledger.report([], 0.0)["total"]["calls"] == 1


def test_an_end_that_comes_late_replaces_the_estimate_and_never_the_reverse(books: Books) -> None:
    lost = died(orjson.loads(begun(call(1))))
    books.ledger.keep([dict(lost)])
    assert books.rows()[call(1).id]["estimated"]
    books.ledger.absorb([event(1)])
    books.ledger.keep([dict(lost)])
    assert books.rows()[call(1).id]["outcome"] == "ok"


def test_a_report_is_by_what_was_asked_and_since_when(books: Books) -> None:
    books.ledger.absorb(
        [event(1, started=1000.0), event(2, team="free", started=2000.0), event(3, started=3000.0)]
    )
    rows = books.ledger.report(["team"], 1999.999)["rows"]
    assert [(row["team"], row["calls"]) for row in rows] == [("free", 1), ("research", 1)]


def test_a_report_can_be_said_in_json(books: Books) -> None:
    books.ledger.absorb([event(1), event(2)])
    total = {"calls": 2, "prompt_tokens": 20, "completion_tokens": 10, "estimated": 0, "cost_usd": None}
    report = books.ledger.report(["team"], 0.0)
    assert orjson.loads(orjson.dumps(report)) == {"rows": [{"team": "research", **total}], "total": total}


def test_a_row_is_kept_however_long_its_names_are(books: Books) -> None:
    odd = event(1) | {"model": "m" * 5000, "user": "é" * 300, "target": "t" * 601}
    books.ledger.absorb([odd])
    (row,) = books.rows().values()
    assert (row["model"][:256], row["user"][:256]) == ("m" * 256, "é" * 256)


def test_a_report_by_what_is_no_column_is_refused(books: Books) -> None:
    with pytest.raises(BadReport, match='cannot be told by "metadata"'):
        books.ledger.report(["metadata"], 0.0)


def test_what_is_too_old_is_forgotten(books: Books) -> None:
    books.ledger.absorb([event(1, started=100_000.0), event(2, started=200_000.0)])
    assert books.ledger.forget(150_000.0) == 1
    assert list(books.rows()) == [call(2, started=200_000.0).id]


def test_search_units_are_told_of_those_who_have_some(books: Books) -> None:
    searched = call(1, team="free")
    searched.usage.search_units = 3
    books.ledger.absorb([orjson.loads(ended(searched, begun(searched))), event(2)])
    free, research = books.ledger.report(["team"], 0.0)["rows"]
    assert (free["search_units"], "search_units" in research) == (3, False)
    assert books.ledger.report([], 0.0)["total"]["search_units"] == 3


def test_a_book_of_an_earlier_version_gets_the_columns_it_lacks(
    books: Books, tmp_path: Path, database_url: str
) -> None:
    books.ledger.absorb([event(1)])
    with books.ledger._engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE usage DROP COLUMN search_units")
    again = Books(tmp_path, database_url)
    again.ledger.absorb([event(2)])
    assert [row["search_units"] for row in again.rows().values()] == [0, 0]
    again.ledger.close()
