"""Long prompts, and many requests unlike each other: what there is beside decoding."""

import random
import statistics

from loadtests.engine.bench import Bench, Figures, Goal, line
from loadtests.engine.ceilings import floor_of_all, floor_of_prompt
from loadtests.engine.shapes import ours
from loadtests.engine.sizes import Mixed
from loadtests.engine.subjects import Tokens, engine_for, prompts
from local_backend.engine import Engine
from local_backend.model import Decoder
from local_backend.types import Job, Sampling

MAX_LEN = 4096  # tokens that a server without pages would keep for each of the mixed requests


def prefill(bench: Bench, found: Figures) -> None:
    """Seconds to the first token of a prompt of which nothing is cached, whole and in chunks."""
    sizes = bench.sizes.prefill
    found |= {"lines": [], "goals": []}
    for shape in sizes.shapes:
        model = ours(shape, bench.device, bench.dtype)
        floor = floor_of_prompt(bench, model.config, sizes.length)
        for chunk in sizes.chunks:
            engine = engine_for(bench, model, 1, sizes.length + 2, step_tokens=chunk)
            runs = []
            for number in range(bench.rounds + 1):
                bench.tell(f"a prompt of {sizes.length} through {shape} by {chunk}, round {number} ...")
                (prompt,) = prompts(1, sizes.length, model.config.vocab_size, number)
                runs.append(first_token(bench, engine, prompt))
            engine.close()
            seconds = statistics.median(runs[1:])
            told = f"{shape}, {sizes.length} tokens by {chunk}"
            found["lines"].append(line(told, 1, seconds, sizes.length / seconds, floor=floor))
            wanted = bench.sizes.goals.get((shape, "prefill"))
            if wanted and chunk == sizes.chunks[0]:
                each = [round(floor / one, 3) for one in runs[1:]]
                goal = Goal(f"prefill, {shape}: share of the floor", wanted, round(floor / seconds, 3), each)
                found["goals"].append(goal)
        del model, engine
        bench.free()


def mixed(bench: Bench, found: Figures) -> None:
    """nano-vllm's benchmark; and the blocks that it holds at the most, against the longest sequence reserved for every
    request in work."""
    found |= {"lines": [], "goals": [], "memory": {}}
    for shape in bench.sizes.mixed.shapes:
        bench.tell(f"a mixed workload through {shape} ...")
        model = ours(shape, bench.device, bench.dtype)
        _mixed(bench, model, shape, found)
        del model
        bench.free()


def workload(sizes: Mixed, vocabulary: int) -> tuple[Tokens, list[int]]:
    """Prompts, and how many tokens each asks for: drawn as nano-vllm's bench.py draws them, its seed included."""
    dice = random.Random(0)
    ids = min(10_000, vocabulary - 1)
    asked = [
        [dice.randint(0, ids) for _ in range(dice.randint(sizes.least, sizes.most))]
        for _ in range(sizes.requests)
    ]
    return asked, [dice.randint(sizes.least, sizes.most) for _ in range(sizes.requests)]


def _mixed(bench: Bench, model: Decoder, shape: str, found: Figures) -> None:
    sizes = bench.sizes.mixed
    asked, wanted = workload(sizes, model.config.vocab_size)
    most = sum(map(len, asked)) + sum(wanted) + 32 * sizes.requests
    engine = engine_for(bench, model, sizes.requests, MAX_LEN, tokens=most)
    engine.warm(lambda how_far: None)
    for prompt, new in zip(asked, wanted, strict=True):
        sampling = Sampling(temperature=0.6, max_tokens=new, ignore_eos=True)
        engine.add(Job(prompt, sampling), lambda *_: None)
    held = running = 0

    def act() -> None:
        nonlocal held, running
        while engine.has_work:
            engine.step()
            held, running = max(held, engine.pool.used), max(running, len(engine.scheduler.running))

    seconds = bench.seconds(act)
    engine.close()
    out, tokens = sum(wanted), held * engine.pool.block_size
    floor = floor_of_all(bench, model.config, list(map(len, asked)), wanted)
    found["lines"].append(
        line(f"{shape}, {sizes.requests} requests", sizes.requests, seconds, out / seconds, floor=floor)
    )
    reserved = running * engine.max_len
    found["memory"][shape] = {
        "tokens_in": sum(map(len, asked)), "tokens_out": out, "max_len": engine.max_len, "peak_tokens_held": tokens,
        "reserved_at_most_per_request": reserved, "preemptions": engine.scheduler.preemptions,
    }  # fmt: skip
    saved = round(100 * (1 - tokens / reserved), 1)
    found["goals"].append(Goal(f"paged cache, {shape}: less memory than reserved", 60, saved, unit="%"))
    if share := bench.sizes.goals.get((shape, "mixed")):
        found["goals"].append(
            Goal(f"mixed workload, {shape}: share of the floor", share, round(floor / seconds, 3))
        )


def first_token(bench: Bench, engine: Engine, prompt: list[int]) -> float:
    engine.add(Job(prompt, Sampling(temperature=0.0, max_tokens=1, ignore_eos=True)), lambda *_: None)

    def act() -> None:
        while engine.has_work:
            engine.step()

    return bench.seconds(act)
