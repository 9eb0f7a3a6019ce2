"""A small real model over HTTP and step by step, beside transformers: where Python and launches are the cost."""

import statistics
from collections.abc import Callable

import torch

from loadtests.engine import http
from loadtests.engine.bench import Absent, Bench, Figures, Goal, line, ratio
from loadtests.engine.subjects import STORIES, Tokens, Transformers, generate, library, prompts
from local_backend.engine import Engine
from local_backend.loader import load
from local_backend.model import Decoder
from local_backend.options import EngineConfig

ROWS, PROMPT, NEW = 32, 16, 128


def stories(bench: Bench, found: Figures) -> None:
    """Raises Absent where the model, or transformers, is not at hand."""
    if not STORIES.exists():
        raise Absent(f"no model at {STORIES}: set GATEHOUSE_SHARED to the folder that holds models/")
    transformers = library()
    model = load(STORIES, "float32")
    whole = transformers.AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float32).eval()
    peer, asked = Transformers(whole), prompts(ROWS, PROMPT, model.config.vocab_size)
    torch.set_num_threads(1)
    same = _same(Engine(model, EngineConfig()), peer, asked)
    threads = {way.__name__: _best_threads(bench, way, asked) for way in (peer.static, peer.continuous)}
    with http.server(STORIES) as port:
        rates = bench.in_turn(
            {
                "HTTP, whole answers": lambda: http.rate(port, asked, NEW, stream=False),
                "HTTP, streams": lambda: http.rate(port, asked, NEW, stream=True),
                "transformers, static": _peer(bench, peer.static, asked, threads),
                "transformers, generate_batch": _peer(bench, peer.continuous, asked, threads),
                "steps, 32 rows": _steps(bench, model, asked),
                "steps, 8 rows": _steps(bench, model, asked[:8]),
                "steps, 1 row": _steps(bench, model, asked[:1]),
            }
        )
    found |= {
        "same_tokens": same, "peer_threads": threads, "rows": ROWS, "prompt": PROMPT, "new": NEW,
        "tokens_per_s": {name: [round(one) for one in runs] for name, runs in rates.items()},
        "lines": [_line(name, statistics.median(runs)) for name, runs in rates.items()],
        "goals": _goals(rates),
    }  # fmt: skip


def _steps(bench: Bench, model: Decoder, asked: Tokens) -> Callable[[], float]:
    def act() -> float:
        torch.set_num_threads(1)
        engine = Engine(model, EngineConfig())
        return _rate(bench, lambda: generate(engine, asked, NEW), len(asked))

    return act


def _peer(
    bench: Bench, way: Callable[[Tokens, int], Tokens], asked: Tokens, threads: dict[str, int]
) -> Callable[[], float]:
    def act() -> float:
        torch.set_num_threads(threads[way.__name__])
        return _rate(bench, lambda: way(asked, NEW), len(asked))

    return act


def _goals(rates: dict[str, list[float]]) -> list[Goal]:
    http_over_peers = [
        ratio(f"HTTP ({kind}) over {peer}", wanted, rates[f"HTTP, {kind}"], rates[f"transformers, {peer}"])
        for peer, wanted in (("generate_batch", 3), ("static", 1.2))
        for kind in ("whole answers", "streams")
    ]
    return [
        *http_over_peers,
        ratio("32 rows over one by one", 5, rates["steps, 32 rows"], rates["steps, 1 row"]),
    ]


def _line(name: str, rate: float) -> Figures:
    rows = {"steps, 8 rows": 8, "steps, 1 row": 1}.get(name, ROWS)
    return line(name, rows, rows / rate, rate)


def _rate(bench: Bench, act: Callable[[], object], rows: int) -> float:
    return rows * NEW / bench.seconds(act)


def _same(engine: Engine, peer: Transformers, asked: Tokens) -> Figures:
    mine = generate(engine, asked, 32)
    equal = {"generate": mine == peer.static(asked, 32), "generate_batch": mine == peer.continuous(asked, 32)}
    if not all(equal.values()):
        raise RuntimeError(f"the engine and transformers differ in greedy tokens: {equal}")
    return {"rows": ROWS, "tokens": 32, **equal}


def _best_threads(bench: Bench, way: Callable[[Tokens, int], Tokens], asked: Tokens) -> int:
    """The peer gets as many threads as suit it."""
    taken = {}
    for threads in range(1, bench.threads + 1):
        torch.set_num_threads(threads)
        bench.tell(f"transformers, {way.__name__}, on {threads} threads ...")
        way(asked, 8)
        taken[threads] = min(bench.seconds(lambda: way(asked, 16)) for _ in range(2))
    return min(taken, key=taken.__getitem__)
