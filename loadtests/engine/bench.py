"""How figures are taken: subjects in turn, round after round, so that what else the machine does meets them all."""

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent.parent / "results"
Figures = dict[str, Any]  # plain JSON


@dataclass(slots=True, frozen=True)
class Bench:
    """One call of the benchmark. `threads` are the most that a subject may use of a processor."""

    device: torch.device
    rounds: int
    threads: int
    tell: Callable[[str], None]

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def seconds(self, act: Callable[[], object]) -> float:
        """Of wall time, until the device has done it."""
        self.wait()
        began = time.perf_counter()
        act()
        self.wait()
        return time.perf_counter() - began

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

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


@dataclass(slots=True)
class Goal:
    """What a section is to reach: `reached` of `wanted`, as a ratio unless `unit` says otherwise."""

    name: str
    wanted: float
    reached: float
    runs: list[float] = field(default_factory=list)  # the same of each round
    unit: str = "x"


def ratio(name: str, wanted: float, above: list[float], below: list[float]) -> Goal:
    """The ratio of two medians, and that of each round."""
    runs = [round(one / other, 2) for one, other in zip(above, below, strict=True)]
    return Goal(name, wanted, round(statistics.median(above) / statistics.median(below), 2), runs)


def keep(path: Path, sections: Figures) -> Figures:
    """Sections measured now beside those that the file of the day holds already."""
    kept: Figures = json.loads(path.read_text()) if path.exists() else {}
    kept.update(sections)
    path.write_text(json.dumps(kept, indent=1) + "\n")
    return kept
