"""The policies in force. A reload checks the new papers whole, then swaps the snapshot in one assignment."""

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from watchfiles import awatch

from gateway.config.compile import compile_papers
from gateway.config.compiler import CompileOptions
from gateway.config.dry_run import run_tests
from gateway.config.load import fingerprint, load, read_folder, signature
from gateway.config.problem import BadPolicies, Place, Problem
from gateway.config.schema import TestsPaper
from gateway.config.snapshot import Snapshot
from gateway.config.variables import Variables, bytes_if_any
from gateway.core.log import Log
from gateway.core.meters import Meters

POLL = 0.5  # seconds without a notice after which we may look ourselves
# The first time, for none is sent of what changes while the watch is set up, and then each so many times, for some file
# systems send none at all: a look is 0.4 ms of a thread, which calls of that moment wait for.
RARELY = 4
DEBOUNCE_MS, STEP_MS = 200, 50  # a reload waits for this long a silence at most
STEADY, MOST_LOOKS = 0.1, 20  # seconds for which files must rest; looks until they are taken as they are
TOLD = 5  # problems that one log line lists


@dataclass(slots=True)
class Status:
    """How the papers stand; times are seconds since the epoch."""

    version: str
    loaded_at: float
    warnings: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)  # of the last reload, empty when it was good


@dataclass(slots=True, frozen=True)
class Originals:
    """What a snapshot was made of, in words that another process can be told: secrets are among them."""

    folder: str  # where relative paths of ${file:} begin
    texts: Mapping[str, str] = field(repr=False)
    files: Mapping[str, str] = field(repr=False)  # referenced by ${file:}, with what they held


class Reading(NamedTuple):
    """One look at the folder. `seen` tells contents apart, good or bad."""

    turn: int
    snapshot: Snapshot | None
    problems: list[Problem]
    files: frozenset[Path]  # referenced by ${file:}
    seen: str
    originals: Originals | None = None  # of the snapshot


def load_policies(path: Path, options: CompileOptions, variables: Variables | None = None) -> Snapshot:
    """Read, check, compile, and run the in-file tests. Raises BadPolicies."""
    if variables is None:
        variables = Variables(os.environ, _folder(path))
    return compile_texts(read_folder(path), options, variables)


def compile_texts(texts: Mapping[str, str], options: CompileOptions, variables: Variables) -> Snapshot:
    """The same for files given by name and text. Raises BadPolicies."""
    papers = load(texts, variables)
    snapshot = compile_papers(papers, options)
    if any(isinstance(document.spec, TestsPaper) for document in papers.documents):
        everything_on = compile_papers(papers, CompileOptions(options.data_dir, everything_on=True))
        if failed := run_tests(papers, everything_on):
            raise BadPolicies(failed)
    return snapshot


class Policies:
    """Read `snapshot` once per call: a reload never splits one."""

    def __init__(
        self,
        path: Path,
        options: CompileOptions,
        meters: Meters,
        wall_clock: Callable[[], float],
        log: Log,
        originals: Originals | None = None,
    ) -> None:
        """Loads at once: the folder, or what another process has in force (`watch` then sees whether the folder
        says otherwise). Raises BadPolicies."""
        self.path, self._options, self._meters = path, options, meters
        self._now, self._log = wall_clock, log
        self.changed: list[Callable[[Snapshot], None]] = []  # told after each swap, on the caller's thread
        self._turn = self._adopted = 0
        reading = self._read(self._next()) if originals is None else self._given(originals)
        if reading.snapshot is None:
            raise BadPolicies(reading.problems)
        self._files, self._seen = reading.files, reading.seen
        self._take(reading.snapshot, reading.originals)
        meters.policy_refused.source = lambda: [((), float(bool(self.status.problems)))]

    @property
    def originals(self) -> Originals:
        """For a process that begins with the policies in force here, whatever has become of the folder."""
        assert self._originals is not None
        return self._originals

    async def reload(self, *, tell: bool = False) -> Status:
        """Take the folder as it is now if it is good, else keep what we have and say what is wrong; `tell`: in the log,
        also where that has been told."""
        self._adopt(await asyncio.to_thread(self._read, self._next()), tell=tell)
        return self.status

    async def try_texts(self, texts: Mapping[str, str]) -> str:
        """The version these files would have; nothing is put in force. Raises BadPolicies."""
        options = self._options._replace(on_condition_error=lambda rule: None)
        variables = Variables(os.environ, _folder(self.path))
        by_name = dict(sorted(texts.items()))  # as a folder is read: order decides on versions and defaults
        return (await asyncio.to_thread(compile_texts, by_name, options, variables)).version

    async def watch(self) -> None:
        """Reload when the folder or a referenced file changes; runs until cancelled.

        The folder is watched, never the file: Kubernetes swaps a symbolic link inside it, and a watch on
        the file sees nothing of that.
        """
        told = ""
        while True:
            try:
                if told:  # what was edited while nothing was watched
                    await self._look()
                await self._follow()
            # Names that no watch can read, no watch left: whatever it is, we look ourselves.
            except Exception as error:
                why = f"{type(error).__name__}: {error}"
                if why != told:
                    self._log(
                        "error", f"policies are looked at each {POLL:g} s, as watching them fails: {why}"
                    )
                told = why
                await asyncio.sleep(POLL)

    async def _follow(self) -> None:
        """Until other folders are to be watched."""
        watched = self._watched()
        if not watched:
            await asyncio.sleep(POLL)
            return
        notices = awatch(
            *watched,
            watch_filter=None,
            debounce=DEBOUNCE_MS,
            step=STEP_MS,
            recursive=False,
            rust_timeout=int(POLL * 1000),
            yield_on_timeout=True,
        )
        async with aclosing(notices):
            quiet = 0
            async for changes in notices:
                quiet = 0 if changes else quiet + 1
                if changes or quiet % RARELY == 1:
                    await self._look()
                if self._watched() != watched:
                    return

    def describe(self) -> dict[str, Any]:
        """For operators."""
        return {
            "version": self.status.version,
            "loaded_at": self.status.loaded_at,
            "warnings": self.status.warnings,
            "problems": [str(problem) for problem in self.status.problems],
        }

    async def _look(self) -> None:
        """Reading and compiling go to a thread, the swap stays here: calls never wait for either.

        Only files that have rested for a moment are taken: who writes one in place empties it first, and
        half a file may well be good policies.
        """
        turn = self._next()
        if await asyncio.to_thread(self._fingerprint) == self._seen:
            return
        before = self._signature()
        for _ in range(MOST_LOOKS):
            await asyncio.sleep(STEADY)
            reading = await asyncio.to_thread(self._read, turn)
            if (after := self._signature()) == before:
                break
            before = after
        self._adopt(reading)

    def _next(self) -> int:
        self._turn += 1
        return self._turn

    def _watched(self) -> dict[Path, int]:
        """Folders with their inodes: one that was replaced must be watched anew."""
        folders = {_folder(self.path)} | {file.parent for file in self._files}
        return {folder: folder.stat().st_ino for folder in folders if os.path.isdir(folder)}

    def _signature(self) -> list[object]:
        try:
            return [signature(self.path), *map(signature, sorted(filter(os.path.isfile, self._files)))]
        except BadPolicies as bad:
            return [str(bad)]

    def _fingerprint(self) -> str:
        return self._seen_with({file: bytes_if_any(file) for file in self._files})

    def _seen_with(self, files: Mapping[Path, bytes | None]) -> str:
        """Tells apart what the folder and these files hold, or why that cannot be read."""
        try:
            return fingerprint(read_folder(self.path), files)
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    def _read(self, turn: int) -> Reading:
        folder = _folder(self.path)
        variables = Variables(os.environ, folder)
        try:
            texts = read_folder(self.path)
            snapshot = compile_texts(texts, self._options, variables)
            files = {str(path): (raw or b"").decode() for path, raw in variables.files.items()}
            originals = Originals(str(folder), texts, files)
            return Reading(turn, snapshot, [], frozenset(variables.files), snapshot.version, originals)
        except BadPolicies as bad:
            problems = bad.problems
        except Exception as error:  # a fault of ours, and still no edit may end the watch
            why = f"cannot be used for a fault of the gateway ({type(error).__name__})"
            problems = [Problem(Place(str(self.path), 1, 1), "", f"{why}; take the last edit back")]
        return Reading(turn, None, problems, frozenset(variables.files), self._seen_with(variables.files))

    def _given(self, originals: Originals) -> Reading:
        """Raises BadPolicies."""
        files = {Path(name): text.encode() for name, text in originals.files.items()}
        variables = Variables(os.environ, Path(originals.folder), files)
        snapshot = compile_texts(originals.texts, self._options, variables)
        return Reading(self._next(), snapshot, [], frozenset(variables.files), snapshot.version, originals)

    def _adopt(self, reading: Reading, *, tell: bool = False) -> None:
        if reading.turn < self._adopted:
            return  # a later look was quicker
        self._adopted = reading.turn
        self._files, known, self._seen = reading.files, self._seen, reading.seen
        if reading.snapshot is None:
            self.status.problems = reading.problems
            if reading.seen != known:
                self._meters.policy_reloads.add(("refused",))
            if reading.seen != known or tell:
                told = "; ".join(map(str, reading.problems[:TOLD]))
                self._log("error", f"policies not taken, {self.snapshot.version} stays in force: {told}")
        elif reading.snapshot.version == self.snapshot.version:
            if self.status.problems or tell:
                self._log("info", f"policies {self.snapshot.version} are in force")
            self.status.problems = []
        else:
            self._take(reading.snapshot, reading.originals)
            self._log("info", f"policies {self.snapshot.version} are in force")
            for told_of in self.changed:
                told_of(self.snapshot)

    def _take(self, snapshot: Snapshot, originals: Originals | None) -> None:
        self.snapshot, self._originals = snapshot, originals
        self.status = Status(snapshot.version, self._now(), list(snapshot.tables.warnings))
        self._meters.policy_reloads.add(("ok",))
        self._meters.policy_loaded.set(self.status.loaded_at)
        self._meters.policy_info.values = {(snapshot.version,): 1.0}


def _folder(path: Path) -> Path:
    return path if os.path.isdir(path) else path.parent  # raises for nothing
