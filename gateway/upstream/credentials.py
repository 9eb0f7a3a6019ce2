"""Keeps the credentials that expire: renewed ahead of time, off the hot path, once however many calls want one.

A call finds a current credential by a look-up, with no await. Only one that comes before the first renewal is
done, or after all renewals since have failed, waits; and all that do wait for the same one.
"""

import asyncio
import os
import shlex
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.core.address import WireRequest
from gateway.core.credential import Command, Credential, Source, Step, StepResult, Unobtainable, WriteFile
from gateway.core.failure import Overloaded
from gateway.core.log import Log
from gateway.core.meters import Meters
from gateway.upstream.client import Timing, Upstream
from gateway.upstream.failures import NoCredential, UpstreamError

Clock = Callable[[], float]

SPENT = 0.8  # the share of a credential's time after which it is renewed
FRESH = 10.0  # seconds in which a credential that is refused is not renewed again: it is not its age
SOONEST = 1.0  # seconds between renewals, whatever time a credential is said to have
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds before the next try, doubled while tries fail
RUNS = 60  # seconds that a program may take
LARGEST = 1 << 20  # bytes of a token endpoint's answer
_TIMING = Timing(connect=2.0, first_byte=10.0, idle=10.0)


@dataclass(slots=True)
class _Kept:
    """One source's credential; `expires` and `renews` are in the loop's time, `renewal` is under way."""

    value: Any = None
    expires: float = 0.0
    renews: float = 0.0
    pause: float = 0.0  # after the last failure, 0 if there was none
    renewal: "asyncio.Task[None] | None" = None
    why: str = ""
    number: int = 0  # of renewals so far
    since: float = 0.0  # when the last one was


class Credentials:
    """Made inside a running loop. `run` renews what `keep` names; without it every expiry costs a call a wait."""

    def __init__(
        self, upstream: Upstream, environ: Mapping[str, str], wall_clock: Clock, meters: Meters, log: Log
    ) -> None:
        self._upstream, self._environ, self._now = upstream, environ, wall_clock
        self._meters, self._log = meters, log
        self._loop = asyncio.get_running_loop()
        self._kept: dict[Source, _Kept] = {}
        self._changed = asyncio.Event()

    def keep(self, sources: Iterable[Source]) -> None:
        """From now on exactly these are kept current; a source that stays keeps its credential."""
        wanted = dict.fromkeys(sources)
        for gone in self._kept.keys() - wanted.keys():
            kept = self._kept.pop(gone)
            if kept.renewal is not None:
                kept.renewal.cancel()
        for source in wanted:
            self._kept.setdefault(source, _Kept())
        self._changed.set()

    def current(self, source: Source, wire: WireRequest) -> WireRequest | None:
        """The request with its credential shown; None where there is none to show, and one must `wait`."""
        kept = self._kept.get(source)
        if kept is None or kept.expires <= self._loop.time():
            return None
        return replace(wire, head=wire.head + source.authorize(kept.value, wire, self._now()))

    async def wait(self, source: Source, wire: WireRequest) -> WireRequest:
        """The same, once the renewal that is under way (or begins now) is done. Raises NoCredential, at once
        while the pause after a failed one lasts."""
        kept = self._kept.setdefault(source, _Kept())
        if not kept.why or kept.renews <= self._loop.time():
            await asyncio.wait([self._renewal(source, kept)])
        ready = self.current(source, wire)
        if ready is None:
            raise NoCredential(source.name, kept.why or "the policies changed meanwhile; try again")
        return ready

    def number(self, source: Source) -> int:
        """Which renewal what `current` shows came of."""
        kept = self._kept.get(source)
        return kept.number if kept is not None else 0

    async def renew(self, source: Source, number: int) -> bool:
        """A provider has refused what the renewal of this number gave: have another, once however many calls were
        refused. False where there is none to be had now."""
        kept = self._kept.get(source)
        if kept is None:
            return False
        if kept.number == number and self._loop.time() - kept.since >= FRESH:
            await asyncio.wait([self._renewal(source, kept)])
        return kept.number != number and kept.expires > self._loop.time()

    async def run(self) -> None:
        """Renew ahead of time until cancelled."""
        while True:
            self._changed.clear()
            now = self._loop.time()
            for source, kept in self._kept.items():
                if kept.renews <= now:
                    self._renewal(source, kept)
            resting = [kept.renews for kept in self._kept.values() if kept.renewal is None]
            try:
                async with asyncio.timeout_at(min(resting, default=None)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def aclose(self) -> None:
        """End the renewals under way."""
        renewals = [kept.renewal for kept in self._kept.values() if kept.renewal is not None]
        for renewal in renewals:
            renewal.cancel()
        await asyncio.gather(*renewals, return_exceptions=True)

    def _renewal(self, source: Source, kept: _Kept) -> "asyncio.Task[None]":
        """The one renewal of this source; a call that gives up waiting does not end it."""
        if kept.renewal is None:
            kept.renewal = self._loop.create_task(self._renew(source, kept))
        return kept.renewal

    async def _renew(self, source: Source, kept: _Kept) -> None:
        """Never raises but for cancellation: what went wrong is kept to be told, and tried again."""
        try:
            value, seconds = await self._obtain(source)
        except Exception as error:  # a task's border: an unforeseen answer must not end the renewals
            kept.why = str(error) if isinstance(error, Unobtainable) else f"unforeseen: {error!r}"
            kept.pause = min(kept.pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)
            kept.renews = self._loop.time() + kept.pause
            self._meters.credentials.add(("failed",))
            self._log("error", f"no credential of {source.name}: {kept.why}; next try in {kept.pause:g} s")
        else:
            now, lasts = self._loop.time(), float("inf") if seconds is None else seconds
            kept.value, kept.expires = value, now + lasts
            kept.renews = now + max(lasts * SPENT, SOONEST)
            kept.pause, kept.why = 0.0, ""
            kept.number, kept.since = kept.number + 1, now
            self._meters.credentials.add(("ok",))
        finally:
            kept.renewal = None
            self._changed.set()

    async def _obtain(self, source: Source) -> Credential:
        """Walk the source's steps. Raises Unobtainable."""
        steps = source.obtain(self._now(), self._environ)
        result: Any = None  # what starts a generator
        while True:
            try:
                step = steps.send(result)
            except StopIteration as end:
                credential: Credential = end.value
                return credential
            result = await self._take(step)

    async def _take(self, step: Step) -> StepResult:
        if isinstance(step, WireRequest):
            return await self._ask(step)
        if isinstance(step, Command):
            return await _run(step)
        if isinstance(step, WriteFile):
            return await asyncio.to_thread(_write_file, step)
        return await asyncio.to_thread(_read_file, step)

    async def _ask(self, wire: WireRequest) -> StepResult:
        assert isinstance(wire.body, bytes)
        try:
            answer = await self._upstream.send(wire.origin, wire.head, wire.body, _TIMING, whole=True)
            try:
                return StepResult(answer.status, await answer.body(LARGEST))
            finally:
                answer.close()
        except UpstreamError as error:
            return StepResult(0, error.told.encode())
        except Overloaded as error:
            return StepResult(0, str(error).encode())


async def _run(command: Command) -> StepResult:
    """What a program writes; of what it says beside that nothing, for it may be a secret."""
    try:
        words = shlex.split(command.line)
        process = await asyncio.create_subprocess_exec(*words, stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL)
    except (OSError, ValueError, TypeError) as error:
        return StepResult(0, f"it cannot be run ({error})".encode())
    try:
        async with asyncio.timeout(RUNS):
            said, _ = await process.communicate()
    except TimeoutError:
        return StepResult(0, b"it has not ended within %d s" % RUNS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    ended = process.returncode
    return StepResult(200, said) if ended == 0 else StepResult(0, f"it ended with {ended}".encode())


def _read_file(path: Path) -> StepResult:
    try:
        return StepResult(200, path.read_bytes())
    except OSError as error:
        return StepResult(404, str(error.strerror).encode())


def _write_file(file: WriteFile) -> StepResult:
    """In one step: who reads it meanwhile finds the one before or the new one."""
    try:
        file.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.path.parent, suffix=".tmp", delete=False) as made:
            made.write(file.content)
        os.replace(made.name, file.path)
    except OSError as error:
        return StepResult(0, str(error.strerror).encode())
    return StepResult(200, b"")
