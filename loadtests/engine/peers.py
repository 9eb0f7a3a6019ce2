"""transformers beside the engine, on the same weights: the same tokens first, then both in turn."""

import statistics
from collections.abc import Callable
from typing import Any

import torch

from loadtests.engine.bench import Bench, Figures, line, ratio
from loadtests.engine.decode import steps_of
from loadtests.engine.shapes import ours, theirs
from loadtests.engine.subjects import Tokens, Transformers, engine_for, generate, prompts

_ROWS, _PROMPT, _NEW = 4, 16, 32


def same(bench: Bench, found: Figures) -> None:
    """Before anything is timed: all compute the same function. Raises Absent, and RuntimeError where they do not."""
    bench.tell("the same greedy tokens on a tiny shape ...")
    asked = prompts(_ROWS, _PROMPT, 512)
    engine = engine_for(bench, ours("tiny", bench.device, torch.float32), _ROWS, _PROMPT + _NEW)
    mine = generate(engine, asked, _NEW)
    engine.close()
    found |= {"rows": _ROWS, "tokens": _NEW, "different_ids": len({token for row in mine for token in row})}
    peer = Transformers(theirs("tiny", bench.device, torch.float32))
    found |= {name: mine == way(asked, _NEW) for name, way in peer.ways.items()}
    unequal = [name for name in peer.ways if not found[name]]
    if unequal:
        raise RuntimeError(f"the engine's greedy tokens are not those of {', '.join(unequal)}")


def peers(bench: Bench, found: Figures) -> None:
    """Seconds of a step of each, in turn. A way of transformers that fails is told, and the other goes on."""
    sizes = bench.sizes.peers
    found |= {"context": sizes.mean_context, "lines": [], "goals": [], "notes": []}
    for shape in sizes.shapes:
        dtype = torch.bfloat16
        model, peer = ours(shape, bench.device, dtype), Transformers(theirs(shape, bench.device, dtype))
        for rows in sizes.rows:
            asked = prompts(rows, sizes.context, model.config.vocab_size)
            subjects: dict[str, Callable[[], float]] = {
                "the engine": lambda rows=rows, model=model: statistics.median(
                    steps_of(bench, model, rows, sizes).wall
                )  # type: ignore[misc]
            }
            for name, way in peer.ways.items():
                try:
                    bench.tell(f"{shape}, {rows} rows: warming {name} up ...")
                    act = _per_token(bench, way, asked, sizes.new)
                    act()
                    subjects[name] = act
                except (RuntimeError, ValueError, AttributeError, TypeError) as error:
                    found["notes"].append(
                        f"{name}, {shape}, {rows} rows: {type(error).__name__}: {error}"[:300]
                    )
            seconds = bench.in_turn(subjects)
            for name, runs in seconds.items():
                median = statistics.median(runs)
                found["lines"].append(line(f"{shape}, {name}", rows, median, rows / median))
                if name != "the engine":
                    found["goals"].append(
                        ratio(
                            f"{shape}, {rows} rows: the engine over {name}", 1.0, runs, seconds["the engine"]
                        )
                    )
            bench.free()
        del model, peer, subjects
        bench.free()


def _per_token(
    bench: Bench, way: Callable[[Tokens, int], Any], asked: Tokens, new: int
) -> Callable[[], float]:
    """Seconds per token of a call with `new` tokens, less those of a call with one: the prompt does not count."""

    def act() -> float:
        first = bench.seconds(lambda: way(asked, 1))
        return (bench.seconds(lambda: way(asked, new)) - first) / (new - 1)

    return act
