"""The workers of a gateway as its parent sees them: started, replaced, asked, and told what all must know."""

import asyncio
import signal
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gateway.app.control import Channel, Process, start
from gateway.app.plan import Plan
from gateway.config.policies import Policies
from gateway.core.failure import Overloaded
from gateway.core.meters import Meters
from gateway.core.readiness import Elsewhere, Readiness, Status
from gateway.core.tally import Counts, Gauge, merge
from gateway.telemetry.logs import Log

# Seconds before a restart, doubled while one keeps dying; a gateway that ends waits for it.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 4.0
POLL = 0.25  # seconds between looks at how the workers are
# A worker that leaves so many looks in turn unanswered hangs. Looks and not time: all of us may have slept meanwhile.
LOOKS, LOOK_SECONDS = 15, 2.0
START_SECONDS = 30.0  # until one must ask what to begin with; a second more for each that may start beside it


class Worker:
    """One child process and, once it has asked what to begin with, the channel to it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Process | None = None
        self.channel: Channel | None = None
        self.counted: Counts = {}  # what it last told
        self.state: Readiness = {"status": "starting", "policies": "", "degraded": []}
        self.missed = 0  # looks since it last answered


class Crew:
    """All workers."""

    def __init__(
        self, plan: Plan, listener: socket.socket, policies: Policies, meters: Meters, log: Log
    ) -> None:
        self._plan, self._listener, self._policies = plan, listener, policies
        self._meters, self._log = meters, log
        self.workers = [Worker(number) for number in range(1, plan.workers + 1)]
        self.draining = False
        self._gone: Counts = {}  # what workers that are gone had counted, as far as they told
        # Targets, by an operator's word: it outlives the workers it was said to.
        self._drained: set[str] = set()

    async def keep(self, worker: Worker) -> None:
        """Run one worker, and another in its place when it dies; returns when it ends while draining."""
        pause = FIRST_PAUSE
        while not self.draining:
            born = time.perf_counter()
            try:
                end = f"ended (exit code {await self._live(worker)})"
            except OSError as error:  # no memory or descriptor for it now: the others serve on
                end = f"could not be started ({error.strerror})"
            if time.perf_counter() - born > LONGEST_PAUSE:
                pause = FIRST_PAUSE
            if not self.draining:
                self._log("error", f"worker {worker.number} {end}; it is started again in {pause:g} s")
                await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    async def poll(self, degraded: Callable[[], list[str]]) -> None:
        """Keep the workers' own words on how they are, and tell each how the rest is: the others, and what is
        `degraded` here. Runs until cancelled."""
        while True:
            here = degraded()
            await asyncio.gather(*(self._ask_state(worker, here) for worker in self.workers))
            await asyncio.sleep(POLL)

    def ready(self) -> Readiness:
        states = [worker.state for worker in self.workers]
        degraded = sorted({name for state in states for name in state["degraded"]})
        return {
            "status": self._status(states),
            "policies": self._policies.snapshot.version,
            "degraded": degraded,
        }

    async def ask_all(self, what: str, **more: Any) -> list[Any]:
        """The answers of those that answer in time."""
        came = await self._asked(what, **more)
        return [answer for answer in came.values() if not isinstance(answer, BaseException)]

    async def counts(self) -> list[Counts]:
        """What all count, and have counted: a counter never falls, neither when a worker dies nor when one is too
        busy to answer."""
        channels = {worker: worker.channel for worker in self.workers}
        for worker, told in (await self._asked("counts")).items():
            if not isinstance(told, BaseException) and worker.channel is channels[worker]:
                worker.counted = told
        return [self._gone, *(worker.counted for worker in self.workers)]

    async def take_keys(self) -> None:
        """Have the workers know of keys that were issued or revoked here; one that does not answer looks itself."""
        await self._asked("keys")

    async def reload(self) -> None:
        """Have all of us look at the policies now, as each does by itself sooner or later."""
        await asyncio.gather(self._policies.reload(tell=True), self._asked("reload"))

    async def drain(self, target: str, on: bool) -> None:
        """Raises Overloaded where a worker does not say in time that it knows."""
        (self._drained.add if on else self._drained.discard)(target)
        came = await self._asked("drain", target=target, on=on)
        # One that is gone meanwhile is no failure: the next in its place begins with the set as it is now.
        late = [str(worker.number) for worker, told in came.items() if isinstance(told, TimeoutError)]
        if late:
            raise Overloaded(
                f"worker {', '.join(late)} did not answer, and may not know yet; see /admin/v1/targets, or ask again",
                code="worker_unresponsive",
            )

    def terminate(self) -> None:
        self.draining = True
        for worker in self.workers:
            _signal(worker.process, signal.SIGTERM)

    async def _live(self, worker: Worker) -> int:
        listen = self._listener.fileno()
        facts = {
            "config": str(self._plan.config),
            "workers": self._plan.workers,
            "worker": worker.number,
            "listen": listen,
        }
        process, streams = await start("gateway.app.worker", facts, listen)
        worker.process = process
        if self.draining:  # since it was asked for
            _signal(process, signal.SIGTERM)

        bound = START_SECONDS + self._plan.workers
        late = asyncio.get_running_loop().call_later(bound, self._end_hung, worker, process)

        async def begin(message: dict[str, Any]) -> dict[str, Any]:
            late.cancel()
            worker.channel, worker.missed = channel, 0  # what changes from now on is told to it, too
            return {"originals": self._policies.originals, "drained": sorted(self._drained)}

        channel = Channel(streams, begin)
        await channel.run()
        late.cancel()
        channel.close()
        worker.channel = None
        self._bury(worker)
        worker.state = {**worker.state, "status": "starting", "degraded": []}
        return await process.ended()

    def _bury(self, worker: Worker) -> None:
        """Its gauges die with it, what it counted stays."""
        metrics = [metric for metric in self._meters.all() if not isinstance(metric, Gauge)]
        last = {metric.name: worker.counted.get(metric.name, []) for metric in metrics}
        both = merge(metrics, [self._gone, last])
        self._gone = {name: list(rows.items()) for name, rows in both.items()}
        worker.counted = {}

    async def _asked(self, what: str, **more: Any) -> dict[Worker, Any]:
        """What each that has begun answers: an exception where it does not."""
        channels = {worker: worker.channel for worker in self.workers if worker.channel is not None}
        asked = [channel.ask(what, **more) for channel in channels.values()]
        return dict(zip(channels, await asyncio.gather(*asked, return_exceptions=True), strict=True))

    async def _ask_state(self, worker: Worker, degraded: list[str]) -> None:
        channel = worker.channel
        if channel is None:
            return
        others = self._status([other.state for other in self.workers if other is not worker])
        elsewhere: Elsewhere = {"status": others, "degraded": degraded}
        with suppress(ConnectionError):
            try:
                state = await channel.ask("ready", LOOK_SECONDS, elsewhere=elsewhere)
            except TimeoutError:
                if worker.channel is channel:
                    self._miss(worker)
                return
            if worker.channel is channel:
                worker.state, worker.missed = state, 0

    def _miss(self, worker: Worker) -> None:
        worker.missed += 1
        if worker.missed == LOOKS:
            self._end_hung(worker, worker.process)

    def _end_hung(self, worker: Worker, process: Process | None) -> None:
        self._log("error", f"worker {worker.number} hangs: it is killed")
        _signal(process, signal.SIGKILL)

    def _status(self, states: list[Readiness]) -> Status:
        if self.draining:
            return "draining"
        return "ready" if all(state["status"] == "ready" for state in states) else "starting"


def _signal(process: Process | None, number: signal.Signals) -> None:
    if process is not None:
        process.send_signal(number)
