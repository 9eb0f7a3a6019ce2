"""What the processor does for a decoding step of a GPU: plan it, tell what has changed, settle what was drawn. The
device's own work is left out; where steps overlap the two go on at once, and the longer one counts."""

import statistics
from collections.abc import Callable
from importlib.util import find_spec

import torch

from loadtests.engine.bench import Absent, Bench, Figures, Goal, line, percentile
from loadtests.engine.shapes import ours
from loadtests.engine.subjects import prompts
from local_backend import kernels
from local_backend.engine import Engine
from local_backend.flight import Flight
from local_backend.options import EngineConfig
from local_backend.runner import Runner
from local_backend.sampler import Drawn
from local_backend.types import Job, Sampling

SHAPE, CONTEXT = "tiny, long context", 512
# Milliseconds: the floors of Qwen3-0.6B's steps at 1,024 tokens of context (docs/engine-performance.md).
FLOORS = {1: 0.305, 32: 1.151, 256: 7.378}


class Idle(Runner):
    """Computes nothing: every token drawn is the first of the vocabulary."""

    def _prepared(self, flight: Flight, before: Flight | None) -> Callable[[], None]:
        drawn = torch.zeros(len(flight.plan.draws), dtype=torch.int64)
        return lambda: flight.land(Drawn(drawn, [], None))


def host(bench: Bench, found: Figures) -> None:
    """Greedy and drawn. Raises Absent."""
    if find_spec("triton") is None:
        raise Absent("triton is not installed")
    torch.set_num_threads(1)
    model = ours(SHAPE, torch.device("cpu"), torch.float32)
    found |= {"context": CONTEXT, "lines": [], "goals": []}
    wanted, kernels.wanted = kernels.wanted, True
    try:
        for rows, floor in FLOORS.items():
            for name, temperature in (("greedy", 0.0), ("drawn", 0.6)):
                bench.tell(f"the processor's part of a step, {rows} rows, {name} ...")
                config = EngineConfig(
                    block_size=32, step_tokens=8192, max_seqs=256, max_len=2048, kv_memory=1 << 40
                )
                engine = Engine(model, config)
                seconds = _steps(bench, engine, Idle(model, config, 2, 2048), rows, temperature)
                median = statistics.median(seconds)
                p99 = percentile(seconds, 0.99)
                found["lines"].append(
                    line(f"the processor's part, {name}", rows, median, rows / median, p99=p99)
                )
                told = f"the processor's part of a step, {rows} rows, {name}: at most Qwen3-0.6B's floor"
                found["goals"].append(Goal(told, floor, round(median * 1e3, 3), unit="ms", at_most=True))
    finally:
        kernels.wanted = wanted


def _steps(bench: Bench, engine: Engine, idle: Idle, rows: int, temperature: float) -> list[float]:
    sampling = Sampling(temperature=temperature, max_tokens=400, ignore_eos=True)
    engine.close()
    engine._runner = idle
    for graphs in idle._graphs:
        graphs._replay = lambda _: None  # type: ignore[method-assign]
    for prompt in prompts(rows, CONTEXT, 64):
        engine.add(Job(prompt, sampling), lambda *_: None)
    scheduler = engine.scheduler
    while scheduler.waiting or any(one.computed < one.prompt for one in scheduler.running):
        engine.step()
    for _ in range(20):
        engine.step()
    laps = bench.laps(engine.step, 128)
    idle.close()
    return laps.wall
