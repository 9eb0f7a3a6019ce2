import asyncio
import errno
import fcntl
import os
from pathlib import Path

import orjson
import pytest

from gateway.core.meters import Meters
from gateway.usage import spool as module
from gateway.usage.append_file import WINDOW
from gateway.usage.spool import Spool
from tests.gateway.usage.books import call
from tests.running import gateway, policies
from tests.scripted import Provider


def lines(folder: Path) -> list[list[dict[str, object]]]:
    """What each file says, the oldest first."""
    files = sorted(folder.iterdir(), key=lambda path: int(path.stem.rsplit("-", 1)[1]))
    return [[orjson.loads(line) for line in path.read_bytes().rstrip(b"\0").splitlines()] for path in files]


def make(folder: Path, said: list[str] | None = None, meters: Meters | None = None) -> Spool:
    said = [] if said is None else said
    return Spool(folder, "w0", meters or Meters(), lambda level, text: said.append(text))


def full(fd: int, offset: int, length: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


WAITING = "usage events cannot be written (No space left on device): they wait in memory"
LOST = "usage events found no room, on the disk or in memory: they are lost"


def test_a_call_is_written_before_it_leaves_and_when_it_ends(tmp_path: Path) -> None:
    spool, one = make(tmp_path), call()
    spool.begin(one)
    [[begin]] = lines(tmp_path)
    assert (begin["e"], begin["id"], begin["team"], begin["prompt_estimate"]) == (
        "begin",
        one.id,
        "research",
        9,
    )
    told = spool.end(one)
    [[_, end]] = lines(tmp_path)
    assert (end["e"], end["prompt"], end["outcome"]) == ("end", 10, "ok")
    assert orjson.loads(told) == end
    spool.close()


def test_a_new_file_begins_with_the_calls_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROTATE", 500)
    spool = make(tmp_path)
    early, late = call(1), call(2)
    spool.begin(early)
    spool.begin(late)
    spool.end(late)
    spool.end(early)
    spool.close()
    told = [[(one["e"], one["id"]) for one in events] for events in lines(tmp_path)]
    assert told == [
        [("begin", early.id), ("begin", late.id), ("moved", early.id)],
        [("begin", early.id), ("end", late.id)],
        [("end", early.id)],
    ]


async def test_what_finds_no_room_is_written_in_its_order_when_there_is_some(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SYNC", 0.001)
    said: list[str] = []
    meters, calls = Meters(), [call(number) for number in range(300)]
    spool = make(tmp_path, said, meters)
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        for one in calls:
            spool.begin(one)
            spool.end(one)
        assert said == [WAITING]
    assert meters.usage_waiting.read() == {(): 600}
    assert spool.is_full
    written = meters.usage_events.values["spool", "written"]
    assert written == 0
    job = asyncio.ensure_future(spool.sync())
    async with asyncio.timeout(5):
        while len(said) < 2:
            await asyncio.sleep(0)
    job.cancel()
    spool.begin(call(300))
    assert said == [WAITING, "usage events are written again"]
    assert meters.usage_waiting.read() == {(): 0}
    assert not spool.is_full
    assert meters.usage_events.values["spool", "written"] == 601
    assert "dropped" not in {result for (_, result), count in meters.usage_events.values.items() if count}
    [events] = lines(tmp_path)
    assert [one["id"] for one in events[::2]] == [one.id for one in [*calls, call(300)]]
    assert [one["e"] for one in events] == ["begin", "end"] * 300 + ["begin"]
    spool.close()


async def test_a_full_disk_degrades_a_gateway_that_serves_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Provider() as provider, gateway(tmp_path, policies(provider.url)) as running:
        with monkeypatch.context() as disk:
            disk.setattr(os, "posix_fallocate", full)
            assert (await running.chat()).status_code == 200
            assert running.house.ready()["degraded"] == ["spool"]
            assert "\ngateway_usage_waiting_events 2\n" in await running.metrics()
        async with asyncio.timeout(5):
            while running.house.ready()["degraded"]:
                await asyncio.sleep(0.01)
        assert (await running.usage())["total"]["calls"] == 1


def test_what_is_more_than_can_wait_is_lost_counted_and_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_WAITING", 3 * WINDOW)
    said: list[str] = []
    meters = Meters()
    spool = make(tmp_path, said, meters)
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        for number in range(5):
            spool.begin(call(number, team="t" * WINDOW))
    assert meters.usage_events.values["spool", "dropped"] == 3
    assert said == [WAITING, LOST]
    spool.close()
    assert len(lines(tmp_path)[0]) == 2


def test_what_finds_no_room_at_the_end_is_lost_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    meters = Meters()
    spool = make(tmp_path, said, meters)
    monkeypatch.setattr(os, "posix_fallocate", full)
    spool.begin(call(1))
    spool.close()
    assert meters.usage_events.values["spool", "dropped"] == 1
    assert said == [WAITING, LOST]


def test_a_page_that_cannot_be_turned_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROTATE", 1)
    spool = make(tmp_path)
    spool.begin(call(1))
    before = set(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as disk:
        disk.setattr(os, "posix_fallocate", full)
        for number in range(2, 6):
            spool.begin(call(number))
    assert set(os.listdir("/proc/self/fd")) == before
    spool.end(call(1))
    spool.close()
    assert lines(tmp_path)[-1][-1]["e"] == "end"


def test_a_folder_that_cannot_lock_is_told_and_nothing_is_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="No locks"):
        make(tmp_path)
    assert set(os.listdir("/proc/self/fd")) == before
    assert not list(tmp_path.iterdir())


async def test_the_file_is_brought_to_the_disk_while_it_lives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, loop = asyncio.Queue[Path](), asyncio.get_running_loop()

    def note(fd: int) -> None:
        loop.call_soon_threadsafe(synced.put_nowait, Path(os.readlink(f"/proc/self/fd/{fd}")))

    monkeypatch.setattr(module, "SYNC", 0.001)
    monkeypatch.setattr(os, "fdatasync", note)
    spool = make(tmp_path)
    job = asyncio.ensure_future(spool.sync())
    async with asyncio.timeout(5):
        assert (await synced.get()).parent == tmp_path
    job.cancel()
    spool.close()
