"""How figures are taken: by which clocks, within what time, and in turn where subjects are compared, so that what else
the machine does meets them all."""

import gc
import json
import math
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch

from loadtests.engine.sizes import Sizes

RESULTS = Path(__file__).parent.parent / "results"
Figures = dict[str, Any]  # plain JSON, but for goals
Act = Callable[[], object]
_AGAIN = 2.0  # seconds


class OutOfTime(Exception):
    """The time of a part, or of the whole, is over."""


class Absent(Exception):
    """What a figure needs is not here; the message says what."""


class Laps(NamedTuple):
    """Seconds of steps in a row: of all together, and of each by the wall clock and by the device's events, of which a
    processor has none. What waits for its own results is told by the first, what does not by the second."""

    seconds: float
    wall: list[float]
    device: list[float]


@dataclass(slots=True)
class Bench:
    """One call of the benchmark. `threads` are the most that a subject may use of a processor; `ends`, by
    `perf_counter`, is when all is to be over, and `part_ends` when the part at work is; `known` is what parts leave to
    later ones."""

    device: torch.device
    sizes: Sizes
    rounds: int
    threads: int
    tell: Callable[[str], None]
    ends: float
    known: Figures = field(default_factory=dict)
    part_ends: float = math.inf

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.sizes.dtype)
        return found

    @property
    def left(self) -> float:
        """Seconds, of the part at work and of all."""
        return min(self.ends, self.part_ends) - time.perf_counter()

    @contextmanager
    def at_most(self, seconds: float) -> Iterator[None]:
        """Raises OutOfTime inside after so many seconds, or when all is to be over; in the main thread alone. Again and
        again, for some libraries log whatever is raised in them and go on."""

        def ring(number: int, frame: FrameType | None) -> None:
            raise OutOfTime("time")

        self.part_ends = time.perf_counter() + seconds
        before = signal.signal(signal.SIGALRM, ring)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self.left), _AGAIN)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            self.part_ends = math.inf
            signal.signal(signal.SIGALRM, before)

    def seconds(self, act: Act) -> float:
        """Of wall time, until the device has done it."""
        self.wait()
        began = time.perf_counter()
        act()
        self.wait()
        return time.perf_counter() - began

    def laps(self, act: Act, times: int) -> Laps:
        """Without waiting for the device in between: an act that does not wait by itself is timed by the device."""
        self.wait()
        walls, events = [time.perf_counter()], [self._event()]
        for _ in range(times):
            act()
            walls.append(time.perf_counter())
            events.append(self._event())
        self.wait()
        seconds = time.perf_counter() - walls[0]
        device = [
            before.elapsed_time(after) / 1e3
            for before, after in pairwise(events)
            if before is not None and after is not None
        ]
        wall = [after - before for before, after in pairwise(walls)]
        return Laps(seconds, wall, device)

    def captured(self, act: Act) -> Act:
        """The same as a CUDA graph, so that nothing but the device's work is timed."""
        stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(stream):
            for _ in range(3):
                act()
        torch.cuda.current_stream(self.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            act()
        return graph.replay

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def free(self) -> None:
        """Give memory back that nobody holds any more."""
        gc.collect()
        if self.on_gpu:
            torch.cuda.empty_cache()

    def in_turn(self, subjects: Mapping[str, Callable[[], float]]) -> dict[str, list[float]]:
        """One figure of each subject per round, after a first that is thrown away."""
        found: dict[str, list[float]] = {name: [] for name in subjects}
        for number in range(self.rounds + 1):
            for name, act in subjects.items():
                self.tell(f"{'warm-up' if not number else f'round {number}/{self.rounds}'}: {name} ...")
                figure = act()
                if number:
                    found[name].append(figure)
        return found

    def _event(self) -> "torch.cuda.Event | None":
        if not self.on_gpu:
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event


@dataclass(slots=True)
class Goal:
    """What a part is to reach: `reached` of `wanted`, as a ratio unless `unit` says otherwise; or at most that."""

    name: str
    wanted: float
    reached: float
    runs: list[float] = field(default_factory=list)  # the same of each round
    unit: str = "x"
    at_most: bool = False

    @property
    def held(self) -> bool:
        return self.reached <= self.wanted if self.at_most else self.reached >= self.wanted


def ratio(name: str, wanted: float, above: list[float], below: list[float]) -> Goal:
    """The ratio of two medians, and that of each round."""
    runs = [round(one / other, 2) for one, other in zip(above, below, strict=True)]
    return Goal(name, wanted, round(statistics.median(above) / statistics.median(below), 2), runs)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def line(
    what: str, rows: int, seconds: float, tokens_per_s: float, *, p99: float = 0.0, floor: float = 0.0
) -> Figures:
    """One measurement: seconds of a step (or of the whole, where there are none) and their 99th percentile, and how
    much of them the device could not do without."""
    found: Figures = {
        "what": what,
        "rows": rows,
        "ms": round(seconds * 1e3, 3),
        "tokens_per_s": round(tokens_per_s, 1),
    }
    if p99:
        found["p99_ms"] = round(p99 * 1e3, 3)
    if floor:
        found |= {"floor_ms": round(floor * 1e3, 3), "of_floor": round(floor / seconds, 3)}
    return found


def keep(path: Path, sections: Figures) -> Figures:
    """Sections measured now beside those that the file of the day holds already."""
    kept: Figures = json.loads(path.read_text()) if path.exists() else {}
    kept.update(sections)
    path.write_text(json.dumps(kept, indent=1) + "\n")
    return kept
