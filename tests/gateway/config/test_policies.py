import asyncio
import os
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config import policies
from gateway.config.compiler import CompileOptions
from gateway.config.policies import Originals, Policies, load_policies
from gateway.config.problem import BadPolicies
from gateway.config.snapshot import Snapshot
from gateway.core.meters import Meters

GOOD = """\
kind: providers
providers: {p: {type: compatible, base_url: "http://127.0.0.1:1/v1"}}
---
kind: models
models: {%s: {targets: [{provider: p}]}}
---
kind: access
teams: {all: {models: ["*"]}}
"""


class Opened:
    """The policies of a folder, with what it logs and counts."""

    def __init__(self, path: Path, originals: Originals | None = None) -> None:
        self.logged: list[tuple[str, str]] = []
        self.meters = Meters()
        self.policies = Policies(
            path, CompileOptions(path), self.meters, lambda: 1000.0, self._log, originals
        )

    def _log(self, level: str, message: str) -> None:
        self.logged.append((level, message))

    def counted(self) -> dict[str, float]:
        return {labels[0]: count for labels, count in self.meters.policy_reloads.values.items() if count}

    @property
    def models(self) -> list[str]:
        return self.policies.snapshot.listed("all")


def write(folder: Path, model: str) -> None:
    (folder / "gateway.yaml").write_text(GOOD % model)


def touch(folder: Path, name: bytes) -> None:
    (folder / os.fsdecode(name)).touch()


def test_policies_begin_with_a_snapshot_and_count_it(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    version = opened.policies.snapshot.version
    assert opened.models == ["one"]
    assert opened.counted() == {"ok": 1}
    assert opened.meters.policy_info.values == {(version,): 1.0}
    assert opened.meters.policy_loaded.values == {(): 1000.0}
    assert opened.policies.describe() == {
        "version": version,
        "loaded_at": 1000.0,
        "warnings": [],
        "problems": [],
    }


def test_bad_policies_do_not_open(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("kind: nope")
    with pytest.raises(BadPolicies, match="there is no kind"):
        Opened(tmp_path)


async def test_a_good_edit_is_taken_whole_and_told(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    told: list[Snapshot] = []
    opened.policies.changed.append(told.append)
    write(tmp_path, "two")
    status = await opened.policies.reload()
    assert opened.models == ["two"]
    assert told == [opened.policies.snapshot]
    assert status.version == opened.policies.snapshot.version
    assert opened.logged == [("info", f"policies {status.version} are in force")]
    assert opened.counted() == {"ok": 2}


async def test_a_bad_edit_keeps_the_last_good_and_says_where_it_is_bad_once(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    kept = opened.policies.snapshot
    (tmp_path / "gateway.yaml").write_text(GOOD % "two" + "---\nkind: budgets\n")
    for _ in range(3):
        status = await opened.policies.reload()
        assert opened.policies.snapshot is kept
        assert [str(problem) for problem in status.problems] == [
            f'{tmp_path}/gateway.yaml:10:7: kind: kind "budgets" is not built yet; remove this document'
        ]
    assert opened.counted() == {"ok": 1, "refused": 1}
    assert opened.meters.policy_refused.read() == {(): 1}
    [(level, message)] = opened.logged
    assert level == "error"
    assert f"{tmp_path}/gateway.yaml:10:7: kind" in message
    assert opened.policies.describe()["problems"]


async def test_mending_a_bad_edit_clears_it_even_when_nothing_changed_in_the_end(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    kept = opened.policies.snapshot
    (tmp_path / "gateway.yaml").write_text("kind: [")
    assert (await opened.policies.reload()).problems
    write(tmp_path, "one")
    assert not (await opened.policies.reload()).problems
    assert opened.meters.policy_refused.read() == {(): 0}
    assert opened.policies.snapshot is kept
    good = ("info", f"policies {kept.version} are in force")
    assert opened.logged[1:] == [good]
    await opened.policies.reload()
    assert opened.logged[1:] == [good], "there is nothing new to tell"
    await opened.policies.reload(tell=True)
    assert opened.logged[1:] == [good, good], "who asks to be told is"


async def test_a_folder_that_vanishes_keeps_the_last_good(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    (tmp_path / "gateway.yaml").unlink()
    [problem] = (await opened.policies.reload()).problems
    assert "gateway init writes a first one" in problem.message
    assert opened.models == ["one"]


async def test_a_set_that_fails_its_own_tests_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    (tmp_path / "tests.yaml").write_text(
        "kind: tests\ntests: [{name: t, given: {team: all, model: two}, expect: {allowed: true}}]"
    )
    [problem] = (await opened.policies.reload()).problems
    assert 'test "t" fails: refused: model_not_found' in problem.message
    write(tmp_path, "two")
    assert not (await opened.policies.reload()).problems
    assert opened.models == ["two"]


async def test_files_may_be_tried_without_being_put_in_force(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    kept = opened.policies.snapshot
    assert await opened.policies.try_texts({"gateway.yaml": GOOD % "one"}) == kept.version
    assert len(await opened.policies.try_texts({"a.yaml": GOOD % "two"})) == 12
    with pytest.raises(BadPolicies, match=r"a\.yaml:1:7"):
        await opened.policies.try_texts({"a.yaml": "kind: nope"})
    assert opened.policies.snapshot is kept


async def test_files_that_are_tried_have_the_version_of_their_folder_in_whatever_order_they_come(
    tmp_path: Path,
) -> None:
    write(tmp_path, "one")
    tests = "kind: tests\ntests: [{name: t, given: {team: all, model: one}, expect: {allowed: true}}]"
    (tmp_path / "a.yaml").write_text(tests)
    opened = Opened(tmp_path)
    tried = await opened.policies.try_texts({"gateway.yaml": GOOD % "one", "a.yaml": tests})
    assert tried == opened.policies.snapshot.version


async def test_an_overtaken_look_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    late = opened.policies._next()
    reading = opened.policies._read(late)
    write(tmp_path, "two")
    await opened.policies.reload()
    opened.policies._adopt(reading)
    assert opened.models == ["two"]


def test_policies_load_once_without_a_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEHOUSE_TEST_MODEL", "three")
    (tmp_path / "a.yaml").write_text(GOOD % "one")
    (tmp_path / "b.yaml").write_text(
        'kind: models\nmodels: {other: {targets: [{provider: p, model: "${GATEHOUSE_TEST_MODEL}"}]}}'
    )
    assert load_policies(tmp_path, CompileOptions(tmp_path)).listed("all") == ["one", "other"]


@asynccontextmanager
async def watched(opened: Opened) -> AsyncIterator[Callable[[Callable[[], bool]], Awaitable[None]]]:
    """While the policies are watched; the value waits until something about it holds. A wait over 10 s is a failure."""
    seen = asyncio.Event()
    threads: list[int] = []

    def note(snapshot: Snapshot) -> None:
        threads.append(threading.get_ident())
        seen.set()

    opened.policies.changed.append(note)
    task = asyncio.get_running_loop().create_task(opened.policies.watch())

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not holds():
                seen.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(seen.wait(), 0.02)

    try:
        yield until
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert all(thread == threading.get_ident() for thread in threads)


async def test_an_edit_is_live_soon_after_it_was_written(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        write(tmp_path, "two")
        await until(lambda: opened.models == ["two"])
        (tmp_path / "more.yml").write_text("kind: models\nmodels: {three: {targets: [{provider: p}]}}")
        await until(lambda: opened.models == ["three", "two"])
        (tmp_path / "more.yml").unlink()
        await until(lambda: opened.models == ["two"])


async def test_a_file_that_is_written_in_pieces_is_taken_when_it_is_whole(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    taken: list[list[str]] = []
    opened.policies.changed.append(lambda snapshot: taken.append(snapshot.listed("all")))
    whole = GOOD % "two" + "---\nkind: models\nmodels: {three: {targets: [{provider: p}]}}\n"
    half = GOOD % "two"  # good policies too, but not what is meant
    async with watched(opened) as until:
        for _ in range(10):
            with (tmp_path / "gateway.yaml").open("w") as file:
                file.flush()
                await asyncio.sleep(0.01)
                file.write(half)
                file.flush()
                await asyncio.sleep(0.03)
                file.write(whole.removeprefix(half))
        await until(lambda: opened.models == ["three", "two"])
    assert taken == [["three", "two"]]


async def test_an_edit_by_renaming_a_new_file_over_the_old_is_seen(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        (tmp_path / ".gateway.yaml.swp").write_text(GOOD % "two")
        os.replace(tmp_path / ".gateway.yaml.swp", tmp_path / "gateway.yaml")
        await until(lambda: opened.models == ["two"])


async def test_the_symlink_swap_of_kubernetes_is_seen(tmp_path: Path) -> None:
    for version in ("one", "two"):
        (tmp_path / f"..{version}").mkdir()
        write(tmp_path / f"..{version}", version)
    (tmp_path / "..data").symlink_to("..one")
    (tmp_path / "gateway.yaml").symlink_to("..data/gateway.yaml")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        (tmp_path / "..data_tmp").symlink_to("..two")
        os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
        await until(lambda: opened.models == ["two"])


async def test_a_single_file_is_watched_through_its_folder(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path / "gateway.yaml")
    async with watched(opened) as until:
        write(tmp_path, "two")
        await until(lambda: opened.models == ["two"])


async def test_a_bad_edit_under_watch_is_logged_and_a_good_one_follows(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        (tmp_path / "gateway.yaml").write_text("kind: nope")
        await until(lambda: bool(opened.policies.status.problems))
        assert opened.models == ["one"]
        write(tmp_path, "two")
        await until(lambda: opened.models == ["two"])
    assert [level for level, _ in opened.logged] == ["error", "info"]


async def test_a_referenced_file_is_watched_and_read_again(tmp_path: Path) -> None:
    policies, secrets = tmp_path / "policies", tmp_path / "secrets"
    policies.mkdir()
    secrets.mkdir()
    (secrets / "model").write_text("one\n")
    text = GOOD.replace("provider: p}", f'provider: p, model: "${{file:{secrets}/model}}"}}')
    (policies / "a.yaml").write_text(text % "smart")
    opened = Opened(policies)
    before = opened.policies.snapshot.version

    def target() -> str:
        return opened.policies.snapshot.tables.exact["smart"].targets[0].model

    assert target() == "one"
    async with watched(opened) as until:
        (secrets / "model").write_text("two\n")
        await until(lambda: target() == "two")
        assert opened.policies.snapshot.version != before
        (secrets / "model").unlink()
        await until(lambda: bool(opened.policies.status.problems))
        assert "cannot be read" in opened.policies.status.problems[0].message
        (secrets / "model").write_text("three\n")
        await until(lambda: target() == "three")


async def test_a_folder_that_is_replaced_is_watched_again(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    write(folder, "one")
    opened = Opened(folder)
    async with watched(opened) as until:
        folder.rename(tmp_path / "old")
        await until(lambda: bool(opened.policies.status.problems))
        folder.mkdir()
        write(folder, "two")
        await until(lambda: opened.models == ["two"])
        write(folder, "three")
        await until(lambda: opened.models == ["three"])


async def test_a_file_whose_name_no_watch_can_read_stops_no_reload(tmp_path: Path) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        touch(tmp_path, b"notes-\xe9.txt")
        write(tmp_path, "two")
        await until(lambda: opened.models == ["two"])
        assert not opened.policies.status.problems


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("${file:~nosuchuser/k}", "in the home of nobody"),
        ("${file:" + "a" * 300 + "}", "cannot be read"),
        ("${file:a\\0b}", "no NUL character"),
        ("${file:pipe}", "not a plain file"),
    ],
)
async def test_a_reference_that_cannot_be_followed_is_refused_and_can_be_mended(
    tmp_path: Path, value: str, why: str
) -> None:
    write(tmp_path, "one")
    os.mkfifo(tmp_path / "pipe")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        bad = (GOOD % "two").replace("http://127.0.0.1:1/v1", value)
        (tmp_path / "gateway.yaml").write_text(bad)
        await until(lambda: bool(opened.policies.status.problems))
        assert why in opened.policies.status.problems[0].message
        write(tmp_path, "three")
        await until(lambda: opened.models == ["three"])


@pytest.mark.parametrize("broken", ["read_folder", "compile_papers"])
async def test_a_fault_of_ours_refuses_the_edit_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("the value sk-1")

    write(tmp_path, "one")
    opened = Opened(tmp_path)
    async with watched(opened) as until:
        with monkeypatch.context() as patched:
            patched.setattr(policies, broken, fail)
            write(tmp_path, "two")
            await until(lambda: bool(opened.policies.status.problems))
            assert "RuntimeError" in (await opened.policies.reload()).problems[0].message
            assert opened.models == ["one"]
        write(tmp_path, "three")
        await until(lambda: opened.models == ["three"])
    assert [level for level, _ in opened.logged] == ["error", "info"]
    assert "sk-1" not in str(opened.logged)
    assert opened.counted() == {"ok": 2, "refused": 1}


def after(opened: Opened, path: Path) -> Opened:
    """What another process that begins with this one's policies has."""
    told = orjson.loads(orjson.dumps(opened.policies.originals))
    return Opened(path, Originals(**told))


async def test_who_begins_with_the_policies_of_another_has_them_over_a_bad_folder(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-of-the-file\n")
    (tmp_path / "gateway.yaml").write_text((GOOD % "one").replace('/v1"}', '/v1", api_key: "${file:key}"}'))
    first = Opened(tmp_path)
    (tmp_path / "key").unlink()
    (tmp_path / "gateway.yaml").write_text("kind: nope")
    second = after(first, tmp_path)
    assert second.policies.snapshot.version == first.policies.snapshot.version
    assert second.policies.snapshot.tables.secrets == ["sk-of-the-file"]
    assert "sk-of-the-file" not in repr(first.policies.originals)
    async with watched(second) as until:
        await until(lambda: bool(second.policies.status.problems))
        assert second.models == ["one"]
        write(tmp_path, "two")
        await until(lambda: second.models == ["two"])


async def test_who_begins_with_what_the_folder_says_has_nothing_to_reload(tmp_path: Path) -> None:
    write(tmp_path, "one")
    second = after(Opened(tmp_path), tmp_path)
    async with watched(second) as until:
        write(tmp_path, "two")
        await until(lambda: second.models == ["two"])
    assert second.counted() == {"ok": 2}


def test_who_begins_with_the_policies_of_another_needs_no_folder(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "key").write_text("sk-of-the-file")
    (folder / "gateway.yaml").write_text((GOOD % "one").replace('/v1"}', '/v1", api_key: "${file:key}"}'))
    first = Opened(folder)
    shutil.rmtree(folder)
    assert after(first, folder).models == ["one"]


async def test_who_tries_or_reloads_much_keeps_no_call_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "one")
    opened = Opened(tmp_path)
    compile_texts, go = policies.compile_texts, threading.Event()

    def slowly(*asked: Any) -> Snapshot:
        assert go.wait(5), "the loop did not go on meanwhile"
        return compile_texts(*asked)

    monkeypatch.setattr(policies, "compile_texts", slowly)
    write(tmp_path, "two")
    trying = asyncio.ensure_future(opened.policies.try_texts({"a.yaml": GOOD % "three"}))
    loading = asyncio.ensure_future(opened.policies.reload())
    await asyncio.sleep(0)
    go.set()
    assert len(await trying) == 12
    await loading
    assert opened.models == ["two"]
