"""Steps of fewer bits, of weights or of keys and values, and steps that always give the same bits: beside bf16, in
turn."""

import statistics
from dataclasses import replace
from typing import NamedTuple

import torch

from loadtests.engine.bench import Absent, Bench, Figures, line, ratio
from loadtests.engine.ceilings import floor_of_step
from loadtests.engine.decode import steps_of
from loadtests.engine.shapes import ours
from loadtests.engine.sizes import Decode
from loadtests.engine.subjects import PLAIN
from local_backend.layers import hold_steady
from local_backend.model import Decoder
from local_backend.options import EngineConfig


class Way(NamedTuple):
    """How weights are kept, and what the engine is told; `width` and `kept`: bytes of a weight, and of a number of keys
    and values."""

    quantize: str = "none"
    config: EngineConfig = PLAIN
    width: float = 2
    kept: int = 2


WAYS = {
    "bf16": Way(),
    "int8": Way("int8", width=1),
    "fp8": Way("fp8", width=1),
    "int4": Way("int4", width=0.5),
    "fp8 keys": Way(config=EngineConfig(kv_cache_dtype="fp8"), kept=1),
    "deterministic": Way(config=EngineConfig(deterministic=True)),
}


def quantised(bench: Bench, found: Figures) -> None:
    """Raises Absent for ways that are not built."""
    sizes = bench.sizes.quantised
    if unknown := [name for name in bench.sizes.ways if name not in WAYS]:
        raise Absent(f"weights in {unknown[0]} are not built yet")
    ways = {name: WAYS[name] for name in ("bf16", *bench.sizes.ways)}
    found |= {"context": sizes.mean_context, "lines": [], "goals": []}
    for shape in sizes.shapes:
        models = _models(bench, shape, ways)
        for rows in sizes.rows:
            _in_turn(bench, models, shape, rows, found)
        del models
        bench.free()


def _models(bench: Bench, shape: str, ways: dict[str, Way]) -> dict[str, Decoder]:
    """Ways of the same weights share a model; one that is held steady is another model."""
    made: dict[tuple[str, bool], Decoder] = {}
    for way in ways.values():
        key = way.quantize, way.config.deterministic
        if key not in made:
            made[key] = ours(shape, bench.device, torch.bfloat16, way.quantize)
            if way.config.deterministic:
                hold_steady(made[key])
    return {name: made[way.quantize, way.config.deterministic] for name, way in ways.items()}


def _in_turn(bench: Bench, models: dict[str, Decoder], shape: str, rows: int, found: Figures) -> None:
    sizes = bench.sizes.quantised
    seconds = bench.in_turn(
        {name: lambda name=name: _step(bench, models[name], name, rows, sizes) for name in models}  # type: ignore[misc]
    )
    for name, runs in seconds.items():
        median, way = statistics.median(runs), WAYS[name]
        config = models[name].config
        floor = (
            floor_of_step(bench, config, rows, sizes.mean_context, way.width, way.kept)
            if bench.on_gpu
            else 0.0
        )
        over = ratio(f"{shape}, {name} over bf16 at {rows} rows", 0.0, seconds["bf16"], runs)
        told = {"over_bf16": over.reached, "over_bf16_each": over.runs}
        found["lines"].append(line(f"{shape}, {name}", rows, median, rows / median, floor=floor) | told)
        if wanted := bench.sizes.goals.get((shape, name)):
            found["goals"].append(replace(over, wanted=wanted))


def _step(bench: Bench, model: Decoder, name: str, rows: int, sizes: Decode) -> float:
    """Seconds; the median."""
    return statistics.median(steps_of(bench, model, rows, sizes, WAYS[name].config).wall)
