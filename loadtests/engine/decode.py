"""Decoding on models of real shapes: the engine in each type of weights, transformers beside it, and the floor."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from loadtests.engine.bench import Bench, Figures, ratio
from loadtests.engine.ceilings import ceilings, linears, step_bytes, step_flops
from loadtests.engine.shapes import ours, theirs
from loadtests.engine.subjects import Transformers, generate, prompts
from local_backend.engine import Engine
from local_backend.options import EngineConfig

_BF16 = torch.bfloat16
INT8_GOAL = 1.7


def same_tokens(bench: Bench) -> Figures:
    """Before anything is timed: both compute the same function."""
    bench.tell("the same greedy tokens on a tiny shape ...")
    asked = prompts(4, 16, 512)
    mine = generate(Engine(ours("tiny", bench.device, torch.float32), EngineConfig()), asked, 32)
    peer = Transformers(theirs("tiny", bench.device, torch.float32))
    equal = {"generate": mine == peer.static(asked, 32), "generate_batch": mine == peer.continuous(asked, 32)}
    if not all(equal.values()):
        raise RuntimeError(f"the engine and transformers differ in greedy tokens: {equal}")
    return {"rows": 4, "tokens": 32, "different_ids": len({token for row in mine for token in row}), **equal}


def decode(bench: Bench) -> Figures:
    torch.set_num_threads(bench.threads)
    shapes = ("Qwen3-0.6B", "Llama-3.1-8B") if bench.on_gpu else ("Qwen3-0.6B",)
    return {
        "same_tokens": same_tokens(bench),
        "ceilings": ceilings(bench, _BF16),
        "threads": bench.threads,
        "shapes": {shape: _shape(bench, shape) for shape in shapes},
    }


def _shape(bench: Bench, shape: str) -> Figures:
    batches = (1, 8, 32, 128, 256) if bench.on_gpu else (1,)
    context, new = (1024, 128) if bench.on_gpu else (32, 12)
    models = {"bf16": ours(shape, bench.device, _BF16)}
    if not bench.on_gpu:
        models["int8"] = ours(shape, bench.device, _BF16, int8=True)
    peer = Transformers(theirs(shape, bench.device, _BF16))
    config, rows = models["bf16"].config, []
    for batch in batches:
        asked = prompts(batch, context, config.vocab_size)
        subjects: dict[str, Callable[[], float]] = {
            name: _timed(bench, model, asked, new) for name, model in models.items()
        }
        if batch <= (32 if bench.on_gpu else 1):
            subjects["transformers, static"] = _peer(bench, peer.static, asked, new)
        if bench.on_gpu:
            subjects["transformers, generate_batch"] = _peer(bench, peer.continuous, asked, new)
        seconds = bench.in_turn(subjects)
        length = context + new // 2
        row: Figures = {
            "rows": batch, "context": length, "step_ms": _round(seconds, 1e3),
            "tokens_per_s": {
                name: round(batch / statistics.median(runs), 1) for name, runs in seconds.items()
            },
            "linears_bf16_ms": round(linears(bench, config, _BF16, batch) * 1e3, 2),
            "flops": step_flops(config, batch),
            "bytes": {
                "bf16": step_bytes(config, 2, batch, length, 2),
                "int8": step_bytes(config, 1, batch, length, 4),
            },
        }  # fmt: skip
        if "int8" in seconds and batch == 1:
            name = f"{shape}, int8 over bf16 at one row"
            row["goals"] = [ratio(name, INT8_GOAL, seconds["bf16"], seconds["int8"])]
        rows.append(row)
    return {"parameters": config.parameters, "new": new, "rows": rows}


def _timed(bench: Bench, model: Any, asked: list[list[int]], new: int) -> Callable[[], float]:
    """Seconds per step once all prompts are computed: the median."""

    def act() -> float:
        engine = Engine(model, EngineConfig(step_tokens=8192 if bench.on_gpu else 512, max_seqs=256))
        times: list[float] = []

        def step() -> None:
            scheduler = engine.scheduler
            decodes = not scheduler.waiting and all(one.computed >= one.prompt for one in scheduler.running)
            seconds = bench.seconds(engine.step)
            if decodes:
                times.append(seconds)

        generate(engine, asked, new, step)
        return statistics.median(times)

    return act


def _peer(bench: Bench, way: Callable[..., Any], asked: list[list[int]], new: int) -> Callable[[], float]:
    """Seconds per token of a call with `new` tokens, less those of a call with one: the prompt does not count."""

    def act() -> float:
        first = bench.seconds(lambda: way(asked, 1))
        return (bench.seconds(lambda: way(asked, new)) - first) / (new - 1)

    return act


def _round(seconds: dict[str, list[float]], factor: float) -> Figures:
    return {name: round(statistics.median(runs) * factor, 3) for name, runs in seconds.items()}
