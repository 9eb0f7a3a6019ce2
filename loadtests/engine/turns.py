"""A second turn that finds its first in the cache."""

import statistics

from loadtests.engine.bench import Bench, Figures, line, ratio
from loadtests.engine.prompts import first_token
from loadtests.engine.shapes import ours
from loadtests.engine.subjects import engine_for, prompts

SHARED, TURN = 2000, 40  # tokens: what both turns begin with, and what each adds


def turns(bench: Bench, found: Figures) -> None:
    """Seconds to the first token of a conversation's first turn, and of one more that begins as it does."""
    shape = bench.sizes.http_shape
    model = ours(shape, bench.device, bench.dtype)
    taken: dict[str, list[float]] = {"first": [], "second": []}
    engine = engine_for(
        bench, model, 1, SHARED + TURN + 2, tokens=2 * (bench.rounds + 1) * (SHARED + 2 * TURN)
    )
    engine.warm(bench.tell)
    for number in range(bench.rounds + 1):
        bench.tell(f"two turns, round {number}/{bench.rounds} ...")
        (beginning,) = prompts(1, SHARED, model.config.vocab_size, number)
        ends = prompts(2, TURN, model.config.vocab_size, 1000 + number)
        for name, end in zip(taken, ends, strict=True):
            seconds = first_token(bench, engine, beginning + end)
            if number:
                taken[name].append(seconds)
    engine.close()
    medians = {name: statistics.median(runs) for name, runs in taken.items()}
    found |= {
        "shape": shape, "shared_tokens": SHARED, "own_tokens": TURN,
        "lines": [line(f"{name} turn", 1, one, (SHARED + TURN) / one) for name, one in medians.items()],
        "goals": [ratio("first token of a second turn, sooner by", 5, taken["first"], taken["second"])],
    }  # fmt: skip
