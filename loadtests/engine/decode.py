"""Decoding at every batch, at two levels: the model's step alone, and the engine's loop. The third, over HTTP, is in
`loop.py`."""

import statistics

from loadtests.engine.bench import Bench, Figures, Goal, Laps, line, percentile
from loadtests.engine.ceilings import ceilings_of, floor_of_step, matrices
from loadtests.engine.frozen import Frozen
from loadtests.engine.shapes import ours
from loadtests.engine.sizes import Decode
from loadtests.engine.subjects import PLAIN, engine_for, prompts
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.types import Job, Sampling


def decode(bench: Bench, found: Figures) -> None:
    sizes = bench.sizes.decode
    found |= {
        "ceilings": ceilings_of(bench),
        "context": sizes.mean_context,
        "lines": [],
        "goals": [],
        "notes": [],
    }
    for shape in sizes.shapes:
        model = ours(shape, bench.device, bench.dtype)
        for rows in sizes.rows:
            bench.tell(f"decoding {shape}, {rows} rows ...")
            _levels(bench, model, shape, rows, found)
        del model
        bench.free()


def _levels(bench: Bench, model: Decoder, shape: str, rows: int, found: Figures) -> None:
    sizes = bench.sizes.decode
    floor = floor_of_step(bench, model.config, rows, sizes.mean_context)
    work = {
        "shape": shape,
        "flops": 2.0 * rows * matrices(model.config),
        "bytes": matrices(model.config) * bench.dtype.itemsize
        + model.config.kv_bytes(bench.dtype.itemsize) * rows * sizes.mean_context,
    }

    def tell(level: str, laps: Laps, *, waits: bool) -> None:
        each = laps.wall if waits or not laps.device else laps.device
        clocks = {"wall_ms": round(laps.seconds / sizes.new * 1e3, 3)}
        if laps.device:
            clocks["device_ms"] = round(statistics.median(laps.device) * 1e3, 3)
        found["lines"].append(
            line(
                f"{shape}, {level}", rows, statistics.median(each), rows * sizes.new / laps.seconds,
                p99=percentile(each, 0.99), floor=floor,
            ) | {"level": level, **clocks, **work}
        )  # fmt: skip

    laps = steps_of(bench, model, rows, sizes)
    tell("steps of the engine", laps, waits=True)
    wanted = bench.sizes.goals.get((shape, rows))
    if wanted:
        reached = round(floor * sizes.new / laps.seconds, 3)
        found["goals"].append(Goal(f"decoding, {shape}, {rows} rows: share of the floor", wanted, reached))
    bench.free()
    frozen = Frozen(model, rows, sizes.mean_context)
    frozen.step()
    tell("the model alone", bench.laps(frozen.step, sizes.new), waits=False)
    if bench.on_gpu and not any("captured" in note for note in found["notes"]):
        try:
            replay = bench.captured(frozen.step)
        except RuntimeError as error:  # whatever a capture does not allow, once for all batches
            found["notes"].append(f"a step cannot be captured: {error}")
        else:
            tell("the model alone, captured", bench.laps(replay, sizes.new), waits=False)
    del frozen
    bench.free()


def steps_of(bench: Bench, model: Decoder, rows: int, sizes: Decode, asked: EngineConfig = PLAIN) -> Laps:
    """The engine's loop once all prompts have been computed and the first steps are over. Nobody ends before: who is
    answered while others' prompts are still computed has a token more for each such step."""
    ahead = -(-rows * sizes.context // (bench.sizes.step_tokens - rows))
    length = sizes.context + ahead + sizes.warm + sizes.new + 4
    engine = engine_for(bench, model, rows, length, asked)
    sampling = Sampling(temperature=0.0, max_tokens=length - sizes.context, ignore_eos=True)
    for prompt in prompts(rows, sizes.context, model.config.vocab_size):
        engine.add(Job(prompt, sampling), lambda *_: None)
    scheduler = engine.scheduler
    while scheduler.waiting or any(one.computed < one.prompt for one in scheduler.running):
        engine.step()
    for _ in range(sizes.warm):
        engine.step()
    laps = bench.laps(engine.step, sizes.new)
    engine.close()
    return laps
