from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from gateway.core.meters import Meters
from gateway.usage.spool import Spool
from tests.gateway.usage.books import Books, call


def spool(books: Books) -> Spool:
    return Spool(books.spool, "w0", Meters(), lambda level, text: None)


async def test_what_has_ended_is_in_the_ledger_and_what_has_not_is_a_backlog(tmp_path: Path) -> None:
    books = Books(tmp_path)
    page = spool(books)
    over, open_still = call(1), call(2)
    page.begin(over)
    page.begin(open_still)
    page.end(over)
    await books.collector.flush()
    assert list(books.rows()) == [over.id]
    assert books.meters.usage_backlog.read()[()] == 1
    page.end(open_still)
    await books.collector.flush()
    assert set(books.rows()) == {over.id, open_still.id}
    assert len(list(books.spool.iterdir())) == 1, "a file is kept while its process lives"
    page.close()
    await books.collector.flush()
    assert not list(books.spool.iterdir())
    await books.collector.aclose()


async def test_a_process_that_was_killed_leaves_its_calls_marked_as_estimated(tmp_path: Path) -> None:
    books = Books(tmp_path)
    page = spool(books)
    page.begin(call(1))
    lost = call(1).id
    page._tape._map = None  # the end of the process: no truncation, the lock is let go
    page.close()
    [file] = books.spool.iterdir()
    file.write_bytes(file.read_bytes() + b"\0" * 5000)
    await books.collector.flush()
    row = books.rows()[lost]
    assert (row["outcome"], row["estimated"], row["prompt"]) == ("gateway_died", True, 9)
    assert not list(books.spool.iterdir())
    await books.collector.aclose()


async def test_a_line_that_is_half_copied_waits_for_its_other_half(tmp_path: Path) -> None:
    books = Books(tmp_path)
    page = spool(books)
    page.begin(call(1))
    line = page.end(call(1))
    [file] = books.spool.iterdir()
    whole = file.read_bytes().rstrip(b"\0")
    file.write_bytes(whole[:-100] + b"\0" * 50 + whole[-50:])
    await books.collector.flush()
    assert not books.rows()
    file.write_bytes(whole)
    await books.collector.flush()
    assert len(books.rows()) == 1
    assert line in whole
    await books.collector.aclose()


async def test_what_is_no_event_is_counted_and_passed_over(tmp_path: Path) -> None:
    books = Books(tmp_path)
    page = spool(books)
    page.begin(call(1))
    page.end(call(1))
    page.close()
    [file] = books.spool.iterdir()
    file.write_bytes(b"scribble\n" + file.read_bytes())
    await books.collector.flush()
    assert len(books.rows()) == 1
    assert books.meters.usage_events.values["ledger", "dropped"] == 1
    await books.collector.aclose()


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b"7", b'{"id":"0123456789abcdef0123456789abcdef","e":"end"}']
)
async def test_a_line_that_is_no_row_stops_nothing(tmp_path: Path, line: bytes) -> None:
    books = Books(tmp_path)
    (books.spool / "aaa.jsonl").write_bytes(line + b"\n")
    page = spool(books)
    for number in (1, 2):
        page.begin(call(number))
        page.end(call(number))
    [file] = books.spool.glob("w0*")
    file.write_bytes(line + b"\n" + file.read_bytes().rstrip(b"\0"))
    await books.collector.flush()
    await books.collector.flush()
    assert set(books.rows()) == {call(1).id, call(2).id}
    assert books.meters.usage_events.values["ledger", "dropped"] == 2
    assert books.said == ["1 lines of the usage spool are no events of a call, and are dropped"] * 2
    page.close()
    await books.collector.aclose()


async def test_a_file_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    books = Books(tmp_path)
    (books.spool / "aaa.jsonl").mkdir()
    page = spool(books)
    page.begin(call(1))
    page.end(call(1))
    await books.collector.flush()
    assert list(books.rows()) == [call(1).id]
    page.close()
    await books.collector.aclose()


async def test_a_database_that_is_away_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    books = Books(tmp_path)
    page = spool(books)
    page.begin(call(1))
    page.end(call(1))
    with monkeypatch.context() as away:

        def fail(events: object) -> None:
            raise OperationalError("INSERT", {}, Exception("disk I/O error"))

        away.setattr(books.ledger, "absorb", fail)
        await books.collector.flush()
        await books.collector.flush()
    assert books.said == ["the usage ledger cannot be written (OperationalError): events wait in the spool"]
    await books.collector.flush()
    assert (await books.collector.report([], 0.0))["total"]["calls"] == 1
    page.close()
    await books.collector.aclose()
