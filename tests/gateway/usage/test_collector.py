import asyncio
import fcntl
import os
import threading
from pathlib import Path

import pytest
from sqlalchemy.exc import OperationalError

from gateway.core.meters import Meters
from gateway.usage import collector as module
from gateway.usage import spool as spool_module
from gateway.usage import spool_file as reading
from gateway.usage.event import begun, ended
from gateway.usage.spool import Spool
from tests.gateway.usage.books import NOW, Books, call, event


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


async def test_a_file_that_is_made_while_the_collector_looks_is_not_taken_for_a_dead_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    lock = fcntl.flock

    def slowly(fd: int, how: int) -> None:
        monkeypatch.undo()
        for file in books.collector._found().values():
            books.collector._keep(file, reading.read(file, 1 << 20))
        lock(fd, how)

    monkeypatch.setattr(fcntl, "flock", slowly)
    page = spool(books)
    page.begin(call(1))
    page.end(call(1))
    await books.collector.flush()
    assert len(books.rows()) == 1
    page.close()
    await books.collector.aclose()


async def test_a_call_that_outlives_its_file_is_taken_for_lost_with_its_process_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    page = spool(books)
    ends, lost = call(1), call(2)
    page.begin(ends)
    page.begin(lost)
    monkeypatch.setattr(spool_module, "ROTATE", 1)
    page.begin(call(3))
    monkeypatch.undo()
    page.end(call(3))
    await books.collector.flush()
    assert list(books.rows()) == [call(3).id]
    assert books.meters.usage_backlog.read()[()] == 2
    page.end(ends)
    page.close()  # and `lost` with it
    await books.collector.flush()
    outcomes = {ident: row["outcome"] for ident, row in books.rows().items()}
    assert outcomes == {ends.id: "ok", lost.id: "gateway_died", call(3).id: "ok"}
    assert not books.said
    await books.collector.aclose()


async def test_a_process_that_was_killed_leaves_its_calls_marked_as_estimated(tmp_path: Path) -> None:
    books = Books(tmp_path)
    page = spool(books)
    page.begin(call(1))
    lost = call(1).id
    page._file._map = None  # the end of the process: no truncation, the lock is let go
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
    odd = file.read_bytes().splitlines()[-1].replace(b'"prompt":10', b'"prompt":"ten"')
    file.write_bytes(b"scribble\n{}\n[1]\n" + odd + b"\n" + file.read_bytes())
    await books.collector.flush()
    assert len(books.rows()) == 1
    assert books.meters.usage_events.values["ledger", "dropped"] == 4
    assert books.said == [f"spool file '{file.name}': line 1 is no usage event and is dropped"]
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


def written(books: Books, name: str, *numbers: int, change: tuple[bytes, bytes] = (b"", b"")) -> Path:
    """A file that a process left behind."""
    file = books.spool / name
    lines = (ended(call(number), begun(call(number))) for number in numbers)
    file.write_bytes(b"".join(lines).replace(*change, 1) if change[0] else b"".join(lines))
    return file


async def test_a_row_that_the_database_refuses_leaves_its_neighbours_alone(tmp_path: Path) -> None:
    books = Books(tmp_path)
    written(books, "a.jsonl", 1, 2, 3, change=(b'"prompt":10', b'"prompt":18446744073709551615'))
    await books.collector.flush()
    assert set(books.rows()) == {call(2).id, call(3).id}
    assert books.meters.usage_events.values["ledger", "dropped"] == 1
    assert len(books.said) == 1
    assert call(1).id in books.said[0]
    assert not list(books.spool.iterdir())
    await books.collector.aclose()


async def test_a_bad_line_counts_once_however_often_the_database_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    written(books, "a.jsonl", 1, 2, change=(b'"prompt":10', b'"prompt":"ten"'))

    def away(events: object) -> None:
        raise OperationalError("INSERT", {}, Exception("away"))

    with monkeypatch.context() as patch:
        patch.setattr(books.ledger, "absorb", away)
        for _ in range(3):
            await books.collector.flush()
    assert books.meters.usage_events.values["ledger", "dropped"] == 0
    await books.collector.flush()
    assert books.meters.usage_events.values["ledger", "dropped"] == 1
    assert set(books.rows()) == {call(2).id}
    await books.collector.aclose()


async def test_what_cannot_be_read_holds_up_no_other_file(tmp_path: Path) -> None:
    books = Books(tmp_path)
    (books.spool / "a.jsonl").mkdir()
    os.mkfifo(books.spool / "b.jsonl")
    (books.spool / "c.jsonl").symlink_to("nowhere")
    written(books, os.fsdecode(b"d\xff.jsonl"), 1).write_bytes(b"{}\n")
    written(books, "e.jsonl", 2)
    await books.collector.flush()
    assert set(books.rows()) == {call(2).id}
    assert [text.isascii() for text in books.said] == [True]
    await books.collector.aclose()


async def test_a_file_that_fails_is_told_once_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    written(books, "a.jsonl", 1)
    written(books, "b.jsonl", 2)
    with monkeypatch.context() as locked:
        is_free = reading._lock_is_free

        def refuse(path: Path) -> bool:
            if path.name == "a.jsonl":
                raise PermissionError
            return is_free(path)

        locked.setattr(reading, "_lock_is_free", refuse)
        await books.collector.flush()
        await books.collector.flush()
        assert set(books.rows()) == {call(2).id}
        assert books.said == [
            "spool file 'a.jsonl' cannot be taken (PermissionError): events wait in the spool"
        ]
    await books.collector.flush()
    assert set(books.rows()) == {call(1).id, call(2).id}
    await books.collector.aclose()


async def test_a_line_longer_than_what_is_read_at_once_is_read(tmp_path: Path) -> None:
    books = Books(tmp_path)
    written(books, "a.jsonl", 1, 2, change=(b'"gpt-5"', b'"' + b"m" * 3 * module.HURRIED + b'"'))
    await books.collector.flush()
    assert len(books.rows()) == 2
    await books.collector.aclose()


async def test_it_takes_its_time_unless_somebody_waits_or_it_is_far_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, threads = Books(tmp_path), list[str]()
    read, seen = reading.read, asyncio.Event()
    loop = asyncio.get_running_loop()

    def watched(file: reading.SpoolFile, most: int) -> reading.Piece:
        threads.append(threading.current_thread().name.rpartition("_")[0])
        loop.call_soon_threadsafe(seen.set)
        return read(file, most)

    monkeypatch.setattr(module, "read", watched)
    page = spool(books)
    await books.collector.report([], 0.0)
    assert threads == ["usage"]
    for patience, name in ((10.0, "usage-leisure"), (0.0, "usage")):
        monkeypatch.setattr(module, "PATIENCE", patience)
        seen.clear()
        job = asyncio.ensure_future(books.collector.run(1, lambda: 0.0))
        await seen.wait()
        job.cancel()
        assert threads[-1] == name
    page.close()
    await books.collector.aclose()


async def test_what_is_past_is_summed_up_on_the_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.01)
    books, loop, all_of_it = Books(tmp_path), asyncio.get_running_loop(), asyncio.Event()
    books.ledger.absorb([event(1), event(2, started=NOW + 86400)])
    books.now = NOW + 2 * 86400
    sum_up = books.ledger.sum_up

    def watched() -> bool:
        is_more = sum_up()
        if not is_more:
            loop.call_soon_threadsafe(all_of_it.set)
        return is_more

    monkeypatch.setattr(books.ledger, "sum_up", watched)
    job = asyncio.ensure_future(books.collector.run(400, lambda: books.now))
    await all_of_it.wait()
    job.cancel()
    with books.ledger._engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM usage")
    assert (await books.collector.report(["team"], NOW - 86400))["total"]["calls"] == 2
    await books.collector.aclose()


async def test_at_leisure_it_takes_a_file_piece_by_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_LEISURE", 2000)
    books, collector = Books(tmp_path), Books(tmp_path).collector
    page = spool(books)
    for number in range(1, 10):
        page.begin(call(number))
        page.end(call(number))
    before, looks = collector.complete, 1
    while collector._look(module.AT_LEISURE):
        assert collector.complete == before, "what is not all in is not complete"
        looks += 1
    assert looks > 2
    assert len(books.rows()) == 9
    assert collector.complete > before
    page.close()
    await collector.aclose()
    await books.collector.aclose()


async def test_what_another_process_brings_to_its_end_meanwhile_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Books(tmp_path)
    page = spool(books)
    page.close()

    def gone(path: Path) -> bool:
        path.unlink()
        return lock_is_free(path)

    lock_is_free = reading._lock_is_free
    monkeypatch.setattr(reading, "_lock_is_free", gone)
    await books.collector.flush()
    assert not books.said
    assert not books.collector.failing
    await books.collector.aclose()


async def test_a_database_that_stays_away_is_asked_after_pauses_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.0)  # so that it hurries
    books, paused = Books(tmp_path), asyncio.Event()

    async def pause(seconds: float) -> None:
        assert books.collector.failing
        paused.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio, "sleep", pause)
    page = spool(books)
    page.begin(call(1))
    page.end(call(1))

    def away(events: object) -> None:
        raise OperationalError("INSERT", {}, Exception("away"))

    monkeypatch.setattr(books.ledger, "absorb", away)
    job = asyncio.ensure_future(books.collector.run(1, lambda: 0.0))
    async with asyncio.timeout(10):
        await paused.wait()
    assert books.meters.usage_events.values["ledger", "retried"] == 1
    job.cancel()
    page.close()
    monkeypatch.undo()
    await books.collector.aclose()
