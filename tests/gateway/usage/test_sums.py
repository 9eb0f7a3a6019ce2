"""Reports made from sums: they are what the rows say, whatever comes late and whoever sums up meanwhile."""

import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sql

from gateway.usage import sums
from gateway.usage.ledger import Ledger
from gateway.usage.sums import LATE, is_past
from tests.gateway.usage.books import NOW, Books, event
from tests.postgres_server import PostgresServer

SPAN = 2**24 / 1000  # seconds: six hex digits of milliseconds are left out of twelve
DAY = 86400.0


@pytest.fixture
def books(tmp_path: Path, database_url: str) -> Iterator[Books]:
    books = Books(tmp_path, database_url)
    yield books
    books.ledger.close()


def run(books: Books, statement: str) -> Any:
    with books.ledger._engine.begin() as connection:
        return connection.exec_driver_sql(statement)


def sum_up(books: Books) -> int:
    return sum(1 for _ in iter(books.ledger.sum_up, False))


def by_hand(books: Books, name: str, since: float) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for row in books.ledger.calls(limit=10_000):
        if row["started"] >= since:
            calls, prompt = found.get(row[name], (0, 0))
            found[row[name]] = calls + 1, prompt + row["prompt"]
    return found


def told(books: Books, name: str, since: float) -> dict[str, tuple[int, int]]:
    rows = books.ledger.report([name], since)["rows"]
    return {row[name]: (row["calls"], row["prompt_tokens"]) for row in rows}


@pytest.mark.parametrize("seed", range(3))
def test_a_report_says_what_the_rows_say_whatever_happens(books: Books, seed: int) -> None:
    chance, known = random.Random(seed), list[float]()
    for _ in range(60):
        books.now += chance.uniform(0, SPAN)
        what = chance.random()
        if what < 0.6:  # a call of now, one of some time ago, and one that was written before
            known += [books.now - chance.uniform(0, 30), books.now - chance.expovariate(1 / DAY)]
            written = {number: known[number] for number in (-2, -1, chance.randrange(len(known)))}
            batch = [
                event(number % len(known), team=f"t{number % 5}", started=at)
                | {"prompt": chance.randrange(99)}
                for number, at in written.items()
            ]
            chance.choice([books.ledger.absorb, books.ledger.keep])(batch)
        elif what < 0.9:
            books.ledger.sum_up()
        else:
            books.ledger.forget(books.now - 2 * DAY)
        oldest = books.now - 2 * DAY + SPAN
        for name in ("team", "model", "user"):
            since = chance.uniform(oldest, books.now)
            assert told(books, name, since) == by_hand(books, name, since)
    assert sum_up(books)
    assert told(books, "team", oldest) == by_hand(books, "team", oldest)


def test_what_is_summed_up_is_not_read_again(books: Books) -> None:
    books.ledger.absorb([event(n, started=NOW + n * SPAN) for n in range(5)])
    books.now = NOW + 4 * SPAN + 60
    before = books.ledger.report(["key", "team"], 0.0)
    assert sum_up(books) == 4
    assert books.ledger.report(["key", "team"], 0.0) == before
    run(books, "DELETE FROM usage")
    assert books.ledger.report(["team"], NOW - DAY)["total"]["calls"] == 4, (
        "the last may still be in the making"
    )
    assert books.ledger.report(["user"], NOW - DAY)["total"]["calls"] == 0, "by user there are none"


def test_a_span_is_summed_up_once_nobody_can_take_it_for_the_one_of_now(books: Books) -> None:
    one = event(1)
    books.ledger.absorb([one])
    ends = (int(NOW * 1000) >> 24) * SPAN + SPAN
    books.now = ends + LATE - 1
    assert not books.ledger.sum_up()
    assert not is_past(one["id"], ends - 1)
    assert is_past(one["id"], ends + 1)
    books.now = ends + LATE + 1
    assert books.ledger.sum_up()


def test_a_clock_that_ran_ahead_hides_no_call(books: Books) -> None:
    books.ledger.absorb([event(1)])
    books.now = NOW + 300 * DAY
    books.ledger.absorb([event(2, team="ahead", started=books.now)])
    books.now += DAY
    assert sum_up(books) == 2
    for books.now in (NOW + 60, NOW + 120):  # it is right again
        books.ledger.absorb([event(int(books.now - NOW), started=books.now)])
        assert told(books, "team", 0.0) == by_hand(books, "team", 0.0)
    books.now = NOW + DAY
    assert sum_up(books)
    assert told(books, "team", 0.0) == {"ahead": (1, 10), "research": (3, 30)}


def test_what_is_forgotten_is_in_no_sum(books: Books) -> None:
    books.ledger.absorb([event(1), event(2, started=NOW + DAY)])
    books.now = NOW + 2 * DAY
    assert sum_up(books) == 2
    assert books.ledger.forget(NOW + DAY) == 1
    assert books.ledger.report([], 0.0)["total"]["calls"] == 1


def test_a_ledger_of_an_earlier_version_is_summed_up_from_its_first_call_on(
    books: Books, tmp_path: Path, database_url: str
) -> None:
    books.ledger.absorb([event(n, started=NOW - n * DAY) for n in range(40)])
    run(books, "DROP TABLE usage_sums")
    run(books, "DROP TABLE usage_summed")
    again = Books(tmp_path, database_url)
    again.now = NOW + DAY
    assert again.ledger.report(["team"], 0.0)["total"]["calls"] == 40
    assert sum_up(again) == 40, "spans without a call take no turn"
    assert again.ledger.report(["team"], 0.0)["total"]["calls"] == 40
    again.ledger.close()


def test_an_id_that_is_none_of_ours_holds_up_no_sum(books: Books) -> None:
    odd = event(2) | {"id": "01a31z"}
    books.ledger.absorb([event(1), odd, event(3, started=NOW + 2 * DAY)])
    books.now = NOW + 3 * DAY
    assert sum_up(books)
    run(books, "DELETE FROM usage")
    assert books.ledger.report(["team"], NOW - DAY)["total"]["calls"] == 3


@pytest.fixture
def two(tmp_path: Path, postgres_server: PostgresServer) -> Iterator[list[Books]]:
    """Those of two machines, of one database."""
    url = postgres_server.fresh()
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
    both = [Books(folder, url) for folder in folders]
    yield both
    for books in both:
        books.ledger.close()


def test_who_sums_up_waits_for_who_writes_what_is_late(two: list[Books]) -> None:
    one, other = two
    one.ledger.absorb([event(1)])
    one.now = other.now = NOW + DAY
    with one.ledger._engine.begin() as connection, ThreadPoolExecutor(1) as thread:
        one.ledger._replace(connection, [event(2)])
        sums.reopen(connection, event(2)["id"])
        summing = thread.submit(other.ledger.sum_up)
        until_somebody_waits(one.ledger)
        connection.commit()
        assert summing.result(5)
    assert one.ledger.report(["team"], NOW - DAY)["total"]["calls"] == 2
    run(one, "DELETE FROM usage")
    assert one.ledger.report(["team"], NOW - DAY)["total"]["calls"] == 2, "both are in the sum"


def test_who_writes_what_is_late_waits_for_who_sums_up(two: list[Books]) -> None:
    one, other = two
    one.ledger.absorb([event(1)])
    one.now = other.now = NOW + DAY
    with one.ledger._engine.begin() as connection, ThreadPoolExecutor(1) as thread:
        assert sums.sum_up(connection, one.now)
        writing = thread.submit(other.ledger.absorb, [event(2)])
        until_somebody_waits(one.ledger)
        connection.commit()
        writing.result(5)
    assert one.ledger.report(["team"], NOW - DAY)["total"]["calls"] == 2
    assert sum_up(one) == 1
    assert one.ledger.report(["team"], NOW - DAY)["total"]["calls"] == 2


def until_somebody_waits(ledger: Ledger) -> None:
    waiting = sql.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    with ledger._engine.connect() as connection:
        while not connection.execute(waiting).scalar_one():
            connection.rollback()
