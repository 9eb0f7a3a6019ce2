"""What drafts by n-gram lookup win where a text repeats itself, and cost where it does not."""

import statistics
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

import local_backend
from loadtests.engine.bench import Absent, Bench, Figures, line
from loadtests.engine.shapes import ours
from loadtests.engine.subjects import STORIES, Tokens, engine_for, generate, prompts
from local_backend.engine import Engine
from local_backend.loader import load
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.tokenizer import Tokenizer

BUNDLED = Path(local_backend.__file__).parent / "bundled"
DRAFTS, NEW, SPARE = 8, 128, 128
_QUESTION = "How do I add a provider? How do I add a provider? How do I add"
_STORY = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "


class Case(NamedTuple):
    name: str
    model: Decoder
    asked: Tokens
    temperature: float = 0.0


def speculation(bench: Bench, found: Figures) -> None:
    """Tokens per second with drafts and without, in turn; and how many drafts were drawn. Raises Absent."""
    torch.set_num_threads(1)
    lines, notes = found.setdefault("lines", []), found.setdefault("notes", [])
    for case in _cases(bench):
        engines = {name: _engine(bench, case, drafts) for name, drafts in (("plain", 0), ("drafts", DRAFTS))}
        rates = bench.in_turn({name: partial(_rate, bench, case, one) for name, one in engines.items()})
        plain, drafts = [one.metrics.steps // (bench.rounds + 1) for one in engines.values()]
        tokens = len(case.asked) * NEW
        for name, steps in (("plain", plain), ("drafts", drafts)):
            rate = statistics.median(rates[name])
            lines.append(line(f"{case.name}, {name}", len(case.asked), tokens / rate / steps, rate))
        ratios = sorted(one / other for one, other in zip(rates["drafts"], rates["plain"], strict=True))
        taken = engines["drafts"].metrics
        for engine in engines.values():
            engine.close()
        notes.append(
            f"{case.name}, {len(case.asked)} rows: {plain} steps without drafts, {drafts} with; "
            f"{taken.drafts_drawn / max(1, taken.drafts):.0%} of the drafts drawn; tokens per second x "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def _engine(bench: Bench, case: Case, drafts: int) -> Engine:
    """With blocks to spare: drafts take none that a neighbour could need."""
    length = max(map(len, case.asked)) + NEW + SPARE
    return engine_for(bench, case.model, len(case.asked), length, EngineConfig(speculate=drafts))


def _rate(bench: Bench, case: Case, engine: Engine) -> float:
    """The round that does not count captures what is to be captured."""
    seconds = bench.seconds(lambda: generate(engine, case.asked, NEW, temperature=case.temperature))
    return len(case.asked) * NEW / seconds


def _cases(bench: Bench) -> list[Case]:
    if not STORIES.exists():
        raise Absent(f"no model at {STORIES}: set GATEHOUSE_SHARED to the folder that holds models/")
    bundled, stories = load(BUNDLED).to(bench.device), load(STORIES, "float32").to(bench.device)
    question = Tokenizer(BUNDLED).encode(_QUESTION, special=False)
    story = [1, *Tokenizer(STORIES).encode(_STORY * 3, special=False)]
    free = prompts(32, 16, stories.config.vocab_size)
    large = ours("Qwen3-0.6B", bench.device, torch.bfloat16)
    cases = [
        Case("bundled, a repeated question", bundled, [question]),
        Case("bundled, a repeated question", bundled, [question] * 8),
        Case("stories260K, a repeated story", stories, [story]),
        Case("stories260K, a repeated story", stories, [story] * 8),
        Case("stories260K, drawn freely", stories, free[:1], 1.0),
        Case("stories260K, drawn freely", stories, free, 1.0),
        Case("stories260K, greedy from chance", stories, free),
        Case("Qwen3-0.6B's shape, random weights", large, prompts(1, 16, large.config.vocab_size)),
    ]
    return cases + (_large(bench) if bench.on_gpu else [])


def _large(bench: Bench) -> list[Case]:
    """The least and the most there is to win: of chance nothing matches, and a model whose layers add little to a table
    that is its head, too, says its last token again and again."""
    shape = bench.sizes.http_shape
    chance, again = (ours(shape, bench.device, torch.bfloat16) for _ in range(2))
    again.embed.weight *= 500
    again.head.weight = again.embed.weight
    asked = prompts(32, 16, chance.config.vocab_size)
    told = ((f"{shape}'s shape, from chance", chance), (f"{shape}'s shape, one token again and again", again))
    return [Case(name, model, asked[:rows]) for name, model in told for rows in (1, 8, 32)]
