"""What drafts by n-gram lookup win where a text repeats itself, and cost where it does not."""

import statistics
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch

import local_backend
from loadtests.engine.bench import Absent, Bench, Figures, line
from loadtests.engine.shapes import ours
from loadtests.engine.subjects import STORIES, Tokens, generate, prompts
from local_backend.engine import Engine
from local_backend.loader import load
from local_backend.metrics import Metrics
from local_backend.model import Decoder
from local_backend.options import EngineConfig
from local_backend.tokenizer import Tokenizer

BUNDLED = Path(local_backend.__file__).parent / "bundled"
DRAFTS, NEW = 8, 128
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
        counted = {"plain": Metrics(), "drafts": Metrics()}
        rates = bench.in_turn(
            {
                "plain": partial(_rate, bench, case, 0, counted["plain"]),
                "drafts": partial(_rate, bench, case, DRAFTS, counted["drafts"]),
            }
        )
        plain, drafts = [one.steps // (bench.rounds + 1) for one in counted.values()]
        tokens = len(case.asked) * NEW
        for name, steps in (("plain", plain), ("drafts", drafts)):
            rate = statistics.median(rates[name])
            lines.append(line(f"{case.name}, {name}", len(case.asked), tokens / rate / steps, rate))
        ratios = sorted(one / other for one, other in zip(rates["drafts"], rates["plain"], strict=True))
        taken = counted["drafts"]
        notes.append(
            f"{case.name}, {len(case.asked)} rows: {plain} steps without drafts, {drafts} with; "
            f"{taken.drafts_drawn / max(1, taken.drafts):.0%} of the drafts drawn; tokens per second x "
            f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


def _rate(bench: Bench, case: Case, drafts: int, counted: Metrics) -> float:
    engine = Engine(case.model, EngineConfig(speculate=drafts))
    seconds = bench.seconds(lambda: generate(engine, case.asked, NEW, temperature=case.temperature))
    counted.steps += engine.metrics.steps
    counted.drafts += engine.metrics.drafts
    counted.drafts_drawn += engine.metrics.drafts_drawn
    return len(case.asked) * NEW / seconds


def _cases(bench: Bench) -> list[Case]:
    if not STORIES.exists():
        raise Absent(f"no model at {STORIES}: set GATEHOUSE_SHARED to the folder that holds models/")
    bundled, stories = load(BUNDLED).to(bench.device), load(STORIES, "float32").to(bench.device)
    question = Tokenizer(BUNDLED).encode(_QUESTION, special=False)
    story = [1, *Tokenizer(STORIES).encode(_STORY * 3, special=False)]
    free = prompts(32, 16, stories.config.vocab_size)
    large = ours("Qwen3-0.6B", bench.device, torch.bfloat16)
    return [
        Case("bundled, a repeated question", bundled, [question]),
        Case("bundled, a repeated question", bundled, [question] * 8),
        Case("stories260K, a repeated story", stories, [story]),
        Case("stories260K, a repeated story", stories, [story] * 8),
        Case("stories260K, drawn freely", stories, free[:1], 1.0),
        Case("stories260K, drawn freely", stories, free, 1.0),
        Case("stories260K, greedy from chance", stories, free),
        Case("Qwen3-0.6B's shape, random weights", large, prompts(1, 16, large.config.vocab_size)),
    ]
