"""What limits say is read from files as the kernel writes them; here they are written by us."""

import os
from pathlib import Path

import pytest

from local_backend.machine import available_memory, cores

GIB = 1 << 30


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    folder = tmp_path / "proc"
    write(folder / "meminfo", f"MemTotal: {32 << 20} kB\nMemAvailable: {8 << 20} kB\n")
    write(folder / "self" / "cgroup", "0::/\n")
    return folder


@pytest.fixture
def groups(tmp_path: Path) -> Path:
    return tmp_path / "cgroup"


def write(path: Path, text: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(text))


def test_without_limits_it_is_what_the_kernel_calls_available(proc: Path, groups: Path) -> None:
    write(groups / "memory.max", "max\n")
    write(groups / "memory.current", 5 * GIB)
    assert available_memory(proc, groups) == 8 * GIB


def test_a_limit_counts_less_what_is_used_but_for_pages_nobody_uses(proc: Path, groups: Path) -> None:
    write(groups / "memory.max", 4 * GIB)
    write(groups / "memory.current", 3 * GIB)
    write(groups / "memory.stat", f"anon {2 * GIB}\ninactive_file {GIB}\n")
    assert available_memory(proc, groups) == 2 * GIB


def test_the_tightest_limit_above_us_counts(proc: Path, groups: Path) -> None:
    write(proc / "self" / "cgroup", "0::/system.slice/engine.service\n")
    for name, limit in [("system.slice", 2 * GIB), ("system.slice/engine.service", 6 * GIB)]:
        write(groups / name / "memory.max", limit)
        write(groups / name / "memory.current", GIB)
    assert available_memory(proc, groups) == GIB


def test_the_first_version_of_cgroups_is_read_too(proc: Path, groups: Path) -> None:
    write(proc / "self" / "cgroup", "9:name=systemd:/\n4:memory:/box\n1:cpu,cpuacct:/box\n0::/\n")
    write(groups / "memory" / "box" / "memory.limit_in_bytes", 3 * GIB)
    write(groups / "memory" / "box" / "memory.usage_in_bytes", 2 * GIB)
    write(groups / "memory" / "box" / "memory.stat", f"total_inactive_file {GIB // 2}\n")
    assert available_memory(proc, groups) == GIB + GIB // 2


def test_where_nobody_tells_it_is_half_of_the_memory(tmp_path: Path) -> None:
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert available_memory(tmp_path, tmp_path) == whole // 2


def test_threads_of_one_core_count_once(proc: Path, groups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    cpus = groups.parent / "cpus"
    for cpu in range(4):
        write(cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list", f"{cpu // 2 * 2}-{cpu // 2 * 2 + 1}")
    assert cores(proc, groups, cpus) == 2
    assert cores(proc, groups, groups / "none") == 4


@pytest.mark.parametrize(("quota", "whole"), [("max 100000", 4), ("250000 100000", 2), ("50000 100000", 1)])
def test_a_quota_of_time_bounds_the_cores(
    proc: Path, groups: Path, monkeypatch: pytest.MonkeyPatch, quota: str, whole: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    write(groups / "cpu.max", quota)
    assert cores(proc, groups, groups / "none") == whole


def test_a_quota_of_the_first_version_bounds_them_too(
    proc: Path, groups: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    write(groups / "cpu" / "cpu.cfs_quota_us", 300000)
    write(groups / "cpu" / "cpu.cfs_period_us", 100000)
    assert cores(proc, groups, groups / "none") == 3
    write(groups / "cpu" / "cpu.cfs_quota_us", -1)
    assert cores(proc, groups, groups / "none") == 8
