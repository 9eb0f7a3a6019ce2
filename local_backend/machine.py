"""What this machine leaves us: memory and cores, within the limits of containers (cgroups, either version). Linux
tells it in files; elsewhere half of the memory and all cores are assumed. Torch-free."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
CPUS = Path("/sys/devices/system/cpu")


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Bytes that can be taken without swapping, or being killed for it."""
    return min([_free(proc), *_rooms(proc, cgroups)])


def cores(proc: Path = PROC, cgroups: Path = CGROUPS, cpus: Path = CPUS) -> int:
    """Cores that we may keep busy: two threads of one core count once, and a quota in whole cores, 1 at least."""
    ours = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    physical = {_text(cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list") or str(cpu) for cpu in ours}
    return max(1, min([len(physical), *(int(quota) for quota in _quotas(proc, cgroups))]))


def _free(proc: Path) -> int:
    for line in _text(proc / "meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _rooms(proc: Path, cgroups: Path) -> Iterator[int]:
    """What each limit above us leaves. Pages of files that nobody uses are given up when there is need."""
    for group in _groups(proc, cgroups, ""):
        yield from _room(group, "memory.max", "memory.current", "inactive_file")
    for group in _groups(proc, cgroups / "memory", "memory"):
        yield from _room(group, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def _room(group: Path, limit: str, usage: str, inactive: str) -> Iterator[int]:
    most, used = _text(group / limit), _text(group / usage)
    if most.isdigit() and used.isdigit():
        stat = dict(line.split() for line in _text(group / "memory.stat").splitlines())
        yield max(0, int(most) - int(used) + int(stat.get(inactive, 0)))


def _quotas(proc: Path, cgroups: Path) -> Iterator[float]:
    """Cores' worth of time that each limit above us allows."""
    for group in _groups(proc, cgroups, ""):
        quota, _, period = _text(group / "cpu.max").partition(" ")
        if quota.isdigit():
            yield int(quota) / int(period)
    for group in _groups(proc, cgroups / "cpu", "cpu"):
        quota, period = _text(group / "cpu.cfs_quota_us"), _text(group / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit():
            yield int(quota) / int(period)


def _groups(proc: Path, mount: Path, controller: str) -> Iterator[Path]:
    """Our group and all above it, the mount itself always: inside a container that is our own. `controller` is
    empty for version 2."""
    lines = [line.split(":", 2) for line in _text(proc / "self" / "cgroup").splitlines()]
    path = next((path for _, kinds, path in lines if controller in kinds.split(",")), "/")
    yield mount
    for part in Path(path).parts[1:]:
        mount = mount / part
        yield mount


def _text(path: Path) -> str:
    """Empty where there is none."""
    with suppress(OSError):
        return path.read_text().strip()
    return ""
