"""What the paged cache is good for: a second turn that finds its first, and memory taken as it is needed."""

import random
import statistics
import time

import torch

from loadtests.engine.bench import Bench, Figures, Goal, ratio
from loadtests.engine.shapes import ours
from loadtests.engine.subjects import prompts
from local_backend.engine import Engine
from local_backend.options import EngineConfig
from local_backend.types import Job, Sampling

SHAPE = "small, long context"
SHARED, TURN = 2000, 40  # tokens: what both turns begin with, and what each adds


def turns(bench: Bench) -> Figures:
    """Seconds to the first token of a conversation's first turn, and of one more that begins as it does."""
    torch.set_num_threads(bench.threads)
    model = ours(SHAPE, bench.device, torch.float32)
    taken: dict[str, list[float]] = {"first": [], "second": []}
    for number in range(bench.rounds + 1):
        bench.tell(f"two turns, round {number}/{bench.rounds} ...")
        engine = Engine(model, EngineConfig())
        beginning, *ends = prompts(1, SHARED, model.config.vocab_size, number)
        ends = prompts(2, TURN, model.config.vocab_size, 1000 + number)
        for name, end in zip(taken, ends, strict=True):
            seconds = _first_token(bench, engine, beginning + end)
            if number:
                taken[name].append(seconds)
    return {
        "shape": SHAPE, "shared_tokens": SHARED, "own_tokens": TURN,
        "first_ms": round(statistics.median(taken["first"]) * 1e3, 2),
        "second_ms": round(statistics.median(taken["second"]) * 1e3, 2),
        "goals": [ratio("first token of a second turn, sooner by", 5, taken["first"], taken["second"])],
    }  # fmt: skip


def _first_token(bench: Bench, engine: Engine, prompt: list[int]) -> float:
    engine.add(Job(prompt, Sampling(temperature=0.0, max_tokens=1, ignore_eos=True)), lambda *_: None)

    def act() -> None:
        while engine.has_work:
            engine.step()

    return bench.seconds(act)


def memory(bench: Bench) -> Figures:
    """Blocks in use at the most, against the longest sequence reserved for every request in work: 64 requests,
    all there at once, of 100 to 1,024 tokens that ask for 100 to 1,024 more (nano-vllm's mix) and share nothing."""
    torch.set_num_threads(bench.threads)
    model = ours("tiny, long context", bench.device, torch.float32)
    dice, rows = random.Random(0), 64
    config = EngineConfig(max_seqs=rows)
    engine = Engine(model, config)
    asked = 0
    for _ in range(rows):
        prompt = [dice.randrange(8, model.config.vocab_size) for _ in range(dice.randint(100, 1024))]
        new = dice.randint(100, 1024)
        asked += len(prompt) + new
        engine.add(Job(prompt, Sampling(temperature=0.0, max_tokens=new, ignore_eos=True)), lambda *_: None)
    bench.tell("memory of a mixed workload ...")
    used = running = 0
    began = time.perf_counter()
    while engine.has_work:
        engine.step()
        used, running = max(used, engine.pool.used), max(running, len(engine.scheduler.running))
    seconds = time.perf_counter() - began
    held, reserved = used * config.block_size, running * engine.max_len
    return {
        "requests": rows, "max_len": engine.max_len, "all_tokens_per_s": round(asked / seconds),
        "peak_tokens_held": held, "reserved_at_most_per_request": reserved,
        "reserved_as_asked_per_request": asked, "preemptions": engine.scheduler.preemptions,
        "goals": [Goal("paged cache, less memory than reserved", 60, round(100 * (1 - held / reserved), 1), unit="%")],
    }  # fmt: skip
