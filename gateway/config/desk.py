"""Where the current Snapshot lies. A reload checks the new papers whole, then replaces it in one assignment."""

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from watchfiles import awatch

from gateway.config.compile import Ground, compile_papers
from gateway.config.load import Papers, load, read_folder
from gateway.config.problem import BadPolicies, Problem
from gateway.config.snapshot import Snapshot
from gateway.config.trial import run_tests
from gateway.core.meters import Meters

SLOW_POLL = 30.0  # seconds: some file systems send no notices
DEBOUNCE_MS, STEP_MS = 200, 50

Log = Callable[[str, str], None]  # level, message


@dataclass(slots=True)
class Status:
    """How the papers stand; times are seconds since the epoch."""

    version: str
    loaded_at: float
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)  # of the last reload, empty when it was good


def load_policies(
    path: Path,
    ground: Ground,
    environ: Mapping[str, str] = os.environ,
    texts: Mapping[str, str] | None = None,
) -> tuple[Snapshot, Papers]:
    """Read, check, compile, and run the in-file tests. Raises BadPolicies."""
    folder = path if path.is_dir() else path.parent
    papers = load(read_folder(path) if texts is None else texts, folder, environ)
    snapshot = compile_papers(papers, ground)
    everything_on = compile_papers(papers, ground._replace(everything_on=True))
    if failed := run_tests(papers, everything_on):
        raise BadPolicies(failed)
    return snapshot, papers


class Desk:
    """Read `snapshot` once per call: a reload never splits one."""

    def __init__(
        self, path: Path, ground: Ground, meters: Meters, wall_clock: Callable[[], float], log: Log
    ) -> None:
        """Loads at once. Raises BadPolicies."""
        self.path, self._ground, self._meters = path, ground, meters
        self._now, self._log = wall_clock, log
        self.changed: list[Callable[[Snapshot], None]] = []  # told after each swap
        self.snapshot, self._papers = load_policies(path, ground)
        self.status = Status(self.snapshot.version, wall_clock(), list(self.snapshot.tables.warnings))
        self._count("ok")

    def reload(self) -> Status:
        """Take the folder as it is now if it is good, else keep what we have and say what is wrong."""
        try:
            snapshot, papers = load_policies(self.path, self._ground)
        except BadPolicies as bad:
            if bad.problems != self.status.problems:
                self.status.problems = bad.problems
                self._count("refused")
                told = "; ".join(map(str, bad.problems[:5]))
                self._log("error", f"policies not taken, {self.snapshot.version} stays in force: {told}")
            return self.status
        self.status.problems = []
        self._papers = papers
        if snapshot.version != self.snapshot.version:
            self.snapshot = snapshot
            self.status = Status(snapshot.version, self._now(), list(snapshot.tables.warnings))
            self._count("ok")
            self._log("info", f"policies {snapshot.version} are in force")
            for told_of in self.changed:
                told_of(snapshot)
        return self.status

    async def watch(self) -> None:
        """Reload when the folder or a referenced file changes; runs until cancelled.

        The folder is watched, never the file: Kubernetes swaps a symbolic link inside it, and a watch on
        the file sees nothing of that.
        """
        while True:
            folders = {self.path if self.path.is_dir() else self.path.parent}
            folders |= {file.parent for file in self._papers.files if file.parent.exists()}
            changes = awatch(
                *folders,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                recursive=False,
                rust_timeout=int(SLOW_POLL * 1000),
                yield_on_timeout=True,
            )
            async for _ in changes:
                before = self._papers.files
                await asyncio.to_thread(self.reload)
                if self._papers.files != before:
                    break  # other files are to be watched now

    def describe(self) -> dict[str, Any]:
        """For operators."""
        return {
            "version": self.status.version,
            "loaded_at": self.status.loaded_at,
            "warnings": self.status.warnings,
            "problems": [str(problem) for problem in self.status.problems],
        }

    def _count(self, result: str) -> None:
        self._meters.policy_reloads.add((result,))
        if result == "ok":
            self._meters.policy_loaded.set(self.status.loaded_at)
            self._meters.policy_info.values = {(self.snapshot.version,): 1.0}
